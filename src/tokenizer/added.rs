//! Added tokens: texts that are cut out of a prompt whole, before it is split into words.
//!
//! Two kinds exist, as in the `tokenizers` library (`added_vocabulary.rs`): those looked for in the text as
//! typed, and those looked for after normalisation, in their own normalised form. Which kind a special token is
//! decides whether `<|ENDOFTEXT|>` means the end token, so both are kept apart here.

use serde::Deserialize;

use super::words::normalise;

/// A text with its own id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AddedToken {
    pub(super) text: String,
    pub(super) id: u32,
    /// Where it is looked for.
    pub(super) stage: Stage,
    pub(super) edges: Edges,
}

/// The form of the prompt that an added token is looked for in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The text as typed.
    Typed,
    /// The normalised text, whatever case it was typed in.
    Normalised,
}

/// What an added token does with its neighbours, under the names of `tokenizer.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Edges {
    /// Takes the white space before it along.
    pub(super) lstrip: bool,
    /// Takes the white space after it along.
    pub(super) rstrip: bool,
    /// Counts only between characters that are not part of a word.
    pub(super) single_word: bool,
}

impl AddedToken {
    /// A token that leaves its neighbours alone.
    pub(super) fn new(text: &str, id: u32, stage: Stage) -> Self {
        Self {
            text: text.to_owned(),
            id,
            stage,
            edges: Edges::default(),
        }
    }
}

/// What a prompt falls apart into.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// An added token.
    Token(u32),
    /// Normalised text between them.
    Text(String),
}

/// The added tokens of a tokenizer.
#[derive(Debug, Clone)]
pub(super) struct AddedTokens {
    tokens: Vec<AddedToken>,
}

impl AddedTokens {
    pub(super) fn new(tokens: impl IntoIterator<Item = AddedToken>) -> Self {
        let mut added = Self { tokens: Vec::new() };
        for token in tokens {
            added.insert(token);
        }
        added
    }

    /// Adds `token`, in the place of one with the same id.
    pub(super) fn insert(&mut self, mut token: AddedToken) {
        if token.stage == Stage::Normalised {
            token.text = normalise(&token.text);
        }
        if token.text.is_empty() {
            return;
        }
        self.tokens.retain(|other| other.id != token.id);
        self.tokens.push(token);
    }

    /// The text of an added token by its id.
    pub(super) fn text(&self, id: u32) -> Option<&str> {
        let token = self.tokens.iter().find(|token| token.id == id)?;
        Some(&token.text)
    }

    /// Cuts `text` at its added tokens and normalises what lies between.
    pub(super) fn cut(&self, text: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for part in self.cut_at(text, Stage::Typed) {
            let raw = match part {
                Part::Token(id) => {
                    pieces.push(Piece::Token(id));
                    continue;
                }
                Part::Text(raw) => normalise(raw),
            };
            pieces.extend(self.cut_at(&raw, Stage::Normalised).map(|part| match part {
                Part::Token(id) => Piece::Token(id),
                Part::Text(text) => Piece::Text(text.to_owned()),
            }));
        }
        pieces
    }

    fn cut_at<'a>(&'a self, text: &'a str, stage: Stage) -> impl Iterator<Item = Part<'a>> {
        let mut done = 0;
        let mut search = 0;
        let mut found = None;
        let mut places = vec![Some(0); self.tokens.len()];
        std::iter::from_fn(move || {
            if let Some(id) = found.take() {
                return Some(Part::Token(id));
            }
            while let Some((start, end, token)) = self.next_match(text, search, stage, &mut places)
            {
                search = end;
                if token.edges.single_word && !stands_alone(text, start, end) {
                    continue;
                }
                let start = if token.edges.lstrip {
                    text[..start].trim_end().len().max(done)
                } else {
                    start
                };
                let end = if token.edges.rstrip {
                    text.len() - text[end..].trim_start().len()
                } else {
                    end
                };
                let before = &text[done.min(start)..start];
                done = end;
                search = search.max(end);
                if before.is_empty() {
                    return Some(Part::Token(token.id));
                }
                found = Some(token.id);
                return Some(Part::Text(before));
            }
            let rest = &text[done..];
            done = text.len();
            search = text.len();
            (!rest.is_empty()).then_some(Part::Text(rest))
        })
    }

    /// The leftmost match from `from` on, the longest of those. `places` remembers for each token where it stood at or
    /// after the last `from`, `None` for nowhere: each stretch of text is searched once, however many others match.
    fn next_match(
        &self,
        text: &str,
        from: usize,
        stage: Stage,
        places: &mut [Option<usize>],
    ) -> Option<(usize, usize, &AddedToken)> {
        let rest = text.get(from..)?;
        self.tokens
            .iter()
            .zip(places)
            .filter(|(token, _)| token.stage == stage)
            .filter_map(|(token, place)| {
                if from == 0 || (*place)? < from {
                    *place = rest.find(&token.text).map(|at| from + at);
                }
                let start = (*place)?;
                Some((start, start + token.text.len(), token))
            })
            .min_by_key(|&(start, end, _)| (start, usize::MAX - end))
    }
}

enum Part<'a> {
    Token(u32),
    Text(&'a str),
}

/// Whether no letter, digit or underscore touches `text[start..end]`.
fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let in_word = |char: char| char.is_alphanumeric() || char == '_';
    !text[..start].ends_with(in_word) && !text[end..].starts_with(in_word)
}
