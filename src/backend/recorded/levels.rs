//! Levels as pictures record them: schedules, what they mean in the program that made the picture, and the webui's own
//! timesteps.

use super::{Recorded, is_ours, says, value_of};
use crate::error::{Context, Result};
use crate::metadata::Parameters;
use crate::samplers::Coordinates;
use crate::samplers::registry::{SamplerKind, parse_sampler};
use crate::samplers::schedule::{BetaOf, KlEnd, ScheduleKind};

/// The samplers for which the webui's `Automatic` is a schedule of its own (stable-diffusion-webui 1.10.1,
/// `modules/sd_samplers_kdiffusion.py`).
const AUTOMATIC: [(SamplerKind, ScheduleKind); 9] = [
    (SamplerKind::Dpmpp2m, ScheduleKind::Karras),
    (SamplerKind::DpmppSde, ScheduleKind::Karras),
    (SamplerKind::Dpmpp2mSde, ScheduleKind::Exponential),
    (SamplerKind::Dpmpp2mSdeHeun, ScheduleKind::Exponential),
    (SamplerKind::Dpmpp2sAncestral, ScheduleKind::Karras),
    (SamplerKind::Dpmpp3mSde, ScheduleKind::Exponential),
    (SamplerKind::Dpm2, ScheduleKind::Karras),
    (SamplerKind::Dpm2Ancestral, ScheduleKind::Karras),
    (SamplerKind::Restart, ScheduleKind::Karras),
];

impl Recorded {
    pub(super) fn fit_schedule(&mut self, parameters: &Parameters) -> Result<()> {
        if let Some(name) = &self.config.schedule {
            let named = name.parse::<ScheduleKind>().context("Schedule type")?;
            // Of two readings of a name, the program's own.
            self.config.schedule = match named {
                ScheduleKind::KlOptimal(_) if Origin::of(parameters).is_some() => {
                    Some(ScheduleKind::KlOptimal(KlEnd::Smallest).to_string())
                }
                ScheduleKind::Beta(_) if says(parameters, "Version", "ComfyUI") => {
                    Some(ScheduleKind::Beta(BetaOf::Timesteps).to_string())
                }
                _ => Some(name.clone()),
            };
        }
        if says(parameters, "Schedule type", "Custom") && self.config.levels.is_none() {
            let reason = "the levels are not in the text";
            self.refuse_recorded(parameters, "Schedule type", reason);
        }
        let Some(name) = self.config.sampler.clone() else {
            return Ok(());
        };
        let (kind, joined) = parse_sampler(&name).context("Sampler")?;
        let spec = kind.spec();
        let origin = Origin::of(parameters);
        let why_not = match kind {
            SamplerKind::DpmFast | SamplerKind::DpmAdaptive => {
                Some("this sampler chooses its noise levels itself and takes no schedule")
            }
            SamplerKind::UniPc if origin.is_some() => {
                Some("the webui's UniPC has its own levels and takes no schedule")
            }
            _ if spec.coordinates == Coordinates::VarianceExploding => None,
            _ => Some("this sampler runs on the timesteps of training and takes no schedule"),
        };
        let Some(reason) = why_not else {
            let automatic = AUTOMATIC.iter().find(|(sampler, _)| *sampler == kind);
            let asked = says(parameters, "Schedule type", "Automatic");
            if let Some((_, schedule)) = automatic
                && asked
                && joined.is_none()
                && !is_ours(parameters)
            {
                self.config.schedule = Some(schedule.to_string());
            }
            return Ok(());
        };
        if self.spans_training(parameters, kind) {
            self.config.schedule = None;
            return Ok(());
        }
        let on_timesteps = spec.coordinates == Coordinates::VariancePreserving;
        let takes = |schedule| on_timesteps && spec.takes_schedule(schedule);
        if let Some(joined) = joined.filter(|joined| !takes(*joined)) {
            self.config.sampler = Some(spec.name.to_owned());
            self.refuse("Sampler", &joined.label(), reason);
        }
        let named = self.config.schedule.as_deref().map(str::parse);
        if named.transpose()?.is_some_and(|named| !takes(named)) {
            self.config.schedule = None;
            self.refuse_recorded(parameters, "Schedule type", reason);
        }
        if on_timesteps {
            self.fit_timesteps(parameters, kind);
        }
        Ok(())
    }

    /// Whether all that a schedule says to a sampler that chooses its own levels is to go from the largest sigma of training
    /// to the smallest, as it does anyhow: ComfyUI gives `dpm_fast` and `dpm_adaptive` the schedule's ends.
    fn spans_training(&self, parameters: &Parameters, kind: SamplerKind) -> bool {
        let chooses = matches!(kind, SamplerKind::DpmFast | SamplerKind::DpmAdaptive);
        let named = self.config.schedule.as_deref().map(str::parse);
        chooses
            && says(parameters, "Version", "ComfyUI")
            && matches!(
                named,
                Some(Ok(ScheduleKind::Karras
                    | ScheduleKind::Exponential
                    | ScheduleKind::Normal
                    | ScheduleKind::KlOptimal(KlEnd::Zero)))
            )
    }

    /// The webui's own timesteps, and its weight under CFG++.
    fn fit_timesteps(&mut self, parameters: &Parameters, kind: SamplerKind) {
        let Some(origin) = Origin::of(parameters) else {
            return;
        };
        let webui = ScheduleKind::DdimUniform;
        if origin.release >= Some((1, 6)) && kind.spec().takes_schedule(webui) {
            // Before, it was latent-diffusion's own, which makes the last step too.
            self.config.schedule = Some(webui.to_string());
        }
        if kind == SamplerKind::DdimCfgPp && !origin.is_forge {
            // Forge takes it as it is.
            self.config.guidance_scale /= 12.5;
        }
    }
}

/// Which webui a text is of.
pub(super) struct Origin {
    /// Whether it is stable-diffusion-webui-forge or one that came of it.
    pub(super) is_forge: bool,
    /// Whether it encodes text by an engine of its own, as Forge does from 2.0 on.
    pub(super) has_own_engine: bool,
    /// The release of stable-diffusion-webui that it is or is made from, where the text says so.
    pub(super) release: Option<(u32, u32)>,
}

impl Origin {
    /// `None` for texts of other programs: the webui writes `v1.10.1`, Forge `f2.0.1v1.10.1-previous-669-gdfdcbab6`.
    pub(super) fn of(parameters: &Parameters) -> Option<Self> {
        let Some(version) = value_of(parameters, "Version") else {
            return Some(Self {
                is_forge: false,
                has_own_engine: false,
                release: None,
            });
        };
        let (own, release) = version.split_once('v')?;
        let mut numbers = release.split('.').map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            return None;
        };
        let engine: Option<u32> = own
            .strip_prefix('f')
            .and_then(|own| own.split('.').next()?.parse().ok());
        (own.is_empty() || own.starts_with('f')).then_some(Self {
            is_forge: !own.is_empty(),
            has_own_engine: engine >= Some(2),
            release: Some((major, minor)),
        })
    }
}
