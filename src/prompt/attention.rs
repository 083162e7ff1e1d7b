//! Emphasis: a text to pieces with weights.
//!
//! Behaves as the webui's `parse_prompt_attention` documents itself: `(a)` multiplies by 1.1, `[a]` divides by it,
//! `(a:1.3)` multiplies by 1.3, a backslash makes the next bracket literal, and an opening bracket that is never closed
//! counts to the end. The two kinds of brackets are matched each on its own, so they may overlap. Products are
//! formed in the order in which brackets close, so that the last bit of a weight is the same too.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use crate::error::{Error, Result};

const ROUND: f64 = 1.1;
const SQUARE: f64 = 1.0 / 1.1;
/// Most products formed for one text, a second's work; pages of brackets inside brackets are refused.
const MAX_PRODUCTS: usize = 200_000_000;

/// Most oddities told of one text.
const MAX_NOTES: usize = 8;

/// What a text is made of.
static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\\[()\[\]\\]|\\|\(|\[|:\s*([+-]?[.0-9]+)\s*\)|\)|\]|[^\\()\[\]:]+|:")
        .expect("the pattern is valid; this is a bug")
});

static BREAK: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\s*\bBREAK\b\s*").expect("the pattern is valid; this is a bug"));

/// A piece of a text and how much it counts.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Words with one weight.
    Words {
        /// The words, escapes resolved.
        text: String,
        /// Factor of their tokens' embeddings, 1 for plain words.
        weight: f64,
    },
    /// `BREAK`: the next words begin a new chunk.
    Break,
}

/// Something odd about the brackets of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Oddity {
    pub(super) range: Range<usize>,
    pub(super) message: String,
}

/// The pieces of a text.
///
/// # Errors
/// When a weight such as `1.2.3` has the form of a number and is none, becomes infinite, or the nesting takes more
/// than a second's work.
pub fn pieces(text: &str) -> Result<Vec<Piece>> {
    let mut reader = Reader::default();
    reader.read(text).map_err(|fault| {
        Error::invalid(format!(
            "{} at byte {} of the text",
            fault.message, fault.range.start
        ))
    })?;
    Ok(reader.merged())
}

/// What is odd about the brackets of `text`, and the fault that [`pieces`] would find in it.
pub(super) fn oddities(text: &str) -> (Vec<Oddity>, Option<Oddity>) {
    let mut reader = Reader::default();
    let fault = reader.read(text).err();
    (reader.oddities, fault)
}

/// A piece while weights are still being multiplied.
struct Draft {
    text: String,
    weight: f64,
    is_break: bool,
}

struct Open {
    /// First piece inside.
    piece: usize,
    at: usize,
    /// Where the last `:` inside that is text lies.
    colon: Option<usize>,
}

#[derive(Default)]
struct Reader {
    drafts: Vec<Draft>,
    round: Vec<Open>,
    square: Vec<Open>,
    products: usize,
    oddities: Vec<Oddity>,
}

impl Reader {
    fn read(&mut self, text: &str) -> Result<(), Oddity> {
        for found in TOKEN.captures_iter(text) {
            let Some(whole) = found.get(0) else { continue };
            let (token, range) = (whole.as_str(), whole.range());
            let weight = found.get(1).filter(|_| !self.round.is_empty());
            if let Some(weight) = weight {
                let factor = number(weight.as_str(), weight.range())?;
                self.close_round(factor, &range)?;
            } else if let Some(escaped) = token.strip_prefix('\\') {
                self.push(escaped);
            } else {
                self.plain(token, range, text)?;
            }
        }
        self.close_rest(text.len())?;
        for draft in &self.drafts {
            if !draft.weight.is_finite() {
                return Err(Oddity {
                    range: 0..text.len(),
                    message: format!("the weight of {:?} is infinite", shortened(&draft.text)),
                });
            }
        }
        self.note_broken_breaks(text.len());
        Ok(())
    }

    fn plain(&mut self, token: &str, range: Range<usize>, text: &str) -> Result<(), Oddity> {
        let open = |piece| Open {
            piece,
            at: range.start,
            colon: None,
        };
        match token {
            "(" => self.round.push(open(self.drafts.len())),
            "[" => self.square.push(open(self.drafts.len())),
            ")" if !self.round.is_empty() => {
                self.note_weight_of_words(range.start, text);
                self.close_round(ROUND, &range)?;
            }
            "]" if !self.square.is_empty() => {
                if let Some(open) = self.square.pop() {
                    self.multiply(open.piece, SQUARE, &range)?;
                }
            }
            _ => {
                if token == ")" || token == "]" {
                    self.note(
                        range,
                        format!("nothing is open where `{token}` closes, so it is text"),
                    );
                } else if token == ":"
                    && let Some(open) = self.round.last_mut()
                {
                    open.colon = Some(range.start);
                }
                self.words(token);
            }
        }
        Ok(())
    }

    fn words(&mut self, token: &str) {
        for (index, part) in BREAK.split(token).enumerate() {
            if index > 0 {
                self.drafts.push(Draft {
                    text: "BREAK".to_owned(),
                    weight: -1.0,
                    is_break: true,
                });
            }
            self.push(part);
        }
    }

    fn push(&mut self, text: &str) {
        self.drafts.push(Draft {
            text: text.to_owned(),
            weight: 1.0,
            is_break: false,
        });
    }

    fn close_round(&mut self, factor: f64, at: &Range<usize>) -> Result<(), Oddity> {
        match self.round.pop() {
            Some(open) => self.multiply(open.piece, factor, at),
            None => Ok(()),
        }
    }

    /// An opening bracket that is never closed counts to the end, round ones first.
    fn close_rest(&mut self, end: usize) -> Result<(), Oddity> {
        let kinds = [
            (std::mem::take(&mut self.round), ROUND, '('),
            (std::mem::take(&mut self.square), SQUARE, '['),
        ];
        for (list, factor, bracket) in kinds {
            for open in list {
                let place = open.at..open.at + 1;
                self.note(
                    place,
                    format!("`{bracket}` is never closed, so it counts to the end of the text"),
                );
                self.multiply(open.piece, factor, &(open.at..end))?;
            }
        }
        Ok(())
    }

    fn multiply(&mut self, from: usize, factor: f64, at: &Range<usize>) -> Result<(), Oddity> {
        self.products += self.drafts.len() - from;
        if self.products > MAX_PRODUCTS {
            return Err(Oddity {
                range: at.clone(),
                message: "the brackets are nested too deeply over too much text".to_owned(),
            });
        }
        for draft in &mut self.drafts[from..] {
            draft.weight *= factor;
        }
        Ok(())
    }

    /// `(a:b)`: most likely a weight was meant.
    fn note_weight_of_words(&mut self, close: usize, text: &str) {
        let Some(colon) = self.round.last().and_then(|open| open.colon) else {
            return;
        };
        let tail = &text[colon + 1..close];
        let word = tail.trim();
        let begins_a_number = word.starts_with(|char: char| char.is_ascii_digit());
        let one_word = !word.contains([' ', '(', '[']) && (begins_a_number || !word.contains(','));
        if !word.is_empty() && one_word {
            self.note(
                colon..close,
                format!(
                    "the weight {:?} is no number, so it is text and the bracket counts {ROUND}",
                    shortened(word)
                ),
            );
        }
    }

    /// The webui knows `BREAK` by its weight, which brackets around it change.
    fn note_broken_breaks(&mut self, end: usize) {
        let bent =
            |draft: &&Draft| draft.is_break && draft.weight.to_bits() != (-1.0_f64).to_bits();
        if let Some(weight) = self.drafts.iter().find(bent).map(|draft| draft.weight) {
            self.note(
                0..end,
                format!(
                    "`BREAK` inside brackets begins no chunk but is a word of weight {weight:.2}, as in the webui; \
                     close the bracket before it"
                ),
            );
        }
    }

    fn note(&mut self, range: Range<usize>, message: String) {
        match self.oddities.len() {
            0..MAX_NOTES => self.oddities.push(Oddity { range, message }),
            MAX_NOTES => self.oddities.push(Oddity {
                range,
                message: "more of this kind follows".to_owned(),
            }),
            _ => {}
        }
    }

    /// Neighbours of equal weight as one piece.
    fn merged(self) -> Vec<Piece> {
        let mut drafts: Vec<Draft> = Vec::with_capacity(self.drafts.len());
        for draft in self.drafts {
            match drafts.last_mut() {
                Some(last) if last.weight.to_bits() == draft.weight.to_bits() => {
                    last.text.push_str(&draft.text);
                    last.is_break = false;
                }
                _ => drafts.push(draft),
            }
        }
        if drafts.is_empty() {
            drafts.push(Draft {
                text: String::new(),
                weight: 1.0,
                is_break: false,
            });
        }
        drafts
            .into_iter()
            .map(|draft| {
                if draft.is_break && draft.weight.to_bits() == (-1.0_f64).to_bits() {
                    Piece::Break
                } else {
                    Piece::Words {
                        text: draft.text,
                        weight: draft.weight,
                    }
                }
            })
            .collect()
    }
}

fn number(text: &str, range: Range<usize>) -> Result<f64, Oddity> {
    text.parse::<f64>()
        .ok()
        .filter(|number| number.is_finite())
        .ok_or_else(|| Oddity {
            range,
            message: format!("the weight {:?} is no number", shortened(text)),
        })
}

/// At most 40 characters of a text, for messages.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
