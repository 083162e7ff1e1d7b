//! Euler's method under CFG++ (Chung et al. 2024, "CFG++: Manifold-constrained Classifier Free Guidance",
//! algorithm 2, on sigmas): the guided estimate, but the noise that goes with it is the unconditional one.
//! Guidance scales are smaller here than elsewhere, 1 to 2.

use super::schedule::Settings;
use super::{Run, Sampler, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// The Euler CFG++ sampler, and with eta above 0 its ancestral form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EulerCfgPp {
    /// Share of each step's noise that is drawn afresh, 0 to 1.
    pub eta: f64,
    /// Factor on that noise.
    pub s_noise: f64,
}

impl EulerCfgPp {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            eta: settings.randomness.eta,
            s_noise: settings.randomness.s_noise,
        })
    }
}

impl Sampler for EulerCfgPp {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        for (index, step) in run.plan.steps().iter().enumerate() {
            let (from, to) = (step.from.sigma, step.to.sigma);
            let guided = run.denoiser.denoise_guided(&x, from)?;
            let (down, up) = maths::ancestral(from, to, self.eta);
            let share = down / from;
            x = maths::combine(&[
                (1.0, &guided.denoised),
                (share, &x),
                (-share, &guided.unconditional),
            ])?;
            x = maths::add_noise(x, up * self.s_noise, run.noise)?;
            run.report(index, &x, Some(&guided.denoised))?;
        }
        Ok(x)
    }
}
