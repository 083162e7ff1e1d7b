//! DPM2 with fresh noise after each step (k-diffusion's `sample_dpm_2_ancestral`).

use super::schedule::Settings;
use super::{Run, Sampler, dpm_2, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// The DPM2 ancestral sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dpm2Ancestral {
    /// Share of each step's noise that is drawn afresh, 0 to 1.
    pub eta: f64,
    /// Factor on that noise.
    pub s_noise: f64,
}

impl Dpm2Ancestral {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            eta: settings.randomness.eta,
            s_noise: settings.randomness.s_noise,
        })
    }
}

impl Sampler for Dpm2Ancestral {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        for (index, step) in run.plan.steps().iter().enumerate() {
            let (from, to) = (step.from.sigma, step.to.sigma);
            let denoised = run.denoiser.denoise(&x, from)?;
            let (down, up) = maths::ancestral(from, to, self.eta);
            x = dpm_2::midpoint(&x, &denoised, (from, down), run)?;
            x = maths::add_noise(x, up * self.s_noise, run.noise)?;
            run.report(index, &x, Some(&denoised))?;
        }
        Ok(x)
    }
}
