//! What the files of a tokenizer folder hold, as far as it matters here.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::added::{AddedToken, Edges, Stage};

/// `tokenizer_config.json` and `special_tokens_map.json`, as far as they matter here.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Settings {
    pub(super) bos_token: Option<Special>,
    pub(super) eos_token: Option<Special>,
    pub(super) unk_token: Option<Special>,
    pub(super) pad_token: Option<Special>,
    pub(super) model_max_length: Option<f64>,
    pub(super) added_tokens_decoder: Option<HashMap<String, Listed>>,
    pub(super) tokenizer_class: Option<String>,
}

/// A special token: its text, or its text with properties.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Special {
    Text(String),
    Full(Listed),
}

impl Special {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Full(listed) => &listed.content,
        }
    }

    pub(super) fn token(&self, id: u32) -> AddedToken {
        match self {
            Self::Text(text) => AddedToken::new(text, id, Stage::Typed),
            Self::Full(listed) => listed.token(id),
        }
    }
}

/// An added token with its properties.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Listed {
    pub(super) content: String,
    pub(super) id: Option<u32>,
    #[serde(default)]
    pub(super) normalized: bool,
    #[serde(flatten)]
    pub(super) edges: Edges,
}

impl Listed {
    pub(super) fn token(&self, id: u32) -> AddedToken {
        AddedToken {
            text: self.content.clone(),
            id,
            stage: if self.normalized {
                Stage::Normalised
            } else {
                Stage::Typed
            },
            edges: self.edges,
        }
    }
}

/// `tokenizer.json`.
#[derive(Debug, Deserialize)]
pub(super) struct Serialised {
    pub(super) model: Model,
    #[serde(default)]
    pub(super) added_tokens: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Model {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub(super) vocab: Value,
    #[serde(default)]
    pub(super) merges: Vec<Pair>,
}

/// A merge: `"a b"` in old files, `["a", "b"]` in new ones.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Pair {
    Line(String),
    Parts(String, String),
}
