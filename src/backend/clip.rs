//! Prompts to embeddings: tokenizers and text towers of a model, and a memory of what they already encoded.
//!
//! Follows `encode_prompt` of diffusers' `StableDiffusionPipeline` and `StableDiffusionXLPipeline`. Texts are encoded
//! one by one, so that an embedding has the same bytes whatever else is encoded with it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::tower::Tower;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::models::ClipTextConfig;
use crate::models::clip::{FinalNorm, HiddenAct};
use crate::nn::Engine;
use crate::prompt::Chunk;
use crate::tokenizer::ClipTokenizer;
use crate::weights::Component;

/// Embeddings kept; at SDXL's 616 KiB each they take 20 MiB at most.
const REMEMBERED: usize = 32;

/// Which hidden state of the towers conditions the UNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextLayer {
    /// The last one after the final norm, and no pooled text: SD 1.x and 2.x.
    LastNormed,
    /// The last but one without the norm, and the pooled text of the tower with a projection: SDXL, whose UNet
    /// configuration asks for `text_time`.
    PenultimatePooled,
}

impl TextLayer {
    /// Layers left out at the end when no clip skip is given.
    fn default_skip(self) -> usize {
        match self {
            Self::LastNormed => 1,
            Self::PenultimatePooled => 2,
        }
    }

    fn norm(self) -> FinalNorm {
        match self {
            Self::LastNormed => FinalNorm::Apply,
            Self::PenultimatePooled => FinalNorm::Skip,
        }
    }
}

/// What kind of text towers a model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Towers {
    /// OpenAI's CLIP, whose last layer counts: SD 1.x.
    Clip,
    /// OpenCLIP's, whose last layer counts: SD 2.x.
    OpenClip,
    /// Those whose last layer but one counts, with a pooled text: SDXL.
    Pooled,
}

/// What stands for a negative prompt that was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbsentNegative {
    /// The embedding of the empty text.
    Empty,
    /// Zeros (`force_zeros_for_empty_prompt` in SDXL's `model_index.json`).
    Zeros,
}

/// What the UNet learns of one text.
#[derive(Debug, Clone, PartialEq)]
pub struct TextEmbeddings {
    /// Hidden states, those of all towers side by side: (1, tokens, width).
    pub context: HostTensor,
    /// Projected pooled text (1, width), with [`TextLayer::PenultimatePooled`].
    pub pooled: Option<HostTensor>,
    /// The end of the text, where it had more tokens than the towers take and was cut.
    pub lost: Option<String>,
}

/// Tokenizers and text towers of one model.
#[derive(Debug)]
pub struct ClipTextEncoder {
    towers: Vec<Tower>,
    layer: TextLayer,
    remembered: Mutex<VecDeque<(Key, Arc<TextEmbeddings>)>>,
}

/// The token ids that each tower sees, and the clip skip.
type Key = (Vec<Vec<u32>>, usize);

impl ClipTextEncoder {
    /// Reads the towers, first to last as their hidden states are joined. `on_tensor` is told how many tensors of how
    /// many of a component are read; its error ends the load.
    ///
    /// # Errors
    /// When a configuration is not supported, tensors are missing or misshapen, or no tower has the projection that
    /// `layer` needs.
    pub fn load(
        engine: &Engine,
        towers: Vec<(&Component, ClipTokenizer)>,
        layer: TextLayer,
        mut on_tensor: impl FnMut(&Component, usize, usize) -> Result<()> + Send,
    ) -> Result<Self> {
        let mut loaded = Vec::with_capacity(towers.len());
        for (component, tokenizer) in towers {
            let mut config = ClipTextConfig::from_json(&component.name, &component.config)?;
            if layer == TextLayer::LastNormed {
                // The projection would be read and never used.
                config.projection_dim = None;
            }
            let longest = tokenizer.max_length().min(config.max_position_embeddings);
            let tokenizer = tokenizer.with_max_length(longest)?;
            let progress = |done, total| on_tensor(component, done, total);
            loaded.push(Tower::load(
                engine,
                component,
                (config, tokenizer),
                progress,
            )?);
        }
        let pools = |tower: &Tower| tower.config().projection_dim.is_some();
        if layer == TextLayer::PenultimatePooled && !loaded.iter().any(pools) {
            return Err(Error::malformed(
                "no text encoder has a projection, expected a CLIPTextModelWithProjection for this UNet",
            ));
        }
        if loaded.is_empty() {
            return Err(Error::malformed("the model has no text encoder"));
        }
        Ok(Self {
            towers: loaded,
            layer,
            remembered: Mutex::default(),
        })
    }

    /// What kind of towers these are.
    pub fn towers(&self) -> Towers {
        let first = self.towers.first();
        let act = first.map(|tower| tower.config().hidden_act);
        match (self.layer, act) {
            (TextLayer::PenultimatePooled, _) => Towers::Pooled,
            (TextLayer::LastNormed, Some(HiddenAct::Gelu)) => Towers::OpenClip,
            (TextLayer::LastNormed, _) => Towers::Clip,
        }
    }

    /// Gives the towers up where memory is low ([`MemoryUse::Low`](crate::MemoryUse::Low)): the next text that is not remembered
    /// reads them again. Pictures do so when their texts are encoded.
    pub fn release(&self) {
        for tower in &self.towers {
            tower.release();
        }
    }

    /// The clip skip where none is given, in the webui's count.
    pub fn own_clip_skip(&self) -> usize {
        self.layer.default_skip()
    }

    /// The embeddings of each of `texts`. `clip_skip` counts as the webui does: 1 takes the towers' last layer, 2 the
    /// last but one; `None` is what the model was trained with.
    ///
    /// # Errors
    /// When `clip_skip` is 0 or beyond the layers, or the device fails.
    pub fn encode(
        &self,
        texts: &[&str],
        clip_skip: Option<usize>,
    ) -> Result<Vec<Arc<TextEmbeddings>>> {
        texts
            .iter()
            .map(|text| self.encode_cut(text, clip_skip))
            .collect()
    }

    /// The embeddings of a text, cut to what the towers take.
    fn encode_cut(&self, text: &str, clip_skip: Option<usize>) -> Result<Arc<TextEmbeddings>> {
        let encodings: Vec<_> = self
            .tokenizers()
            .map(|tokenizer| tokenizer.encode(text))
            .collect();
        let lost = encodings.iter().find_map(|encoding| encoding.lost.clone());
        let ids = encodings.into_iter().map(|encoding| encoding.ids).collect();
        let encoded = self.encode_ids(ids, clip_skip)?;
        Ok(match lost {
            None => encoded,
            lost => Arc::new(TextEmbeddings {
                lost,
                ..TextEmbeddings::clone(&encoded)
            }),
        })
    }

    /// The embeddings of a chunk, one list of tokens for each tower; weights are not looked at.
    pub(super) fn encode_chunk(
        &self,
        chunk: &[Chunk],
        clip_skip: Option<usize>,
    ) -> Result<Arc<TextEmbeddings>> {
        let ids = self
            .tokenizers()
            .zip(chunk)
            .map(|(tokenizer, chunk)| tokenizer.framed(&chunk.tokens))
            .collect();
        self.encode_ids(ids, clip_skip)
    }

    /// The towers' tokenizers, in the order of the towers.
    pub(super) fn tokenizers(&self) -> impl Iterator<Item = &ClipTokenizer> {
        self.towers.iter().map(|tower| &tower.tokenizer)
    }

    /// The widths of the towers' hidden states, as they lie side by side.
    pub(super) fn tower_widths(&self) -> Vec<usize> {
        let width = |tower: &Tower| tower.config().hidden_size;
        self.towers.iter().map(width).collect()
    }

    fn encode_ids(
        &self,
        ids: Vec<Vec<u32>>,
        clip_skip: Option<usize>,
    ) -> Result<Arc<TextEmbeddings>> {
        let clip_skip = self.check_skip(clip_skip)?;
        let key = (ids, clip_skip);
        match self.recall(&key) {
            Some(embeddings) => Ok(embeddings),
            None => self.encode_one(key),
        }
    }

    fn check_skip(&self, clip_skip: Option<usize>) -> Result<usize> {
        let clip_skip = clip_skip.unwrap_or(self.layer.default_skip());
        let layers = self
            .towers
            .iter()
            .map(|tower| tower.config().num_hidden_layers);
        let limit = layers.min().unwrap_or(0);
        if clip_skip == 0 || clip_skip > limit {
            return Err(Error::invalid(format!(
                "clip_skip is {clip_skip}, expected 1 to {limit}, the layers of this model's text encoder"
            )));
        }
        Ok(clip_skip)
    }

    /// The embeddings of a negative prompt; `absent` says what stands for none. In diffusers clip skip does not apply to
    /// it, in the webui it does.
    ///
    /// # Errors
    /// When `clip_skip` is 0 or beyond the layers, or the device fails.
    pub fn encode_negative(
        &self,
        negative: Option<&str>,
        absent: AbsentNegative,
        clip_skip: Option<usize>,
    ) -> Result<Arc<TextEmbeddings>> {
        let text = match (negative, absent) {
            (Some(text), _) => text,
            (None, AbsentNegative::Empty) => "",
            (None, AbsentNegative::Zeros) => return Ok(Arc::new(self.zeros())),
        };
        let mut encoded = self.encode(&[text], clip_skip)?;
        Ok(encoded.remove(0))
    }

    fn zeros(&self) -> TextEmbeddings {
        let configs = || self.towers.iter().map(Tower::config);
        let tokens = self
            .towers
            .first()
            .map_or(0, |tower| tower.tokenizer.max_length());
        let width = configs().map(|config| config.hidden_size).sum();
        let projection = configs().find_map(|config| config.projection_dim);
        TextEmbeddings {
            context: HostTensor::zeros([1, tokens, width]),
            pooled: projection.map(|width| HostTensor::zeros([1, width])),
            lost: None,
        }
    }

    /// The hidden states (texts, tokens, width) that the first tower alone gives for all of `texts` in one pass, computed
    /// even where they are remembered.
    pub(super) fn first_tower(&self, texts: &[&str]) -> Result<HostTensor> {
        let tower = self
            .towers
            .first()
            .ok_or_else(|| Error::malformed("the model has no text encoder"))?;
        let ids: Vec<_> = texts
            .iter()
            .map(|text| tower.tokenizer.encode(text).ids)
            .collect();
        let skip = self.layer.default_skip();
        tower
            .model()?
            .forward(&ids, skip - 1, self.layer.norm())?
            .hidden
            .to_host()
    }

    fn recall(&self, key: &Key) -> Option<Arc<TextEmbeddings>> {
        let remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        remembered
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, embeddings)| Arc::clone(embeddings))
    }

    fn encode_one(&self, key: Key) -> Result<Arc<TextEmbeddings>> {
        let mut contexts = Vec::with_capacity(self.towers.len());
        let mut pooled = None;
        let (ids, clip_skip) = &key;
        for (tower, ids) in self.towers.iter().zip(ids) {
            let output = tower.model()?.forward(
                std::slice::from_ref(ids),
                clip_skip - 1,
                self.layer.norm(),
            )?;
            contexts.push(output.hidden.to_host()?);
            if let (None, Some(vector)) = (&pooled, &output.pooled) {
                pooled = Some(HostTensor::new(
                    [1, vector.channels()],
                    vector.to_host()?.into_data(),
                )?);
            }
        }
        let embeddings = Arc::new(TextEmbeddings {
            context: side_by_side(&contexts)?,
            pooled,
            lost: None,
        });
        let mut remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if remembered.len() == REMEMBERED {
            remembered.pop_front();
        }
        remembered.push_back((key, Arc::clone(&embeddings)));
        Ok(embeddings)
    }
}

/// Joins hidden states (1, tokens, width) along their widths.
fn side_by_side(contexts: &[HostTensor]) -> Result<HostTensor> {
    if let [context] = contexts {
        return Ok(context.clone());
    }
    let tokens = contexts.first().map_or(0, |context| context.shape()[1]);
    if contexts.iter().any(|context| context.shape()[1] != tokens) {
        return Err(Error::malformed(
            "the text encoders take texts of different lengths, expected one length",
        ));
    }
    let mut joined = Vec::with_capacity(contexts.iter().map(|context| context.data().len()).sum());
    for token in 0..tokens {
        for context in contexts {
            let width = context.shape()[2];
            joined.extend_from_slice(&context.data()[token * width..][..width]);
        }
    }
    let width = contexts.iter().map(|context| context.shape()[2]).sum();
    HostTensor::new([1, tokens, width], joined)
}
