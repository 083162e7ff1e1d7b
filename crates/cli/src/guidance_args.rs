//! Flags of guidance beside its scale, and their names in the report.

use clap::Args;
use clap::builder::{BoolishValueParser, PossibleValue, TypedValueParser};
use serde::Serialize;
use tintype::guidance::{FreeU, Interval, Pag, Sag, ScaleSchedule, Skips};
use tintype::{GuidanceMethod, GuidanceOptions};

/// How the prompt is weighed against the negative prompt, beside the scale.
#[derive(Debug, Args)]
#[command(next_help_heading = "Guidance")]
pub(crate) struct GuidanceArgs {
    /// Weights over the steps in place of one: 7.5..2, 7.5..2:cosine, or one for each step such as 7.5,7,6.5; a step of
    /// 1 and below takes one pass [default: --guidance at every step]
    #[arg(long, value_name = "WEIGHTS", env = "TINTYPE_GUIDANCE_SCHEDULE")]
    guidance_schedule: Option<ScaleSchedule>,
    /// Part of the run that is guided, as shares such as 0.1..0.8 or as noise levels such as sigma:0.28..5.42; the rest
    /// takes one pass a step [default: all of it]
    #[arg(long, value_name = "START..END", env = "TINTYPE_GUIDANCE_INTERVAL")]
    guidance_interval: Option<Interval>,
    /// Sigma, 0 or more, below which every second evaluation is not guided (the webui's negative guidance minimum sigma)
    /// [default: 0]
    #[arg(long, value_name = "SIGMA", env = "TINTYPE_NEGATIVE_MIN_SIGMA")]
    negative_min_sigma: Option<f64>,
    /// Leave out all evaluations below --negative-min-sigma, not every second one [default: off]
    #[arg(
        long,
        env = "TINTYPE_NEGATIVE_MIN_SIGMA_ALL",
        value_parser = BoolishValueParser::new()
    )]
    negative_min_sigma_all: bool,
    /// Share, 0 to 1, of the run that is not guided at its start (the webui's skip early CFG) [default: 0]
    #[arg(long, value_name = "SHARE", env = "TINTYPE_SKIP_EARLY_GUIDANCE")]
    skip_early_guidance: Option<f64>,
    /// How the two predictions become one: cfg, apg, cfg-zero or dynthres, with settings such as apg:eta=0.2,threshold=5;
    /// see docs/guidance.md [default: cfg]
    #[arg(
        long,
        value_name = "METHOD",
        env = "TINTYPE_GUIDANCE_METHOD",
        value_parser = Methods
    )]
    guidance_method: Option<GuidanceMethod>,
    /// Perturbed attention guidance, a third pass a step: its weight such as 3, or scale=3,adaptive=0,blocks=mid+up.0
    /// [default: off]
    #[arg(long, value_name = "WEIGHT", env = "TINTYPE_PAG")]
    pag: Option<Pag>,
    /// Self-attention guidance, away from a prediction blurred where the picture looks; another pass a step: its weight
    /// such as 0.75, or scale=0.5,sigma=2,threshold=1,rule=forge [default: off]
    #[arg(
        long,
        value_name = "WEIGHT",
        env = "TINTYPE_SAG",
        allow_hyphen_values = true
    )]
    sag: Option<Sag>,
    /// FreeU: b1=1.5,b2=1.6,s1=0.9,s2=0.2 (factors of half of the backbone and of the skips' low frequencies in the two
    /// innermost blocks of the way up), or on for these; version=2 for ComfyUI's and Forge's rule [default: off]
    #[arg(long, value_name = "FACTORS", env = "TINTYPE_FREEU")]
    freeu: Option<FreeU>,
}

impl GuidanceArgs {
    /// `base` with what the user gave in its place.
    pub(crate) fn over(&self, base: GuidanceOptions) -> GuidanceOptions {
        GuidanceOptions {
            schedule: self.guidance_schedule.clone().or(base.schedule),
            interval: self.guidance_interval.or(base.interval),
            min_sigma: self.negative_min_sigma.unwrap_or(base.min_sigma),
            min_sigma_skips: if self.negative_min_sigma_all {
                Skips::All
            } else {
                base.min_sigma_skips
            },
            skip_early: self.skip_early_guidance.unwrap_or(base.skip_early),
            method: self.guidance_method.unwrap_or(base.method),
            pag: self.pag.or(base.pag),
            sag: self.sag.or(base.sag),
            freeu: self.freeu.or(base.freeu),
            image_scale: base.image_scale,
        }
    }
}

/// Reads a method; help and completions list the names.
#[derive(Clone)]
struct Methods;

impl TypedValueParser for Methods {
    type Value = GuidanceMethod;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<GuidanceMethod, clap::Error> {
        let parser = str::parse::<GuidanceMethod>;
        TypedValueParser::parse_ref(&parser, command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = GuidanceMethod::ALL.map(|(name, ..)| PossibleValue::new(name));
        Some(Box::new(names.into_iter()))
    }
}

/// What was in effect, in the document of `generate --json`; what is off is left out.
#[derive(Debug, Serialize)]
pub(crate) struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    guidance_schedule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guidance_interval: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    negative_min_sigma: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    negative_min_sigma_all: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skip_early_guidance: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guidance_method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    freeu: Option<String>,
}

impl Settings {
    pub(crate) fn new(options: &GuidanceOptions) -> Self {
        let min_sigma = Some(options.min_sigma).filter(|&sigma| sigma > 0.0);
        let all = options.min_sigma_skips == Skips::All;
        let method = Some(&options.method).filter(|method| **method != GuidanceMethod::Cfg);
        Self {
            guidance_schedule: options.schedule.as_ref().map(ToString::to_string),
            guidance_interval: options.interval.as_ref().map(ToString::to_string),
            negative_min_sigma: min_sigma,
            negative_min_sigma_all: min_sigma.map(|_| all),
            skip_early_guidance: Some(options.skip_early).filter(|&share| share > 0.0),
            guidance_method: method.map(ToString::to_string),
            pag: options.pag.map(|pag| pag.to_string()),
            sag: options.sag.map(|sag| sag.to_string()),
            freeu: options.freeu.map(|freeu| freeu.to_string()),
        }
    }
}
