//! Layout of right-hand sides: panels of columns as in [`crate::matmul`], of words instead of values.
//!
//! Panel p: `[words][width]`, width 32, or 16 for a last panel of at most 16 columns. The number of words is rounded up to
//! a block of 16, the depth of an AMX tile; what is missing is 0. In the order of tiles each block of 16 words is two of 16
//! columns, `[16][16]` one behind the other; a spare tile follows the last one, because AMX reads them in pairs.

use rayon::prelude::*;

use super::convert::Convert;
use crate::buffer::Buffer;
use crate::isa::{Isa, WordOp, dispatch_words};
use crate::matmul::{Columns, PANEL, Piece, packed_len, panel_width, pieces};
use crate::simd::Words;

/// Words of a block: 64 bytes, a cache line and a row of an AMX tile.
pub(crate) const BLOCK: usize = 16;

/// Words that `elements` pairs-of-two take, in whole blocks.
pub(crate) fn padded_words(elements: usize) -> usize {
    elements.div_ceil(2).next_multiple_of(BLOCK)
}

/// Words a packed matrix of `columns` takes whose columns have `depth` words.
pub(crate) fn half_len(columns: usize, depth: usize) -> usize {
    packed_len(columns, depth) + BLOCK * BLOCK
}

/// How the words of a panel lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// `[words][width]`, for vectors.
    Rows,
    /// `[blocks][width / 16][16][16]`, for AMX.
    Tiles,
}

impl Order {
    /// Place of a column's word in a panel.
    fn at(self, (word, column): (usize, usize), width: usize) -> usize {
        match self {
            Self::Rows => word * width + column,
            Self::Tiles => {
                let (block, tile) = (word / BLOCK, column / BLOCK);
                block * BLOCK * width + (tile * BLOCK + word % BLOCK) * BLOCK + column % BLOCK
            }
        }
    }
}

/// A packed right-hand side, borrowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HalfPanels<'a> {
    pub(crate) data: &'a [u32],
    /// Columns of the product.
    pub(crate) columns: usize,
    /// Words of a column, a multiple of [`BLOCK`].
    pub(crate) depth: usize,
    /// Parts of a value, which lie one after the other in a column.
    pub(crate) parts: usize,
}

/// Rounds a piece of some columns and writes it as words of a panel that starts with it.
struct Words16<'a> {
    piece: &'a Piece<'a>,
    /// Columns there are; what a panel has besides stays 0.
    count: usize,
    order: Order,
    width: usize,
    out: &'a mut [u32],
}

impl WordOp for Words16<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Words>(self, s: S) {
        // Blocks of 16 words of 16 columns, rounded, then turned from columns into rows.
        let mut block = [[0u32; BLOCK]; BLOCK];
        let words = self.piece.len.div_ceil(2);
        for first_word in (0..words).step_by(BLOCK) {
            for first in (0..self.count).step_by(BLOCK) {
                for (i, to) in block.iter_mut().enumerate() {
                    if first + i < self.count {
                        let from = self.piece.part(first + i, 2 * first_word, 2 * BLOCK);
                        let convert = Convert {
                            from,
                            factor: 1.0,
                            to,
                            step: BLOCK,
                        };
                        convert.run(s);
                    } else {
                        to.fill(0);
                    }
                }
                let at = self.order.at((first_word, first), self.width);
                let step = self.order.at((1, 0), self.width);
                let to = &mut self.out[at..];
                assert!(
                    to.len() >= (BLOCK - 1) * step + BLOCK,
                    "a block leaves the panel, this is a bug"
                );
                let mut row = 0;
                while row < BLOCK {
                    let mut column = 0;
                    while column < BLOCK {
                        // SAFETY: blocks of LANES x LANES of both, the second's rows `step` apart and inside by the assertion.
                        unsafe {
                            let from = block.as_ptr().cast::<u32>().add(row * BLOCK + column);
                            let to = to.as_mut_ptr().add(column * step + row);
                            s.transpose(from, BLOCK, to, step);
                        }
                        column += S::LANES;
                    }
                    row += S::LANES;
                }
            }
        }
    }
}

impl HalfPanels<'_> {
    /// Whether the data holds all panels and the spare row behind them.
    pub(crate) fn is_whole(&self) -> bool {
        self.data.len() >= half_len(self.columns, self.depth)
    }
}

/// A bf16 weight matrix prepared once, at load.
#[derive(Clone, Debug)]
pub(crate) struct HalfMatrix {
    data: Buffer,
    pub(crate) order: Order,
    pub(crate) columns: usize,
    /// Length of the sums.
    pub(crate) len: usize,
    /// Parts of a value: a column is so many columns of bf16, one after the other.
    parts: usize,
}

impl HalfMatrix {
    /// Packs the matrix of `columns` columns of `len` values each; on all threads.
    pub(crate) fn from_columns(
        columns: usize,
        len: usize,
        source: &impl Columns,
        order: Order,
    ) -> Self {
        let depth = padded_words(len);
        let isa = Isa::current();
        let mut data = Buffer::zeroed(half_len(columns, depth));
        let used = packed_len(columns, depth);
        if depth > 0 {
            data.words_mut()[..used]
                .par_chunks_mut(PANEL * depth)
                .enumerate()
                .for_each(|(panel, out)| {
                    let start = panel * PANEL;
                    let width = panel_width(columns, start);
                    let count = width.min(columns - start);
                    pieces(source, start..start + count, len, |from, piece| {
                        let words = Words16 {
                            piece: &piece,
                            count,
                            order,
                            width,
                            out: &mut out[from / 2 * width..],
                        };
                        dispatch_words(isa, words);
                    });
                });
        }
        Self {
            data,
            order,
            columns,
            len,
            parts: 1,
        }
    }

    /// The same as a matrix of values in so many parts.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    pub(crate) fn in_parts(self, parts: usize) -> Self {
        Self { parts, ..self }
    }

    pub(crate) fn panels(&self) -> HalfPanels<'_> {
        HalfPanels {
            data: self.data.words(),
            columns: self.columns,
            depth: padded_words(self.len),
            parts: self.parts,
        }
    }

    /// Bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len() * size_of::<u32>()
    }
}
