//! Euler's method on the probability flow (Karras et al. 2022, algorithm 2 without its correction).
//!
//! Follows diffusers' `EulerDiscreteScheduler`, which is k-diffusion's `sample_euler`.

use super::churn::Churn;
use super::plan::{NoiseLevel, Plan};
use super::schedule::{
    InterpolationType, NoiseSchedule, Settings, TimestepSpacing, levels, log_linear, timesteps,
};
use super::{Run, Sampler};
use crate::error::Result;
use crate::host::HostTensor;

/// The Euler sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Euler {
    /// Noise put back before steps.
    pub churn: Churn,
}

impl Euler {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            churn: settings.randomness.into(),
        })
    }

    /// The levels of diffusers' Euler schedulers, which Euler ancestral shares.
    pub(super) fn plan(schedule: &NoiseSchedule, steps: usize) -> Result<Plan> {
        if schedule.has_k_levels() {
            return levels::plan(schedule, steps);
        }
        let settings = schedule.settings();
        let mut timesteps = timesteps::fractional(
            settings.timestep_spacing,
            settings.num_train_timesteps,
            steps,
            settings.steps_offset,
        );
        let mut sigmas: Vec<f64> = match settings.interpolation {
            InterpolationType::Linear => timesteps
                .iter()
                .map(|&timestep| schedule.sigma_at(timestep))
                .collect(),
            InterpolationType::LogLinear => log_linear(schedule.sigmas(), steps + 1),
        };
        let (max, min) = (sigmas[0], sigmas[sigmas.len() - 1]);
        if let Some(curve) = schedule.curve(max, min, steps)? {
            timesteps = curve
                .iter()
                .map(|&sigma| f64::from(schedule.sigma_to_timestep(sigma) as f32))
                .collect();
            sigmas = curve;
        }
        if sigmas.len() == steps {
            sigmas.push(schedule.final_sigma());
        }
        timesteps.push(0.0);
        let levels: Vec<NoiseLevel> = sigmas
            .into_iter()
            .zip(timesteps)
            .map(|(sigma, timestep)| NoiseLevel::from_sigma(timestep, f64::from(sigma as f32)))
            .collect();
        Plan::through(&levels, initial_scale(settings.timestep_spacing, &levels))
    }
}

/// What diffusers multiplies the first noise with: the latents' standard deviation where the first
/// timestep is the last of training, that of noise and latents together where it is below.
fn initial_scale(spacing: TimestepSpacing, levels: &[NoiseLevel]) -> f64 {
    let largest = levels
        .iter()
        .map(|level| level.sigma as f32)
        .fold(0.0, f32::max);
    f64::from(match spacing {
        TimestepSpacing::Linspace | TimestepSpacing::Trailing => largest,
        TimestepSpacing::Leading => (largest * largest + 1.0).sqrt(),
    })
}

impl Sampler for Euler {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        for (index, step) in run.plan.steps().iter().enumerate() {
            let raised =
                self.churn
                    .raise(&mut x, step.from.sigma, run.plan.full_len(), run.noise)?;
            let denoised = run.denoiser.denoise(&x, raised)?;
            let sigma = raised as f32;
            let dt = step.to.sigma as f32 - sigma;
            x = x.zip_map(&denoised, |x, denoised| {
                let d = (x - denoised) / sigma;
                x + d * dt
            })?;
            run.report(index, &x, Some(&denoised))?;
        }
        Ok(x)
    }
}
