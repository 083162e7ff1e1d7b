//! The effective settings of a picture, in the webui's words and order.

use super::model::SDModel;
use super::sampling::SamplingConfig;
use super::scheduler::Scheduler;
use crate::metadata::Parameters;
use crate::prompt::{Emphasis, PromptSyntax};

/// What made the picture that started from `seed` with `config`, whose prompts were chosen from those of `template`: enough for `tintype` and the webui to make it again.
pub(super) fn of(
    model: &SDModel,
    config: &SamplingConfig,
    template: &SamplingConfig,
    (scheduler, seed): (&Scheduler, u64),
) -> Parameters {
    let chosen = (config.prompt != template.prompt).then(|| template.prompt.clone());
    let negative = |config: &SamplingConfig| config.negative_prompt.clone();
    let chosen_negative = negative(template).filter(|_| negative(config) != negative(template));
    let settings = scheduler.schedule().settings();
    let clip_skip = config.clip_skip.filter(|&skip| skip > 1);
    let engine = model.engine();
    let webui = config.text.syntax == PromptSyntax::Webui;
    let emphasis = config.text.emphasis;
    let entries = [
        ("Steps", Some(config.steps.to_string())),
        ("Sampler", Some(scheduler.kind().spec().label.to_owned())),
        (
            "Schedule type",
            Some(capitalised(settings.sigmas.spec().name)),
        ),
        ("CFG scale", Some(config.guidance_scale.to_string())),
        ("Seed", Some(seed.to_string())),
        ("Size", Some(format!("{}x{}", config.width, config.height))),
        ("Model hash", model.file_hash().map(str::to_owned)),
        ("Model", Some(model.title().to_owned())),
        ("VAE", model.vae_name.clone()),
        ("Clip skip", clip_skip.map(|skip| skip.to_string())),
        ("RNG", Some("CPU".to_owned())),
        (
            "Eta DDIM",
            (config.eta > 0.0).then(|| config.eta.to_string()),
        ),
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
        (
            "Engine",
            Some(format!(
                "{} {} {}",
                engine.kind(),
                engine.device(),
                engine.dtype()
            )),
        ),
        (
            "Version",
            Some(concat!("tintype v", env!("CARGO_PKG_VERSION")).to_owned()),
        ),
    ];
    Parameters {
        prompt: config.prompt.clone(),
        negative_prompt: config.negative_prompt.clone().unwrap_or_default(),
        settings: entries
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect(),
    }
}

/// The webui's spelling of a schedule's name.
fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}
