//! Self-attention guidance (Hong et al. 2022, arXiv 2210.00939): away from a prediction for latents that are blurred where
//! the picture attends to itself.
//!
//! Follows `sag_masking` and `gaussian_blur_2d` of diffusers' `StableDiffusionSAGPipeline`, or what ComfyUI's
//! `SelfAttentionGuidance` and Forge's script of that name do.

use std::fmt;
use std::str::FromStr;

use super::settings::{Settings, name_of};
use super::within;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::models::unet::Attended;
use crate::nn::nearest_sources;

/// The blur reaches this far to each side.
const REACH: usize = 4;

/// Its settings; as text `scale=0.75,sigma=1,threshold=1,rule=diffusers`, or the scale alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sag {
    /// Weight of the difference, -100 to 100.
    pub scale: f64,
    /// Standard deviation of the blur in latents, above 0 and up to 100.
    pub sigma: f64,
    /// What a position has to receive of attention, 1 on average, to be blurred, 0 to 100.
    pub threshold: f64,
    /// What is compared.
    pub rule: SagRule,
}

/// What self-attention guidance moves away from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SagRule {
    /// diffusers': from the prediction for blurred latents, from the prediction for those that are not.
    #[default]
    Diffusers,
    /// That of ComfyUI and Forge: from the clean latents predicted of blurred ones, from the blurred ones themselves.
    Forge,
}

const RULES: [(&str, SagRule); 2] = [("diffusers", SagRule::Diffusers), ("forge", SagRule::Forge)];

impl Sag {
    /// diffusers' blur; its weight is its authors'.
    pub const DEFAULT: Self = Self {
        scale: 0.75,
        sigma: 1.0,
        threshold: 1.0,
        rule: SagRule::Diffusers,
    };

    /// Where Forge's sliders stand.
    pub const FORGE: Self = Self {
        scale: 0.5,
        sigma: 2.0,
        threshold: 1.0,
        rule: SagRule::Forge,
    };

    pub(super) fn check(&self) -> Result<()> {
        within("guidance sag", self.scale, -100.0, 100.0)?;
        // A blur of no width would divide by 0.
        within("guidance sag sigma", self.sigma, 0.01, 100.0)?;
        within("guidance sag threshold", self.threshold, 0.0, 100.0)
    }
}

impl FromStr for Sag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Ok(scale) = text.trim().parse() {
            return Ok(Self {
                scale,
                ..Self::DEFAULT
            });
        }
        let mut settings = Settings::of("sag", text)?;
        let mut rule = SagRule::Diffusers;
        settings.word("rule", &mut rule, &RULES)?;
        let mut sag = match rule {
            SagRule::Diffusers => Self::DEFAULT,
            SagRule::Forge => Self::FORGE,
        };
        settings.number("scale", &mut sag.scale)?;
        settings.number("sigma", &mut sag.sigma)?;
        settings.number("threshold", &mut sag.threshold)?;
        settings.finish(&["scale", "sigma", "threshold", "rule"])?;
        Ok(sag)
    }
}

impl fmt::Display for Sag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scale,
            sigma,
            threshold,
            rule,
        } = self;
        let plain = Self {
            scale: *scale,
            ..Self::DEFAULT
        };
        if *self == plain {
            return write!(f, "{scale}");
        }
        let rule = name_of(&RULES, rule);
        write!(
            f,
            "scale={scale},sigma={sigma},threshold={threshold},rule={rule}"
        )
    }
}

/// `clean`, (1, C, H, W), blurred where a position of the UNet's bottom receives more attention than the threshold.
///
/// # Errors
/// When the latents are smaller than the blur.
pub(crate) fn blurred(mut clean: HostTensor, attended: &Attended, sag: &Sag) -> Result<HostTensor> {
    let (_, _, height, width) = clean.dims4()?;
    if height <= REACH || width <= REACH {
        return Err(Error::unsupported(format!(
            "self-attention guidance blurs over {} latents, and this picture has {width}x{height}, expected more than \
             {REACH} each way",
            2 * REACH + 1
        ))
        .with_hint("ask for a larger picture"));
    }
    let rows: Vec<usize> = nearest_sources(attended.height, height).collect();
    let columns: Vec<usize> = nearest_sources(attended.width, width).collect();
    for plane in clean.data_mut().chunks_mut(height * width) {
        let soft = blur(plane, (height, width), sag.sigma as f32);
        for (at, (value, soft)) in plane.iter_mut().zip(soft).enumerate() {
            let source = rows[at / width] * attended.width + columns[at % width];
            if attended
                .received
                .get(source)
                .is_some_and(|&received| received > sag.threshold as f32)
            {
                *value = soft;
            }
        }
    }
    Ok(clean)
}

/// A Gaussian down and across, mirrored at the edges without repeating them.
fn blur(plane: &[f32], (height, width): (usize, usize), deviation: f32) -> Vec<f32> {
    let weights: Vec<f32> = (0..=2 * REACH)
        .map(|at| (-0.5 * ((at as f32 - REACH as f32) / deviation).powi(2)).exp())
        .collect();
    let total: f32 = weights.iter().sum();
    let along = |values: &[f32], (extent, stride, at): (usize, usize, usize)| {
        let here = at / stride % extent;
        let start = at - here * stride;
        let sum: f32 = (0..=2 * REACH)
            .map(|offset| {
                let place = mirrored(here + offset, extent);
                weights[offset] / total * values[start + place * stride]
            })
            .sum();
        sum
    };
    let down: Vec<f32> = (0..plane.len())
        .map(|at| along(plane, (height, width, at)))
        .collect();
    (0..plane.len())
        .map(|at| along(&down, (width, 1, at)))
        .collect()
}

/// Where `place`, counted from `REACH` before the first, lies within `extent` values.
fn mirrored(place: usize, extent: usize) -> usize {
    let place = place.abs_diff(REACH);
    let last = extent - 1;
    if place > last {
        2 * last - place
    } else {
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attended(received: Vec<f32>) -> Attended {
        Attended {
            height: 1,
            width: received.len(),
            received,
        }
    }

    #[test]
    fn only_what_is_attended_to_is_blurred() {
        let spike = |at: usize| {
            let mut clean = HostTensor::zeros([1, 1, 6, 6]);
            clean.data_mut()[at] = 1.0;
            clean
        };
        let left = blurred(spike(14), &attended(vec![1.5, 0.5]), &Sag::DEFAULT).unwrap();
        let sum: f32 = left.data().iter().sum();
        assert!(left.data()[14] < 0.2, "{left:?}");
        assert!(sum < 1.0 && left.data()[16] == 0.0, "{left:?}");
        let right = blurred(spike(14), &attended(vec![0.5, 1.5]), &Sag::DEFAULT).unwrap();
        assert_eq!(right.data()[14].to_bits(), 1.0_f32.to_bits());
        let flat = blurred(
            HostTensor::zeros([1, 1, 6, 6]).map(|_| 2.0),
            &attended(vec![2.0]),
            &Sag::DEFAULT,
        );
        assert!(
            flat.unwrap()
                .data()
                .iter()
                .all(|value| (value - 2.0).abs() < 1e-6)
        );
    }

    #[test]
    fn latents_smaller_than_the_blur_are_refused() {
        let error = blurred(
            HostTensor::zeros([1, 4, 4, 9]),
            &attended(vec![2.0]),
            &Sag::DEFAULT,
        )
        .unwrap_err();
        assert!(error.message().contains("9x4"), "{error}");
    }
}
