//! DDIM (Song et al. 2020, "Denoising Diffusion Implicit Models"), in variance-preserving coordinates.
//!
//! Follows diffusers' `DDIMScheduler`: each step goes down by a fixed number of timesteps, clipping
//! changes the estimate of the clean latents but not the noise derived from the network's output.

use super::plan::{Coordinates, NoiseLevel, Plan, Step};
use super::prediction::Clip;
use super::schedule::{CustomLevels, NoiseSchedule, ScheduleKind, Settings, timesteps};
use super::{Run, Sampler, maths};
use crate::error::{Error, Result};
use crate::host::HostTensor;

/// The DDIM sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ddim {
    /// Stochasticity, 0 (deterministic) to 1 (DDPM).
    pub eta: f64,
    /// What is done to each estimate of the clean latents.
    pub clip: Clip,
}

impl Ddim {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            eta: settings.randomness.eta,
            // The webui never cuts.
            clip: match settings.sigmas {
                ScheduleKind::DdimUniform => Clip::None,
                _ => settings.clip,
            },
        })
    }

    pub(super) fn plan(schedule: &NoiseSchedule, steps: usize) -> Result<Plan> {
        if let Some(plan) = custom_plan(schedule)? {
            return Ok(plan);
        }
        if let Some(levels) = schedule.levels_of_the_webui(steps)? {
            return through(&levels);
        }
        let settings = schedule.settings();
        let distance = settings.num_train_timesteps / steps;
        let timesteps = timesteps::whole(
            settings.timestep_spacing,
            settings.num_train_timesteps,
            steps,
            settings.steps_offset,
        );
        let steps = timesteps
            .into_iter()
            .map(|timestep| {
                let at = schedule.level(timestep as usize)?;
                Ok(Step {
                    at,
                    from: at,
                    to: schedule.level_below(timestep as usize, distance)?,
                })
            })
            .collect::<Result<_>>()?;
        Plan::new(steps, Coordinates::VariancePreserving, 1.0)
    }
}

/// The plan over the caller's own timesteps, each step ending at the next.
///
/// # Errors
/// `InvalidConfig` for sigmas and for timesteps beyond those of training.
pub(super) fn custom_plan(schedule: &NoiseSchedule) -> Result<Option<Plan>> {
    let timesteps = match &schedule.settings().custom {
        None => return Ok(None),
        Some(CustomLevels::Timesteps(timesteps)) => timesteps,
        Some(CustomLevels::Sigmas(_)) => {
            return Err(Error::invalid(
                "this sampler runs on training timesteps and takes no sigmas",
            )
            .with_hint("give timesteps, or choose another sampler"));
        }
    };
    let mut levels = timesteps
        .iter()
        .map(|&timestep| schedule.level(timestep))
        .collect::<Result<Vec<_>>>()?;
    levels.push(NoiseLevel::from_alpha_bar(0.0, schedule.final_alpha_bar()));
    through(&levels).map(Some)
}

/// The plan over `levels`, each the end of the step before.
fn through(levels: &[NoiseLevel]) -> Result<Plan> {
    let steps = levels.windows(2).map(|pair| Step {
        at: pair[0],
        from: pair[0],
        to: pair[1],
    });
    Plan::new(steps.collect(), Coordinates::VariancePreserving, 1.0)
}

impl Sampler for Ddim {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        for (index, step) in run.plan.steps().iter().enumerate() {
            let mut denoised = run.denoiser.denoise_at(&x, step.at.timestep as usize)?;
            let (from, to) = (step.from.alpha_bar as f32, step.to.alpha_bar as f32);
            let (signal, spread) = (from.sqrt(), (1.0 - from).sqrt());
            // Equation 16, the standard deviation of the noise put back.
            let variance = (1.0 - to) / (1.0 - from) * (1.0 - from / to);
            let std_dev = self.eta as f32 * variance.sqrt();
            let direction = (1.0 - to - std_dev * std_dev).max(0.0).sqrt();
            let clean = to.sqrt();
            // Equation 12, with the noise taken from the estimate before it is clipped.
            let noise_of = |x: f32, denoised: f32| (x - signal * denoised) / spread;
            if self.clip == Clip::None {
                x = x.zip_map(&denoised, |x, denoised| {
                    clean * denoised + direction * noise_of(x, denoised)
                })?;
            } else {
                let unclipped = denoised.clone();
                self.clip.apply(&mut denoised);
                maths::update(&mut x, &denoised, &unclipped, |x, denoised, unclipped| {
                    clean * denoised + direction * noise_of(x, unclipped)
                })?;
            }
            if self.eta > 0.0 {
                let noise = run.noise.noise(x.shape());
                x = x.zip_map(&noise, |x, noise| x + std_dev * noise)?;
            }
            run.report(index, &x, Some(&denoised))?;
        }
        Ok(x)
    }
}
