//! Multistep consistency sampling (Luo et al. 2023, "Latent Consistency Models", algorithm 3), in
//! variance-preserving coordinates.
//!
//! Follows diffusers' `LCMScheduler`: timesteps are taken from those of the distillation, each estimate
//! of the clean latents is noised again to the next timestep, the last is the result.

use super::plan::{Coordinates, NoiseLevel, Plan, Step};
use super::prediction::Clip;
use super::schedule::{NoiseSchedule, Settings};
use super::{Run, Sampler, ddim, maths};
use crate::error::{Error, Result};
use crate::host::HostTensor;

/// Standard deviation of clean latents that the boundary condition assumes.
const SIGMA_DATA: f32 = 0.5;

/// The LCM sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lcm {
    /// Factor on timesteps in the boundary condition.
    pub timestep_scaling: f64,
    /// What is done to each estimate of the clean latents.
    pub clip: Clip,
}

impl Lcm {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            timestep_scaling: settings.timestep_scaling,
            clip: settings.clip,
        })
    }

    pub(super) fn plan(schedule: &NoiseSchedule, steps: usize) -> Result<Plan> {
        if let Some(plan) = ddim::custom_plan(schedule)? {
            return Ok(plan);
        }
        let settings = schedule.settings();
        let (original, train) = (
            settings.original_inference_steps,
            settings.num_train_timesteps,
        );
        if !(1..=train).contains(&original) {
            return Err(Error::malformed(format!(
                "scheduler_config.json: original_inference_steps is {original}, expected 1 to num_train_timesteps, {train}"
            )));
        }
        if steps > original {
            return Err(Error::invalid(format!(
                "steps is {steps}, but lcm picks from the {original} steps of its distillation"
            ))
            .with_hint("4 to 8 steps are usual"));
        }
        let stride = train / original;
        // numpy.linspace(0, original, steps, endpoint=False), rounded down.
        let skip = original as f64 / steps as f64;
        let levels: Vec<NoiseLevel> = (0..steps)
            .map(|index| {
                let skipped = (index as f64 * skip).floor() as usize;
                schedule.level((original - skipped) * stride - 1)
            })
            .collect::<Result<_>>()?;
        let clean = NoiseLevel::from_alpha_bar(0.0, 1.0);
        let steps = levels
            .iter()
            .zip(levels[1..].iter().chain([&clean]))
            .map(|(&at, &to)| Step { at, from: at, to })
            .collect();
        Plan::new(steps, Coordinates::VariancePreserving, 1.0)
    }
}

impl Sampler for Lcm {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        let count = run.plan.steps().len();
        for (index, step) in run.plan.steps().iter().enumerate() {
            let mut denoised = run.denoiser.denoise_at(&x, step.at.timestep as usize)?;
            self.clip.apply(&mut denoised);
            // The boundary condition c_skip x + c_out x0, which makes f(x, 0) = x (equation 7).
            let scaled = step.at.timestep as f32 * self.timestep_scaling as f32;
            let variance = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
            let c_skip = SIGMA_DATA * SIGMA_DATA / variance;
            let c_out = scaled / variance.sqrt();
            denoised = denoised.zip_map(&x, |denoised, x| c_out * denoised + c_skip * x)?;
            if index + 1 == count {
                x.clone_from(&denoised);
            } else {
                let noise = run.noise.noise(x.shape());
                let alpha_bar = step.to.alpha_bar as f32;
                let (signal, spread) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
                maths::update(&mut x, &denoised, &noise, |_, denoised, noise| {
                    signal * denoised + spread * noise
                })?;
            }
            run.report(index, &x, Some(&denoised))?;
        }
        Ok(x)
    }
}
