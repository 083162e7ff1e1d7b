//! From prompts to what the UNet is told: text, and for SDXL pooled text and sizes.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use super::chunked::CountedText;
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
use crate::prompt::{Emphasis, PartSchedule, Prompt, PromptSyntax, Role, Schedule};

/// Conditionings kept ready; a prompt that alternates comes back to the same few, and each takes tens of MiB.
const READY: usize = 6;

/// The texts of a call: which hold at which evaluation, and once they are encoded, what the towers made of them.
#[derive(Debug)]
pub(super) struct Texts {
    prompt: Schedule,
    /// `None` where no unconditional pass is made or zeros stand for it.
    negative: Option<Schedule>,
}

/// A part of a prompt and the embeddings of its texts.
#[derive(Debug)]
struct EncodedPart {
    schedule: PartSchedule,
    texts: BTreeMap<usize, Arc<TextEmbeddings>>,
}

impl EncodedPart {
    /// The number of the text at an evaluation and its embeddings.
    fn at(&self, evaluation: usize) -> Result<(usize, &TextEmbeddings)> {
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
    parts: Vec<EncodedPart>,
    /// For guidance.
    negative: Option<EncodedPart>,
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
            prompt.refuse_networks()?;
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
    /// Encodes every text once. As in diffusers, clip skip applies to the prompt and not to the negative prompt, and
    /// SDXL's zeros stand for a negative prompt that was not given.
    pub(super) fn encode_texts(
        &self,
        texts: &Texts,
        config: &SamplingConfig,
        guidance: Guidance,
        reporter: &mut Reporter<'_>,
    ) -> Result<EncodedTexts> {
        let guided = guidance != Guidance::None;
        let negatives = texts.negative.as_ref().map_or(1, |text| text.texts.len());
        reporter.tell(&Event::EncodingText {
            texts: texts.prompt.texts.len() + if guided { negatives } else { 0 },
        });
        let skip = config.clip_skip;
        let mut parts = Vec::with_capacity(texts.prompt.parts.len());
        for part in &texts.prompt.parts {
            let encoded = self.encode_part(part, &texts.prompt, config, skip)?;
            parts.push(encoded);
        }
        warn_of_lost_words(&parts, "prompt", reporter);
        let negative = match (guided, &texts.negative) {
            (false, _) => None,
            (true, Some(negative)) => {
                let part = self.encode_part(&negative.parts[0], negative, config, None)?;
                warn_of_lost_words(std::slice::from_ref(&part), "negative prompt", reporter);
                Some(part)
            }
            (true, None) => Some(EncodedPart {
                schedule: Schedule::constant("", 0).parts.remove(0),
                texts: BTreeMap::from([(
                    0,
                    self.text.encode_negative(None, self.absent_negative())?,
                )]),
            }),
        };
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

/// SDXL's pooled text and sizes (Podell et al. 2023, section 2.2): nothing is cropped, and the original size is the
/// picture's own.
fn added_conditioning(
    texts: &[TextEmbeddings],
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

fn warn_of_lost_words(parts: &[EncodedPart], which: &str, reporter: &mut Reporter<'_>) {
    for text in parts.iter().flat_map(|part| part.texts.values()) {
        if let Some(lost) = &text.lost {
            reporter.tell(&Event::Warning(format!(
                "the {which} is longer than the text encoder takes; these words were cut: {lost}"
            )));
        }
    }
}

/// What the UNet is told at each evaluation of a run.
#[derive(Debug)]
pub(crate) struct Conditions<'a> {
    model: &'a SDModel,
    config: &'a SamplingConfig,
    texts: &'a EncodedTexts,
    /// The last ones prepared, by the numbers of their texts.
    ready: VecDeque<(Vec<usize>, Rc<Condition>)>,
}

/// What the UNet is told at one evaluation: the unconditional item if there is one, then the parts of the prompt.
#[derive(Debug)]
pub(crate) struct Condition {
    /// One for all items where their texts are equally long; else one for the unconditional item and one for the rest,
    /// as the webui does it unless it is told to pad.
    pub(crate) passes: Vec<PreparedConditioning>,
    /// Weights of the parts of the prompt.
    pub(crate) weights: Vec<f64>,
}

impl<'a> Conditions<'a> {
    pub(super) fn new(
        model: &'a SDModel,
        config: &'a SamplingConfig,
        texts: &'a EncodedTexts,
    ) -> Self {
        Self {
            model,
            config,
            texts,
            ready: VecDeque::new(),
        }
    }

    /// What holds at an evaluation, counted from 0.
    pub(crate) fn at(&mut self, evaluation: usize) -> Result<Rc<Condition>> {
        let mut key = Vec::new();
        let mut negative = Vec::new();
        let mut parts = Vec::with_capacity(self.texts.parts.len());
        if let Some(part) = &self.texts.negative {
            let (id, text) = part.at(evaluation)?;
            key.push(id);
            negative.push(text.clone());
        }
        for part in &self.texts.parts {
            let (id, text) = part.at(evaluation)?;
            key.push(id);
            parts.push(text.clone());
        }
        if let Some((_, condition)) = self.ready.iter().find(|(known, _)| *known == key) {
            return Ok(Rc::clone(condition));
        }
        let condition = Rc::new(self.prepare(negative, parts)?);
        if self.ready.len() == READY {
            self.ready.pop_front();
        }
        self.ready.push_back((key, Rc::clone(&condition)));
        Ok(condition)
    }

    fn prepare(
        &self,
        negative: Vec<TextEmbeddings>,
        mut parts: Vec<TextEmbeddings>,
    ) -> Result<Condition> {
        lengthen(&mut parts)?;
        let tokens = |text: &TextEmbeddings| text.context.shape()[1];
        let same = negative.first().map(tokens) == parts.first().map(tokens);
        let groups = if same {
            vec![negative.into_iter().chain(parts).collect()]
        } else {
            vec![negative, parts]
        };
        let filled = groups.iter().filter(|group: &&Vec<_>| !group.is_empty());
        Ok(Condition {
            passes: filled
                .map(|group| self.model.prepare_texts(group, self.config))
                .collect::<Result<_>>()?,
            weights: self
                .texts
                .parts
                .iter()
                .map(|part| part.schedule.weight)
                .collect(),
        })
    }
}

impl SDModel {
    /// Computes all that depends on the texts but not on the step; they are equally long.
    fn prepare_texts(
        &self,
        texts: &[TextEmbeddings],
        config: &SamplingConfig,
    ) -> Result<PreparedConditioning> {
        let contexts: Vec<_> = texts.iter().map(|text| text.context.clone()).collect();
        let addition = match &self.unet.config().addition {
            Some(_) => Some(added_conditioning(texts, config)?),
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
}

/// Brings the parts of a composition to one length: shorter ones repeat their last token, as in the webui.
fn lengthen(parts: &mut [TextEmbeddings]) -> Result<()> {
    let tokens = |text: &TextEmbeddings| text.context.shape()[1];
    let longest = parts.iter().map(tokens).max().unwrap_or(0);
    for part in parts {
        let (own, width) = (tokens(part), part.context.shape()[2]);
        if own < longest {
            let mut data = part.context.data().to_vec();
            let last = data[(own - 1) * width..].to_vec();
            data.extend(last.repeat(longest - own));
            part.context = HostTensor::new([1, longest, width], data)?;
        }
    }
    Ok(())
}
