//! DPM-Solver++(2S) with fresh noise after each step (Lu et al. 2022, "DPM-Solver++", algorithm 1;
//! k-diffusion's `sample_dpmpp_2s_ancestral`). Asks the model twice a step.

use super::schedule::Settings;
use super::{Run, Sampler, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// The DPM++ 2S ancestral sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dpmpp2sAncestral {
    /// Share of each step's noise that is drawn afresh, 0 to 1.
    pub eta: f64,
    /// Factor on that noise.
    pub s_noise: f64,
}

impl Dpmpp2sAncestral {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            eta: settings.randomness.eta,
            s_noise: settings.randomness.s_noise,
        })
    }
}

impl Sampler for Dpmpp2sAncestral {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        for (index, step) in run.plan.steps().iter().enumerate() {
            let (from, to) = (step.from.sigma, step.to.sigma);
            let denoised = run.denoiser.denoise(&x, from)?;
            let (down, up) = maths::ancestral(from, to, self.eta);
            if down <= 0.0 {
                x = maths::toward(&x, &denoised, 0.0)?;
            } else {
                // Half of the way in the logarithm of sigma.
                let middle = f64::from((0.5 * (from.ln() + down.ln())).exp() as f32);
                let x_2 = maths::toward(&x, &denoised, middle / from)?;
                let denoised_2 = run.denoiser.denoise(&x_2, middle)?;
                x = maths::toward(&x, &denoised_2, down / from)?;
            }
            x = maths::add_noise(x, up * self.s_noise, run.noise)?;
            run.report(index, &x, Some(&denoised))?;
        }
        Ok(x)
    }
}
