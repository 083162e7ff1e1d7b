//! Text towers: transformers' `CLIPTextModel` and `CLIPTextModelWithProjection`.
//!
//! Follows `transformers/models/clip/modeling_clip.py`. Which hidden state conditions the UNet differs by family and
//! by clip skip, so the caller says how many layers to leave out and whether the final norm follows.

mod config;
mod layers;

pub use config::{ClipTextConfig, HiddenAct, Pooling};

use crate::error::{Error, Result};
use crate::nn::{Bias, Embedding, LayerNorm, Linear, Scope, Tokens};
use layers::EncoderLayer;

/// Whether `final_layer_norm` follows the layer that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalNorm {
    /// It does: SD 1.x and 2.x.
    Apply,
    /// It does not: SDXL.
    Skip,
}

/// What a tower makes of a batch of texts.
#[derive(Debug, Clone)]
pub struct ClipTextOutput {
    /// The hidden state asked for, (B, tokens, hidden).
    pub hidden: Tokens,
    /// The projected pooled text (B, 1, projection), of towers with a projection.
    pub pooled: Option<Tokens>,
}

/// A text tower.
#[derive(Debug)]
pub struct ClipTextModel {
    config: ClipTextConfig,
    token_embedding: Embedding,
    position_embedding: Embedding,
    layers: Vec<EncoderLayer>,
    final_layer_norm: LayerNorm,
    text_projection: Option<Linear>,
}

impl ClipTextModel {
    /// Builds the tower below `scope`, the root of its component. Files have the names with or without
    /// `text_model.` in front.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape or cannot be read.
    pub fn load(scope: &Scope<'_>, config: &ClipTextConfig) -> Result<Self> {
        let hidden = config.hidden_size;
        let text_projection = config
            .projection_dim
            .map(|dim| Linear::load(&scope.pp("text_projection"), hidden, dim, Bias::Without))
            .transpose()?;
        let text_model = if scope.has("embeddings.token_embedding.weight") {
            scope.clone()
        } else {
            scope.pp("text_model")
        };
        let embeddings = text_model.pp("embeddings");
        let positions = config.max_position_embeddings;
        let layers = text_model.pp("encoder.layers");
        let final_layer_norm = text_model.pp("final_layer_norm");
        Ok(Self {
            token_embedding: Embedding::load(
                &embeddings.pp("token_embedding"),
                config.vocab_size,
                hidden,
            )?,
            position_embedding: Embedding::load(
                &embeddings.pp("position_embedding"),
                positions,
                hidden,
            )?,
            layers: (0..config.num_hidden_layers)
                .map(|i| EncoderLayer::load(&layers.pp(i), config))
                .collect::<Result<_>>()?,
            final_layer_norm: LayerNorm::load(&final_layer_norm, hidden, config.layer_norm_eps)?,
            text_projection,
            config: config.clone(),
        })
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &ClipTextConfig {
        &self.config
    }

    /// Encodes rows of equally many token ids. `layers_left_out` counts from the last layer: 0 takes its output, 1
    /// the one before it, as `hidden_states[-1]` and `[-2]` in transformers.
    ///
    /// # Errors
    /// When more layers are left out than there are, rows are too long or differ in length, or an id is unknown.
    pub fn forward(
        &self,
        ids: &[Vec<u32>],
        layers_left_out: usize,
        norm: FinalNorm,
    ) -> Result<ClipTextOutput> {
        let count = self.layers.len();
        let Some(wanted) = count.checked_sub(layers_left_out) else {
            return Err(Error::invalid(format!(
                "{layers_left_out} layers of the text tower are to be left out, expected at most {count}"
            )));
        };
        let mut x = self.embed(ids)?;
        for layer in &self.layers[..wanted] {
            x = layer.forward(&x)?;
        }
        let hidden = match norm {
            FinalNorm::Apply => self.final_layer_norm.forward(&x)?,
            FinalNorm::Skip => x.clone(),
        };
        let pooled = match &self.text_projection {
            Some(text_projection) => {
                for layer in &self.layers[wanted..] {
                    x = layer.forward(&x)?;
                }
                let last = self.final_layer_norm.forward(&x)?;
                let pooling = self.config.pooling;
                let positions: Vec<usize> = ids.iter().map(|row| pooling.position(row)).collect();
                Some(text_projection.forward(&last.select(&positions)?)?)
            }
            None => None,
        };
        Ok(ClipTextOutput { hidden, pooled })
    }

    fn embed(&self, ids: &[Vec<u32>]) -> Result<Tokens> {
        let length = ids.first().map_or(0, Vec::len);
        let limit = self.config.max_position_embeddings;
        if length > limit {
            return Err(Error::invalid(format!(
                "a text has {length} tokens, expected at most {limit}"
            )));
        }
        let positions = (0..length as u32).collect();
        let positions = self.position_embedding.forward(&[positions])?;
        self.token_embedding.forward(ids)?.add(&positions)
    }
}
