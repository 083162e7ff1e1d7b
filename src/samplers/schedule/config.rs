//! `scheduler_config.json`, and what it means for a given sampler.
//!
//! A key that is missing takes the default of the scheduler that is *used*, not of the one the file
//! names: that is what diffusers' `from_config` does, and why SD1.5 (whose file has no
//! `timestep_spacing`) runs Euler on linspace and PNDM on leading timesteps.

use serde::Deserialize;

use super::super::noise_options::Randomness;
use super::super::prediction::{Clip, PredictionType};
use super::betas::BetaSchedule;
use super::kinds::ScheduleKind;
use super::options::LevelOptions;
use super::settings::{Defaults, Ignored, Settings, SolverType, StepTable};
use super::timesteps::TimestepSpacing;
use crate::error::{Error, Result};

/// The keys of a `scheduler_config.json` that bear on inference; `None` is a key that is not there.
///
/// Unknown keys are tolerated. Known keys are honoured, or refused by name when a sampler is made.
/// Field names are the file's.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[expect(
    missing_docs,
    reason = "the fields are diffusers' keys, documented there"
)]
#[serde(default)]
pub struct SchedulerConfig {
    #[serde(rename = "_class_name")]
    pub class_name: Option<String>,
    pub num_train_timesteps: Option<usize>,
    pub beta_start: Option<f64>,
    pub beta_end: Option<f64>,
    pub beta_schedule: Option<BetaSchedule>,
    pub trained_betas: Option<Vec<f64>>,
    pub prediction_type: Option<PredictionType>,
    pub timestep_spacing: Option<TimestepSpacing>,
    pub timestep_type: Option<String>,
    pub steps_offset: Option<usize>,
    pub set_alpha_to_one: Option<bool>,
    pub rescale_betas_zero_snr: Option<bool>,
    pub clip_sample: Option<bool>,
    pub clip_sample_range: Option<f64>,
    pub thresholding: Option<bool>,
    pub dynamic_thresholding_ratio: Option<f64>,
    pub sample_max_value: Option<f64>,
    pub use_karras_sigmas: Option<bool>,
    pub use_exponential_sigmas: Option<bool>,
    pub use_beta_sigmas: Option<bool>,
    pub use_lu_lambdas: Option<bool>,
    pub use_flow_sigmas: Option<bool>,
    pub interpolation_type: Option<InterpolationType>,
    pub final_sigmas_type: Option<FinalSigmas>,
    pub sigma_min: Option<f64>,
    pub sigma_max: Option<f64>,
    pub lambda_min_clipped: Option<f64>,
    pub skip_prk_steps: Option<bool>,
    pub algorithm_type: Option<String>,
    pub solver_order: Option<usize>,
    pub predictor_order: Option<usize>,
    pub corrector_order: Option<usize>,
    pub solver_type: Option<String>,
    pub lower_order_final: Option<bool>,
    pub euler_at_final: Option<bool>,
    pub variance_type: Option<String>,
    pub original_inference_steps: Option<usize>,
    pub timestep_scaling: Option<f64>,
}

/// How sigmas between training timesteps are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InterpolationType {
    /// Linearly between the sigmas of the timesteps on either side.
    #[default]
    Linear,
    /// Not at all: the logarithms of the sigmas are spread evenly from the largest to the smallest.
    LogLinear,
}

/// Where the last step ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalSigmas {
    /// At the clean latents.
    #[default]
    Zero,
    /// At the noise of training timestep 0.
    SigmaMin,
}

impl SchedulerConfig {
    /// Reads a parsed `scheduler_config.json`.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`](crate::ErrorKind::Malformed) when a known key has a value of the wrong
    /// type or one that is not known.
    pub fn from_json(json: &serde_json::Value) -> Result<Self> {
        Self::deserialize(json)
            .map_err(|error| Error::malformed(format!("scheduler_config.json: {error}")))
    }

    /// Decides every value, with `defaults` for keys that are not there.
    ///
    /// # Errors
    /// `Unsupported` naming the key whose value cannot be served, `Malformed` for values out of range.
    pub fn resolve(&self, defaults: &Defaults) -> Result<Settings> {
        self.without(defaults.ignores).resolve_all(defaults)
    }

    fn resolve_all(&self, defaults: &Defaults) -> Result<Settings> {
        self.refuse_unsupported()?;
        let settings = Settings {
            num_train_timesteps: self.num_train_timesteps.unwrap_or(1000),
            beta_start: self.beta_start.unwrap_or(defaults.beta_start),
            beta_end: self.beta_end.unwrap_or(defaults.beta_end),
            beta_schedule: self.beta_schedule.unwrap_or(defaults.beta_schedule),
            trained_betas: self.trained_betas.clone(),
            rescale_betas_zero_snr: self.rescale_betas_zero_snr.unwrap_or(false),
            prediction_type: self.prediction_type.unwrap_or_default(),
            timestep_spacing: self.timestep_spacing.unwrap_or(defaults.timestep_spacing),
            steps_offset: self.steps_offset.unwrap_or(0),
            set_alpha_to_one: self.set_alpha_to_one.unwrap_or(defaults.set_alpha_to_one),
            clip: self.clip(defaults),
            sigmas: self.sigma_curve()?,
            sigma_min: self.sigma_min,
            sigma_max: self.sigma_max,
            interpolation: self.interpolation_type.unwrap_or_default(),
            final_sigmas: self.final_sigmas_type.unwrap_or(defaults.final_sigmas),
            lambda_min_clipped: self.lambda_min_clipped.unwrap_or(f64::NEG_INFINITY),
            skip_prk_steps: self.skip_prk_steps.unwrap_or(false),
            solver_order: self.solver_order.unwrap_or(2),
            predictor_order: self.predictor_order.unwrap_or(2),
            corrector_order: self.corrector_order.unwrap_or(2),
            solver_type: self.solver_type()?,
            lower_order_final: self.lower_order_final.unwrap_or(defaults.lower_order_final),
            euler_at_final: self.euler_at_final.unwrap_or(false),
            original_inference_steps: self.original_inference_steps.unwrap_or(50),
            timestep_scaling: self.timestep_scaling.unwrap_or(10.0),
            randomness: Randomness::default(),
            own_schedule: defaults.schedule,
            discard_penultimate: defaults.discard_penultimate,
            options: LevelOptions::default(),
            custom: None,
            step_table: StepTable::default(),
        };
        settings.check()?;
        Ok(settings)
    }

    /// What it says of the model's training alone, without what it says of diffusers' scheduler.
    pub(crate) fn of_training(&self) -> Self {
        Self {
            class_name: self.class_name.clone(),
            num_train_timesteps: self.num_train_timesteps,
            beta_start: self.beta_start,
            beta_end: self.beta_end,
            beta_schedule: self.beta_schedule,
            trained_betas: self.trained_betas.clone(),
            prediction_type: self.prediction_type,
            timestep_type: self.timestep_type.clone(),
            rescale_betas_zero_snr: self.rescale_betas_zero_snr,
            variance_type: self.variance_type.clone(),
            original_inference_steps: self.original_inference_steps,
            timestep_scaling: self.timestep_scaling,
            ..Self::default()
        }
    }

    /// The configuration without keys that a scheduler does not know.
    fn without(&self, ignored: &[Ignored]) -> Self {
        let mut config = self.clone();
        for key in ignored {
            match key {
                Ignored::ZeroSnr => config.rescale_betas_zero_snr = None,
                Ignored::Clip => config.clip_sample = None,
                Ignored::Thresholding => config.thresholding = None,
                Ignored::Sigmas => {
                    config.use_karras_sigmas = None;
                    config.use_exponential_sigmas = None;
                    config.use_beta_sigmas = None;
                    config.use_lu_lambdas = None;
                    config.interpolation_type = None;
                    config.final_sigmas_type = None;
                }
                Ignored::LuLambdas => config.use_lu_lambdas = None,
                Ignored::Interpolation => config.interpolation_type = None,
                Ignored::FinalSigmas => config.final_sigmas_type = None,
                Ignored::Spacing => {
                    config.timestep_spacing = None;
                    config.steps_offset = None;
                }
                Ignored::LambdaMin => config.lambda_min_clipped = None,
            }
        }
        config
    }

    fn clip(&self, defaults: &Defaults) -> Clip {
        if self.thresholding == Some(true) {
            return Clip::Dynamic {
                ratio: self.dynamic_thresholding_ratio.unwrap_or(0.995) as f32,
                max: self.sample_max_value.unwrap_or(1.0) as f32,
            };
        }
        if self.clip_sample.unwrap_or(defaults.clip_sample) {
            return Clip::Range(self.clip_sample_range.unwrap_or(1.0) as f32);
        }
        Clip::None
    }

    fn sigma_curve(&self) -> Result<ScheduleKind> {
        let flags = [
            (self.use_karras_sigmas, ScheduleKind::Karras),
            (self.use_exponential_sigmas, ScheduleKind::Exponential),
            (self.use_lu_lambdas, ScheduleKind::Lu),
        ];
        let mut chosen = flags
            .iter()
            .filter(|(flag, _)| *flag == Some(true))
            .map(|&(_, kind)| kind);
        let first = chosen.next().unwrap_or(ScheduleKind::Automatic);
        match chosen.next() {
            Some(second) => Err(Error::malformed(format!(
                "scheduler_config.json asks for {first} and {second} sigmas at once, expected one"
            ))),
            None => Ok(first),
        }
    }

    fn solver_type(&self) -> Result<SolverType> {
        match self.solver_type.as_deref() {
            // diffusers' own reading of other solvers' terms in a DPM-Solver's config.
            None | Some("midpoint" | "logrho" | "bh1" | "bh2") => Ok(SolverType::Midpoint),
            Some("heun") => Ok(SolverType::Heun),
            Some(other) => Err(Error::unsupported(format!(
                "solver_type is {other:?}, expected \"midpoint\" or \"heun\""
            ))),
        }
    }

    /// Names the key that asks for what is not there.
    fn refuse_unsupported(&self) -> Result<()> {
        let refuse = |key: &str, value: &str| {
            Err(Error::unsupported(format!(
                "scheduler_config.json sets {key} to {value}, which is not supported"
            )))
        };
        if self.use_flow_sigmas == Some(true) {
            return refuse("use_flow_sigmas", "true");
        }
        if self.use_beta_sigmas == Some(true) {
            return refuse("use_beta_sigmas", "true");
        }
        if self.timestep_type.as_deref() == Some("continuous")
            && self.prediction_type == Some(PredictionType::VPrediction)
        {
            return refuse("timestep_type", "\"continuous\"");
        }
        match self.variance_type.as_deref() {
            Some(kind @ ("learned" | "learned_range")) => refuse("variance_type", kind),
            _ => Ok(()),
        }
    }
}
