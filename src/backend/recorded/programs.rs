//! Levels and samplers as the program that made a picture has them, where it has others than diffusers.

use super::levels::Origin;
use super::{Recorded, is_ours, says, value_of};
use crate::error::{Context, Result};
use crate::metadata::Parameters;
use crate::samplers::registry::{SamplerKind, parse_sampler};
use crate::samplers::schedule::{LevelRules, ScheduleKind};
use crate::samplers::{Coordinates, SAMPLERS, SamplerSpec};

/// Samplers of one name that programs have as another method, and what that is here.
const OTHERWISE: [(LevelRules, SamplerKind, SamplerKind); 3] = [
    // modules/sd_samplers_lcm.py
    (LevelRules::Webui, SamplerKind::Lcm, SamplerKind::LcmWebui),
    (LevelRules::Forge, SamplerKind::Lcm, SamplerKind::LcmWebui),
    // Forge has ComfyUI's, whose step is that of Euler ancestral with all of its noise.
    (
        LevelRules::Forge,
        SamplerKind::Ddpm,
        SamplerKind::EulerAncestral,
    ),
];

/// Keys of the limits and the power of curves.
const CURVE_KEYS: [&str; 3] = ["Schedule rho", "Schedule min sigma", "Schedule max sigma"];
/// Key of the level left out.
const DISCARD_KEY: &str = "Discard penultimate sigma";
/// Key of the first noise's scale.
const START_KEY: &str = "SGM noise multiplier";

/// Whose rules a text is by; `None` for our own, which say so themselves, and for programs that are not known.
fn rules_of(parameters: &Parameters) -> Option<LevelRules> {
    if is_ours(parameters) {
        return None;
    }
    if says(parameters, "Version", "ComfyUI") {
        return Some(LevelRules::ComfyUi);
    }
    let sampler = value_of(parameters, "Sampler").unwrap_or_default();
    let of_diffusers = |row: &SamplerSpec| row.class_names.contains(&sampler);
    if SAMPLERS.iter().any(of_diffusers) {
        // No webui names its samplers so.
        return None;
    }
    let origin = Origin::of(parameters)?;
    Some(if origin.is_forge {
        LevelRules::Forge
    } else {
        LevelRules::Webui
    })
}

impl Recorded {
    /// Takes the program's own method where the sampler's name is another's here.
    pub(super) fn fit_sampler(&mut self, parameters: &Parameters) -> Result<()> {
        let (Some(rules), Some(name)) = (rules_of(parameters), &self.config.sampler) else {
            return Ok(());
        };
        let (kind, joined) = parse_sampler(name).context("Sampler")?;
        let found = OTHERWISE
            .iter()
            .find(|(program, there, _)| *program == rules && *there == kind);
        if let Some((_, _, here)) = found {
            self.config.sampler = Some(here.spec().name.to_owned());
            if let Some(joined) = joined {
                self.config
                    .schedule
                    .get_or_insert_with(|| joined.to_string());
            }
        }
        Ok(())
    }

    /// Takes the program's levels, timesteps and start, and leaves out what the sampler or the schedule has no place for,
    /// which a request would be refused for.
    pub(super) fn fit_levels(&mut self, parameters: &Parameters) -> Result<()> {
        let Some(name) = self.config.sampler.clone() else {
            self.refuse_levels(parameters, "the sampler is not named");
            return Ok(());
        };
        let (kind, joined) = parse_sampler(&name).context("Sampler")?;
        if kind.spec().coordinates == Coordinates::VariancePreserving {
            let reason = "this sampler runs on the timesteps of training";
            self.config.level_options.full_start = false;
            self.refuse_recorded(parameters, START_KEY, reason);
            self.refuse_levels(parameters, reason);
            return Ok(());
        }
        let rules = rules_of(parameters);
        if let Some(rules) = rules {
            self.config.level_options.rules = rules;
        }
        let chooses = matches!(kind, SamplerKind::DpmFast | SamplerKind::DpmAdaptive);
        let own = kind == SamplerKind::UniPc && self.config.schedule.is_none();
        if chooses || own {
            self.refuse_levels(parameters, "this sampler chooses its noise levels itself");
            self.fit_rounding(parameters, kind);
            return Ok(());
        }
        if self.config.levels.is_some() {
            self.refuse_levels(parameters, "the levels are given one by one");
            return Ok(());
        }
        let unsaid = value_of(parameters, "Schedule type").is_none()
            && self.config.schedule.is_none()
            && joined.is_none();
        let of_webui = matches!(rules, Some(LevelRules::Webui | LevelRules::Forge));
        if unsaid && of_webui && kind != SamplerKind::Restart {
            // Before 1.9 a sampler without a schedule in its name had none but this, or Restart Karras'.
            self.config.schedule = Some(ScheduleKind::Normal.to_string());
        }
        if rules == Some(LevelRules::ComfyUi) && kind == SamplerKind::Dpmpp3mSde {
            // It leaves no level out but for DPM2, DPM2 ancestral and UniPC.
            self.config.level_options.discard_penultimate = Some(false);
        }
        let named = self.config.schedule.as_deref().map(str::parse);
        let schedule: ScheduleKind = named
            .transpose()?
            .or(joined)
            .unwrap_or(kind.spec().defaults.schedule);
        self.fit_curve(parameters, schedule);
        Ok(())
    }

    /// Leaves out limits and powers that the schedule has not.
    fn fit_curve(&mut self, parameters: &Parameters, schedule: ScheduleKind) {
        let spec = schedule.spec();
        let reason = format!("the {} schedule takes none", spec.name);
        let options = &mut self.config.level_options;
        let mut refused = Vec::new();
        if !spec.rho && options.rho.take().is_some() {
            refused.push(CURVE_KEYS[0]);
        }
        if !spec.range && options.sigma_min.take().is_some() {
            refused.push(CURVE_KEYS[1]);
        }
        if !spec.range && options.sigma_max.take().is_some() {
            refused.push(CURVE_KEYS[2]);
        }
        for key in refused {
            self.refuse_recorded(parameters, key, &reason);
        }
    }

    /// Leaves out all that is said of levels beside whose rules they are by.
    fn refuse_levels(&mut self, parameters: &Parameters, reason: &str) {
        let options = &mut self.config.level_options;
        let said = [
            options.rho.take().is_some(),
            options.sigma_min.take().is_some(),
            options.sigma_max.take().is_some(),
        ];
        let discards = options.discard_penultimate.take().is_some();
        for (key, said) in CURVE_KEYS.into_iter().zip(said) {
            if said {
                self.refuse_recorded(parameters, key, reason);
            }
        }
        if discards {
            self.refuse_recorded(parameters, DISCARD_KEY, reason);
        }
    }

    /// Forge asks UniPC's model at the nearest whole timestep, with that one's noise level.
    fn fit_rounding(&mut self, parameters: &Parameters, kind: SamplerKind) {
        if kind == SamplerKind::UniPc && self.config.level_options.rules == LevelRules::Forge {
            self.config.level_options.rules = LevelRules::Webui;
            let reason = "Forge rounds its noise levels to those of whole timesteps, the webui's, taken here, does not";
            self.refuse_recorded(parameters, "Sampler", reason);
        }
    }
}
