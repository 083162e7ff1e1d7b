//! What a row of the table of samplers says, and how names are read.
//!
//! The rows are in `rows/`; parsing, display, help and construction derive from them.

use std::fmt;
use std::str::FromStr;

use super::Sampler;
use super::noise_options::Takes;
use super::plan::{Coordinates, Plan};
use super::schedule::{Defaults, NoiseSchedule, SCHEDULES, ScheduleKind, Settings, split_setting};
use crate::error::{Error, Result};

pub use super::rows::SAMPLERS;

/// Which sampler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SamplerKind {
    /// DDIM.
    Ddim,
    /// DDIM CFG++.
    DdimCfgPp,
    /// DDPM.
    Ddpm,
    /// PNDM.
    Pndm,
    /// Euler.
    Euler,
    /// Euler ancestral.
    EulerAncestral,
    /// Euler CFG++.
    EulerCfgPp,
    /// Euler ancestral CFG++.
    EulerAncestralCfgPp,
    /// Heun.
    Heun,
    /// HeunPP2.
    HeunPp2,
    /// DPM2.
    Dpm2,
    /// DPM2 ancestral.
    Dpm2Ancestral,
    /// LMS.
    Lms,
    /// DPM++ 2S, singlestep.
    Dpmpp2s,
    /// DPM++ 2S ancestral.
    Dpmpp2sAncestral,
    /// DPM++ 2M.
    Dpmpp2m,
    /// DPM++ SDE.
    DpmppSde,
    /// DPM++ 2M SDE.
    Dpmpp2mSde,
    /// DPM++ 2M SDE Heun.
    Dpmpp2mSdeHeun,
    /// DPM++ 3M SDE.
    Dpmpp3mSde,
    /// DPM fast.
    DpmFast,
    /// DPM adaptive.
    DpmAdaptive,
    /// Restart.
    Restart,
    /// UniPC with B(h) = h.
    UniPc,
    /// UniPC with B(h) = exp(h) - 1.
    UniPcBh2,
    /// DEIS.
    Deis,
    /// DEIS as diffusers has it.
    DeisMultistep,
    /// UniPC as ComfyUI has it, with B(h) = h.
    UniPcComfy,
    /// UniPC as ComfyUI has it, with B(h) = exp(h) - 1.
    UniPcBh2Comfy,
    /// SA-Solver.
    SaSolver,
    /// SA-Solver as ComfyUI has it.
    SaSolverComfy,
    /// The same with a second evaluation after each correction.
    SaSolverPece,
    /// IPNDM.
    Ipndm,
    /// IPNDM_V.
    IpndmV,
    /// RES multistep.
    ResMultistep,
    /// Gradient estimation.
    GradientEstimation,
    /// ER-SDE.
    ErSde,
    /// LCM.
    Lcm,
    /// LCM through a schedule's sigmas.
    LcmSigmas,
    /// LCM as the webui has it.
    LcmWebui,
    /// TCD.
    Tcd,
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
    /// Whether it asks for the unconditional estimate too, so that guidance is never left out.
    pub unconditional: bool,
    /// Evaluations of the model a step, by which changes of the prompt are timed; most that a step makes.
    pub evaluations: usize,
    /// Which options of randomness it takes.
    pub takes: Takes,
    /// What its scheduler of diffusers takes for missing keys.
    pub defaults: Defaults,
    /// Decides the levels of a run of so many steps.
    pub(crate) plan: fn(&NoiseSchedule, usize) -> Result<Plan>,
    /// Makes the sampler.
    pub(crate) build: fn(&Settings) -> Box<dyn Sampler>,
    /// How it runs on a checkpoint whose own scheduler it is, where diffusers does not run it as the webuis do.
    pub(crate) of_checkpoint: Option<OfCheckpoint>,
}

/// What a checkpoint's own scheduler decides about a sampler that otherwise runs as in the webuis.
#[derive(Clone, Copy)]
pub(crate) struct OfCheckpoint {
    /// Classes of diffusers that it is.
    pub(crate) class_names: &'static [&'static str],
    /// What the scheduler takes for missing keys.
    pub(crate) defaults: Defaults,
    /// Decides the levels of a run of so many steps.
    pub(crate) plan: fn(&NoiseSchedule, usize) -> Result<Plan>,
    /// Makes the sampler.
    pub(crate) build: fn(&Settings) -> Box<dyn Sampler>,
}

impl SamplerSpec {
    /// Whether it can be asked for `schedule` by name.
    pub fn takes_schedule(&self, schedule: ScheduleKind) -> bool {
        match self.coordinates {
            Coordinates::VarianceExploding => true,
            Coordinates::VariancePreserving => {
                schedule == ScheduleKind::DdimUniform && self.defaults.schedule == schedule
            }
        }
    }
}

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

/// Reads a sampler's name, which may end in that of a schedule ("DPM++ 2M Karras", "dpmpp_2m gits:1.15").
///
/// # Errors
/// `InvalidConfig` naming the nearest sampler and listing all, or what is wrong with the schedule's setting.
pub fn parse_sampler(text: &str) -> Result<(SamplerKind, Option<ScheduleKind>)> {
    let (name, value) = split_setting(text);
    if let Some(row) = find(name).filter(|_| value.is_none()) {
        return Ok((row.kind, None));
    }
    for schedule in SCHEDULES {
        for ending in schedule.spellings() {
            if let Some(row) = without_ending(name, &normalize(ending)).and_then(find) {
                return Ok((row.kind, Some(schedule.with(value)?)));
            }
        }
    }
    Err(unknown_sampler(text))
}

/// `name` without `ending`, which is normalized; `None` where nothing would be left.
fn without_ending<'a>(name: &'a str, ending: &str) -> Option<&'a str> {
    let at = name.char_indices().map(|(at, _)| at);
    let (start, _) = at
        .map(|at| name.split_at(at))
        .find(|(_, end)| normalize(end) == ending)?;
    Some(start).filter(|start| !normalize(start).is_empty())
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
