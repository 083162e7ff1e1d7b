//! The one table of schedules: how a run's noise levels fall, from which names, help and levels derive.

use std::fmt;
use std::str::FromStr;

use super::gits::GitsCoefficient;
use super::{NoiseSchedule, curves, gits, tables};
use crate::error::{Error, Result};
use crate::samplers::registry::{normalize, unknown};

/// How a run's noise levels fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ScheduleKind {
    /// The sampler's and the checkpoint's own.
    #[default]
    Automatic,
    /// The sigmas of evenly spread training timesteps.
    Normal,
    /// Every so-many-th sigma of training, from the largest.
    Simple,
    /// Karras et al. 2022, equation 5, with rho = 7 unless told.
    Karras,
    /// Evenly in the logarithm.
    Exponential,
    /// A power of the logarithm, 1 unless told.
    Polyexponential,
    /// As `Normal`, but as if one step more were made and its level left out.
    SgmUniform,
    /// DDIM's timesteps: a fixed number apart, from timestep 1 up.
    DdimUniform,
    /// Quantiles of a beta distribution (Lee et al. 2024, "Beta Sampling is All You Need").
    Beta(BetaOf),
    /// Linear in the first half, quadratic in the second (Polyak et al. 2024, "Movie Gen").
    LinearQuadratic,
    /// Evenly in the arctangent (Sabour et al. 2024, "Align Your Steps", section 3.1).
    KlOptimal(KlEnd),
    /// Published tables (Sabour et al. 2024, "Align Your Steps").
    AlignYourSteps,
    /// Published tables (Chen et al. 2024, "On the Trajectory Regularity of ODE-based Diffusion Sampling").
    Gits(GitsCoefficient),
    /// The webuis' tables of ten steps found by that method.
    AlignYourStepsGits,
    /// Trailing timesteps, as SD-Turbo was distilled on.
    Turbo,
    /// Evenly in the log signal-to-noise ratio (Lu et al. 2022, "DPM-Solver"): the exponential curve, but
    /// DPM++ 2M tells the model whole timesteps.
    Lu,
}

/// What the beta distribution's quantiles are taken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BetaOf {
    /// Sigmas, as the webui and diffusers do.
    #[default]
    Sigmas,
    /// Training timesteps, as ComfyUI does; where two steps would fall on one, only one is made.
    Timesteps,
}

/// Where the optimal schedule of the arctangent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KlEnd {
    /// At 0, behind the smallest sigma of training, as in ComfyUI.
    #[default]
    Zero,
    /// At the smallest sigma of training, as in the webui.
    Smallest,
}

/// Sigmas of a run of so many steps, falling, without the 0 at their end.
pub(crate) type Sigmas = fn(&NoiseSchedule, usize) -> Vec<f32>;

/// A row of [`SCHEDULES`].
#[derive(Debug, Clone, Copy)]
pub struct ScheduleSpec {
    /// Which.
    pub kind: ScheduleKind,
    /// Name as typed and shown.
    pub name: &'static str,
    /// The webui's name, as written into pictures.
    pub label: &'static str,
    /// Other spellings.
    pub aliases: &'static [&'static str],
    /// One line for --help.
    pub help: &'static str,
    /// What may stand behind its name and a colon.
    pub setting: Option<ScheduleSetting>,
    /// Whether the caller may set its largest and smallest sigma, as in the webui.
    pub range: bool,
    /// Whether the caller may set its power.
    pub rho: bool,
    /// Its levels; `Automatic` has none of its own.
    pub(crate) sigmas: Option<Sigmas>,
}

/// What may stand behind a schedule's name and a colon, as in `gits:1.15`.
#[derive(Debug, Clone, Copy)]
pub struct ScheduleSetting {
    /// What it is called.
    pub name: &'static str,
    /// Which values there are, for the list of schedules.
    pub values: &'static str,
    /// Reads it.
    pub(crate) read: fn(&str) -> Result<ScheduleKind>,
    /// Writes it, where it is not the default.
    pub(crate) show: fn(ScheduleKind) -> Option<String>,
}

const COEFFICIENT: ScheduleSetting = ScheduleSetting {
    name: "coefficient",
    values: "0.80 to 1.50 by 0.05",
    read: |text| text.parse().map(ScheduleKind::Gits),
    show: |kind| match kind {
        ScheduleKind::Gits(coefficient) if coefficient != GitsCoefficient::DEFAULT => {
            Some(coefficient.to_string())
        }
        _ => None,
    },
};

const BETA_OF: ScheduleSetting = ScheduleSetting {
    name: "of",
    values: "sigmas or timesteps",
    read: |text| {
        let known = [("sigmas", BetaOf::Sigmas), ("timesteps", BetaOf::Timesteps)];
        one_of("beta", text, &known).map(ScheduleKind::Beta)
    },
    show: |kind| (kind == ScheduleKind::Beta(BetaOf::Timesteps)).then(|| "timesteps".to_owned()),
};

const KL_END: ScheduleSetting = ScheduleSetting {
    name: "end",
    values: "zero or smallest",
    read: |text| {
        let known = [("zero", KlEnd::Zero), ("smallest", KlEnd::Smallest)];
        one_of("kl_optimal", text, &known).map(ScheduleKind::KlOptimal)
    },
    show: |kind| (kind == ScheduleKind::KlOptimal(KlEnd::Smallest)).then(|| "smallest".to_owned()),
};

/// What `known` calls `text`.
fn one_of<T: Copy>(schedule: &str, text: &str, known: &[(&str, T); 2]) -> Result<T> {
    let found = known
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        Error::invalid(format!(
            "the setting of {schedule} is {text:?}, expected {} or {}",
            known[0].0, known[1].0
        ))
    })
}

/// Every schedule, in the order help shows them.
pub const SCHEDULES: &[ScheduleSpec] = &[
    ScheduleSpec {
        kind: ScheduleKind::Automatic,
        name: "automatic",
        label: "Automatic",
        aliases: &["auto", "default"],
        help: "the sampler's own, or the checkpoint's where the sampler is its own",
        setting: None,
        range: false,
        rho: false,
        sigmas: None,
    },
    ScheduleSpec {
        kind: ScheduleKind::Karras,
        name: "karras",
        label: "Karras",
        aliases: &[],
        help: "smaller steps towards the end (Karras et al. 2022, rho 7); good with most samplers",
        setting: None,
        range: true,
        rho: true,
        sigmas: Some(curves::karras),
    },
    ScheduleSpec {
        kind: ScheduleKind::Exponential,
        name: "exponential",
        label: "Exponential",
        aliases: &["exp"],
        help: "even steps in the logarithm of sigma; for DPM++ 2M SDE and 3M SDE",
        setting: None,
        range: true,
        rho: false,
        sigmas: Some(curves::exponential),
    },
    ScheduleSpec {
        kind: ScheduleKind::Polyexponential,
        name: "polyexponential",
        label: "Polyexponential",
        aliases: &["polyexp"],
        help: "the exponential one at its default power of 1",
        setting: None,
        range: true,
        rho: true,
        sigmas: Some(curves::polyexponential),
    },
    ScheduleSpec {
        kind: ScheduleKind::Normal,
        name: "normal",
        label: "Normal",
        aliases: &["uniform", "discrete"],
        help: "even steps in training timesteps, first and last included",
        setting: None,
        range: true,
        rho: false,
        sigmas: Some(curves::normal),
    },
    ScheduleSpec {
        kind: ScheduleKind::Simple,
        name: "simple",
        label: "Simple",
        aliases: &[],
        help: "every so-many-th noise level of training, from the largest",
        setting: None,
        range: false,
        rho: false,
        sigmas: Some(curves::simple),
    },
    ScheduleSpec {
        kind: ScheduleKind::SgmUniform,
        name: "sgm_uniform",
        label: "SGM Uniform",
        aliases: &["sgm"],
        help: "even steps in training timesteps, the last left out; for LCM, Lightning and few steps",
        setting: None,
        range: true,
        rho: false,
        sigmas: Some(curves::sgm_uniform),
    },
    ScheduleSpec {
        kind: ScheduleKind::DdimUniform,
        name: "ddim_uniform",
        label: "DDIM",
        aliases: &["ddim"],
        help: "DDIM's timesteps; may make one step more than asked",
        setting: None,
        range: false,
        rho: false,
        sigmas: Some(curves::ddim_uniform),
    },
    ScheduleSpec {
        kind: ScheduleKind::Beta(BetaOf::Sigmas),
        name: "beta",
        label: "Beta",
        aliases: &[],
        help: "small steps at both ends (Lee et al. 2024, alpha and beta 0.6); beta:timesteps as in ComfyUI",
        setting: Some(BETA_OF),
        range: true,
        rho: false,
        sigmas: Some(curves::beta),
    },
    ScheduleSpec {
        kind: ScheduleKind::LinearQuadratic,
        name: "linear_quadratic",
        label: "Linear Quadratic",
        aliases: &[],
        help: "small even steps first, then ever longer ones",
        setting: None,
        range: false,
        rho: false,
        sigmas: Some(curves::linear_quadratic),
    },
    ScheduleSpec {
        kind: ScheduleKind::KlOptimal(KlEnd::Zero),
        name: "kl_optimal",
        label: "KL Optimal",
        aliases: &["kl"],
        help: "even steps in the arctangent of sigma (Sabour et al. 2024); kl_optimal:smallest as in the webui",
        setting: Some(KL_END),
        range: true,
        rho: false,
        sigmas: Some(curves::kl_optimal),
    },
    ScheduleSpec {
        kind: ScheduleKind::AlignYourSteps,
        name: "align_your_steps",
        label: "Align Your Steps",
        aliases: &["ays"],
        help: "the published table for SD1.5 or SDXL (Sabour et al. 2024); for 10 steps",
        setting: None,
        range: false,
        rho: false,
        sigmas: Some(tables::align_your_steps),
    },
    ScheduleSpec {
        kind: ScheduleKind::AlignYourStepsGits,
        name: "align_your_steps_gits",
        label: "Align Your Steps GITS",
        aliases: &["ays gits"],
        help: "as Align Your Steps, with the webuis' table found by GITS; for 10 steps",
        setting: None,
        range: false,
        rho: false,
        sigmas: Some(tables::align_your_steps_gits),
    },
    ScheduleSpec {
        kind: ScheduleKind::Gits(GitsCoefficient::DEFAULT),
        name: "gits",
        label: "GITS",
        aliases: &[],
        help: "published tables for 2 to 20 steps of SD1.5 (Chen et al. 2024), coefficient 1.20 or as in gits:1.15",
        setting: Some(COEFFICIENT),
        range: false,
        rho: false,
        sigmas: Some(gits::gits),
    },
    ScheduleSpec {
        kind: ScheduleKind::Turbo,
        name: "turbo",
        label: "Turbo",
        aliases: &[],
        help: "trailing timesteps, for SD-Turbo and SDXL-Turbo in 1 to 4 steps",
        setting: None,
        range: false,
        rho: false,
        sigmas: Some(curves::turbo),
    },
    ScheduleSpec {
        kind: ScheduleKind::Lu,
        name: "lu",
        label: "Lu",
        aliases: &["lu lambdas"],
        help: "even steps in the log signal-to-noise ratio, with DPM++ 2M at whole timesteps (Lu et al. 2022)",
        setting: None,
        range: false,
        rho: false,
        sigmas: Some(curves::exponential),
    },
];

impl ScheduleKind {
    /// This schedule's row.
    pub fn spec(self) -> &'static ScheduleSpec {
        let same = |row: &&ScheduleSpec| {
            std::mem::discriminant(&row.kind) == std::mem::discriminant(&self)
        };
        SCHEDULES.iter().find(same).unwrap_or(&SCHEDULES[0])
    }

    /// The webui's name, with the setting where it is not the default, as written into pictures.
    pub fn label(self) -> String {
        self.named(self.spec().label)
    }

    fn named(self, name: &str) -> String {
        let setting = self.spec().setting;
        match setting.and_then(|setting| (setting.show)(self)) {
            Some(value) => format!("{name}:{value}"),
            None => name.to_owned(),
        }
    }
}

impl ScheduleSpec {
    /// Everything it is called by.
    pub(crate) fn spellings(&self) -> impl Iterator<Item = &'static str> {
        [self.name, self.label]
            .into_iter()
            .chain(self.aliases.iter().copied())
    }

    /// The schedule with what stands behind its name and a colon.
    pub(crate) fn with(&self, value: Option<&str>) -> Result<ScheduleKind> {
        match (value, self.setting) {
            (None, _) => Ok(self.kind),
            (Some(value), Some(setting)) => (setting.read)(value),
            (Some(value), None) => Err(Error::invalid(format!(
                "the {} schedule has no setting, found {value:?} behind its name",
                self.name
            ))),
        }
    }
}

/// A name, and what stands behind it and a colon.
pub(in crate::samplers) fn split_setting(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((name, value)) => (name, Some(value.trim())),
        None => (text, None),
    }
}

impl fmt::Display for ScheduleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.named(self.spec().name))
    }
}

impl FromStr for ScheduleKind {
    type Err = Error;

    /// Takes a name, label or alias, and maybe a setting behind a colon.
    fn from_str(text: &str) -> Result<Self> {
        let (name, value) = split_setting(text);
        let wanted = normalize(name);
        let found = SCHEDULES
            .iter()
            .find(|row| row.spellings().any(|name| normalize(name) == wanted));
        match found {
            Some(row) => row.with(value),
            None => Err(unknown(
                "schedule",
                text,
                &SCHEDULES
                    .iter()
                    .flat_map(ScheduleSpec::spellings)
                    .collect::<Vec<_>>(),
                &SCHEDULES.iter().map(|row| row.name).collect::<Vec<_>>(),
            )),
        }
    }
}
