//! Multistep consistency sampling (Luo et al. 2023, "Latent Consistency Models", algorithm 3) through a schedule's sigmas,
//! in variance-exploding coordinates: each estimate of the clean latents is noised again to the next sigma.
//!
//! Two programs have it so. ComfyUI (`comfy/k_diffusion/sampling.py`, `sample_lcm`) takes the estimate as it is; the webui
//! (`modules/sd_samplers_lcm.py`) runs on the levels of the distillation alone and applies its boundary condition.

use super::plan::{NoiseLevel, Plan};
use super::schedule::{NoiseSchedule, Settings, levels};
use super::{Run, Sampler, maths};
use crate::error::{Error, Result};
use crate::host::HostTensor;

/// Standard deviation of clean latents that the boundary condition assumes.
const SIGMA_DATA: f64 = 0.5;

/// The LCM sampler on sigmas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LcmSigmas {
    /// Factor on timesteps in the boundary condition, where there is one.
    pub timestep_scaling: Option<f64>,
}

impl LcmSigmas {
    /// ComfyUI's.
    pub(super) fn build(_: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            timestep_scaling: None,
        })
    }

    /// The webui's.
    pub(super) fn build_webui(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            timestep_scaling: Some(settings.timestep_scaling),
        })
    }

    /// The webui's levels: a schedule over the timesteps of the distillation, of which the model is told the nearest.
    pub(super) fn plan_webui(schedule: &NoiseSchedule, steps: usize) -> Result<Plan> {
        let settings = schedule.settings();
        let (train, original) = (
            settings.num_train_timesteps,
            settings.original_inference_steps,
        );
        if !(2..=train).contains(&original) {
            return Err(Error::malformed(format!(
                "scheduler_config.json: original_inference_steps is {original}, expected 2 to num_train_timesteps, {train}"
            )));
        }
        let skip = train / original;
        let thinned = schedule.thinned(skip);
        let level = |sigma: f32| {
            let back = thinned.sigmas().len() - 1 - thinned.nearest(sigma);
            NoiseLevel::from_sigma((train - 1 - back * skip) as f64, f64::from(sigma))
        };
        let levels: Vec<NoiseLevel> = levels::sigmas(&thinned, steps)?
            .into_iter()
            .map(level)
            .collect();
        Plan::through(&levels, schedule.start_scale(levels[0].sigma))
    }
}

impl Sampler for LcmSigmas {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        for (index, step) in run.plan.steps().iter().enumerate() {
            let mut denoised = run.denoiser.denoise(&x, step.at.sigma)?;
            if let Some(scaling) = self.timestep_scaling {
                // c_skip x + c_out x0, which makes f(x, 0) = x (equation 7).
                let scaled = step.at.timestep * scaling;
                let variance = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
                let keep = SIGMA_DATA * SIGMA_DATA / variance;
                denoised = maths::combine(&[(scaled / variance.sqrt(), &denoised), (keep, &x)])?;
            }
            x = maths::add_noise(denoised.clone(), step.to.sigma, run.noise)?;
            run.report(index, &x, Some(&denoised))?;
        }
        Ok(x)
    }
}
