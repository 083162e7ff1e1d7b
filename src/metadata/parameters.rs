//! [`Parameters`]: prompt, negative prompt and the settings a picture was made with.

use std::fmt::Display;

/// The settings in the order the webui writes them; others go before `Version`.
const ORDER: [&str; 35] = [
    "Steps",
    "Sampler",
    "Schedule type",
    "CFG scale",
    "Distilled CFG Scale",
    "Image CFG scale",
    "Seed",
    "Face restoration",
    "Size",
    "Model hash",
    "Model",
    "FP8 weight",
    "VAE hash",
    "VAE",
    "Variation seed",
    "Variation seed strength",
    "Seed resize from",
    "Denoising strength",
    "Conditional mask weight",
    "Clip skip",
    "Clip skip negative",
    "ENSD",
    "Token merging ratio",
    "Token merging ratio hr",
    "Init image hash",
    "RNG",
    "Tiling",
    "Hires prompt",
    "Hires upscale",
    "Hires resize",
    "Hires steps",
    "Hires upscaler",
    "Lora hashes",
    "TI hashes",
    "NGMS",
];
/// The settings that close the list.
const LAST: [&str; 2] = ["Version", "User"];

/// What a picture was made with, as the webui's `parameters` text tells it.
///
/// ```
/// use tintype::metadata::Parameters;
///
/// let mut parameters = Parameters::new("a photo of a cat", "blurry");
/// parameters.set("Seed", 42).set("Steps", 20).set("Sampler", "DDIM").set("Size", "512x512");
/// assert_eq!(
///     parameters.to_text(),
///     "a photo of a cat\nNegative prompt: blurry\nSteps: 20, Sampler: DDIM, Seed: 42, Size: 512x512"
/// );
/// assert_eq!(Parameters::parse(&parameters.to_text()), parameters);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    /// What the picture shows; may have many lines.
    pub prompt: String,
    /// What it does not show; empty when there was none.
    pub negative_prompt: String,
    /// Everything else: key and value, in the order of the text.
    pub settings: Vec<(String, String)>,
}

impl Parameters {
    /// Parameters without settings.
    pub fn new(prompt: impl Into<String>, negative_prompt: impl Into<String>) -> Self {
        Self {
            prompt: prompt.into(),
            negative_prompt: negative_prompt.into(),
            settings: Vec::new(),
        }
    }

    /// Sets `key` to `value`, at the webui's place for that key; keys it does not know go last but for
    /// `Version` and `User`.
    pub fn set(&mut self, key: &str, value: impl Display) -> &mut Self {
        let value = value.to_string();
        if let Some((_, old)) = self.settings.iter_mut().find(|(known, _)| known == key) {
            *old = value;
            return self;
        }
        let place = self
            .settings
            .iter()
            .position(|(other, _)| rank(other) > rank(key))
            .unwrap_or(self.settings.len());
        self.settings.insert(place, (key.to_owned(), value));
        self
    }

    /// Sets `key` to `value` behind all others, as a parser meets them.
    pub(super) fn append(&mut self, key: &str, value: String) {
        match self.settings.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.settings.push((key.to_owned(), value)),
        }
    }

    /// The value of `key`. `<key>-1` and `<key>-2` are the two numbers of a value such as `512x768`.
    pub fn get(&self, key: &str) -> Option<&str> {
        let find = |key: &str| {
            let (_, value) = self.settings.iter().find(|(known, _)| known == key)?;
            Some(value.as_str())
        };
        find(key).or_else(|| {
            if let Some(base) = key.strip_suffix("-1") {
                Some(split_size(find(base)?)?.0)
            } else {
                Some(split_size(find(key.strip_suffix("-2")?)?)?.1)
            }
        })
    }

    /// Denoising steps.
    pub fn steps(&self) -> Option<usize> {
        self.number("Steps")
    }

    /// Name of the sampler, as the webui calls it.
    pub fn sampler(&self) -> Option<&str> {
        self.get("Sampler")
    }

    /// Name of the sigma schedule; `Automatic` where the text has none.
    pub fn schedule_type(&self) -> &str {
        self.get("Schedule type").unwrap_or("Automatic")
    }

    /// Guidance scale.
    pub fn cfg_scale(&self) -> Option<f64> {
        self.number("CFG scale")
    }

    /// Seed whose noise was mixed in.
    pub fn variation_seed(&self) -> Option<u64> {
        self.number("Variation seed")
    }

    /// Seed of this picture.
    pub fn seed(&self) -> Option<u64> {
        self.number("Seed")
    }

    /// Width and height in pixels.
    pub fn size(&self) -> Option<(usize, usize)> {
        Some((self.number("Size-1")?, self.number("Size-2")?))
    }

    /// Name of the checkpoint.
    pub fn model(&self) -> Option<&str> {
        self.get("Model")
    }

    /// First ten hexadecimal digits of the checkpoint's SHA-256.
    pub fn model_hash(&self) -> Option<&str> {
        self.get("Model hash")
    }

    /// Clip skip in the webui's counting; 1, that is none, where the text has none.
    pub fn clip_skip(&self) -> usize {
        self.number("Clip skip").unwrap_or(1)
    }

    /// Where the noise came from; `GPU` where the text has none.
    pub fn rng(&self) -> &str {
        self.get("RNG").unwrap_or("GPU")
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.get(key)?.trim().parse().ok()
    }
}

fn rank(key: &str) -> usize {
    let known = |list: &[&str]| list.iter().position(|&known| known == key);
    known(&ORDER)
        .or_else(|| Some(ORDER.len() + 1 + known(&LAST)?))
        .unwrap_or(ORDER.len())
}

/// The two numbers of `512x768`.
fn split_size(value: &str) -> Option<(&str, &str)> {
    let (width, height) = value.split_once('x')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (digits(width) && digits(height)).then_some((width, height))
}
