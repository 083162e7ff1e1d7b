//! A picture's recorded settings as a request for the same picture.
//!
//! Every key of the text is honoured or named with the reason why not; none is dropped.

mod extensions;
mod guidance;
mod keys;
mod layers;
mod levels;
mod model;
#[cfg(test)]
mod program_tests;
mod programs;
#[cfg(test)]
mod tests;

use super::sampling::SamplingConfig;
use crate::error::{Context, Result};
pub use crate::metadata::NotHonoured;
use crate::metadata::Parameters;
use crate::prompt::Chooser;
use crate::rng::RngKind;
use crate::samplers::Coordinates;
use crate::samplers::registry::parse_sampler;
use keys::{Use, find, read};
use layers::LayerRule;
use levels::Origin;

/// Keys without which a picture is not described.
const NEEDED: [&str; 5] = ["Steps", "Sampler", "CFG scale", "Seed", "Size"];

/// A request for the picture that a text describes.
///
/// ```
/// use tintype::SamplingConfig;
/// use tintype::backend::Recorded;
/// use tintype::metadata::Parameters;
///
/// let text = "a cat\nSteps: 20, Sampler: DPM++ 2M Karras, Seed: 42, RNG: CPU, Tiling: True";
/// let recorded = Recorded::read(&Parameters::parse(text), SamplingConfig::default())?;
/// assert_eq!(recorded.config.seed, Some(42));
/// assert_eq!(recorded.not_honoured[0].key, "Tiling");
/// assert_eq!(recorded.absent, ["CFG scale", "Size"]);
/// # Ok::<(), tintype::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The request, of one picture.
    pub config: SamplingConfig,
    /// Keys that the request or the choice of model honours.
    pub honoured: Vec<String>,
    /// Settings that have no effect.
    pub not_honoured: Vec<NotHonoured>,
    /// Keys that describe a picture and are not in the text; the values are those of the base.
    pub absent: Vec<&'static str>,
    /// Keys that are held against the model, with their values.
    facts: Vec<(String, String)>,
    layer_rule: LayerRule,
}

impl Recorded {
    /// Reads a text; what it does not say is as in `base`.
    ///
    /// # Errors
    /// `InvalidConfig` naming the key whose value cannot be read, and for unknown samplers and schedules.
    pub fn read(parameters: &Parameters, base: SamplingConfig) -> Result<Self> {
        let negative = &parameters.negative_prompt;
        let mut recorded = Self {
            config: SamplingConfig {
                prompt: parameters.prompt.clone(),
                negative_prompt: (!negative.is_empty()).then(|| negative.clone()),
                batch: 1,
                ..base
            },
            honoured: Vec::new(),
            not_honoured: Vec::new(),
            absent: NEEDED
                .into_iter()
                .filter(|key| value_of(parameters, key).is_none())
                .collect(),
            facts: Vec::new(),
            layer_rule: LayerRule::of(parameters),
        };
        for (key, value) in &parameters.settings {
            recorded.take(key, value).context(key)?;
        }
        recorded.take_extensions(parameters)?;
        recorded.fit_sampler(parameters)?;
        recorded.fit_schedule(parameters)?;
        recorded.fit_levels(parameters)?;
        recorded.fit_noise(parameters)?;
        if !is_ours(parameters) {
            recorded.take_foreign(parameters)?;
        }
        Ok(recorded)
    }

    fn take(&mut self, key: &str, value: &str) -> Result<()> {
        match find(key) {
            Some(Use::Sets(set)) => set(&mut self.config, value)?,
            Some(Use::Compared) => self.facts.push((key.to_owned(), value.to_owned())),
            Some(Use::Informs) => {}
            Some(Use::Refused { harmless, why }) => {
                let is_off = |off: &&str| off.eq_ignore_ascii_case(value.trim());
                if !harmless.iter().any(is_off) {
                    self.refuse(key, value, why);
                    return Ok(());
                }
            }
            None => {
                self.refuse(key, value, "nothing of this name is known");
                return Ok(());
            }
        }
        self.honoured.push(key.to_owned());
        Ok(())
    }

    fn refuse(&mut self, key: &str, value: &str, reason: impl Into<String>) {
        self.honoured.retain(|honoured| honoured != key);
        self.not_honoured.push(NotHonoured {
            key: key.to_owned(),
            value: value.to_owned(),
            reason: reason.into(),
        });
    }

    /// Refuses what the text says of `key`, whose case does not count.
    fn refuse_recorded(&mut self, parameters: &Parameters, key: &str, reason: &str) {
        let is_it = |found: &&(String, String)| found.0.eq_ignore_ascii_case(key);
        if let Some((key, value)) = parameters.settings.iter().find(is_it) {
            self.refuse(key, value, reason);
        }
    }

    /// Leaves out what the sampler does not take, which a request would be refused for.
    fn fit_noise(&mut self, parameters: &Parameters) -> Result<()> {
        let Some(name) = &self.config.sampler else {
            return Ok(());
        };
        let spec = parse_sampler(name)?.0.spec();
        // The webui has an eta for DDIM and one for all others, and may write both.
        let (own, other) = match spec.coordinates {
            Coordinates::VariancePreserving => ("Eta DDIM", "Eta"),
            Coordinates::VarianceExploding => ("Eta", "Eta DDIM"),
        };
        let takes = spec.takes;
        let reason = format!("{} takes none", spec.name);
        self.config.noise.eta = None;
        if takes.eta.is_some() {
            self.config.noise.eta = value_of(parameters, own)
                .map(read)
                .transpose()
                .context(own)?;
        } else {
            self.refuse_recorded(parameters, own, &reason);
        }
        self.refuse_recorded(parameters, other, "it is another kind of sampler's");
        let noise = &mut self.config.noise;
        let churn = [&mut noise.s_churn, &mut noise.s_tmin, &mut noise.s_tmax];
        let mut refused = Vec::new();
        for (key, place) in ["Sigma churn", "Sigma tmin", "Sigma tmax"]
            .iter()
            .zip(churn)
        {
            if !takes.churn && place.take().is_some() {
                refused.push(*key);
            }
        }
        if !takes.s_noise && noise.s_noise.take().is_some() {
            refused.push("Sigma noise");
        }
        for key in refused {
            self.refuse_recorded(parameters, key, &reason);
        }
        Ok(())
    }

    /// What a text of another program leaves unsaid, or means otherwise.
    fn take_foreign(&mut self, parameters: &Parameters) -> Result<()> {
        if !parameters.settings.is_empty() && value_of(parameters, "RNG").is_none() {
            // The webui's own meaning.
            self.config.seeds.rng = RngKind::TorchCuda;
        }
        if Origin::of(parameters).is_some() && self.config.clip_skip.is_some() {
            self.config.clip_skip_negative = true;
        }
        if says(parameters, "Version", "ComfyUI") {
            // It encodes the empty text, where other programs may take zeros.
            self.config.negative_prompt.get_or_insert_default();
        }
        self.fit_min_sigma(parameters)?;
        let config = &self.config;
        let negative = config.negative_prompt.as_deref();
        if !Chooser::new(&config.prompt, negative, &config.text)?.is_constant() {
            let reason = "braces with a | are a choice here, made by the seed; the webui takes them for text";
            self.refuse("prompt", "{..|..}", reason);
        }
        Ok(())
    }

    /// On the timesteps of training the webui compares NGMS with the timestep, which all but turns it off.
    fn fit_min_sigma(&mut self, parameters: &Parameters) -> Result<()> {
        let Some(name) = &self.config.sampler else {
            return Ok(());
        };
        let on_timesteps =
            parse_sampler(name)?.0.spec().coordinates == Coordinates::VariancePreserving;
        if on_timesteps && self.config.guidance.min_sigma > 0.0 {
            self.config.guidance.min_sigma = 0.0;
            let reason = "the webui compares it with this sampler's timesteps instead of sigmas";
            self.refuse_recorded(parameters, "NGMS", reason);
        }
        Ok(())
    }
}

/// The value of `key`, whose case does not count.
fn value_of<'a>(parameters: &'a Parameters, key: &str) -> Option<&'a str> {
    let mut settings = parameters.settings.iter();
    let (_, value) = settings.find(|(found, _)| found.eq_ignore_ascii_case(key))?;
    Some(value.trim())
}

fn says(parameters: &Parameters, key: &str, value: &str) -> bool {
    value_of(parameters, key).is_some_and(|found| found.eq_ignore_ascii_case(value))
}

fn is_ours(parameters: &Parameters) -> bool {
    let version = parameters.get("Version");
    version.is_some_and(|version| version.starts_with("tintype "))
}
