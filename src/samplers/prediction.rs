//! From what the network predicts to the clean latents, in both coordinate systems.
//!
//! Every line keeps the order of diffusers' f32 operations, because at zero terminal SNR (sigma 4096)
//! one reordering moves the result by 1e-4.

use serde::Deserialize;

use crate::error::Result;
use crate::host::HostTensor;

/// What the network was trained to predict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
pub enum PredictionType {
    /// The noise (Ho et al. 2020, equation 14).
    #[default]
    #[serde(rename = "epsilon")]
    Epsilon,
    /// `v = sqrt(ᾱ) noise - sqrt(1 - ᾱ) x0` (Salimans and Ho 2022, appendix D).
    #[serde(rename = "v_prediction")]
    VPrediction,
    /// The clean latents themselves.
    #[serde(rename = "sample", alias = "original_sample")]
    Sample,
}

impl PredictionType {
    /// The clean latents from `x = x0 + sigma * noise` and the network's `output`, both (B, C, H, W).
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn denoised(self, x: &HostTensor, output: HostTensor, sigma: f64) -> Result<HostTensor> {
        let sigma = sigma as f32;
        let variance = sigma * sigma + 1.0;
        let c_out = -sigma / variance.sqrt();
        match self {
            Self::Sample => Ok(output),
            Self::Epsilon => output.zip_map(x, |noise, x| x - sigma * noise),
            Self::VPrediction => output.zip_map(x, |v, x| v * c_out + x / variance),
        }
    }

    /// The clean latents from `x = sqrt(ᾱ) x0 + sqrt(1 - ᾱ) noise` and the network's `output`, both (B, C, H, W).
    ///
    /// Exact at `ᾱ = 0` for `VPrediction` and `Sample`; `Epsilon` says nothing of x0 there.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn denoised_at(
        self,
        x: &HostTensor,
        output: HostTensor,
        alpha_bar: f64,
    ) -> Result<HostTensor> {
        let alpha_bar = alpha_bar as f32;
        let (signal, spread) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
        match self {
            Self::Sample => Ok(output),
            Self::Epsilon => output.zip_map(x, |noise, x| (x - spread * noise) / signal),
            Self::VPrediction => output.zip_map(x, |v, x| signal * x - spread * v),
        }
    }
}

/// What DDIM, LCM and DPM-Solver++ do to the estimate of the clean latents before they use it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Clip {
    /// Nothing.
    #[default]
    None,
    /// Values are cut to -range..range.
    Range(f32),
    /// Dynamic thresholding (Saharia et al. 2022, section 2.3): per picture, values are cut to the
    /// `ratio` quantile of their magnitudes, at least 1 and at most `max`, and divided by it.
    Dynamic {
        /// Quantile, 0 to 1.
        ratio: f32,
        /// Largest threshold.
        max: f32,
    },
}

impl Clip {
    /// Applies the rule to `denoised`, (B, C, H, W).
    pub fn apply(self, denoised: &mut HostTensor) {
        match self {
            Self::None => {}
            Self::Range(range) => {
                for value in denoised.data_mut() {
                    *value = value.clamp(-range, range);
                }
            }
            Self::Dynamic { ratio, max } => {
                let batch = denoised.shape().first().copied().unwrap_or(1).max(1);
                let length = denoised.data().len() / batch;
                if length == 0 {
                    return;
                }
                for picture in denoised.data_mut().chunks_exact_mut(length) {
                    let limit = quantile_of_magnitudes(picture, ratio).max(1.0).min(max);
                    for value in picture {
                        *value = value.max(-limit).min(limit) / limit;
                    }
                }
            }
        }
    }
}

/// The `ratio` quantile of |values|, between two values by linear interpolation as torch.quantile does.
pub(crate) fn quantile_of_magnitudes(values: &[f32], ratio: f32) -> f32 {
    let mut magnitudes: Vec<f32> = values.iter().map(|value| value.abs()).collect();
    magnitudes.sort_by(f32::total_cmp);
    let last = magnitudes.len() - 1;
    let rank = (ratio * last as f32).clamp(0.0, last as f32);
    let below = magnitudes[rank.floor() as usize];
    let above = magnitudes[rank.ceil() as usize];
    below + (rank - rank.floor()) * (above - below)
}
