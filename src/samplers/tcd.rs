//! Trajectory consistency sampling (Zheng et al. 2024, "Trajectory Consistency Distillation", algorithm 4),
//! in variance-preserving coordinates.
//!
//! Follows diffusers' `TCDScheduler`: each step goes below the next timestep by the share eta (the paper's
//! gamma) and noise brings it back. It ends at the noise of training timestep 0, as upstream does.

use super::plan::{Coordinates, NoiseLevel, Plan};
use super::schedule::{NoiseSchedule, Settings};
use super::{Lcm, Run, Sampler, ddim, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// The TCD sampler.
#[derive(Debug, Clone, PartialEq)]
pub struct Tcd {
    /// The share by which steps go below the next timestep, 0 to 1.
    pub eta: f64,
    /// The levels of training: where steps go to is not in the plan.
    schedule: NoiseSchedule,
}

impl Tcd {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            eta: settings.randomness.eta,
            schedule: NoiseSchedule::new(settings.clone()),
        })
    }

    /// LCM's timesteps, but the last step ends at timestep 0.
    pub(super) fn plan(schedule: &NoiseSchedule, steps: usize) -> Result<Plan> {
        let plan = match ddim::custom_plan(schedule)? {
            Some(plan) => plan,
            None => Lcm::plan(schedule, steps)?,
        };
        let mut steps = plan.steps().to_vec();
        if let Some(last) = steps.last_mut() {
            last.to = schedule.level(0)?;
        }
        Plan::new(steps, Coordinates::VariancePreserving, 1.0)
    }

    /// Where a step whose noise brings it to `to` goes before.
    fn below(&self, to: NoiseLevel) -> Result<NoiseLevel> {
        // In f32, as upstream multiplies.
        let timestep = ((1.0 - self.eta) as f32 * to.timestep as f32).floor();
        self.schedule.level(timestep as usize)
    }
}

impl Sampler for Tcd {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        let count = run.plan.steps().len();
        for (index, step) in run.plan.steps().iter().enumerate() {
            let denoised = run.denoiser.denoise_at(&x, step.at.timestep as usize)?;
            let below = self.below(step.to)?;
            x = move_to(&x, &denoised, step.at.alpha_bar, below.alpha_bar)?;
            if self.eta > 0.0 && index + 1 < count {
                let share = step.to.alpha_bar / below.alpha_bar;
                let noise = run.noise.noise(x.shape());
                let spread = (1.0 - share).max(0.0).sqrt();
                x = maths::combine(&[(share.sqrt(), &x), (spread, &noise)])?;
            }
            run.report(index, &x, Some(&denoised))?;
        }
        Ok(x)
    }
}

/// The estimate with the noise that `x` holds beside it, at another level.
fn move_to(x: &HostTensor, denoised: &HostTensor, from: f64, to: f64) -> Result<HostTensor> {
    let keep = ((1.0 - to) / (1.0 - from)).sqrt();
    maths::combine(&[(keep, x), (to.sqrt() - keep * from.sqrt(), denoised)])
}
