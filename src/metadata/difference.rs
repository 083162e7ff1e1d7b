//! How far two pictures are from each other.

use image::RgbImage;
use serde::Serialize;

use crate::error::{Error, Result};

/// The difference of two pictures of one size, over the three values of every pixel, 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PictureDifference {
    /// The largest.
    pub worst: u8,
    /// The mean.
    pub mean: f64,
    /// Share of values that differ by 1 at most, 0 to 1.
    pub within_one: f64,
    /// Peak signal-to-noise ratio in decibels; `None` is infinite, of equal pictures.
    pub psnr_db: Option<f64>,
}

impl PictureDifference {
    /// Compares two pictures.
    ///
    /// # Errors
    /// When their sizes differ or they have no pixels.
    pub fn between(one: &RgbImage, other: &RgbImage) -> Result<Self> {
        if one.dimensions() != other.dimensions() {
            let ((a, b), (c, d)) = (one.dimensions(), other.dimensions());
            return Err(Error::invalid(format!(
                "the pictures to compare have {a}x{b} and {c}x{d} pixels, expected one size"
            )));
        }
        let count = one.as_raw().len();
        if count == 0 {
            return Err(Error::invalid("the pictures to compare have no pixels"));
        }
        let (mut worst, mut sum, mut squares, mut within) = (0, 0_u64, 0_u64, 0_usize);
        for (&a, &b) in one.as_raw().iter().zip(other.as_raw()) {
            let difference = a.abs_diff(b);
            worst = worst.max(difference);
            sum += u64::from(difference);
            squares += u64::from(difference).pow(2);
            within += usize::from(difference <= 1);
        }
        let mean_square = squares as f64 / count as f64;
        Ok(Self {
            worst,
            mean: sum as f64 / count as f64,
            within_one: within as f64 / count as f64,
            psnr_db: (squares > 0).then(|| 10.0 * (255.0 * 255.0 / mean_square).log10()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn picture(bytes: [u8; 6]) -> RgbImage {
        RgbImage::from_raw(2, 1, bytes.to_vec()).unwrap()
    }

    #[test]
    fn measures_by_hand() {
        let one = picture([0, 10, 255, 7, 8, 9]);
        let same = PictureDifference::between(&one, &one).unwrap();
        assert_eq!((same.worst, same.psnr_db), (0, None));
        assert!((same.within_one - 1.0).abs() < 1e-12);
        let other = picture([255, 11, 253, 7, 8, 9]);
        let found = PictureDifference::between(&one, &other).unwrap();
        assert_eq!(found.worst, 255);
        assert!((found.mean - 43.0).abs() < 1e-12);
        assert!((found.within_one - 4.0 / 6.0).abs() < 1e-12);
        // 10 log10(255^2 * 6 / (255^2 + 1 + 4))
        assert!(
            (found.psnr_db.unwrap() - 7.781_178_6).abs() < 1e-4,
            "{found:?}"
        );
    }

    #[test]
    fn refuses_other_sizes() {
        let error = PictureDifference::between(&picture([0; 6]), &RgbImage::new(1, 2)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.message().contains("2x1 and 1x2"), "{error}");
        let none = RgbImage::new(0, 0);
        assert!(PictureDifference::between(&none, &none).is_err());
    }
}
