//! From prompts to what the UNet is told: text, and for SDXL pooled text and sizes.

use super::clip::{AbsentNegative, TextEmbeddings};
use super::inference::Guidance;
use super::model::SDModel;
use super::pipeline::Reporter;
use super::sampling::SamplingConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::host::HostTensor;
use crate::models::Conditioning;
use crate::models::unet::{AddedConditioning, PreparedConditioning};

impl SDModel {
    /// Encodes the prompts once and prepares all that depends on them but not on the step.
    ///
    /// With guidance the batch is two, unconditional first. As in diffusers, clip skip applies to the prompt and not
    /// to the negative prompt, and SDXL's zeros stand for a negative prompt that was not given.
    pub(super) fn condition(
        &self,
        config: &SamplingConfig,
        guidance: Guidance,
        reporter: &mut Reporter<'_>,
    ) -> Result<PreparedConditioning> {
        let guided = guidance != Guidance::None;
        reporter.tell(&Event::EncodingText {
            texts: 1 + usize::from(guided),
        });
        let mut texts = self.text.encode(&[&config.prompt], config.clip_skip)?;
        warn_of_lost_words(&texts[0], "prompt", reporter);
        if guided {
            let negative = config.negative_prompt.as_deref();
            texts.insert(
                0,
                self.text
                    .encode_negative(negative, self.absent_negative())?,
            );
            warn_of_lost_words(&texts[0], "negative prompt", reporter);
        }
        let contexts: Vec<_> = texts.iter().map(|text| text.context.clone()).collect();
        let addition = match &self.unet.config().addition {
            Some(_) => Some(added_conditioning(&texts, config)?),
            None => None,
        };
        self.unet.prepare(&Conditioning {
            context: HostTensor::concat(&contexts)?,
            addition,
            guidance_scale: self
                .takes_guidance_embedding()
                .then_some(config.guidance_scale),
        })
    }

    /// Whether the UNet was distilled to be told the guidance scale instead of being run twice.
    pub(super) fn takes_guidance_embedding(&self) -> bool {
        self.unet.config().time.cond_proj_dim.is_some()
    }

    fn absent_negative(&self) -> AbsentNegative {
        let index = self.checkpoint.model_index.as_ref();
        let zeros = index.and_then(|index| index.get("force_zeros_for_empty_prompt"));
        match zeros.and_then(serde_json::Value::as_bool) {
            Some(true) => AbsentNegative::Zeros,
            _ => AbsentNegative::Empty,
        }
    }
}

/// SDXL's pooled text and sizes (Podell et al. 2023, section 2.2): nothing is cropped, and the original size is the
/// picture's own.
fn added_conditioning(
    texts: &[std::sync::Arc<TextEmbeddings>],
    config: &SamplingConfig,
) -> Result<AddedConditioning> {
    let pooled: Option<Vec<_>> = texts.iter().map(|text| text.pooled.clone()).collect();
    let pooled = pooled.ok_or_else(|| {
        Error::new(
            ErrorKind::Internal,
            "the unet wants pooled text and the text encoders gave none",
        )
    })?;
    let (height, width) = (config.height as f32, config.width as f32);
    let sizes = [height, width, 0.0, 0.0, height, width];
    Ok(AddedConditioning {
        pooled: HostTensor::concat(&pooled)?,
        time_ids: HostTensor::new([texts.len(), sizes.len()], sizes.repeat(texts.len()))?,
    })
}

fn warn_of_lost_words(text: &TextEmbeddings, which: &str, reporter: &mut Reporter<'_>) {
    if let Some(lost) = &text.lost {
        reporter.tell(&Event::Warning(format!(
            "the {which} is longer than the text encoder takes; these words were cut: {lost}"
        )));
    }
}
