//! What a run of `generate` says when it is over: a line for people, a document for programs.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tintype::prompt::Choices;
use tintype::samplers::SamplerKind;
use tintype::samplers::schedule::CustomLevels;
use tintype::{LoadOptions, ModelSource, SDModel, SamplingConfig};

use crate::gallery::Saved;
use crate::profile::Profile;
use crate::progress::seconds;
use crate::{guidance_args, level_args};

/// The document of `generate --json`; its fields are described in `docs/cli.md`.
#[derive(Debug, Serialize)]
pub(crate) struct Report<'a> {
    complete: bool,
    images: Vec<Image<'a>>,
    settings: Settings<'a>,
    timings: Timings,
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Profile>,
}

#[derive(Debug, Serialize)]
struct Image<'a> {
    path: &'a Path,
    seed: u64,
    width: u32,
    height: u32,
    unet_passes: usize,
    parameters: String,
}

/// What was in effect.
#[derive(Debug, Serialize)]
struct Settings<'a> {
    prompt: &'a str,
    negative_prompt: &'a str,
    prompt_syntax: String,
    emphasis: String,
    wildcards: Option<String>,
    combinatorial: bool,
    steps: usize,
    guidance_scale: f64,
    guidance_rescale: f64,
    #[serde(flatten)]
    guidance: guidance_args::Settings,
    /// Of the first picture.
    seed: Option<u64>,
    rng: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variation_seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variation_strength: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed_resize_from: Option<(usize, usize)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ensd: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fresh_rng: Option<&'static str>,
    sampler: Option<&'a str>,
    schedule: Option<&'a str>,
    #[serde(flatten)]
    levels: level_args::Settings,
    /// `None` where the sampler takes none.
    eta: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sigmas: Option<&'a [f64]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timesteps: Option<&'a [usize]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s_churn: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s_tmin: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s_tmax: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s_noise: Option<f64>,
    width: usize,
    height: usize,
    batch: usize,
    clip_skip: usize,
    clip_skip_negative: bool,
    #[serde(flatten)]
    machine: &'a Machine,
}

/// The model and what ran it.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    model: String,
    vae: Option<String>,
    variant: Option<String>,
    config: Option<String>,
    device: String,
    dtype: String,
    engine: String,
    /// `None` with Candle, whose compute type says it.
    precision: Option<String>,
    memory: String,
    threads: usize,
    #[serde(skip)]
    engine_line: String,
    #[serde(skip)]
    own_clip_skip: usize,
}

/// Where the time went, in seconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Timings {
    load: f64,
    text: f64,
    denoise: f64,
    decode: f64,
    total: f64,
}

impl Machine {
    /// Engine, device and how products are formed.
    pub(crate) fn engine_line(&self) -> &str {
        &self.engine_line
    }

    /// Threads that compute.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    pub(crate) fn new(source: &ModelSource, options: &LoadOptions, model: &SDModel) -> Self {
        let engine = model.engine();
        Self {
            model: source.to_string(),
            vae: shown(options.vae.as_deref()),
            variant: options.variant.clone(),
            config: shown(options.config.as_deref()),
            device: engine.device().to_string(),
            dtype: engine.dtype().to_string(),
            engine: engine.kind().to_string(),
            precision: engine.precision().map(|precision| precision.to_string()),
            memory: options.memory.to_string(),
            threads: rayon::current_num_threads(),
            engine_line: engine.to_string(),
            own_clip_skip: model.own_clip_skip(),
        }
    }
}

fn shown(path: Option<&Path>) -> Option<String> {
    path.map(|path| path.display().to_string())
}

/// How long loading and the whole run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) load: Duration,
    pub(crate) total: Duration,
}

impl<'a> Report<'a> {
    pub(crate) fn new(
        config: &'a SamplingConfig,
        machine: &'a Machine,
        pictures: &'a [Saved],
        warnings: Vec<String>,
        clock: Clock,
    ) -> Self {
        Self {
            complete: pictures.len() == config.batch,
            images: pictures.iter().map(Image::new).collect(),
            settings: Settings::new(config, machine, pictures.first()),
            timings: Timings::new(pictures, clock),
            warnings,
            profile: None,
        }
    }

    /// The same with where the time of layers went.
    pub(crate) fn with_profile(self, profile: Option<Profile>) -> Self {
        Self { profile, ..self }
    }

    /// Where the time went, in one line.
    pub(crate) fn summary(&self) -> String {
        let Timings {
            load,
            text,
            denoise,
            decode,
            total,
        } = self.timings;
        let count = match (self.images.len(), self.settings.batch) {
            (1, 1) => "1 picture".to_owned(),
            (done, all) if done == all => format!("{all} pictures"),
            (done, all) => format!("{done} of {all} pictures"),
        };
        let parts = [
            ("load", load),
            ("text", text),
            ("denoise", denoise),
            ("decode", decode),
        ];
        let parts: Vec<String> = parts
            .iter()
            .map(|(name, time)| format!("{name} {}", seconds(Duration::from_secs_f64(*time))))
            .collect();
        format!(
            "{count} in {} ({}): {}",
            seconds(Duration::from_secs_f64(total)),
            self.settings.machine.engine_line(),
            parts.join(", ")
        )
    }
}

impl<'a> Image<'a> {
    fn new(picture: &'a Saved) -> Self {
        Self {
            path: &picture.path,
            seed: picture.seed,
            width: picture.width,
            height: picture.height,
            unet_passes: picture.unet_passes,
            parameters: picture.parameters.to_text(),
        }
    }
}

impl<'a> Settings<'a> {
    fn new(config: &'a SamplingConfig, machine: &'a Machine, first: Option<&'a Saved>) -> Self {
        let sampler = first.and_then(|picture| picture.parameters.sampler());
        let kind = sampler.and_then(|name| name.parse::<SamplerKind>().ok());
        let own_eta = kind.and_then(|kind| kind.spec().takes.eta);
        Self {
            prompt: &config.prompt,
            negative_prompt: config.negative_prompt.as_deref().unwrap_or_default(),
            prompt_syntax: config.text.syntax.to_string(),
            emphasis: config.text.emphasis.to_string(),
            wildcards: shown(config.text.wildcards.as_deref()),
            combinatorial: config.text.choices == Choices::Combinatorial,
            // Levels of one's own count themselves.
            steps: first.map_or(config.steps, |picture| {
                picture.parameters.steps().unwrap_or(config.steps)
            }),
            guidance_scale: config.guidance_scale,
            guidance_rescale: config.guidance_rescale,
            guidance: guidance_args::Settings::new(&config.guidance),
            seed: first.map_or(config.seed, |picture| Some(picture.seed)),
            rng: config.seeds.rng.name(),
            variation_seed: first.and_then(|picture| picture.parameters.variation_seed()),
            variation_strength: Some(config.seeds.variation_strength).filter(|&share| share > 0.0),
            seed_resize_from: config.seeds.resize_from,
            ensd: Some(config.seeds.eta_delta).filter(|&delta| delta != 0),
            fresh_rng: config.seeds.fresh_rng.map(tintype::rng::RngKind::name),
            sampler,
            schedule: first.map(|picture| picture.parameters.schedule_type()),
            levels: level_args::Settings::new(&config.level_options),
            eta: config.noise.eta.or(own_eta),
            sigmas: match &config.levels {
                Some(CustomLevels::Sigmas(sigmas)) => Some(sigmas),
                _ => None,
            },
            timesteps: match &config.levels {
                Some(CustomLevels::Timesteps(timesteps)) => Some(timesteps),
                _ => None,
            },
            s_churn: config.noise.s_churn,
            s_tmin: config.noise.s_tmin,
            s_tmax: config.noise.s_tmax,
            s_noise: config.noise.s_noise,
            width: config.width,
            height: config.height,
            batch: config.batch,
            clip_skip: config.clip_skip.unwrap_or(machine.own_clip_skip),
            clip_skip_negative: config.clip_skip_negative,
            machine,
        }
    }
}

impl Timings {
    fn new(pictures: &[Saved], clock: Clock) -> Self {
        let sum = |part: fn(&tintype::Timings) -> Duration| -> f64 {
            pictures
                .iter()
                .map(|picture| part(&picture.timings).as_secs_f64())
                .sum()
        };
        Self {
            load: clock.load.as_secs_f64(),
            text: encoding(pictures),
            denoise: sum(|timings| timings.denoise),
            decode: sum(|timings| timings.decode),
            total: clock.total.as_secs_f64(),
        }
    }
}

/// Texts are encoded once for neighbours with the same prompts, which all report the same time.
fn encoding(pictures: &[Saved]) -> f64 {
    let mut total = 0.0;
    let mut last = None;
    for picture in pictures {
        let prompts = (
            &picture.parameters.prompt,
            &picture.parameters.negative_prompt,
        );
        if last != Some(prompts) {
            total += picture.timings.text.as_secs_f64();
        }
        last = Some(prompts);
    }
    total
}
