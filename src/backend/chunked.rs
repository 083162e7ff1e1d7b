//! Weighted texts of any length to embeddings.
//!
//! Each text is laid into chunks, each chunk runs through the towers by itself, and the chunks follow each other along
//! the sequence, as in the webui (`modules/sd_hijack_clip.py`, `modules/sd_emphasis.py`). The texts of one prompt are
//! encoded together: shorter ones get empty chunks, and the mean that [`Emphasis::Original`] restores is taken over all
//! of them, because the webui encodes them in one batch.

use std::sync::Arc;

use super::clip::{ClipTextEncoder, TextEmbeddings};
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::prompt::{Chunk, Emphasis, Piece, chunks};

/// Most chunks of one text: 7,500 tokens, beyond which attention over them would take longer than over the picture.
pub const MAX_CHUNKS: usize = 100;

/// A text of a prompt and at how many moments it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedText<'a> {
    /// The text.
    pub text: &'a str,
    /// How often it counts towards the mean.
    pub count: usize,
}

/// A chunk as every tower sees it.
type TowerChunks = Vec<Chunk>;

impl ClipTextEncoder {
    /// The embeddings of the texts of one prompt, with weights and of any length. All have the same number of tokens.
    ///
    /// # Errors
    /// When a text has more than [`MAX_CHUNKS`] chunks or a weight that is no number, when `clip_skip` is beyond the
    /// layers, or the device fails.
    pub fn encode_weighted(
        &self,
        texts: &[CountedText<'_>],
        emphasis: Emphasis,
        clip_skip: Option<usize>,
    ) -> Result<Vec<Arc<TextEmbeddings>>> {
        let laid = texts
            .iter()
            .map(|text| self.lay(text.text, emphasis))
            .collect::<Result<Vec<_>>>()?;
        let length = laid.iter().map(Vec::len).max().unwrap_or(1);
        let empty: TowerChunks = vec![Chunk::default(); self.tower_widths().len()];
        let mut rows: Vec<Vec<HostTensor>> = vec![Vec::with_capacity(length); texts.len()];
        let mut pooled = Vec::with_capacity(texts.len());
        for index in 0..length {
            let column: Vec<&TowerChunks> = laid
                .iter()
                .map(|chunks| chunks.get(index).unwrap_or(&empty))
                .collect();
            let encoded = column
                .iter()
                .map(|chunk| self.encode_chunk(chunk, clip_skip))
                .collect::<Result<Vec<_>>>()?;
            let blank = match emphasis {
                Emphasis::Comfy => Some(self.encode_chunk(&empty, clip_skip)?),
                _ => None,
            };
            let mut contexts: Vec<HostTensor> =
                encoded.iter().map(|text| text.context.clone()).collect();
            let weighing = Weighing {
                emphasis,
                widths: &self.tower_widths(),
                counts: texts.iter().map(|text| text.count).collect(),
                blank: blank.as_ref().map(|text| &text.context),
            };
            weighing.apply(&mut contexts, &column);
            for (row, context) in rows.iter_mut().zip(contexts) {
                row.push(context);
            }
            if index == 0 {
                pooled.extend(encoded.iter().map(|text| text.pooled.clone()));
            }
        }
        rows.iter()
            .zip(pooled)
            .map(|(row, pooled)| {
                Ok(Arc::new(TextEmbeddings {
                    context: one_after_another(row)?,
                    pooled,
                    lost: None,
                }))
            })
            .collect()
    }

    /// How many chunks a text takes; 1 for one that cannot be read, which encoding it refuses.
    pub(super) fn chunk_count(&self, text: &str, emphasis: Emphasis) -> usize {
        self.lay(text, emphasis).map_or(1, |chunks| chunks.len())
    }

    /// The chunks of a text, each as every tower sees it.
    fn lay(&self, text: &str, emphasis: Emphasis) -> Result<Vec<TowerChunks>> {
        let pieces = emphasis.pieces(text)?;
        let towers: Vec<Vec<Chunk>> = self
            .tokenizers()
            .map(|tokenizer| lay_for(tokenizer, &pieces))
            .collect();
        let length = towers.iter().map(Vec::len).max().unwrap_or(1);
        if length > MAX_CHUNKS {
            return Err(Error::invalid(format!(
                "the prompt has {length} chunks of tokens, expected at most {MAX_CHUNKS}"
            )));
        }
        let at = |chunks: &Vec<Chunk>, index| chunks.get(index).cloned().unwrap_or_default();
        Ok((0..length)
            .map(|index| towers.iter().map(|chunks| at(chunks, index)).collect())
            .collect())
    }
}

/// The chunks of weighted pieces for one tower.
pub(super) fn lay_for(tokenizer: &crate::tokenizer::ClipTokenizer, pieces: &[Piece]) -> Vec<Chunk> {
    let comma = tokenizer.tokens(",").first().copied();
    let length = tokenizer.max_length().saturating_sub(2).max(1);
    chunks(pieces, length, comma, |words| tokenizer.tokens(words))
}

/// Applies the weights of one chunk of each text.
struct Weighing<'a> {
    emphasis: Emphasis,
    /// Of the towers, in the order in which they lie side by side.
    widths: &'a [usize],
    /// How often each text counts.
    counts: Vec<usize>,
    /// The embeddings of the empty chunk.
    blank: Option<&'a HostTensor>,
}

impl Weighing<'_> {
    fn apply(&self, contexts: &mut [HostTensor], chunks: &[&TowerChunks]) {
        let mut left = 0;
        for (tower, &width) in self.widths.iter().enumerate() {
            let weights = |text: usize| chunks[text][tower].weights.as_slice();
            let columns = left..left + width;
            left += width;
            // Plain words stay the very bytes that the tower gave.
            if (0..chunks.len()).all(|text| weights(text).iter().copied().all(is_one)) {
                continue;
            }
            let before = self.sum(contexts, &columns);
            for (text, context) in contexts.iter_mut().enumerate() {
                self.weigh(context, weights(text), &columns);
            }
            if self.emphasis == Emphasis::Original {
                let ratio = (before / self.sum(contexts, &columns)) as f32;
                for context in contexts.iter_mut() {
                    for_each(context, &columns, |_, _, value| *value *= ratio);
                }
            }
        }
    }

    fn weigh(&self, context: &mut HostTensor, weights: &[f64], columns: &std::ops::Range<usize>) {
        let blank = self.blank.map(HostTensor::data);
        let row = context.shape()[2];
        for_each(context, columns, |token, column, value| {
            // The first token is the start marker.
            let weight = token.checked_sub(1).and_then(|token| weights.get(token));
            let Some(&weight) = weight.filter(|&&weight| !is_one(weight)) else {
                return;
            };
            *value = match blank {
                Some(blank) => {
                    let empty = blank[token * row + column];
                    (*value - empty) * weight as f32 + empty
                }
                None => *value * weight as f32,
            };
        });
    }

    /// The sum that stands for the mean, each text as often as it counts.
    fn sum(&self, contexts: &mut [HostTensor], columns: &std::ops::Range<usize>) -> f64 {
        let mut sum = 0.0;
        for (context, &count) in contexts.iter_mut().zip(&self.counts) {
            let mut own = 0.0;
            for_each(context, columns, |_, _, value| own += f64::from(*value));
            sum += own * count as f64;
        }
        sum
    }
}

/// Whether a weight changes nothing, so that not a bit need be touched.
fn is_one(weight: f64) -> bool {
    weight.to_bits() == 1.0_f64.to_bits()
}

/// Visits the values of some columns of (1, tokens, width).
fn for_each(
    context: &mut HostTensor,
    columns: &std::ops::Range<usize>,
    mut visit: impl FnMut(usize, usize, &mut f32),
) {
    let width = context.shape()[2];
    for (token, row) in context.data_mut().chunks_exact_mut(width).enumerate() {
        for column in columns.clone() {
            visit(token, column, &mut row[column]);
        }
    }
}

/// Joins chunks (1, 77, width) along the sequence.
fn one_after_another(chunks: &[HostTensor]) -> Result<HostTensor> {
    let width = chunks.first().map_or(0, |chunk| chunk.shape()[2]);
    let tokens = chunks.iter().map(|chunk| chunk.shape()[1]).sum::<usize>();
    let mut joined = Vec::with_capacity(tokens * width);
    for chunk in chunks {
        joined.extend_from_slice(chunk.data());
    }
    HostTensor::new([1, tokens, width], joined)
}
