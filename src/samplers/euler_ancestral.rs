//! Euler's method with fresh noise after each step (k-diffusion's `sample_euler_ancestral`).
//!
//! Each step goes down further than asked and noise brings it back up to the next level. Follows
//! diffusers' `EulerAncestralDiscreteScheduler`; levels are [`Euler`](super::Euler)'s.

use super::schedule::Settings;
use super::{Run, Sampler};
use crate::error::Result;
use crate::host::HostTensor;

/// The Euler ancestral sampler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EulerAncestral;

impl EulerAncestral {
    pub(super) fn build(_settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self)
    }
}

impl Sampler for EulerAncestral {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        for (index, step) in run.plan.steps().iter().enumerate() {
            let denoised = run.denoiser.denoise(&x, step.at.sigma)?;
            let (from, to) = (step.from.sigma as f32, step.to.sigma as f32);
            let up = (to * to * (from * from - to * to) / (from * from)).sqrt();
            let down = (to * to - up * up).max(0.0).sqrt();
            let dt = down - from;
            x = x.zip_map(&denoised, |x, denoised| {
                let d = (x - denoised) / from;
                x + d * dt
            })?;
            // The last step ends at the clean latents, where no noise is wanted.
            if up > 0.0 {
                let noise = run.noise.noise(x.shape());
                x = x.zip_map(&noise, |x, noise| x + noise * up)?;
            }
            run.report(index, &x, Some(&denoised))?;
        }
        Ok(x)
    }
}
