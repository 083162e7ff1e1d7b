//! Ancestral sampling as DDPM trained it (Ho et al. 2020, "Denoising Diffusion Probabilistic Models",
//! algorithm 2 and equation 7, with the smaller of its two variances), in variance-preserving coordinates.
//!
//! Follows diffusers' `DDPMScheduler` with `variance_type` fixed_small.

use super::plan::{Coordinates, NoiseLevel, Plan, Step};
use super::prediction::Clip;
use super::schedule::{NoiseSchedule, Settings};
use super::{Ddim, Run, Sampler, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// The DDPM sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ddpm {
    /// What is done to each estimate of the clean latents.
    pub clip: Clip,
}

impl Ddpm {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            clip: settings.clip,
        })
    }

    /// DDIM's timesteps, but each step ends at the next one and the last at the clean latents.
    pub(super) fn plan(schedule: &NoiseSchedule, steps: usize) -> Result<Plan> {
        let plan = Ddim::plan(schedule, steps)?;
        let clean = NoiseLevel::from_alpha_bar(0.0, 1.0);
        let next = plan.steps().iter().skip(1).map(|step| step.at);
        let steps = plan
            .steps()
            .iter()
            .zip(next.chain([clean]))
            .map(|(step, to)| Step { to, ..*step })
            .collect();
        Plan::new(steps, Coordinates::VariancePreserving, 1.0)
    }
}

impl Sampler for Ddpm {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        for (index, step) in run.plan.steps().iter().enumerate() {
            let mut denoised = run.denoiser.denoise_at(&x, step.at.timestep as usize)?;
            self.clip.apply(&mut denoised);
            let (from, to) = (step.from.alpha_bar, step.to.alpha_bar);
            let alpha = from / to;
            let on_denoised = to.sqrt() * (1.0 - alpha) / (1.0 - from);
            let on_x = alpha.sqrt() * (1.0 - to) / (1.0 - from);
            x = maths::combine(&[(on_x, &x), (on_denoised, &denoised)])?;
            if step.at.timestep > 0.0 {
                let variance = ((1.0 - to) / (1.0 - from) * (1.0 - alpha)).max(1e-20);
                let noise = run.noise.noise(x.shape());
                x = maths::combine(&[(1.0, &x), (variance.sqrt(), &noise)])?;
            }
            run.report(index, &x, Some(&denoised))?;
        }
        Ok(x)
    }
}
