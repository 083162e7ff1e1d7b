//! Embeddings of numbers: sinusoids of timesteps, sizes and guidance scales, and the small MLP behind them.
//!
//! Follows `diffusers/models/embeddings.py` (`get_timestep_embedding`, `TimestepEmbedding`) and
//! `get_guidance_scale_embedding` of its pipelines. Sinusoids are formed on the host in f32, operation by operation
//! as torch does: at timestep 999 the last bit of a frequency is worth 6e-5 of an angle.

use crate::error::{Error, ErrorKind, Result};
use crate::models::unet::TimeConfig;
use crate::nn::{Bias, Linear, Scope, Tokens};

const MAX_PERIOD: f64 = 10_000.0;

/// Sinusoidal embedding of one number, `dim` values; an odd `dim` ends in a zero.
pub(crate) fn timestep_embedding(value: f32, dim: usize, time: &TimeConfig) -> Vec<f32> {
    let half = dim / 2;
    let span = (half as f64 - time.freq_shift) as f32;
    let step = -MAX_PERIOD.ln() as f32;
    let angles = (0..half).map(|i| value * exp(step * i as f32 / span));
    let (sines, cosines): (Vec<f32>, Vec<f32>) = angles.map(sin_cos).unzip();
    let mut embedding = if time.flip_sin_to_cos {
        [cosines, sines].concat()
    } else {
        [sines, cosines].concat()
    };
    embedding.resize(dim, 0.0);
    embedding
}

/// Embedding of a guidance scale for LCM-distilled models, `dim` values (Luo et al. 2023, "Latent Consistency
/// Models", section 4.2). As in diffusers, what is embedded is the scale less 1.
pub(crate) fn guidance_embedding(guidance_scale: f64, dim: usize) -> Vec<f32> {
    let half = dim / 2;
    let step = (MAX_PERIOD as f32).ln() / (half as f32 - 1.0);
    let value = (guidance_scale - 1.0) as f32 * 1000.0;
    let angles = (0..half).map(|i| value * exp(i as f32 * -step));
    let (sines, cosines): (Vec<f32>, Vec<f32>) = angles.map(sin_cos).unzip();
    let mut embedding = [sines, cosines].concat();
    embedding.resize(dim, 0.0);
    embedding
}

/// The exponential rounded once, which agrees with torch's vector routine in all but a few last bits.
fn exp(x: f32) -> f32 {
    f64::from(x).exp() as f32
}

fn sin_cos(angle: f32) -> (f32, f32) {
    let (sine, cosine) = f64::from(angle).sin_cos();
    (sine as f32, cosine as f32)
}

/// diffusers' `TimestepEmbedding`: linear, SiLU, linear, with an optional condition added to the input.
#[derive(Debug)]
pub(crate) struct TimestepEmbedding {
    cond_proj: Option<Linear>,
    linear_1: Linear,
    linear_2: Linear,
}

impl TimestepEmbedding {
    /// Reads the layers; `cond_proj_dim` is the width of the condition.
    pub(crate) fn load(
        scope: &Scope<'_>,
        in_channels: usize,
        embed_dim: usize,
        cond_proj_dim: Option<usize>,
    ) -> Result<Self> {
        let scope = scope.exact();
        let cond_proj = cond_proj_dim
            .map(|dim| Linear::load(&scope.pp("cond_proj"), dim, in_channels, Bias::Without))
            .transpose()?;
        Ok(Self {
            cond_proj,
            linear_1: Linear::load(&scope.pp("linear_1"), in_channels, embed_dim, Bias::With)?,
            linear_2: Linear::load(&scope.pp("linear_2"), embed_dim, embed_dim, Bias::With)?,
        })
    }

    /// `sample` (B, 1, in) and `condition` (B or 1, 1, cond) to (B, 1, embed).
    pub(crate) fn forward(&self, sample: &Tokens, condition: Option<&Tokens>) -> Result<Tokens> {
        let hidden = match (&self.cond_proj, condition) {
            (Some(cond_proj), Some(condition)) => cond_proj.forward_add(condition, sample)?,
            (_, None) => sample.clone(),
            (None, Some(_)) => {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "a condition was given to a time embedding that has no cond_proj",
                ));
            }
        };
        let hidden = self.linear_1.forward(&hidden)?.silu()?;
        self.linear_2.forward(&hidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(flip_sin_to_cos: bool, freq_shift: f64) -> TimeConfig {
        TimeConfig {
            sinusoid_dim: 6,
            embed_dim: 24,
            flip_sin_to_cos,
            freq_shift,
            cond_proj_dim: None,
        }
    }

    /// `get_timestep_embedding(torch.tensor([500.5]), 6, flip_sin_to_cos=True, downscale_freq_shift=0)` of diffusers.
    #[test]
    fn sinusoids_are_those_of_diffusers() {
        let found = timestep_embedding(500.5, 6, &time(true, 0.0));
        assert_near(
            &found,
            &[
                -0.551_389,
                -0.324_791_64,
                0.472_831_73,
                -0.834_248_3,
                -0.945_785_6,
                0.881_152_75,
            ],
        );
        let found = timestep_embedding(500.5, 7, &time(false, 1.0));
        assert_near(
            &found,
            &[
                -0.834_248_3,
                -0.957_493_96,
                0.050_029_1,
                -0.551_389,
                0.288_453_34,
                0.998_747_77,
                0.0,
            ],
        );
    }

    /// `get_guidance_scale_embedding(torch.tensor([8.0 - 1]), 6)` of diffusers' `StableDiffusionPipeline`.
    #[test]
    fn guidance_is_embedded_less_one() {
        let found = guidance_embedding(8.0, 6);
        assert_near(
            &found,
            &[
                0.506_885_4,
                0.773_890_7,
                0.644_217_6,
                0.862_013_46,
                0.633_319_2,
                0.764_842_2,
            ],
        );
    }

    fn assert_near(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            let difference = (found - expected).abs();
            assert!(
                difference < 1e-6,
                "element {i}: found {found}, expected {expected}"
            );
        }
    }
}
