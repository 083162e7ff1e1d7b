//! Guidance by a picture beside the prompt, for models that change one (Brooks et al. 2023, "InstructPix2Pix",
//! equation 3): away from a prediction that knows neither, by one scale towards the picture and by another from there
//! towards the prompt.

use super::combine::add_difference;
use super::within;
use crate::error::Result;
use crate::host::HostTensor;

/// The two scales.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageGuidance {
    /// Of the prompt, against the picture alone, 0 to 1000.
    pub text: f64,
    /// Of the picture, against nothing at all, 0 to 100.
    pub image: f64,
}

/// What the model predicts with ever more to go by.
#[derive(Debug, Clone, Copy)]
pub struct ImagePredictions<'a> {
    /// With the negative prompt and no picture.
    pub nothing: &'a HostTensor,
    /// With the negative prompt and the picture.
    pub image: &'a HostTensor,
    /// With the prompt and the picture.
    pub both: &'a HostTensor,
}

impl ImageGuidance {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Naming the scale, what was found and what is allowed.
    pub fn check(&self) -> Result<()> {
        within("the text's scale", self.text, 0.0, 1000.0)?;
        within("the picture's scale", self.image, 0.0, 100.0)
    }

    /// `nothing + image * (image - nothing) + text * (both - image)`.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn join(&self, predictions: ImagePredictions<'_>) -> Result<HostTensor> {
        let ImagePredictions {
            nothing,
            image,
            both,
        } = predictions;
        let mut guided = nothing.clone();
        add_difference(&mut guided, self.text as f32, (both, image))?;
        add_difference(&mut guided, self.image as f32, (image, nothing))?;
        Ok(guided)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guidance::combine::compose;

    fn row(values: [f32; 2]) -> HostTensor {
        HostTensor::new([1, 1, 1, 2], values.to_vec()).unwrap()
    }

    fn join(text: f64, image: f64) -> HostTensor {
        let scales = ImageGuidance { text, image };
        scales.check().unwrap();
        let predictions = ImagePredictions {
            nothing: &row([1.0, -2.0]),
            image: &row([2.0, 0.5]),
            both: &row([4.0, 0.0]),
        };
        scales.join(predictions).unwrap()
    }

    #[test]
    fn the_two_scales_by_hand() {
        assert_eq!(
            join(7.5, 1.5).data(),
            [1.0 + 15.0 + 1.5, -2.0 - 3.75 + 3.75]
        );
        assert_eq!(join(0.0, 0.0).data(), [1.0, -2.0]);
        assert_eq!(join(0.0, 1.0).data(), [2.0, 0.5]);
        assert_eq!(join(1.0, 1.0).data(), [4.0, 0.0]);
    }

    #[test]
    fn at_an_image_scale_of_1_it_is_guidance_against_the_picture_alone() {
        let plain = compose(&row([2.0, 0.5]), &[(row([4.0, 0.0]), 1.0)], 6.0).unwrap();
        assert_eq!(join(6.0, 1.0), plain);
    }

    #[test]
    fn scales_out_of_range_and_other_shapes_are_refused() {
        for (text, image) in [(f64::NAN, 1.0), (7.5, -1.0), (7.5, 101.0)] {
            assert!(ImageGuidance { text, image }.check().is_err());
        }
        let longer = HostTensor::zeros([1, 1, 1, 3]);
        let predictions = ImagePredictions {
            nothing: &row([0.0, 0.0]),
            image: &longer,
            both: &longer,
        };
        let scales = ImageGuidance {
            text: 7.5,
            image: 1.5,
        };
        assert!(scales.join(predictions).is_err());
    }
}
