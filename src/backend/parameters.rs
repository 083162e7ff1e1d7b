//! The effective settings of a picture, in the webui's words and order.

use super::model::SDModel;
use super::sampling::SamplingConfig;
use super::scheduler::Scheduler;
use crate::guidance::{Blocks, GuidanceMethod, GuidanceOptions, Skips};
use crate::metadata::Parameters;
use crate::prompt::{Emphasis, PromptSyntax};
use crate::rng::PictureSeeds;
use crate::samplers::Coordinates;
use crate::samplers::schedule::{CustomLevels, LevelOptions, LevelRules, ScheduleKind};

/// What made the picture that started from `seeds` with `config`, whose prompts were chosen from those of `template`: enough for `tintype` to make it again.
pub(super) fn of(
    model: &SDModel,
    config: &SamplingConfig,
    template: &SamplingConfig,
    (scheduler, seeds): (&Scheduler, PictureSeeds),
) -> Parameters {
    let chosen = (config.prompt != template.prompt).then(|| template.prompt.clone());
    let negative = |config: &SamplingConfig| config.negative_prompt.clone();
    let chosen_negative = negative(template).filter(|_| negative(config) != negative(template));
    let settings = scheduler.schedule().settings();
    let webui = config.text.syntax == PromptSyntax::Webui;
    let emphasis = config.text.emphasis;
    let variation_seed = seeds.variation.map(|variation| variation.seed.to_string());
    let strength = seeds
        .variation
        .map(|variation| variation.strength.to_string());
    let resize_from = config.seeds.resize_from;
    let resize_from = resize_from.map(|(width, height)| format!("{width}x{height}"));
    let fresh_rng = seeds.fresh_rng.map(|rng| rng.label().to_owned());
    let ensd = Some(seeds.eta_delta).filter(|&delta| delta != 0);
    // With levels of the caller's own the plan decides, not the number of steps asked for.
    let steps = match config.levels {
        None => config.steps,
        Some(_) => scheduler.plan().steps().len(),
    };
    let entries = [
        ("Steps", Some(steps.to_string())),
        ("Sampler", Some(scheduler.kind().spec().label.to_owned())),
        (
            "Schedule type",
            Some(schedule_type(config, settings.sigmas)),
        ),
        ("CFG scale", Some(config.guidance_scale.to_string())),
        ("Seed", Some(seeds.seed.to_string())),
        ("Size", Some(format!("{}x{}", config.width, config.height))),
        ("Model hash", model.file_hash().map(str::to_owned)),
        ("Model", Some(model.title().to_owned())),
        ("VAE", model.vae_name.clone()),
        ("Variation seed", variation_seed),
        ("Variation seed strength", strength),
        ("Seed resize from", resize_from),
        ("Clip skip", config.clip_skip.map(|skip| skip.to_string())),
        (
            "Clip skip negative",
            config
                .clip_skip
                .filter(|_| config.clip_skip_negative)
                .map(|_| "True".to_owned()),
        ),
        ("ENSD", ensd.map(|delta| delta.to_string())),
        ("RNG", Some(seeds.rng.label().to_owned())),
        ("Fresh RNG", fresh_rng),
    ];
    let mut entries = Vec::from(entries);
    entries.extend(of_levels(&config.level_options));
    entries.extend(of_sampling(config, scheduler));
    entries.extend(of_guidance(&config.guidance));
    entries.extend([
        (
            "CFG rescale",
            (config.guidance_rescale > 0.0).then(|| config.guidance_rescale.to_string()),
        ),
        (
            "Emphasis",
            (webui && emphasis != Emphasis::default()).then(|| emphasis.label().to_owned()),
        ),
        (
            "Prompt syntax",
            (!webui).then(|| config.text.syntax.to_string()),
        ),
        ("Template", chosen),
        ("Negative Template", chosen_negative),
        ("Engine", Some(model.engine().to_string())),
        (
            "Version",
            Some(concat!("tintype v", env!("CARGO_PKG_VERSION")).to_owned()),
        ),
    ]);
    Parameters {
        prompt: config.prompt.clone(),
        negative_prompt: config.negative_prompt.clone().unwrap_or_default(),
        settings: entries
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect(),
    }
}

/// What the caller said about guidance, by the webui's names where it has one.
fn of_guidance(guidance: &GuidanceOptions) -> [(&'static str, Option<String>); 11] {
    let GuidanceOptions {
        schedule,
        interval,
        min_sigma,
        min_sigma_skips,
        skip_early,
        method,
        pag,
        sag,
        freeu,
        // Refused before a picture is made.
        image_scale: _,
    } = guidance;
    let is_below = *min_sigma > 0.0;
    // Forge has a name for what it does too.
    let forge = pag
        .filter(|pag| pag.blocks == Blocks::MID && pag.adaptive == 0.0)
        .map(|pag| pag.scale);
    let all = is_below && *min_sigma_skips == Skips::All;
    [
        ("CFG schedule", schedule.as_ref().map(ToString::to_string)),
        ("CFG interval", interval.as_ref().map(ToString::to_string)),
        ("NGMS", is_below.then(|| min_sigma.to_string())),
        ("NGMS all steps", all.then(|| "True".to_owned())),
        (
            "Skip Early CFG",
            (*skip_early > 0.0).then(|| skip_early.to_string()),
        ),
        (
            "CFG method",
            (*method != GuidanceMethod::Cfg).then(|| method.to_string()),
        ),
        (
            "PerturbedAttentionGuidance_enabled",
            forge.map(|_| "True".to_owned()),
        ),
        (
            "PerturbedAttentionGuidance_scale",
            forge.map(|scale| scale.to_string()),
        ),
        (
            "PAG",
            pag.filter(|_| forge.is_none()).map(|pag| pag.to_string()),
        ),
        ("SAG", sag.map(|sag| sag.to_string())),
        ("FreeU", freeu.map(|freeu| freeu.to_string())),
    ]
}

/// What the caller said about levels and the sampler's randomness.
fn of_sampling(
    config: &SamplingConfig,
    scheduler: &Scheduler,
) -> [(&'static str, Option<String>); 7] {
    let noise = &config.noise;
    // The webui has an eta for DDIM and one for all others.
    let eta_key = match scheduler.plan().coordinates() {
        Coordinates::VariancePreserving => "Eta DDIM",
        Coordinates::VarianceExploding => "Eta",
    };
    let (sigmas, timesteps) = match &config.levels {
        None => (None, None),
        Some(levels @ CustomLevels::Sigmas(_)) => (Some(levels.to_string()), None),
        Some(levels @ CustomLevels::Timesteps(_)) => (None, Some(levels.to_string())),
    };
    [
        ("Sigmas", sigmas),
        ("Timesteps", timesteps),
        (eta_key, noise.eta.map(|eta| eta.to_string())),
        ("Sigma churn", noise.s_churn.map(|value| value.to_string())),
        ("Sigma tmin", noise.s_tmin.map(|value| value.to_string())),
        ("Sigma tmax", noise.s_tmax.map(|value| value.to_string())),
        ("Sigma noise", noise.s_noise.map(|value| value.to_string())),
    ]
}

/// What the caller said about levels beside their schedule, by the webui's names where it has one.
fn of_levels(options: &LevelOptions) -> [(&'static str, Option<String>); 6] {
    let number = |value: Option<f64>| value.map(|value| value.to_string());
    let LevelOptions {
        rules,
        rho,
        sigma_min,
        sigma_max,
        discard_penultimate,
        full_start,
    } = *options;
    let discard = discard_penultimate.map(|discard| if discard { "True" } else { "False" });
    [
        (
            "Levels as",
            (rules != LevelRules::Checkpoint).then(|| rules.to_string()),
        ),
        ("Schedule max sigma", number(sigma_max)),
        ("Schedule min sigma", number(sigma_min)),
        ("Schedule rho", number(rho)),
        ("Discard penultimate sigma", discard.map(str::to_owned)),
        (
            "SGM noise multiplier",
            full_start.then(|| "True".to_owned()),
        ),
    ]
}

/// The webui's name of the schedule, or that the caller gave the levels.
fn schedule_type(config: &SamplingConfig, schedule: ScheduleKind) -> String {
    match config.levels {
        Some(_) => "Custom".to_owned(),
        None => schedule.label(),
    }
}
