//! The one table of samplers, from which parsing, display, help and construction derive.

use std::fmt;
use std::str::FromStr;

use super::Sampler;
use super::plan::{Coordinates, Plan};
use super::schedule::{
    BetaSchedule, Defaults, Ignored, NoiseSchedule, SCHEDULES, ScheduleKind, Settings,
    TimestepSpacing,
};
use super::{Ddim, Dpmpp2m, Euler, EulerAncestral, Lcm, Pndm};
use crate::error::{Error, Result};

/// Which sampler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SamplerKind {
    /// DDIM.
    Ddim,
    /// PNDM.
    Pndm,
    /// Euler.
    Euler,
    /// Euler ancestral.
    EulerAncestral,
    /// DPM++ 2M.
    Dpmpp2m,
    /// LCM.
    Lcm,
}

/// A row of [`SAMPLERS`].
#[derive(Clone, Copy)]
pub struct SamplerSpec {
    /// Which.
    pub kind: SamplerKind,
    /// Name as typed and shown, after k-diffusion.
    pub name: &'static str,
    /// The webui's name, as written into pictures.
    pub label: &'static str,
    /// Other names, without spellings that differ in case, spaces, hyphens or a `k_` in front.
    pub aliases: &'static [&'static str],
    /// Classes of diffusers that a checkpoint names when this is its sampler.
    pub class_names: &'static [&'static str],
    /// One line for --help.
    pub help: &'static str,
    /// How it writes noisy latents; only variance-exploding samplers take a schedule.
    pub coordinates: Coordinates,
    /// What its scheduler of diffusers takes for missing keys.
    pub defaults: Defaults,
    /// Decides the levels of a run of so many steps.
    pub(crate) plan: fn(&NoiseSchedule, usize) -> Result<Plan>,
    /// Makes the sampler.
    pub(crate) build: fn(&Settings) -> Box<dyn Sampler>,
}

/// Every sampler, in the order help shows them.
pub const SAMPLERS: &[SamplerSpec] = &[
    SamplerSpec {
        kind: SamplerKind::Ddim,
        name: "ddim",
        label: "DDIM",
        aliases: &[],
        class_names: &["DDIMScheduler"],
        help: "deterministic, or with --eta up to as random as DDPM; 20 to 50 steps",
        coordinates: Coordinates::VariancePreserving,
        defaults: Defaults {
            timestep_spacing: TimestepSpacing::Leading,
            clip_sample: true,
            ignores: &[Ignored::Sigmas],
            ..Defaults::COMMON
        },
        plan: Ddim::plan,
        build: Ddim::build,
    },
    SamplerSpec {
        kind: SamplerKind::Pndm,
        name: "pndm",
        label: "PLMS",
        aliases: &["plms"],
        class_names: &["PNDMScheduler"],
        help: "the sampler SD1.x was published with; 50 steps",
        coordinates: Coordinates::VariancePreserving,
        defaults: Defaults {
            timestep_spacing: TimestepSpacing::Leading,
            set_alpha_to_one: false,
            ignores: &[
                Ignored::ZeroSnr,
                Ignored::Clip,
                Ignored::Thresholding,
                Ignored::Sigmas,
            ],
            ..Defaults::COMMON
        },
        plan: Pndm::plan,
        build: Pndm::build,
    },
    SamplerSpec {
        kind: SamplerKind::Euler,
        name: "euler",
        label: "Euler",
        aliases: &[],
        class_names: &["EulerDiscreteScheduler"],
        help: "the simplest, deterministic; 20 to 30 steps",
        coordinates: Coordinates::VarianceExploding,
        defaults: Defaults {
            ignores: &[Ignored::Clip, Ignored::Thresholding, Ignored::LuLambdas],
            ..Defaults::COMMON
        },
        plan: Euler::plan,
        build: Euler::build,
    },
    SamplerSpec {
        kind: SamplerKind::EulerAncestral,
        name: "euler_a",
        label: "Euler a",
        aliases: &["euler_ancestral"],
        class_names: &["EulerAncestralDiscreteScheduler"],
        help: "new noise after each step, so pictures change with the number of steps; 20 to 40 steps",
        coordinates: Coordinates::VarianceExploding,
        defaults: Defaults {
            ignores: &[Ignored::Clip, Ignored::Thresholding, Ignored::Sigmas],
            ..Defaults::COMMON
        },
        plan: Euler::plan,
        build: EulerAncestral::build,
    },
    SamplerSpec {
        kind: SamplerKind::Dpmpp2m,
        name: "dpmpp_2m",
        label: "DPM++ 2M",
        aliases: &["dpm++2m", "dpm_solver_multistep"],
        class_names: &["DPMSolverMultistepScheduler"],
        help: "second order, deterministic, good from 15 steps; best with karras",
        coordinates: Coordinates::VarianceExploding,
        defaults: Defaults {
            ignores: &[Ignored::Clip],
            ..Defaults::COMMON
        },
        plan: Dpmpp2m::plan,
        build: Dpmpp2m::build,
    },
    SamplerSpec {
        kind: SamplerKind::Lcm,
        name: "lcm",
        label: "LCM",
        aliases: &["latent_consistency"],
        class_names: &["LCMScheduler"],
        help: "for models distilled to few steps; 4 to 8 steps, guidance 1 to 2",
        coordinates: Coordinates::VariancePreserving,
        defaults: Defaults {
            beta_start: 0.00085,
            beta_end: 0.012,
            beta_schedule: BetaSchedule::ScaledLinear,
            timestep_spacing: TimestepSpacing::Leading,
            ignores: &[Ignored::Sigmas],
            ..Defaults::COMMON
        },
        plan: Lcm::plan,
        build: Lcm::build,
    },
];

impl SamplerKind {
    /// This sampler's row.
    pub fn spec(self) -> &'static SamplerSpec {
        SAMPLERS
            .iter()
            .find(|row| row.kind == self)
            .unwrap_or(&SAMPLERS[0])
    }
}

impl fmt::Debug for SamplerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SamplerSpec")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for SamplerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.spec().name)
    }
}

impl FromStr for SamplerKind {
    type Err = Error;

    /// Takes a name, label, alias or class name of diffusers.
    fn from_str(text: &str) -> Result<Self> {
        match find(text) {
            Some(row) => Ok(row.kind),
            None => Err(unknown_sampler(text)),
        }
    }
}

/// Reads a sampler's name, which may end in that of a schedule ("DPM++ 2M Karras").
///
/// # Errors
/// `InvalidConfig` naming the nearest sampler and listing all.
pub fn parse_sampler(text: &str) -> Result<(SamplerKind, Option<ScheduleKind>)> {
    if let Some(row) = find(text) {
        return Ok((row.kind, None));
    }
    let wanted = normalize(text);
    for schedule in SCHEDULES {
        let names = std::iter::once(&schedule.name).chain(schedule.aliases);
        for name in names {
            let sampler = wanted.strip_suffix(&normalize(name));
            if let Some(row) = sampler.filter(|rest| !rest.is_empty()).and_then(find) {
                return Ok((row.kind, Some(schedule.kind)));
            }
        }
    }
    Err(unknown_sampler(text))
}

/// The sampler that a checkpoint asks for by a class name of diffusers.
///
/// # Errors
/// `Unsupported` when there is none like it.
pub fn sampler_for_scheduler_class(class_name: &str) -> Result<SamplerKind> {
    SAMPLERS
        .iter()
        .find(|row| row.class_names.contains(&class_name))
        .map(|row| row.kind)
        .ok_or_else(|| {
            Error::unsupported(format!(
                "the checkpoint's scheduler is {class_name}, for which there is no sampler"
            ))
            .with_hint(format!(
                "name one of {} yourself",
                sampler_names().join(", ")
            ))
        })
}

fn sampler_names() -> Vec<&'static str> {
    SAMPLERS.iter().map(|row| row.name).collect()
}

fn spellings(row: &'static SamplerSpec) -> impl Iterator<Item = &'static str> {
    [row.name, row.label]
        .into_iter()
        .chain(row.aliases.iter().copied())
        .chain(row.class_names.iter().copied())
}

fn find(text: &str) -> Option<&'static SamplerSpec> {
    let wanted = normalize(text);
    let without_k = text
        .trim()
        .strip_prefix("k_")
        .or_else(|| text.trim().strip_prefix("K_"))
        .map(normalize);
    SAMPLERS.iter().find(|row| {
        spellings(row)
            .map(normalize)
            .any(|name| name == wanted || Some(&name) == without_k.as_ref())
    })
}

fn unknown_sampler(text: &str) -> Error {
    let all: Vec<&str> = SAMPLERS.iter().flat_map(spellings).collect();
    unknown("sampler", text, &all, &sampler_names())
}

/// The error for a name that is in no table: the nearest of `spellings`, and all `names`.
pub(super) fn unknown(what: &str, found: &str, spellings: &[&str], names: &[&str]) -> Error {
    let wanted = normalize(found);
    let nearest = spellings
        .iter()
        .min_by_key(|name| strsim::damerau_levenshtein(&normalize(name), &wanted));
    let mut hint = format!("one of {}", names.join(", "));
    if let Some(nearest) = nearest {
        hint = format!("did you mean {nearest:?}? Known are {}", names.join(", "));
    }
    Error::invalid(format!("unknown {what} {found:?}")).with_hint(hint)
}

/// Spellings that differ in case, spaces, hyphens, underscores or dots are one name.
pub(super) fn normalize(text: &str) -> String {
    text.chars()
        .filter(|char| !matches!(char, ' ' | '-' | '_' | '.' | '\t'))
        .flat_map(char::to_lowercase)
        .collect()
}
