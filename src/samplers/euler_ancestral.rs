//! Euler's method with fresh noise after each step (k-diffusion's `sample_euler_ancestral`).
//!
//! Each step goes down further than asked and noise brings it back up to the next level. Follows
//! diffusers' `EulerAncestralDiscreteScheduler`; levels are [`Euler`](super::Euler)'s.

use super::schedule::Settings;
use super::{Run, Sampler};
use crate::error::Result;
use crate::host::HostTensor;

/// The Euler ancestral sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EulerAncestral {
    /// Share of each step's noise that is drawn afresh, 0 to 1.
    pub eta: f64,
    /// Factor on that noise.
    pub s_noise: f64,
}

impl EulerAncestral {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            eta: settings.randomness.eta,
            s_noise: settings.randomness.s_noise,
        })
    }
}

impl Sampler for EulerAncestral {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        for (index, step) in run.plan.steps().iter().enumerate() {
            let denoised = run.denoiser.denoise(&x, step.at.sigma)?;
            let (from, to) = (step.from.sigma as f32, step.to.sigma as f32);
            let (eta, s_noise) = (self.eta as f32, self.s_noise as f32);
            let up = eta * (to * to * (from * from - to * to) / (from * from)).sqrt();
            let up = up.min(to);
            let down = (to * to - up * up).max(0.0).sqrt();
            let dt = down - from;
            x = x.zip_map(&denoised, |x, denoised| {
                let d = (x - denoised) / from;
                x + d * dt
            })?;
            // The last step ends at the clean latents, where no noise is wanted.
            if up > 0.0 {
                let noise = run.noise.noise(x.shape());
                x = x.zip_map(&noise, |x, noise| x + noise * s_noise * up)?;
            }
            run.report(index, &x, Some(&denoised))?;
        }
        Ok(x)
    }
}
