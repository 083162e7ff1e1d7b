//! Flags of noise levels beside the schedule's name, and their names in the report.

use clap::Args;
use clap::builder::{BoolishValueParser, TypedValueParser};
use serde::Serialize;
use tintype::samplers::schedule::{LevelOptions, LevelRules};

use crate::args::{Names, parse_real};

/// Through which noise levels a run goes, beside --schedule.
#[derive(Debug, Args)]
#[command(next_help_heading = "Levels")]
pub(crate) struct LevelArgs {
    /// Whose rules turn a schedule into levels, timesteps and the scale of the first noise: checkpoint (diffusers', by the
    /// model's own configuration), webui, forge or comfyui [default: checkpoint]
    #[arg(
        long,
        value_name = "PROGRAM",
        env = "TINTYPE_LEVELS_AS",
        value_parser = Names(LevelRules::names).try_map(|name| name.parse::<LevelRules>())
    )]
    levels_as: Option<LevelRules>,
    /// Power of the karras and polyexponential curves, above 0 and up to 100 [default: 7 and 1]
    #[arg(long, value_name = "POWER", env = "TINTYPE_RHO", value_parser = parse_real)]
    rho: Option<f64>,
    /// Smallest sigma above 0 that a curve goes down to [default: the smallest of training]
    #[arg(long, value_name = "SIGMA", env = "TINTYPE_SIGMA_MIN", value_parser = parse_real)]
    sigma_min: Option<f64>,
    /// Sigma that a curve begins with [default: the largest of training]
    #[arg(long, value_name = "SIGMA", env = "TINTYPE_SIGMA_MAX", value_parser = parse_real)]
    sigma_max: Option<f64>,
    /// Plan one step more and leave out the last level above 0, true or false [default: the sampler's own]
    #[arg(
        long,
        value_name = "BOOL",
        env = "TINTYPE_DISCARD_PENULTIMATE",
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    discard_penultimate: Option<bool>,
    /// Scale the first noise by the root of sigma squared plus 1 in place of sigma (the webui's SGM noise multiplier)
    /// [default: off]
    #[arg(
        long,
        env = "TINTYPE_FULL_START",
        value_parser = BoolishValueParser::new()
    )]
    full_start: bool,
}

impl LevelArgs {
    /// `base` with what the user gave in its place.
    pub(crate) fn over(&self, base: LevelOptions) -> LevelOptions {
        LevelOptions {
            rules: self.levels_as.unwrap_or(base.rules),
            rho: self.rho.or(base.rho),
            sigma_min: self.sigma_min.or(base.sigma_min),
            sigma_max: self.sigma_max.or(base.sigma_max),
            discard_penultimate: self.discard_penultimate.or(base.discard_penultimate),
            full_start: self.full_start || base.full_start,
        }
    }
}

/// What was in effect, in the document of `generate --json`; what is the schedule's own is left out.
#[derive(Debug, Serialize)]
pub(crate) struct Settings {
    levels_as: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rho: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sigma_min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sigma_max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    discard_penultimate: Option<bool>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    full_start: bool,
}

impl Settings {
    pub(crate) fn new(options: &LevelOptions) -> Self {
        let LevelOptions {
            rules,
            rho,
            sigma_min,
            sigma_max,
            discard_penultimate,
            full_start,
        } = *options;
        Self {
            levels_as: rules.to_string(),
            rho,
            sigma_min,
            sigma_max,
            discard_penultimate,
            full_start,
        }
    }
}
