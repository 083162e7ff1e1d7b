//! Pieces to chunks: a text tower takes 77 tokens, two of them markers, so a longer text becomes several chunks of 75.
//!
//! As in the webui a word is not torn from its comma: where a chunk is full and had a comma among its last 20 tokens,
//! what follows that comma moves to the next chunk. `BREAK` ends a chunk early.

use super::attention::Piece;

/// How far back from the end of a full chunk a comma still counts.
pub const COMMA_LOOK_BACK: usize = 20;

/// The tokens of one run of a text tower, markers and padding left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chunk {
    /// Token ids, at most 75 for CLIP.
    pub tokens: Vec<u32>,
    /// The weight of each.
    pub weights: Vec<f64>,
}

impl Chunk {
    fn split_off(&mut self, at: usize) -> Self {
        Self {
            tokens: self.tokens.split_off(at),
            weights: self.weights.split_off(at),
        }
    }
}

/// Lays `pieces` into chunks of `length` tokens; `tokens` turns words into ids, and `comma` is the comma's.
///
/// There is always one chunk, empty for an empty text. A `BREAK` before the first word makes an empty one.
pub fn chunks(
    pieces: &[Piece],
    length: usize,
    comma: Option<u32>,
    mut tokens: impl FnMut(&str) -> Vec<u32>,
) -> Vec<Chunk> {
    let mut done = Vec::new();
    let mut chunk = Chunk::default();
    let mut last_comma: Option<usize> = None;
    for piece in pieces {
        let (text, weight) = match piece {
            Piece::Break => {
                done.push(std::mem::take(&mut chunk));
                last_comma = None;
                continue;
            }
            Piece::Words { text, weight } => (text, *weight),
        };
        for token in tokens(text) {
            let full = chunk.tokens.len() == length;
            if Some(token) == comma {
                last_comma = Some(chunk.tokens.len());
            } else if let Some(at) = last_comma.filter(|_| full)
                && length - at <= COMMA_LOOK_BACK
            {
                let rest = chunk.split_off(at + 1);
                done.push(std::mem::replace(&mut chunk, rest));
                last_comma = None;
            }
            if chunk.tokens.len() == length {
                done.push(std::mem::take(&mut chunk));
                last_comma = None;
            }
            chunk.tokens.push(token);
            chunk.weights.push(weight);
        }
    }
    if !chunk.tokens.is_empty() || done.is_empty() {
        done.push(chunk);
    }
    done
}
