//! What a sampler is told of the checkpoint's schedule: every value decided and checked.

use super::super::noise_options::Randomness;
use super::super::prediction::{Clip, PredictionType};
use super::betas::BetaSchedule;
use super::config::{FinalSigmas, InterpolationType};
use super::custom::CustomLevels;
use super::kinds::ScheduleKind;
use super::options::LevelOptions;
use super::timesteps::TimestepSpacing;
use crate::error::{Error, Result};

/// Second-order term of DPM-Solver++.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SolverType {
    /// The midpoint rule (Lu et al. 2022, "DPM-Solver++", algorithm 2).
    #[default]
    Midpoint,
    /// Heun's rule.
    Heun,
}

/// Which published table a schedule that is one takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StepTable {
    /// That for Stable Diffusion 1 and 2.
    #[default]
    Sd15,
    /// That for Stable Diffusion XL.
    Sdxl,
}

/// What a scheduler of diffusers takes for keys that the file does not have.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one of diffusers' independent switches"
)]
pub struct Defaults {
    /// First beta.
    pub beta_start: f64,
    /// Last beta.
    pub beta_end: f64,
    /// How betas run between them.
    pub beta_schedule: BetaSchedule,
    /// How timesteps are spread.
    pub timestep_spacing: TimestepSpacing,
    /// Whether the last step ends at `ᾱ = 1`.
    pub set_alpha_to_one: bool,
    /// Whether estimates of the clean latents are cut.
    pub clip_sample: bool,
    /// Where the last step ends.
    pub final_sigmas: FinalSigmas,
    /// Whether the run ends with lower orders.
    pub lower_order_final: bool,
    /// The schedule that `automatic` stands for where the levels are k-diffusion's; of a sampler on training timesteps
    /// `ddim_uniform` where that is the one schedule it takes, which gives it the webui's timesteps.
    pub schedule: ScheduleKind,
    /// Whether the last level above 0 is left out, as the webui does for this sampler.
    pub discard_penultimate: bool,
    /// Keys this scheduler does not know and so does not obey.
    pub ignores: &'static [Ignored],
}

/// Keys that some of diffusers' schedulers do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// `rescale_betas_zero_snr`.
    ZeroSnr,
    /// `clip_sample`.
    Clip,
    /// `thresholding`.
    Thresholding,
    /// `use_karras_sigmas` and its like, `interpolation_type`, `final_sigmas_type`.
    Sigmas,
    /// `use_lu_lambdas`.
    LuLambdas,
    /// `interpolation_type`.
    Interpolation,
    /// `final_sigmas_type`.
    FinalSigmas,
    /// `timestep_spacing` and `steps_offset`.
    Spacing,
    /// `lambda_min_clipped`.
    LambdaMin,
}

impl Defaults {
    /// What most of diffusers' schedulers have in common.
    pub const COMMON: Self = Self {
        beta_start: 1e-4,
        beta_end: 0.02,
        beta_schedule: BetaSchedule::Linear,
        timestep_spacing: TimestepSpacing::Linspace,
        set_alpha_to_one: true,
        clip_sample: false,
        final_sigmas: FinalSigmas::Zero,
        lower_order_final: true,
        schedule: ScheduleKind::Normal,
        discard_penultimate: false,
        ignores: &[],
    };
}

/// A [`SchedulerConfig`](super::SchedulerConfig) read for one sampler: every value decided.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one of diffusers' independent switches"
)]
pub struct Settings {
    /// Timesteps of training.
    pub num_train_timesteps: usize,
    /// First beta.
    pub beta_start: f64,
    /// Last beta.
    pub beta_end: f64,
    /// How betas run between them.
    pub beta_schedule: BetaSchedule,
    /// All betas, where the file lists them.
    pub trained_betas: Option<Vec<f64>>,
    /// Whether betas are rescaled so that the last level is pure noise.
    pub rescale_betas_zero_snr: bool,
    /// What the network predicts.
    pub prediction_type: PredictionType,
    /// How timesteps are spread.
    pub timestep_spacing: TimestepSpacing,
    /// Added to timesteps of leading spacing.
    pub steps_offset: usize,
    /// Whether the last step of DDIM and PNDM ends at `ᾱ = 1`, rather than at that of timestep 0.
    pub set_alpha_to_one: bool,
    /// What is done to estimates of the clean latents.
    pub clip: Clip,
    /// The curve sigmas follow.
    pub sigmas: ScheduleKind,
    /// Smallest sigma of the curve, where the file sets it.
    pub sigma_min: Option<f64>,
    /// Largest sigma of the curve, where the file sets it.
    pub sigma_max: Option<f64>,
    /// How sigmas between training timesteps are found.
    pub interpolation: InterpolationType,
    /// Where the last step ends.
    pub final_sigmas: FinalSigmas,
    /// Levels of a lower log signal-to-noise ratio than this are left out by DPM-Solver++.
    pub lambda_min_clipped: f64,
    /// Whether PNDM starts without Runge-Kutta steps.
    pub skip_prk_steps: bool,
    /// Order of DPM-Solver++, 1 to 3.
    pub solver_order: usize,
    /// Order of SA-Solver's predictor, 1 to 4.
    pub predictor_order: usize,
    /// Order of its corrector, 1 to 4.
    pub corrector_order: usize,
    /// Second-order term of DPM-Solver++.
    pub solver_type: SolverType,
    /// Whether it ends with lower orders in runs of under 15 steps.
    pub lower_order_final: bool,
    /// Whether its last step is of first order.
    pub euler_at_final: bool,
    /// Steps of LCM's distillation.
    pub original_inference_steps: usize,
    /// Factor on timesteps in LCM's boundary condition.
    pub timestep_scaling: f64,
    /// The caller's options of randomness, or the sampler's own.
    pub randomness: Randomness,
    /// The schedule that `Automatic` stands for where the levels are k-diffusion's.
    pub own_schedule: ScheduleKind,
    /// Whether the last level above 0 is left out.
    pub discard_penultimate: bool,
    /// What the caller says about levels beside the schedule.
    pub options: LevelOptions,
    /// The caller's own levels, in place of a schedule.
    pub custom: Option<CustomLevels>,
    /// Which published table schedules take.
    pub step_table: StepTable,
}

impl Settings {
    /// Refuses values that no training can have had.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = |key: &str, found: &dyn std::fmt::Display, expected: &str| {
            Err(Error::malformed(format!(
                "scheduler_config.json: {key} is {found}, expected {expected}"
            )))
        };
        if !(2..=100_000).contains(&self.num_train_timesteps) {
            return wrong(
                "num_train_timesteps",
                &self.num_train_timesteps,
                "2 to 100000",
            );
        }
        for (key, beta) in [("beta_start", self.beta_start), ("beta_end", self.beta_end)] {
            if !(beta > 0.0 && beta < 1.0) {
                return wrong(key, &beta, "a number above 0 and below 1");
            }
        }
        if let Some(betas) = &self.trained_betas {
            if betas.len() != self.num_train_timesteps {
                return wrong(
                    "the number of trained_betas",
                    &betas.len(),
                    "num_train_timesteps",
                );
            }
            if let Some(beta) = betas.iter().find(|beta| !(**beta > 0.0 && **beta <= 1.0)) {
                return wrong("one of trained_betas", beta, "a number above 0 and up to 1");
            }
        }
        if self.steps_offset >= self.num_train_timesteps {
            return wrong(
                "steps_offset",
                &self.steps_offset,
                "less than num_train_timesteps",
            );
        }
        if !(1..=3).contains(&self.solver_order) {
            return wrong("solver_order", &self.solver_order, "1, 2 or 3");
        }
        for (key, order) in [
            ("predictor_order", self.predictor_order),
            ("corrector_order", self.corrector_order),
        ] {
            if !(1..=4).contains(&order) {
                return wrong(key, &order, "1, 2, 3 or 4");
            }
        }
        if !(self.timestep_scaling.is_finite() && self.timestep_scaling > 0.0) {
            return wrong(
                "timestep_scaling",
                &self.timestep_scaling,
                "a number above 0",
            );
        }
        for (key, sigma) in [("sigma_min", self.sigma_min), ("sigma_max", self.sigma_max)] {
            if let Some(sigma) = sigma.filter(|sigma| !(sigma.is_finite() && *sigma > 0.0)) {
                return wrong(key, &sigma, "a number above 0");
            }
        }
        match self.clip {
            Clip::Range(range) if !(range.is_finite() && range > 0.0) => {
                wrong("clip_sample_range", &range, "a number above 0")
            }
            Clip::Dynamic { ratio, .. } if !(0.0..=1.0).contains(&ratio) => {
                wrong("dynamic_thresholding_ratio", &ratio, "a number from 0 to 1")
            }
            Clip::Dynamic { max, .. } if !(max.is_finite() && max > 0.0) => {
                wrong("sample_max_value", &max, "a number above 0")
            }
            _ => Ok(()),
        }
    }
}
