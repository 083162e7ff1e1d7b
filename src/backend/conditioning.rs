//! From prompts to embeddings: which texts a call needs, each encoded once, and which of them hold when.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::chunked::CountedText;
use super::clip::{AbsentNegative, TextEmbeddings};
use super::model::SDModel;
use super::pipeline::Reporter;
use super::sampling::SamplingConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::guidance::GuidancePlan;
use crate::prompt::{Emphasis, PartSchedule, Prompt, PromptSyntax, Role, Schedule};

/// The texts of a call: which hold at which evaluation, and once they are encoded, what the towers made of them.
#[derive(Debug)]
pub(super) struct Texts {
    prompt: Schedule,
    /// `None` where no unconditional pass is made or zeros stand for it.
    negative: Option<Schedule>,
}

/// A part of a prompt and the embeddings of its texts.
#[derive(Debug)]
pub(super) struct EncodedPart {
    pub(super) schedule: PartSchedule,
    texts: BTreeMap<usize, Arc<TextEmbeddings>>,
}

impl EncodedPart {
    /// The number of the text at an evaluation and its embeddings.
    pub(super) fn at(&self, evaluation: usize) -> Result<(usize, &TextEmbeddings)> {
        let text = self.schedule.text_at(evaluation);
        match self.texts.get(&text) {
            Some(embeddings) => Ok((text, embeddings)),
            None => Err(Error::new(
                ErrorKind::Internal,
                "a text of the prompt was not encoded",
            )),
        }
    }
}

/// The encoded prompts of a call.
#[derive(Debug)]
pub(super) struct EncodedTexts {
    /// Joined by `AND`.
    pub(super) parts: Vec<EncodedPart>,
    /// For guidance.
    pub(super) negative: Option<EncodedPart>,
}

impl Texts {
    /// Reads the prompts of `config` for a run of `evaluations`, telling `warn` of what is odd in them.
    pub(super) fn read(
        config: &SamplingConfig,
        evaluations: usize,
        warn: &mut dyn FnMut(String),
    ) -> Result<Self> {
        let mut read = |text: &str, role| -> Result<Schedule> {
            if config.text.syntax == PromptSyntax::Plain {
                return Ok(Schedule::constant(text, evaluations));
            }
            let name = match role {
                Role::Positive => "prompt",
                Role::Negative => "negative prompt",
            };
            let prompt = Prompt::parse(text, role).map_err(|error| error.context(name))?;
            prompt
                .refuse_networks()
                .map_err(|error| error.context(name))?;
            let late = prompt.changes_out_of_range(evaluations);
            for warning in prompt.warnings.iter().chain(&late) {
                warn(format!("{name}: {warning}"));
            }
            prompt
                .schedule(evaluations)
                .map_err(|error| error.context(name))
        };
        Ok(Self {
            prompt: read(&config.prompt, Role::Positive)?,
            negative: match &config.negative_prompt {
                Some(text) => Some(read(text, Role::Negative)?),
                None => None,
            },
        })
    }

    /// Whether the prompt is more than one text of weight 1, so that it can only be had with an unconditional pass.
    pub(super) fn is_composed(&self) -> bool {
        match self.prompt.parts.as_slice() {
            [part] => part.weight.to_bits() != 1.0_f64.to_bits(),
            _ => true,
        }
    }
}

impl SDModel {
    /// Encodes every text once. As in diffusers, clip skip applies to the prompt and, unless asked for, not to the negative
    /// prompt, and SDXL's zeros stand for a negative prompt that was not given.
    pub(super) fn encode_texts(
        &self,
        texts: &Texts,
        config: &SamplingConfig,
        guidance: &GuidancePlan,
        reporter: &mut Reporter<'_>,
    ) -> Result<EncodedTexts> {
        let guided = guidance.may_guide();
        let negatives = texts.negative.as_ref().map_or(1, |text| text.texts.len());
        reporter.tell(&Event::EncodingText {
            texts: texts.prompt.texts.len() + if guided { negatives } else { 0 },
        });
        let skip = config.clip_skip;
        let negative_skip = skip.filter(|_| config.clip_skip_negative);
        let mut parts = Vec::with_capacity(texts.prompt.parts.len());
        for part in &texts.prompt.parts {
            let encoded = self.encode_part(part, &texts.prompt, config, skip)?;
            parts.push(encoded);
        }
        warn_of_lost_words(&parts, "prompt", reporter);
        let negative = match (guided, &texts.negative) {
            (false, _) => None,
            (true, Some(negative)) => {
                let part = self.encode_part(&negative.parts[0], negative, config, negative_skip)?;
                warn_of_lost_words(std::slice::from_ref(&part), "negative prompt", reporter);
                Some(part)
            }
            (true, None) => Some(EncodedPart {
                schedule: Schedule::constant("", 0).parts.remove(0),
                texts: BTreeMap::from([(
                    0,
                    self.text
                        .encode_negative(None, self.absent_negative(), negative_skip)?,
                )]),
            }),
        };
        self.text.release();
        Ok(EncodedTexts { parts, negative })
    }

    fn encode_part(
        &self,
        part: &PartSchedule,
        schedule: &Schedule,
        config: &SamplingConfig,
        clip_skip: Option<usize>,
    ) -> Result<EncodedPart> {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for entry in &part.entries {
            *counts.entry(entry.text).or_default() += 1;
        }
        let texts: Vec<CountedText<'_>> = counts
            .iter()
            .map(|(&text, &count)| CountedText {
                text: &schedule.texts[text],
                count,
            })
            .collect();
        let encoded = match config.text.syntax {
            PromptSyntax::Plain => {
                let texts: Vec<&str> = texts.iter().map(|text| text.text).collect();
                self.text.encode(&texts, clip_skip)?
            }
            PromptSyntax::Webui => {
                let emphasis: Emphasis = config.text.emphasis;
                self.text.encode_weighted(&texts, emphasis, clip_skip)?
            }
        };
        Ok(EncodedPart {
            schedule: part.clone(),
            texts: counts.into_keys().zip(encoded).collect(),
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

fn warn_of_lost_words(parts: &[EncodedPart], which: &str, reporter: &mut Reporter<'_>) {
    for text in parts.iter().flat_map(|part| part.texts.values()) {
        if let Some(lost) = &text.lost {
            reporter.tell(&Event::Warning(format!(
                "the {which} is longer than the text encoder takes; these words were cut: {lost}"
            )));
        }
    }
}
