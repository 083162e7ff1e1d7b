//! DDIM under CFG++ (Chung et al. 2024, "CFG++: Manifold-constrained Classifier Free Guidance", algorithm
//! 2), in variance-preserving coordinates: the guided estimate, but the noise that goes with it is the
//! unconditional one. Levels are [`Ddim`](super::Ddim)'s.

use super::schedule::Settings;
use super::{Run, Sampler, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// The DDIM CFG++ sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DdimCfgPp {
    /// Stochasticity, 0 (deterministic) to 1.
    pub eta: f64,
}

impl DdimCfgPp {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            eta: settings.randomness.eta,
        })
    }
}

impl Sampler for DdimCfgPp {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        for (index, step) in run.plan.steps().iter().enumerate() {
            let timestep = step.at.timestep as usize;
            let guided = run.denoiser.denoise_guided_at(&x, timestep)?;
            let (from, to) = (step.from.alpha_bar, step.to.alpha_bar);
            // Song et al. 2020, equations 16 and 12.
            let variance = (1.0 - to) / (1.0 - from) * (1.0 - from / to);
            let std_dev = self.eta * variance.max(0.0).sqrt();
            let direction = (1.0 - to - std_dev * std_dev).max(0.0).sqrt();
            let per_noise = direction / (1.0 - from).sqrt();
            x = maths::combine(&[
                (to.sqrt(), &guided.denoised),
                (per_noise, &x),
                (-per_noise * from.sqrt(), &guided.unconditional),
            ])?;
            x = maths::add_noise(x, std_dev, run.noise)?;
            run.report(index, &x, Some(&guided.denoised))?;
        }
        Ok(x)
    }
}
