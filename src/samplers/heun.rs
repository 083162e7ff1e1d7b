//! Heun's method on the probability flow (Karras et al. 2022, algorithm 2; k-diffusion's `sample_heun`):
//! Euler's step, then again with the mean of the slopes at both ends. Asks the model twice a step.

use super::churn::Churn;
use super::plan::Plan;
use super::prediction::Clip;
use super::schedule::{NoiseSchedule, Settings};
use super::{Euler, Run, Sampler, maths};
use crate::error::{Error, Result};
use crate::host::HostTensor;

/// The Heun sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heun {
    /// Noise put back before steps.
    pub churn: Churn,
}

impl Heun {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            churn: settings.randomness.into(),
        })
    }

    /// The levels of diffusers' `HeunDiscreteScheduler`, which are Euler's.
    ///
    /// # Errors
    /// `Unsupported` where that scheduler would cut estimates.
    pub(super) fn plan_of_checkpoint(schedule: &NoiseSchedule, steps: usize) -> Result<Plan> {
        if schedule.settings().clip != Clip::None {
            return Err(Error::unsupported(
                "scheduler_config.json sets clip_sample to true, which is not supported with heun",
            )
            .with_hint("name a sampler yourself"));
        }
        Euler::plan(schedule, steps)
    }
}

impl Sampler for Heun {
    fn sample(&self, x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        self.churn.sample(x, run, step_with)
    }
}

/// One step of Heun's method from `x`, whose estimate is `denoised`; Euler's where it ends at sigma 0.
pub(super) fn step_with(
    x: &HostTensor,
    denoised: &HostTensor,
    (from, to): (f64, f64),
    run: &mut Run<'_>,
) -> Result<HostTensor> {
    let d = maths::slope(x, denoised, from)?;
    let dt = to - from;
    let x_2 = maths::combine(&[(1.0, x), (dt, &d)])?;
    if to <= 0.0 {
        return Ok(x_2);
    }
    let denoised_2 = run.denoiser.denoise(&x_2, to)?;
    let d_2 = maths::slope(&x_2, &denoised_2, to)?;
    maths::combine(&[(1.0, x), (dt / 2.0, &d), (dt / 2.0, &d_2)])
}
