//! How a prompt is read: [`PromptSyntax`] and [`Emphasis`].

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::attention::{self, Piece};
use crate::error::{Error, Result};

/// Which language a prompt is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PromptSyntax {
    /// The webui's: weights, changes over the steps, `AND`, `BREAK`, choices, any length.
    #[default]
    Webui,
    /// None, as in diffusers' pipelines: every character is text, and what does not fit into the text encoder is cut
    /// with a warning.
    Plain,
}

/// What weights do to the embeddings of their tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Emphasis {
    /// They scale the embeddings, and then the whole chunk is scaled back to its mean: the webui's default.
    #[default]
    Original,
    /// They scale the embeddings and nothing else.
    NoNorm,
    /// They are read and have no effect.
    Ignore,
    /// They are not read: brackets, backslashes and `BREAK` are text.
    None,
    /// They move the embeddings away from those of the empty text, as ComfyUI does.
    Comfy,
}

/// How `{a|b}` and `__wildcard__` are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Choices {
    /// By chance, from each picture's seed.
    #[default]
    Random,
    /// Picture `i` of a batch takes combination `i`, and begins again where there are no more.
    Combinatorial,
}

/// How the prompts of a call are read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PromptOptions {
    /// The language of both prompts; the others only count in [`PromptSyntax::Webui`].
    pub syntax: PromptSyntax,
    /// What weights do.
    pub emphasis: Emphasis,
    /// Folder of wildcards, `name.txt` for `__name__`; without it such names are text.
    pub wildcards: Option<PathBuf>,
    /// How choices are made.
    pub choices: Choices,
}

impl PromptSyntax {
    /// Every one with its name.
    pub const NAMES: [(&'static str, Self); 2] = [("webui", Self::Webui), ("plain", Self::Plain)];
}

impl Emphasis {
    /// Every one with its name.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("original", Self::Original),
        ("no-norm", Self::NoNorm),
        ("ignore", Self::Ignore),
        ("none", Self::None),
        ("comfy", Self::Comfy),
    ];

    /// The webui's word for it, as pictures record it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Original => "Original",
            Self::NoNorm => "No norm",
            Self::Ignore => "Ignore",
            Self::None => "None",
            Self::Comfy => "Comfy",
        }
    }

    /// The weighted pieces of a text that is read this way.
    ///
    /// # Errors
    /// As [`pieces`](super::pieces).
    pub fn pieces(self, text: &str) -> Result<Vec<Piece>> {
        if self == Self::None {
            return Ok(vec![Piece::Words {
                text: text.to_owned(),
                weight: 1.0,
            }]);
        }
        let mut pieces = attention::pieces(text)?;
        if self == Self::Ignore {
            for piece in &mut pieces {
                if let Piece::Words { weight, .. } = piece {
                    *weight = 1.0;
                }
            }
        }
        Ok(pieces)
    }
}

impl fmt::Display for PromptSyntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&Self::NAMES, self))
    }
}

impl fmt::Display for Emphasis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&Self::NAMES, self))
    }
}

impl FromStr for PromptSyntax {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        of_name("prompt syntax", &Self::NAMES, name)
    }
}

impl FromStr for Emphasis {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        // The webui writes "No norm".
        let name = name.to_lowercase().replace([' ', '_'], "-");
        of_name("emphasis", &Self::NAMES, &name)
    }
}

fn name_of<T: PartialEq>(names: &[(&'static str, T)], wanted: &T) -> &'static str {
    names
        .iter()
        .find(|(_, value)| value == wanted)
        .map_or("", |(name, _)| name)
}

fn of_name<T: Copy>(what: &str, names: &[(&'static str, T)], name: &str) -> Result<T> {
    if let Some((_, value)) = names.iter().find(|(known, _)| *known == name) {
        return Ok(*value);
    }
    let known: Vec<&str> = names.iter().map(|(known, _)| *known).collect();
    let error = Error::invalid(format!(
        "unknown {what} {name:?}, expected one of {}",
        known.join(", ")
    ));
    Err(match nearest(name, known) {
        Some(near) => error.with_hint(format!("did you mean {near}?")),
        None => error,
    })
}

/// The name most like `name`, where one is like it at all.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(&known.to_lowercase(), &lower), known))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}
