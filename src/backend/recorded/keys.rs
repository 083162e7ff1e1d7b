//! The one table of keys that pictures record: what each sets, or why it has no effect.

use std::str::FromStr;

use super::{extensions, guidance};
use crate::backend::sampling::SamplingConfig;
use crate::backend::seeds::parse_size;
use crate::error::{Error, Result};
use crate::samplers::schedule::CustomLevels;

/// What becomes of a key.
#[derive(Clone, Copy)]
pub(super) enum Use {
    /// It sets something in the request.
    Sets(fn(&mut SamplingConfig, &str) -> Result<()>),
    /// It is held against the model and the engine.
    Compared,
    /// It tells where the rest comes from and changes no pixel, or is taken together with others.
    Informs,
    /// It asks for what is not done, unless its value is one of these.
    Refused {
        harmless: &'static [&'static str],
        why: &'static str,
    },
}

/// Values that switch a feature off.
const OFF: &[&str] = &["0", "0.0", "False", "None"];

const HIRES: Use = refused("there is no second pass at a higher resolution");
const INPAINT: Use = refused("inpainting is not supported");
const REFINER: Use = refused("the refiner is not supported");
const BETA_SHAPE: Use = Use::Refused {
    harmless: &["0.6"],
    why: "the beta schedule's shape is 0.6 and 0.6 here",
};
const MERGING: Use = refused("tokens are not merged");
const NETWORKS: Use = refused("networks are not supported yet");
const EMBEDDINGS: Use =
    refused("embeddings are not supported yet, and their names in the prompt are words");

const fn refused(why: &'static str) -> Use {
    Use::Refused { harmless: OFF, why }
}

/// Every key that is known but those of [`guidance`], the webui's first and then our own.
const KEYS: &[(&str, Use)] = &[
    (
        "Steps",
        Use::Sets(|config, value| set(&mut config.steps, value)),
    ),
    ("Sampler", Use::Sets(sampler)),
    ("Schedule type", Use::Sets(schedule)),
    (
        "CFG scale",
        Use::Sets(|config, value| set(&mut config.guidance_scale, value)),
    ),
    ("Distilled CFG Scale", refused("only Flux is guided so")),
    (
        "Image CFG scale",
        refused("no model is guided by a picture"),
    ),
    (
        "Seed",
        Use::Sets(|config, value| set_some(&mut config.seed, value)),
    ),
    ("Face restoration", refused("faces are not restored")),
    ("Size", Use::Sets(size)),
    ("Model hash", Use::Compared),
    ("Model", Use::Compared),
    (
        "FP8 weight",
        Use::Refused {
            harmless: &["Disable"],
            why: "weights are not held in FP8",
        },
    ),
    ("VAE hash", refused("VAEs are not hashed; compare its name")),
    ("VAE", Use::Compared),
    (
        "Variation seed",
        Use::Sets(|config, value| set_some(&mut config.seeds.variation_seed, value)),
    ),
    (
        "Variation seed strength",
        Use::Sets(|config, value| set(&mut config.seeds.variation_strength, value)),
    ),
    ("Seed resize from", Use::Sets(resize_from)),
    (
        "Denoising strength",
        refused("there is no start from a picture and no second pass"),
    ),
    ("Conditional mask weight", INPAINT),
    (
        "Clip skip",
        Use::Sets(|config, value| set_some(&mut config.clip_skip, value)),
    ),
    (
        "ENSD",
        Use::Sets(|config, value| set(&mut config.seeds.eta_delta, value)),
    ),
    ("Token merging ratio", MERGING),
    ("Token merging ratio hr", MERGING),
    (
        "Init image hash",
        refused("there is no start from a picture"),
    ),
    ("RNG", Use::Sets(rng)),
    ("Fresh RNG", Use::Sets(fresh_rng)),
    ("Tiling", refused("tiling is not supported")),
    ("Hires prompt", HIRES),
    ("Hires negative prompt", HIRES),
    ("Hires upscale", HIRES),
    ("Hires resize", HIRES),
    ("Hires steps", HIRES),
    ("Hires upscaler", HIRES),
    ("Hires sampler", HIRES),
    ("Hires schedule type", HIRES),
    ("Hires checkpoint", HIRES),
    ("Hires CFG Scale", HIRES),
    ("Lora hashes", NETWORKS),
    ("TI hashes", EMBEDDINGS),
    ("TI", EMBEDDINGS),
    ("Hypernet", NETWORKS),
    ("Hypernet strength", NETWORKS),
    ("Mask blur", INPAINT),
    ("Masked area padding", INPAINT),
    ("Inpaint area", INPAINT),
    ("Masked content", INPAINT),
    ("Mask mode", INPAINT),
    ("Refiner", REFINER),
    ("Refiner switch at", REFINER),
    (
        "Schedule max sigma",
        Use::Sets(|config, value| set_above(&mut config.level_options.sigma_max, value)),
    ),
    (
        "Schedule min sigma",
        Use::Sets(|config, value| set_above(&mut config.level_options.sigma_min, value)),
    ),
    (
        "Schedule rho",
        Use::Sets(|config, value| set_above(&mut config.level_options.rho, value)),
    ),
    ("Discard penultimate sigma", Use::Sets(discard_penultimate)),
    ("SGM noise multiplier", Use::Sets(full_start)),
    // As the webui wrote it for a while.
    ("SGM noise multplier", Use::Sets(full_start)),
    ("Levels as", Use::Sets(levels_as)),
    ("Beta schedule alpha", BETA_SHAPE),
    ("Beta schedule beta", BETA_SHAPE),
    (
        "UniPC variant",
        Use::Refused {
            harmless: &["bh1"],
            why: "the webui's UniPC runs with bh1 here",
        },
    ),
    (
        "UniPC skip type",
        Use::Refused {
            harmless: &["time_uniform"],
            why: "the webui's UniPC runs on even steps in time here",
        },
    ),
    (
        "UniPC order",
        Use::Refused {
            harmless: &["3"],
            why: "the webui's UniPC is of order 3 here",
        },
    ),
    (
        "UniPC lower order final",
        Use::Refused {
            harmless: &["True"],
            why: "the webui's UniPC ends with lower orders here",
        },
    ),
    (
        "Pad conds",
        refused("texts of different length are padded as they must be"),
    ),
    (
        "Downcast alphas_cumprod",
        refused("the levels of training are held in f32"),
    ),
    (
        "Noise Schedule",
        Use::Refused {
            harmless: &["Default"],
            why: "the checkpoint's configuration decides on zero terminal SNR",
        },
    ),
    (
        "Eta",
        Use::Sets(|config, value| set_some(&mut config.noise.eta, value)),
    ),
    (
        "Eta DDIM",
        Use::Sets(|config, value| set_some(&mut config.noise.eta, value)),
    ),
    (
        "Sigma churn",
        Use::Sets(|config, value| set_some(&mut config.noise.s_churn, value)),
    ),
    (
        "Sigma tmin",
        Use::Sets(|config, value| set_some(&mut config.noise.s_tmin, value)),
    ),
    (
        "Sigma tmax",
        Use::Sets(|config, value| set_some(&mut config.noise.s_tmax, value)),
    ),
    (
        "Sigma noise",
        Use::Sets(|config, value| set_some(&mut config.noise.s_noise, value)),
    ),
    ("Clip skip negative", Use::Sets(clip_skip_negative)),
    ("Emphasis", Use::Sets(emphasis)),
    (
        "CFG rescale",
        Use::Sets(|config, value| set(&mut config.guidance_rescale, value)),
    ),
    ("Sigmas", Use::Sets(sigmas)),
    ("Timesteps", Use::Sets(timesteps)),
    ("Prompt syntax", Use::Sets(syntax)),
    ("Template", Use::Informs),
    ("Negative Template", Use::Informs),
    ("Engine", Use::Compared),
    ("Version", Use::Informs),
    ("User", Use::Informs),
];

/// What becomes of `key`, whose case does not count; `None` when nobody knows it.
pub(super) fn find(key: &str) -> Option<Use> {
    let of_guidance = guidance::KEYS.iter();
    let of_guidance = of_guidance.map(|(known, set)| (*known, Use::Sets(*set)));
    // What these say is taken together.
    let of_others = extensions::KEYS.map(|key| (key, Use::Informs));
    KEYS.iter()
        .copied()
        .chain(of_guidance)
        .chain(of_others)
        .find(|(known, _)| known.eq_ignore_ascii_case(key))
        .map(|(_, meaning)| meaning)
}

/// A number that a text may hold.
pub(super) trait Number: FromStr {
    const EXPECTED: &'static str;
}

impl Number for usize {
    const EXPECTED: &'static str = "a whole number from 0";
}

impl Number for u64 {
    const EXPECTED: &'static str = "a whole number from 0";
}

impl Number for i64 {
    const EXPECTED: &'static str = "a whole number";
}

impl Number for f64 {
    const EXPECTED: &'static str = "a number";
}

/// Reads a number.
pub(super) fn read<T: Number>(value: &str) -> Result<T> {
    let number = value.trim().parse();
    number.map_err(|_| Error::invalid(format!("found {value:?}, expected {}", T::EXPECTED)))
}

fn set<T: Number>(place: &mut T, value: &str) -> Result<()> {
    *place = read(value)?;
    Ok(())
}

fn set_some<T: Number>(place: &mut Option<T>, value: &str) -> Result<()> {
    *place = Some(read(value)?);
    Ok(())
}

fn rng(config: &mut SamplingConfig, value: &str) -> Result<()> {
    config.seeds.rng = value.trim().parse()?;
    Ok(())
}

fn fresh_rng(config: &mut SamplingConfig, value: &str) -> Result<()> {
    config.seeds.fresh_rng = Some(value.trim().parse()?);
    Ok(())
}

/// The webui takes 0 for the schedule's own.
fn set_above(place: &mut Option<f64>, value: &str) -> Result<()> {
    let number: f64 = read(value)?;
    *place = (number.abs() > 0.0).then_some(number);
    Ok(())
}

fn discard_penultimate(config: &mut SamplingConfig, value: &str) -> Result<()> {
    let discard = guidance::choose(value, &[("True", true), ("False", false)])?;
    config.level_options.discard_penultimate = Some(discard);
    Ok(())
}

fn full_start(config: &mut SamplingConfig, value: &str) -> Result<()> {
    config.level_options.full_start = guidance::choose(value, &[("True", true), ("False", false)])?;
    Ok(())
}

fn levels_as(config: &mut SamplingConfig, value: &str) -> Result<()> {
    config.level_options.rules = value.parse()?;
    Ok(())
}

/// The webui writes sizes of 0 or less where there is none.
fn resize_from(config: &mut SamplingConfig, value: &str) -> Result<()> {
    let none = ["0x0", "-1x-1"].contains(&value.trim());
    config.seeds.resize_from = (!none).then(|| parse_size(value.trim())).transpose()?;
    Ok(())
}

fn emphasis(config: &mut SamplingConfig, value: &str) -> Result<()> {
    config.text.emphasis = value.trim().parse()?;
    Ok(())
}

fn syntax(config: &mut SamplingConfig, value: &str) -> Result<()> {
    config.text.syntax = value.trim().parse()?;
    Ok(())
}

fn clip_skip_negative(config: &mut SamplingConfig, value: &str) -> Result<()> {
    config.clip_skip_negative = guidance::choose(value, &[("True", true), ("False", false)])?;
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "the table's type")]
fn sampler(config: &mut SamplingConfig, value: &str) -> Result<()> {
    config.sampler = Some(value.trim().to_owned());
    Ok(())
}

/// `Custom` stands before levels of the user's own.
#[expect(clippy::unnecessary_wraps, reason = "the table's type")]
fn schedule(config: &mut SamplingConfig, value: &str) -> Result<()> {
    let own = ["automatic", "custom"].contains(&value.trim().to_ascii_lowercase().as_str());
    config.schedule = (!own).then(|| value.trim().to_owned());
    Ok(())
}

fn size(config: &mut SamplingConfig, value: &str) -> Result<()> {
    (config.width, config.height) = parse_size(value.trim())?;
    Ok(())
}

fn list<T: Number>(value: &str) -> Result<Vec<T>> {
    value.split(',').map(read).collect()
}

fn sigmas(config: &mut SamplingConfig, value: &str) -> Result<()> {
    levels(config, CustomLevels::Sigmas(list(value)?))
}

fn timesteps(config: &mut SamplingConfig, value: &str) -> Result<()> {
    levels(config, CustomLevels::Timesteps(list(value)?))
}

fn levels(config: &mut SamplingConfig, levels: CustomLevels) -> Result<()> {
    if config.levels.is_some() {
        return Err(Error::invalid(
            "both Sigmas and Timesteps are given, expected one",
        ));
    }
    config.levels = Some(levels);
    Ok(())
}
