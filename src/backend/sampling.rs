//! What a caller asks for: [`SamplingConfig`], its defaults and its limits.

use super::seeds::SeedOptions;
use crate::error::{Error, Result};
use crate::guidance::{GuidanceMethod, GuidanceOptions};
use crate::prompt::{Chooser, Prompt, PromptOptions, PromptSyntax, Role};
use crate::samplers::NoiseOptions;
use crate::samplers::registry::parse_sampler;
use crate::samplers::schedule::{CustomLevels, LevelOptions, ScheduleKind};

/// Largest width or height in pixels that is accepted.
///
/// A 4096x4096 picture takes 512x512 latents, whose self-attention alone is 2^36 products per head;
/// beyond it every run would end for want of memory, so it is refused before the work starts.
pub const MAX_SIZE_PX: usize = 4096;

/// Most pictures of one call.
pub const MAX_BATCH: usize = 64;

/// Most steps of one call where the schedule itself does not set a lower limit.
pub const MAX_STEPS: usize = 1000;

/// A request for pictures.
///
/// ```
/// use tintype::SamplingConfig;
///
/// let config = SamplingConfig { prompt: "a photo of a cat".into(), seed: Some(42), ..Default::default() };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingConfig {
    /// What the picture shows.
    pub prompt: String,
    /// What it does not show; `None` is the empty text.
    pub negative_prompt: Option<String>,
    /// Denoising steps, 1 to the number of training steps (1000 for every published model).
    pub steps: usize,
    /// Weight of the prompt against the negative prompt, 0 or more. At 1 and below one pass a step is
    /// enough and the negative prompt has no effect, but with CFG++ samplers and composed prompts.
    pub guidance_scale: f64,
    /// Share, 0 to 1, by which the guided prediction is brought back to the conditional one's contrast
    /// (Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", section 3.4).
    pub guidance_rescale: f64,
    /// What else is said about guidance.
    pub guidance: GuidanceOptions,
    /// Seed of the first picture; picture `i` uses `seed + i`, or in a batch of variations `seed` too. `None` draws
    /// one and reports it.
    pub seed: Option<u64>,
    /// Whose random numbers, and what else decides the noise.
    pub seeds: SeedOptions,
    /// Width in pixels, up to [`MAX_SIZE_PX`] and a multiple of what the model's VAE reduces by, 8 for Stable
    /// Diffusion; 512 unless told.
    pub width: usize,
    /// Height in pixels, likewise.
    pub height: usize,
    /// Pictures to make, 1 to [`MAX_BATCH`].
    pub batch: usize,
    /// Name or alias of a sampler; `None` is the checkpoint's own scheduler.
    pub sampler: Option<String>,
    /// Name of a schedule of noise levels; `None` is the sampler's or the checkpoint's own.
    pub schedule: Option<String>,
    /// Noise levels of your own, in place of a schedule; their number takes the place of `steps`.
    pub levels: Option<CustomLevels>,
    /// What else is said about levels: whose rules, and the limits and power of curves.
    pub level_options: LevelOptions,
    /// What is said about the sampler's randomness.
    pub noise: NoiseOptions,
    /// Layers of the text tower left out at its end, counted as the webui does: 1 leaves out none, 2 takes
    /// the last but one. `None` is what the checkpoint was trained with.
    pub clip_skip: Option<usize>,
    /// Whether `clip_skip` holds for the negative prompt too, as in the webui; in diffusers it does not.
    pub clip_skip_negative: bool,
    /// How the two prompts are read.
    pub text: PromptOptions,
}

impl Default for SamplingConfig {
    fn default() -> Self {
        Self {
            prompt: String::new(),
            negative_prompt: None,
            steps: 20,
            guidance_scale: 7.5,
            guidance_rescale: 0.0,
            guidance: GuidanceOptions::default(),
            seed: None,
            seeds: SeedOptions::default(),
            width: 512,
            height: 512,
            batch: 1,
            sampler: None,
            schedule: None,
            levels: None,
            level_options: LevelOptions::default(),
            noise: NoiseOptions::default(),
            clip_skip: None,
            clip_skip_negative: false,
            text: PromptOptions::default(),
        }
    }
}

impl SamplingConfig {
    /// Checks everything that can be checked without a model; of prompts with choices, the first picture's.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig) naming the field, what was found and what is allowed.
    pub fn validate(&self) -> Result<()> {
        check_count("steps", self.steps, MAX_STEPS)?;
        check_count("batch", self.batch, MAX_BATCH)?;
        for (name, size) in [("width", self.width), ("height", self.height)] {
            check_size(name, size)?;
        }
        check_real("guidance_scale", self.guidance_scale, 0.0, 1000.0)?;
        check_real("guidance_rescale", self.guidance_rescale, 0.0, 1.0)?;
        self.guidance.check()?;
        self.validate_rescale()?;
        self.noise.check()?;
        self.level_options.check()?;
        self.seeds.check(self.seed, self.batch)?;
        if let Some(levels) = &self.levels {
            levels.check()?;
        }
        if let Some(name) = &self.sampler {
            parse_sampler(name)?;
        }
        if let Some(name) = &self.schedule {
            name.parse::<ScheduleKind>()?;
        }
        if self.clip_skip == Some(0) {
            return Err(Error::invalid(
                "clip_skip is 0, expected 1 (no layer left out) or more",
            ));
        }
        if self.clip_skip_negative && self.clip_skip.is_none() {
            return Err(Error::invalid(
                "clip_skip_negative is set without clip_skip, for which it stands",
            )
            .with_hint("give clip_skip too"));
        }
        self.validate_prompts()
    }

    /// Rescaling is defined on what the model predicts.
    fn validate_rescale(&self) -> Result<()> {
        let estimates = matches!(self.guidance.method, GuidanceMethod::Thresholding(_));
        if estimates && self.guidance_rescale > 0.0 {
            return Err(Error::invalid(format!(
                "guidance_rescale is {}, expected 0 beside dynamic thresholding, which sets the range of values itself",
                self.guidance_rescale
            )));
        }
        Ok(())
    }

    fn validate_prompts(&self) -> Result<()> {
        if self.text.syntax == PromptSyntax::Plain {
            return Ok(());
        }
        let negative = self.negative_prompt.as_deref();
        let mut chooser = Chooser::new(&self.prompt, negative, &self.text)?;
        let (prompt, negative) = chooser.picture(0, self.seed.unwrap_or(0))?;
        let prompt =
            Prompt::parse(&prompt, Role::Positive).map_err(|error| error.context("prompt"))?;
        prompt
            .refuse_networks()
            .map_err(|error| error.context("prompt"))?;
        if let Some(negative) = negative {
            Prompt::parse(&negative, Role::Negative)
                .and_then(|negative| negative.refuse_networks())
                .map_err(|error| error.context("negative prompt"))?;
        }
        Ok(())
    }
}

fn check_count(name: &str, found: usize, limit: usize) -> Result<()> {
    if found == 0 || found > limit {
        return Err(Error::invalid(format!(
            "{name} is {found}, expected 1 to {limit}"
        )));
    }
    Ok(())
}

pub(super) fn check_size(name: &str, size: usize) -> Result<()> {
    if size == 0 || size > MAX_SIZE_PX {
        return Err(Error::invalid(format!(
            "{name} is {size}, expected 1 to {MAX_SIZE_PX} pixels"
        )));
    }
    Ok(())
}

pub(super) fn check_real(name: &str, found: f64, low: f64, high: f64) -> Result<()> {
    if found.is_finite() && (low..=high).contains(&found) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{name} is {found}, expected a number from {low} to {high}"
    )))
}
