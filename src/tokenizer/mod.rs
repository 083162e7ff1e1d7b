//! CLIP's byte-pair tokenizer, id for id that of transformers' `CLIPTokenizer` 5.x.
//!
//! The vocabulary of OpenAI's CLIP is embedded; a checkpoint's own `tokenizer/` folder is read by
//! [`ClipTokenizer::from_folder`]. A text goes through four steps (transformers
//! `models/clip/tokenization_clip.py`): added tokens such as `<|endoftext|>` are cut out; the rest is
//! normalised (NFC, white space to one blank, lower case); it is split into words; each word's bytes are
//! merged by rank (Sennrich et al. 2016).

mod added;
mod bpe;
mod files;
mod schema;
mod vocabulary;
mod words;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use self::added::{AddedToken, AddedTokens, Stage};
use self::vocabulary::Vocabulary;
use crate::error::{Error, Result};
use crate::weights::Place;

/// Tokens a CLIP text tower takes, start and end included.
const DEFAULT_MAX_LENGTH: usize = 77;

/// A prompt as token ids, of exactly the length that the text tower takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding {
    /// Start token, the prompt's tokens, end token, padding: `max_length` ids.
    pub ids: Vec<u32>,
    /// How many of the prompt's own tokens fit (start, end and padding not counted).
    pub kept: usize,
    /// The text that did not fit, in the tokenizer's lower case, for a warning; `None` when all fitted.
    pub lost: Option<String>,
}

/// Turns prompts into the token ids of a CLIP text tower.
#[derive(Debug, Clone)]
pub struct ClipTokenizer {
    vocabulary: Arc<Vocabulary>,
    added: AddedTokens,
    start: u32,
    end: u32,
    pad: u32,
    unknown: u32,
    max_length: usize,
}

impl ClipTokenizer {
    /// The tokenizer of OpenAI's CLIP, as SD1.x uses it: 49,408 ids, 77 tokens, padded with the end token.
    pub fn embedded() -> Self {
        let start = 49_406;
        let end = 49_407;
        Self {
            vocabulary: Vocabulary::embedded(),
            added: AddedTokens::new([
                AddedToken::new(vocabulary::START, start, Stage::Normalised),
                AddedToken::new(vocabulary::END, end, Stage::Typed),
            ]),
            start,
            end,
            pad: end,
            unknown: end,
            max_length: DEFAULT_MAX_LENGTH,
        }
    }

    /// The same tokenizer padding with another token: `"!"` is what OpenCLIP's towers (SD2.x, the second
    /// tower of SDXL) were trained with. As in transformers the padding token becomes a special token: where
    /// the prompt holds it literally, it is cut out before anything else.
    ///
    /// # Errors
    /// When the vocabulary has no such token.
    pub fn with_pad(mut self, token: &str) -> Result<Self> {
        let Some(pad) = self.vocabulary.id(token) else {
            return Err(Error::invalid(format!(
                "the padding token {token:?} is not in the vocabulary"
            )));
        };
        if self.pad == self.end && pad != self.end {
            // It is the padding role that has the end token looked for as typed.
            self.added.insert(AddedToken::new(
                vocabulary::END,
                self.end,
                Stage::Normalised,
            ));
        }
        self.pad = pad;
        self.added.insert(AddedToken::new(token, pad, Stage::Typed));
        Ok(self)
    }

    /// The same tokenizer for a text tower that takes `max_length` tokens, start and end included.
    ///
    /// # Errors
    /// When there is no room for start and end.
    pub fn with_max_length(mut self, max_length: usize) -> Result<Self> {
        if max_length < 2 {
            return Err(Error::invalid(format!(
                "the tokenizer's maximum length is {max_length}, but start and end alone take 2 tokens"
            )));
        }
        self.max_length = max_length;
        Ok(self)
    }

    /// Reads a checkpoint's own tokenizer folder: `tokenizer.json` or `vocab.json` with `merges.txt`, and
    /// what `tokenizer_config.json` and `special_tokens_map.json` say about special tokens and length.
    ///
    /// A folder without vocabulary files (the configuration alone) means CLIP's own vocabulary.
    ///
    /// # Errors
    /// When a file cannot be read, is damaged, or describes a tokenizer that is not CLIP's kind.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        files::read_folder(&folder.into())
    }

    /// The same for a folder that may be embedded in the program.
    ///
    /// # Errors
    /// As [`from_folder`](Self::from_folder).
    pub(crate) fn from_place(folder: &Place) -> Result<Self> {
        files::read_folder(folder)
    }

    /// The ids of a prompt, cut and padded to [`max_length`](Self::max_length) as transformers does with
    /// `padding="max_length", truncation=True`.
    pub fn encode(&self, text: &str) -> Encoding {
        let tokens = self.tokens(text);
        let kept = tokens.len().min(self.max_length - 2);
        let (fitting, rest) = tokens.split_at(kept);
        Encoding {
            ids: self.framed(fitting),
            kept,
            lost: (!rest.is_empty()).then(|| self.decode(rest)),
        }
    }

    /// `tokens`, at most two fewer than [`max_length`](Self::max_length), between start and end, and padded.
    pub fn framed(&self, tokens: &[u32]) -> Vec<u32> {
        let mut ids = Vec::with_capacity(self.max_length);
        ids.push(self.start);
        ids.extend_from_slice(tokens);
        ids.push(self.end);
        ids.resize(self.max_length, self.pad);
        ids
    }

    /// The ids of a text of any length, without start, end and padding.
    pub fn tokens(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        for piece in self.added.cut(text) {
            match piece {
                added::Piece::Token(id) => ids.push(id),
                added::Piece::Text(text) => {
                    for word in words::split(&text) {
                        let symbols = self.vocabulary.symbols(word, self.unknown);
                        bpe::merge_word(&symbols, self.vocabulary.merges(), &mut ids);
                    }
                }
            }
        }
        ids
    }

    /// The text of token ids, special tokens included; ids that are not in the vocabulary are left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids
            .iter()
            .filter_map(|&id| self.added.text(id).or_else(|| self.vocabulary.text(id)))
            .flat_map(vocabulary::bytes_of)
            .collect();
        String::from_utf8_lossy(&bytes)
            .replace(vocabulary::END_OF_WORD, " ")
            // Python's idea of white space: it counts four separators among the control characters.
            .trim_matches(|char: char| char.is_whitespace() || matches!(char, '\x1c'..='\x1f'))
            .to_owned()
    }

    /// Number of ids in a prompt, start, end and padding included.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Number of ids in the vocabulary.
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// Id of the start token.
    pub fn start_id(&self) -> u32 {
        self.start
    }

    /// Id of the end token.
    pub fn end_id(&self) -> u32 {
        self.end
    }

    /// Id of the padding token.
    pub fn pad_id(&self) -> u32 {
        self.pad
    }
}
