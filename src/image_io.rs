//! Pictures to tensors and back, with diffusers' arithmetic.
//!
//! Both directions follow `VaeImageProcessor` (diffusers `image_processor.py`): values in [-1, 1], and
//! rounding half to even as numpy does, so that a picture has diffusers' bytes wherever the tensor has
//! diffusers' values.

use image::{DynamicImage, RgbImage};

use crate::error::{Error, ErrorKind, Result};
use crate::host::HostTensor;

/// Makes pictures of a decoded batch `x: (B, 3, H, W)` in [-1, 1], as `postprocess` does:
/// `round(clamp(x / 2 + 0.5, 0, 1) * 255)`.
///
/// # Errors
/// When a value is NaN or infinite (no black picture is made of it), or the shape is not that of
/// RGB pictures.
pub fn tensor_to_images(x: &HostTensor) -> Result<Vec<DynamicImage>> {
    let (batch, channels, height, width) = x.dims4()?;
    let (Ok(width_px), Ok(height_px), 3) = (u32::try_from(width), u32::try_from(height), channels)
    else {
        return Err(Error::new(
            ErrorKind::Internal,
            format!(
                "shape {:?} is not that of RGB pictures (batch, 3, height, width)",
                x.shape()
            ),
        ));
    };
    if let Some(at) = x.first_non_finite() {
        return Err(non_finite(x, at));
    }
    let plane = height * width;
    (0..batch)
        .map(|index| {
            let planes = &x.data()[index * 3 * plane..][..3 * plane];
            let mut bytes = vec![0; 3 * plane];
            for (channel, values) in (0..3).map(|c| (c, &planes[c * plane..][..plane])) {
                for (pixel, &value) in bytes.chunks_exact_mut(3).zip(values) {
                    pixel[channel] = to_byte(value);
                }
            }
            let picture = RgbImage::from_raw(width_px, height_px, bytes).ok_or_else(|| {
                Error::new(ErrorKind::Internal, "a picture has not three bytes a pixel")
            })?;
            Ok(DynamicImage::ImageRgb8(picture))
        })
        .collect()
}

/// Makes a batch of one, `(1, 3, H, W)` in [-1, 1], of a picture, as `preprocess` does: `2 * (byte / 255) - 1`.
///
/// Transparency is dropped and grey repeated, as PIL's `convert("RGB")` does; the size is not changed.
pub fn image_to_tensor(picture: &DynamicImage) -> HostTensor {
    let rgb = picture.to_rgb8();
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    let plane = height * width;
    let mut x = HostTensor::zeros([1, 3, height, width]);
    for (channel, values) in x.data_mut().chunks_exact_mut(plane.max(1)).enumerate() {
        for (value, pixel) in values.iter_mut().zip(rgb.pixels()) {
            *value = 2.0 * (f32::from(pixel.0[channel]) / 255.0) - 1.0;
        }
    }
    x
}

fn to_byte(value: f32) -> u8 {
    // Between 0 and 255 after the clamp, so the cast is exact.
    ((value * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8
}

fn non_finite(x: &HostTensor, at: usize) -> Error {
    let count = x.data().iter().filter(|value| !value.is_finite()).count();
    let batch = x.shape()[0];
    let picture = at / (x.data().len() / batch);
    Error::new(
        ErrorKind::NonFinite,
        format!(
            "the decoded picture {picture} of {batch} holds {}: {count} of {} values are NaN or infinite",
            x.data()[at],
            x.data().len()
        ),
    )
    .with_hint("decode in f32 (--dtype f32): this VAE overflows in half precision")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected bytes are numpy's: `np.round(np.clip(np.float32(x) * 0.5 + 0.5, 0, 1) * 255)`.
    #[test]
    fn rounds_half_to_even_and_clamps() {
        let cases = [
            (-1.0, 0),
            (1.0, 255),
            (0.0, 128), // 127.5
            (-3.0, 0),
            (7.0, 255),
            (0.5, 191), // 191.25
            (1.0 / 255.0, 128),
            (-1.0 / 255.0, 127),
        ];
        for (value, byte) in cases {
            assert_eq!(to_byte(value), byte, "{value}");
        }
        // Exact ties on both sides: 0.5 / 255 and 1.5 / 255 are not representable, but 127.5 is.
        assert_eq!((0.5_f32 * 255.0).round_ties_even() as u8, 128);
    }

    #[test]
    fn every_byte_survives_the_round_trip() {
        let bytes: Vec<u8> = (0..=255).flat_map(|v: u8| [v, 255 - v, v / 2]).collect();
        let picture = RgbImage::from_raw(16, 16, bytes).unwrap();
        let x = image_to_tensor(&DynamicImage::ImageRgb8(picture.clone()));
        assert_eq!(x.shape(), [1, 3, 16, 16]);
        let back = tensor_to_images(&x).unwrap();
        assert_eq!(back.len(), 1);
        assert_eq!(back[0].as_rgb8(), Some(&picture));
    }

    #[test]
    fn batch_and_channels_keep_their_places() {
        // Two pictures of 1x2 pixels: channel c, pixel p, picture b.
        let data = vec![
            -1.0, 1.0, 0.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0,
        ];
        let pictures = tensor_to_images(&HostTensor::new([2, 3, 1, 2], data).unwrap()).unwrap();
        assert_eq!(pictures[0].as_bytes(), [0, 128, 255, 255, 0, 255]);
        assert_eq!(pictures[1].as_bytes(), [255, 255, 0, 255, 0, 0]);
    }

    #[test]
    fn refuses_values_that_are_not_numbers() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = HostTensor::zeros([2, 3, 2, 2]);
            x.data_mut()[13] = bad;
            let error = tensor_to_images(&x).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NonFinite);
            assert!(error.message().contains("picture 1 of 2"), "{error}");
        }
    }

    #[test]
    fn refuses_shapes_that_are_no_pictures() {
        for shape in [vec![1, 4, 2, 2], vec![3, 2, 2]] {
            let error = tensor_to_images(&HostTensor::zeros(shape)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal);
        }
    }
}
