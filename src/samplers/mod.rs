//! Samplers: each its paper's algorithm in one file, with the loop inside.
//!
//! A sampler sees a [`Denoiser`], noise levels, a noise source and an observer, nothing else. Guidance,
//! prediction type and conditioning live behind the denoiser (`backend::inference`).

use crate::error::Result;
use crate::host::HostTensor;

/// The model as samplers see it: noisy latents in, its estimate of the clean latents out.
///
/// Two coordinate systems are in use. k-diffusion's samplers keep `x = x0 + sigma * noise` (variance
/// exploding); DDIM, PNDM and LCM keep `x = sqrt(ᾱ) x0 + sqrt(1 - ᾱ) noise` at an integer training
/// timestep (variance preserving), which also exists at zero terminal SNR, where sigma is infinite.
pub trait Denoiser {
    /// Estimates the clean latents from `x = x0 + sigma * noise`.
    ///
    /// # Errors
    /// Whatever the model fails with.
    fn denoise(&mut self, x: &HostTensor, sigma: f64) -> Result<HostTensor>;

    /// Estimates the clean latents from `x = sqrt(ᾱ_t) x0 + sqrt(1 - ᾱ_t) noise` at training timestep `timestep`.
    ///
    /// # Errors
    /// Whatever the model fails with.
    fn denoise_at(&mut self, x: &HostTensor, timestep: usize) -> Result<HostTensor>;
}

/// Where stochastic samplers get their noise from.
pub trait NoiseSource {
    /// Standard normal noise of `shape` = (batch, channels, height, width); each picture of the batch draws from its own generator.
    fn noise(&mut self, shape: &[usize]) -> HostTensor;
}
