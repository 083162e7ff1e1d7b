//! What a caller may say about noise levels beside the schedule's name.

use std::fmt;
use std::str::FromStr;

use super::kinds::{ScheduleKind, ScheduleSpec};
use crate::error::{Error, Result};

/// Which program's rules make levels of a schedule, tell the model a timestep and scale the first noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LevelRules {
    /// diffusers', by the checkpoint's configuration, for the samplers it has; the webui's for the others.
    #[default]
    Checkpoint,
    /// stable-diffusion-webui's for every sampler: k-diffusion's levels from the largest of training on.
    Webui,
    /// stable-diffusion-webui-forge's: the same, but the model is told whole timesteps.
    Forge,
    /// ComfyUI's: the same as Forge's, and the first noise keeps the latents' variance.
    ComfyUi,
}

/// A row of [`RULES`].
struct Rule {
    rules: LevelRules,
    name: &'static str,
    /// Whether the model is told the nearest timestep of training rather than one between two.
    whole_timesteps: bool,
    /// Whether noise at the largest level is scaled as if latents of variance 1 were below it.
    full_start: bool,
}

/// The one table of rules.
const RULES: [Rule; 4] = [
    Rule {
        rules: LevelRules::Checkpoint,
        name: "checkpoint",
        whole_timesteps: false,
        full_start: false,
    },
    Rule {
        rules: LevelRules::Webui,
        name: "webui",
        whole_timesteps: false,
        full_start: false,
    },
    // backend/modules/k_prediction.py
    Rule {
        rules: LevelRules::Forge,
        name: "forge",
        whole_timesteps: true,
        full_start: false,
    },
    // comfy/model_sampling.py
    Rule {
        rules: LevelRules::ComfyUi,
        name: "comfyui",
        whole_timesteps: true,
        full_start: true,
    },
];

impl LevelRules {
    /// The names, for help and completions.
    pub fn names() -> Vec<&'static str> {
        RULES.iter().map(|row| row.name).collect()
    }

    fn row(self) -> &'static Rule {
        let found = RULES.iter().find(|row| row.rules == self);
        found.unwrap_or(&RULES[0])
    }

    pub(super) fn whole_timesteps(self) -> bool {
        self.row().whole_timesteps
    }

    pub(super) fn full_start(self) -> bool {
        self.row().full_start
    }
}

impl fmt::Display for LevelRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.row().name)
    }
}

impl FromStr for LevelRules {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = RULES
            .iter()
            .find(|row| row.name.eq_ignore_ascii_case(text.trim()));
        found.map(|row| row.rules).ok_or_else(|| {
            Error::invalid(format!(
                "levels_as is {text:?}, expected one of {}",
                Self::names().join(", ")
            ))
        })
    }
}

/// The caller's wishes about levels; what is `None` is the schedule's or the sampler's own.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LevelOptions {
    /// Whose rules.
    pub rules: LevelRules,
    /// Power of the karras and polyexponential curves, above 0 and up to 100.
    pub rho: Option<f64>,
    /// Smallest sigma above 0 that a curve goes down to.
    pub sigma_min: Option<f64>,
    /// Largest sigma, where it begins.
    pub sigma_max: Option<f64>,
    /// Whether one step more is planned and the last level above 0 left out.
    pub discard_penultimate: Option<bool>,
    /// Whether the first noise is scaled by `sqrt(sigma² + 1)` in place of sigma: the webui's SGM noise multiplier.
    pub full_start: bool,
}

/// Largest power of a curve.
const MAX_RHO: f64 = 100.0;
/// Largest sigma.
const MAX_SIGMA: f64 = 1e5;

impl LevelOptions {
    /// Whether anything is said, which makes the levels the webui's for every sampler.
    pub(crate) fn are_set(&self) -> bool {
        *self != Self::default()
    }

    /// Refuses values out of range.
    ///
    /// # Errors
    /// `InvalidConfig` naming the option.
    pub fn check(&self) -> Result<()> {
        for (name, value, limit) in [
            ("rho", self.rho, MAX_RHO),
            ("sigma_min", self.sigma_min, MAX_SIGMA),
            ("sigma_max", self.sigma_max, MAX_SIGMA),
        ] {
            if let Some(value) = value.filter(|value| !(*value > 0.0 && *value <= limit)) {
                return Err(Error::invalid(format!(
                    "{name} is {value}, expected a number above 0 and up to {limit}"
                )));
            }
        }
        Ok(())
    }

    /// Refuses what the schedule in use has no place for.
    ///
    /// # Errors
    /// `InvalidConfig` naming the option and the schedule.
    pub(crate) fn check_for(&self, schedule: ScheduleKind) -> Result<()> {
        let ScheduleSpec { range, rho, .. } = schedule.spec();
        let beyond = [
            ("rho", self.rho, *rho),
            ("sigma_min", self.sigma_min, *range),
            ("sigma_max", self.sigma_max, *range),
        ];
        for (name, value, taken) in beyond {
            if let Some(value) = value.filter(|_| !taken) {
                return Err(Error::invalid(format!(
                    "{name} is {value}, but the {schedule} schedule takes none"
                ))
                .with_hint(format!("leave {name} out or choose another schedule")));
            }
        }
        Ok(())
    }

    /// Refuses everything, for samplers and levels that leave nothing to decide.
    ///
    /// # Errors
    /// `InvalidConfig` naming the first option that is set; `what` takes none.
    pub(crate) fn refuse_all(&self, what: &str) -> Result<()> {
        let set = |name: &'static str, is_set: bool| is_set.then_some(name);
        let first = set("rho", self.rho.is_some())
            .or(set("sigma_min", self.sigma_min.is_some()))
            .or(set("sigma_max", self.sigma_max.is_some()))
            .or(set(
                "discard_penultimate",
                self.discard_penultimate.is_some(),
            ));
        first.map_or(Ok(()), |name| {
            Err(Error::invalid(format!(
                "{name} is set, but {what} takes none"
            )))
        })
    }
}
