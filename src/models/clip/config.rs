//! `text_encoder/config.json` of transformers' `CLIPTextModel` and `CLIPTextModelWithProjection`.
//!
//! Follows `transformers/models/clip/configuration_clip.py`; dropout and initialiser keys only matter in training.

use serde_json::{Value, json};

use crate::error::Result;
use crate::models::fields::{Fields, MAX_LAYERS};

/// What a text tower is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipTextConfig {
    /// Number of tokens known.
    pub vocab_size: usize,
    /// Width of a token.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Width of the projected pooled text; `None` for towers without a projection.
    pub projection_dim: Option<usize>,
    /// Encoder layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Most tokens of a text, markers included.
    pub max_position_embeddings: usize,
    /// Activation of the MLP.
    pub hidden_act: HiddenAct,
    /// Epsilon of the layer normalisations.
    pub layer_norm_eps: f64,
    /// Where the pooled token is found.
    pub pooling: Pooling,
}

/// Activation inside a tower's MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HiddenAct {
    /// `x * sigmoid(1.702 x)`, of OpenAI's towers.
    QuickGelu,
    /// The exact one, of OpenCLIP's towers.
    Gelu,
}

/// Which token stands for the whole text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The first token with the highest id; configurations of before 2023 name a false end token, 2.
    HighestId,
    /// The first token with this id.
    FirstOf(u32),
}

impl Pooling {
    /// Position of the pooled token in `ids`; 0 when the end token is not there, as torch's `argmax` has it.
    pub fn position(self, ids: &[u32]) -> usize {
        let wanted = match self {
            Self::HighestId => ids.iter().max().copied(),
            Self::FirstOf(id) => Some(id),
        };
        let found = wanted.and_then(|wanted| ids.iter().position(|&id| id == wanted));
        found.unwrap_or(0)
    }
}

impl ClipTextConfig {
    /// Reads the configuration of `component`.
    ///
    /// # Errors
    /// [`Malformed`](crate::ErrorKind::Malformed) for values that make no sense,
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for those this version cannot honour, each with the key's name.
    pub fn from_json(component: &str, config: &Value) -> Result<Self> {
        let whole = Fields::new(component, config)?;
        let architectures = [
            json!(["CLIPTextModel"]),
            json!(["CLIPTextModelWithProjection"]),
        ];
        let with_projection = whole.present("architectures") == Some(&architectures[1]);
        // Configurations of whole CLIP models hold the tower's part one level down.
        let nested = whole.nested("text_config");
        if nested.is_none() {
            whole.only("architectures", &architectures)?;
        }
        let fields = nested.unwrap_or(whole);
        fields.only("model_type", &[json!("clip_text_model"), json!("clip")])?;
        let num_hidden_layers = fields.extent("num_hidden_layers", 12)?;
        if num_hidden_layers > MAX_LAYERS {
            return Err(fields.wrong("num_hidden_layers", "1 to 128"));
        }
        let hidden_size = fields.extent("hidden_size", 512)?;
        let num_attention_heads = fields.extent("num_attention_heads", 8)?;
        if !hidden_size.is_multiple_of(num_attention_heads) {
            let expected = format!("a divisor of `hidden_size`, which is {hidden_size}");
            return Err(fields.wrong("num_attention_heads", &expected));
        }
        let projection_dim = fields.extent("projection_dim", 512)?;
        Ok(Self {
            vocab_size: fields.extent("vocab_size", 49408)?,
            hidden_size,
            intermediate_size: fields.extent("intermediate_size", 2048)?,
            projection_dim: with_projection.then_some(projection_dim),
            num_hidden_layers,
            num_attention_heads,
            max_position_embeddings: fields.extent("max_position_embeddings", 77)?,
            hidden_act: hidden_act(&fields)?,
            layer_norm_eps: fields.positive("layer_norm_eps", 1e-5)?,
            pooling: match fields.or("eos_token_id", 49407, "a token id")? {
                2 => Pooling::HighestId,
                id => Pooling::FirstOf(id),
            },
        })
    }
}

fn hidden_act(fields: &Fields<'_>) -> Result<HiddenAct> {
    let key = "hidden_act";
    let name = fields.or(key, "quick_gelu".to_owned(), "the name of an activation")?;
    match name.as_str() {
        "quick_gelu" => Ok(HiddenAct::QuickGelu),
        "gelu" => Ok(HiddenAct::Gelu),
        _ => Err(fields.refused(key, "\"quick_gelu\" or \"gelu\"")),
    }
}
