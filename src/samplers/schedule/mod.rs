//! The noise schedule: what the network was trained with, and the levels a run visits.

use super::plan::NoiseLevel;
use crate::error::{Error, Result};
use crate::host::HostTensor;

mod beta;
mod betas;
mod config;
mod curves;
mod custom;
mod gits;
#[cfg(test)]
pub(super) mod k_tests;
mod kinds;
pub(super) mod levels;
mod options;
mod settings;
mod sigmas;
mod tables;
#[cfg(test)]
mod tests;
pub(crate) mod timesteps;

pub use betas::BetaSchedule;
pub use config::{FinalSigmas, InterpolationType, SchedulerConfig};
pub(super) use curves::karras_between;
pub use custom::CustomLevels;
pub use gits::GitsCoefficient;
pub(in crate::samplers) use kinds::split_setting;
pub use kinds::{BetaOf, KlEnd, SCHEDULES, ScheduleKind, ScheduleSetting, ScheduleSpec};
pub use options::{LevelOptions, LevelRules};
pub use settings::{Defaults, Ignored, Settings, SolverType, StepTable};
pub use timesteps::TimestepSpacing;

/// `ᾱ` that diffusers puts in the place of 0 where sigma must be finite: f16's smallest positive number.
const SMALLEST_ALPHA_BAR: f32 = 1.0 / 16_777_216.0;

/// How near the largest sigma of training ComfyUI takes a first sigma for it.
const FULL_START_TOLERANCE: f64 = 1e-5;

/// `count` sigmas whose logarithms run evenly from the largest to the smallest of `sigmas`, which rise.
pub(crate) fn log_linear(sigmas: &[f32], count: usize) -> Vec<f64> {
    let (min, max) = (sigmas[0], sigmas[sigmas.len() - 1]);
    betas::linspace(f64::from(max.ln()), f64::from(min.ln()), count)
        .into_iter()
        .map(|log_sigma| f64::from(log_sigma.exp()))
        .collect()
}

/// The levels of training, for one sampler's reading of a checkpoint's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseSchedule {
    settings: Settings,
    alphas_cumprod: Vec<f32>,
    sigmas: Vec<f32>,
    log_sigmas: Vec<f32>,
}

impl NoiseSchedule {
    /// Computes the levels of training.
    pub fn new(settings: Settings) -> Self {
        let alphas_cumprod = betas::alphas_cumprod(&settings);
        let last = alphas_cumprod.len() - 1;
        let sigmas: Vec<f32> = alphas_cumprod
            .iter()
            .enumerate()
            .map(|(timestep, &alpha_bar)| {
                let alpha_bar = if settings.rescale_betas_zero_snr && timestep == last {
                    SMALLEST_ALPHA_BAR
                } else {
                    alpha_bar
                };
                ((1.0 - alpha_bar) / alpha_bar).sqrt()
            })
            .collect();
        let log_sigmas = sigmas.iter().map(|sigma| sigma.ln()).collect();
        Self {
            settings,
            alphas_cumprod,
            sigmas,
            log_sigmas,
        }
    }

    /// The configuration it was made from, every value decided.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// `ᾱ` of each training timestep, from the least noise to the most.
    pub fn alphas_cumprod(&self) -> &[f32] {
        &self.alphas_cumprod
    }

    /// Sigma of each training timestep, from the least noise to the most; the last is 4096 (finite) where
    /// training ends at pure noise.
    pub fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    /// The level of a training timestep in variance-preserving coordinates.
    ///
    /// # Errors
    /// `InvalidConfig` when `timestep` lies beyond those of training.
    pub fn level(&self, timestep: usize) -> Result<NoiseLevel> {
        let alpha_bar = self.alphas_cumprod.get(timestep).ok_or_else(|| {
            Error::invalid(format!(
                "timestep {timestep} lies beyond the last of training, {}",
                self.alphas_cumprod.len() - 1
            ))
            .with_hint("ask for fewer steps")
        })?;
        Ok(NoiseLevel::from_alpha_bar(
            timestep as f64,
            f64::from(*alpha_bar),
        ))
    }

    /// Sigma at a timestep that may lie between two of training, by linear interpolation.
    pub fn sigma_at(&self, timestep: f64) -> f64 {
        let last = self.sigmas.len() - 1;
        let below = (timestep.max(0.0).floor() as usize).min(last);
        let (low, high) = (
            f64::from(self.sigmas[below]),
            f64::from(self.sigmas[(below + 1).min(last)]),
        );
        (high - low) * (timestep.clamp(0.0, last as f64) - below as f64) + low
    }

    /// The level at a timestep that may lie between two of training, by linear interpolation in the logarithm of the
    /// clean latents' share.
    pub(crate) fn level_between(&self, timestep: f64) -> NoiseLevel {
        let last = self.sigmas.len() - 1;
        let place = timestep.clamp(0.0, last as f64);
        let below = (place.floor() as usize).min(last - 1);
        let log_share = |index: usize| -f64::from(self.sigmas[index]).powi(2).ln_1p();
        let share = place - below as f64;
        let log_share = (1.0 - share) * log_share(below) + share * log_share(below + 1);
        NoiseLevel::from_sigma(timestep, (-log_share).exp_m1().sqrt())
    }

    /// The timestep, possibly between two of training, whose sigma is `sigma`: linear interpolation in the
    /// logarithm, as k-diffusion's `sigma_to_t`; 0 below the smallest and the last above the largest. By the rules of
    /// programs that know whole timesteps only, the nearest of those.
    pub fn sigma_to_timestep(&self, sigma: f64) -> f64 {
        let log_sigma = sigma.max(1e-10).ln();
        let below = self
            .log_sigmas
            .partition_point(|&known| f64::from(known) <= log_sigma)
            .saturating_sub(1)
            .min(self.log_sigmas.len() - 2);
        let (low, high) = (self.log_sigmas[below], self.log_sigmas[below + 1]);
        let share = ((f64::from(low) - log_sigma) / f64::from(low - high)).clamp(0.0, 1.0);
        if self.settings.options.rules.whole_timesteps() {
            // Schedules often lie halfway, where f32 decides as upstream.
            let log_sigma = log_sigma as f32;
            let above = (log_sigma - low).abs() > (log_sigma - high).abs();
            return (below + usize::from(above)) as f64;
        }
        (1.0 - share) * below as f64 + share * (below + 1) as f64
    }

    /// Sigma at a timestep that may lie between two of training, by linear interpolation in the logarithm, as
    /// k-diffusion's `t_to_sigma`.
    pub(crate) fn sigma_between(&self, timestep: f32) -> f32 {
        curves::at(self, &[timestep])[0]
    }

    /// What standard normal noise is multiplied with to start at sigma `first`, by the rules in force.
    pub(crate) fn start_scale(&self, first: f64) -> f64 {
        let options = &self.settings.options;
        let largest = self.sigmas.last().copied().map_or(0.0, f64::from);
        let is_largest = first >= largest * (1.0 - FULL_START_TOLERANCE);
        if options.full_start || (options.rules.full_start() && is_largest) {
            return (first * first + 1.0).sqrt();
        }
        first
    }

    /// The place of the level nearest to `sigma` in the logarithm, the first of equals, in f32 as upstream.
    pub(crate) fn nearest(&self, sigma: f32) -> usize {
        let log_sigma = f64::from(sigma).max(1e-10).ln() as f32;
        let distance = |place: usize| (log_sigma - self.log_sigmas[place]).abs();
        (1..self.log_sigmas.len()).fold(0, |best, place| {
            if distance(place) < distance(best) {
                place
            } else {
                best
            }
        })
    }

    /// Every `skip`-th level of training, counted from the last, as a training of its own.
    pub(crate) fn thinned(&self, skip: usize) -> Self {
        let keep = |values: &[f32]| -> Vec<f32> {
            let mut kept: Vec<f32> = values.iter().rev().copied().step_by(skip.max(1)).collect();
            kept.reverse();
            kept
        };
        Self {
            settings: self.settings.clone(),
            alphas_cumprod: keep(&self.alphas_cumprod),
            sigmas: keep(&self.sigmas),
            log_sigmas: keep(&self.log_sigmas),
        }
    }

    /// What the network is given for `x = x0 + sigma * noise`: `x / sqrt(sigma² + 1)`.
    #[must_use]
    pub fn model_input(&self, x: &HostTensor, sigma: f64) -> HostTensor {
        let sigma = sigma as f32;
        let scale = (sigma * sigma + 1.0).sqrt();
        x.clone().map(|value| value / scale)
    }

    /// The clean latents from `x = x0 + sigma * noise` and the network's `output`, both (B, C, H, W).
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn denoised(&self, x: &HostTensor, output: HostTensor, sigma: f64) -> Result<HostTensor> {
        self.settings.prediction_type.denoised(x, output, sigma)
    }

    /// The clean latents from `x = sqrt(ᾱ) x0 + sqrt(1 - ᾱ) noise` at training timestep `timestep` and
    /// the network's `output`, both (B, C, H, W).
    ///
    /// # Errors
    /// When the shapes differ or there is no such timestep.
    pub fn denoised_at(
        &self,
        x: &HostTensor,
        output: HostTensor,
        timestep: usize,
    ) -> Result<HostTensor> {
        let level = self.level(timestep)?;
        self.settings
            .prediction_type
            .denoised_at(x, output, level.alpha_bar)
    }

    /// `count` sigmas falling from `max` to `min` along the settings' curve; `None` when the settings
    /// leave sigmas to the timesteps.
    ///
    /// # Errors
    /// When the settings' own limits do not fall.
    pub(crate) fn curve(&self, max: f64, min: f64, count: usize) -> Result<Option<Vec<f64>>> {
        let max = self.settings.sigma_max.unwrap_or(max);
        let min = self.settings.sigma_min.unwrap_or(min);
        if min > max && self.settings.sigmas != ScheduleKind::Automatic {
            return Err(Error::malformed(format!(
                "scheduler_config.json: sigmas fall from {max} to {min}, expected the second to be smaller"
            )));
        }
        Ok(match self.settings.sigmas {
            ScheduleKind::Karras => Some(sigmas::karras(max, min, count)),
            ScheduleKind::Exponential | ScheduleKind::Lu => {
                Some(sigmas::exponential(max, min, count))
            }
            // Timesteps decide, or `levels::plan` does.
            _ => None,
        })
    }

    /// Whether a schedule is chosen, by the caller or the checkpoint.
    pub(crate) fn is_scheduled(&self) -> bool {
        self.settings.sigmas != ScheduleKind::Automatic
    }

    /// Whether the caller gave the levels one by one.
    pub(crate) fn has_own_levels(&self) -> bool {
        self.settings.custom.is_some()
    }

    /// Whether the levels are those of k-diffusion and the webuis even for samplers that have diffusers'
    /// own for `Automatic` and the curves diffusers knows.
    pub(crate) fn has_k_levels(&self) -> bool {
        self.settings.custom.is_some()
            || self.settings.options.are_set()
            || !matches!(
                self.settings.sigmas,
                ScheduleKind::Automatic
                    | ScheduleKind::Karras
                    | ScheduleKind::Exponential
                    | ScheduleKind::Lu
            )
    }

    /// The levels of the webui's samplers on training timesteps, where the caller chose them; the run ends at the last.
    ///
    /// # Errors
    /// `InvalidConfig` where that is the only one.
    pub(crate) fn levels_of_the_webui(&self, steps: usize) -> Result<Option<Vec<NoiseLevel>>> {
        if self.settings.sigmas != ScheduleKind::DdimUniform {
            return Ok(None);
        }
        let timesteps = timesteps::of_the_webui(self.settings.num_train_timesteps, steps);
        if timesteps.len() < 2 {
            return Err(Error::invalid(format!(
                "{steps} step of the ddim_uniform schedule leaves only the level where the run ends"
            ))
            .with_hint("ask for 2 steps or more"));
        }
        let levels = timesteps.into_iter().map(|timestep| self.level(timestep));
        levels.collect::<Result<_>>().map(Some)
    }

    /// Where the last step ends.
    pub(crate) fn final_sigma(&self) -> f64 {
        match self.settings.final_sigmas {
            FinalSigmas::Zero => 0.0,
            FinalSigmas::SigmaMin => f64::from(self.sigmas[0]),
        }
    }

    /// `ᾱ` beyond timestep 0 for DDIM and PNDM.
    pub(crate) fn final_alpha_bar(&self) -> f64 {
        if self.settings.set_alpha_to_one {
            1.0
        } else {
            f64::from(self.alphas_cumprod[0])
        }
    }

    /// The level `distance` timesteps below `timestep`, or the final one where that is below 0.
    pub(crate) fn level_below(&self, timestep: usize, distance: usize) -> Result<NoiseLevel> {
        match timestep.checked_sub(distance) {
            Some(timestep) => self.level(timestep),
            None => Ok(NoiseLevel::from_alpha_bar(0.0, self.final_alpha_bar())),
        }
    }
}
