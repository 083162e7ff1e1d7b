//! Layout of right-hand sides: panels of columns as in [`crate::matmul`], of words instead of values.
//!
//! Panel p: `[words][width]`, width 32, or 16 for a last panel of at most 16 columns. The number of words is rounded up to
//! a block of 16, the depth of an AMX tile; what is missing is 0. One spare row of a narrow panel follows the last one,
//! because AMX reads panels in pairs of 16 columns.

use rayon::prelude::*;

use crate::matmul::{Columns, PANEL, packed_len, panel_width, pieces};
use crate::simd::bf16;

/// Words of a block: 64 bytes, a cache line and a row of an AMX tile.
pub(crate) const BLOCK: usize = 16;

/// Words that `elements` pairs-of-two take, in whole blocks.
pub(crate) fn padded_words(elements: usize) -> usize {
    elements.div_ceil(2).next_multiple_of(BLOCK)
}

/// Words a packed matrix of `columns` takes whose columns have `depth` words.
pub(crate) fn half_len(columns: usize, depth: usize) -> usize {
    packed_len(columns, depth) + BLOCK
}

/// A packed right-hand side, borrowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HalfPanels<'a> {
    pub(crate) data: &'a [u32],
    /// Columns of the product.
    pub(crate) columns: usize,
    /// Words of a column, a multiple of [`BLOCK`].
    pub(crate) depth: usize,
}

/// A bf16 weight matrix prepared once, at load.
#[derive(Clone, Debug)]
pub(crate) struct HalfMatrix {
    data: Vec<u32>,
    pub(crate) columns: usize,
    /// Length of the sums.
    pub(crate) len: usize,
}

impl HalfMatrix {
    /// Packs the matrix of `columns` columns of `len` values each; on all threads.
    pub(crate) fn from_columns(columns: usize, len: usize, source: &impl Columns) -> Self {
        let depth = padded_words(len);
        let mut data = vec![0; half_len(columns, depth)];
        let used = data.len() - BLOCK;
        if depth > 0 {
            data[..used]
                .par_chunks_mut(PANEL * depth)
                .enumerate()
                .for_each(|(panel, out)| {
                    let start = panel * PANEL;
                    let width = panel_width(columns, start);
                    let count = width.min(columns - start);
                    pieces(source, start..start + count, len, |from, piece| {
                        let rows = out[from / 2 * width..].chunks_exact_mut(width);
                        for (pair, row) in rows.take(piece.len.div_ceil(2)).enumerate() {
                            for (column, word) in row[..count].iter_mut().enumerate() {
                                let half = |k| u32::from(bf16(piece.at(column, k)));
                                *word = half(2 * pair) | half(2 * pair + 1) << 16;
                            }
                        }
                    });
                });
        }
        Self { data, columns, len }
    }

    pub(crate) fn panels(&self) -> HalfPanels<'_> {
        HalfPanels {
            data: &self.data,
            columns: self.columns,
            depth: padded_words(self.len),
        }
    }

    /// Bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len() * size_of::<u32>()
    }
}
