//! What the UNet is told at each evaluation: the texts that hold, and for SDXL pooled text and sizes.

use std::collections::VecDeque;
use std::rc::Rc;

use super::clip::TextEmbeddings;
use super::conditioning::EncodedTexts;
use super::model::SDModel;
use super::sampling::SamplingConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::host::HostTensor;
use crate::models::Conditioning;
use crate::models::unet::{AddedConditioning, PreparedConditioning};

/// Conditionings kept ready; a prompt that alternates comes back to the same few, and each takes tens of MiB.
const READY: usize = 6;

/// What the UNet is told at each evaluation of a run.
#[derive(Debug)]
pub(crate) struct Conditions<'a> {
    model: &'a SDModel,
    config: &'a SamplingConfig,
    texts: &'a EncodedTexts,
    /// The last ones prepared, by the numbers of their texts.
    ready: VecDeque<(Told, Vec<usize>, Rc<Condition>)>,
}

/// Which texts the UNet is told at one evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// The negative prompt, and then the parts of the prompt.
    Both,
    /// The parts of the prompt.
    Prompt,
    /// The negative prompt.
    Negative,
}

/// What the UNet is told at one evaluation: the unconditional item if there is one, then the parts of the prompt.
#[derive(Debug)]
pub(crate) struct Condition {
    /// One for all items where their texts are equally long; else one for the unconditional item and one for the rest,
    /// as the webui does it unless it is told to pad.
    pub(crate) passes: Vec<PreparedConditioning>,
    /// One for each item: that of its part of the prompt, or 1 for the unconditional one.
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
    pub(crate) fn at(&mut self, evaluation: usize, told: Told) -> Result<Rc<Condition>> {
        let mut key = Vec::new();
        let mut negative = Vec::new();
        let mut parts = Vec::with_capacity(self.texts.parts.len());
        let guided = self.texts.negative.as_ref();
        if let Some(part) = guided.filter(|_| told != Told::Prompt) {
            let (id, text) = part.at(evaluation)?;
            key.push(id);
            negative.push(text.clone());
        }
        let prompt = self.texts.parts.iter();
        for part in prompt.filter(|_| told != Told::Negative) {
            let (id, text) = part.at(evaluation)?;
            key.push(id);
            parts.push(text.clone());
        }
        if let Some((_, _, condition)) = self
            .ready
            .iter()
            .find(|(known_told, known, _)| (*known_told, known) == (told, &key))
        {
            return Ok(Rc::clone(condition));
        }
        let condition = Rc::new(self.prepare(negative, parts)?);
        if self.ready.len() == READY {
            self.ready.pop_front();
        }
        self.ready.push_back((told, key, Rc::clone(&condition)));
        Ok(condition)
    }

    fn prepare(
        &self,
        negative: Vec<TextEmbeddings>,
        mut parts: Vec<TextEmbeddings>,
    ) -> Result<Condition> {
        lengthen(&mut parts)?;
        let unconditional = (!negative.is_empty()).then_some(1.0);
        let tokens = |text: &TextEmbeddings| text.context.shape()[1];
        let same = negative.first().map(tokens) == parts.first().map(tokens);
        let groups = if same {
            vec![negative.into_iter().chain(parts).collect()]
        } else {
            vec![negative, parts]
        };
        let filled = groups.iter().filter(|group: &&Vec<_>| !group.is_empty());
        let weights = self.texts.parts.iter().map(|part| part.schedule.weight);
        Ok(Condition {
            passes: filled
                .map(|group| self.model.prepare_texts(group, self.config))
                .collect::<Result<_>>()?,
            weights: unconditional.into_iter().chain(weights).collect(),
        })
    }
}

impl SDModel {
    /// Computes all that depends on the texts but not on the step; they are equally long.
    pub(super) fn prepare_texts(
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
