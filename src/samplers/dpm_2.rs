//! The midpoint rule in the logarithm of sigma (k-diffusion's `sample_dpm_2`, after DPM-Solver-2 of Lu et
//! al. 2022 and algorithm 2 of Karras et al. 2022). Asks the model twice a step.

use super::churn::Churn;
use super::plan::Plan;
use super::schedule::{NoiseSchedule, ScheduleKind, Settings};
use super::{Euler, Run, Sampler, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// The DPM2 sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dpm2 {
    /// Noise put back before steps.
    pub churn: Churn,
}

impl Dpm2 {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            churn: settings.randomness.into(),
        })
    }

    /// The levels of diffusers' `KDPM2DiscreteScheduler` and the ancestral one: Euler's, but on Karras' curve the
    /// model is told whole timesteps.
    pub(super) fn plan_of_checkpoint(schedule: &NoiseSchedule, steps: usize) -> Result<Plan> {
        let plan = Euler::plan(schedule, steps)?;
        if schedule.settings().sigmas != ScheduleKind::Karras {
            return Ok(plan);
        }
        Ok(plan.with_whole_timesteps())
    }
}

impl Sampler for Dpm2 {
    fn sample(&self, x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        self.churn.sample(x, run, midpoint)
    }
}

/// One step of the midpoint rule from `x`, whose estimate is `denoised`; Euler's where it ends at sigma 0.
pub(super) fn midpoint(
    x: &HostTensor,
    denoised: &HostTensor,
    (from, to): (f64, f64),
    run: &mut Run<'_>,
) -> Result<HostTensor> {
    let d = maths::slope(x, denoised, from)?;
    if to <= 0.0 {
        return maths::combine(&[(1.0, x), (to - from, &d)]);
    }
    // The f32 of upstream's `lerp` of logarithms, which decides the timestep that the model is told.
    let middle = f64::from((0.5 * (from.ln() + to.ln())).exp() as f32);
    // With all noise new the middle is the next level; the model is still told the timestep of a sigma between
    // levels, which on Karras' curve is not the level's own.
    let middle = middle.next_down();
    let x_2 = maths::combine(&[(1.0, x), (middle - from, &d)])?;
    let denoised_2 = run.denoiser.denoise(&x_2, middle)?;
    let d_2 = maths::slope(&x_2, &denoised_2, middle)?;
    maths::combine(&[(1.0, x), (to - from, &d_2)])
}
