//! A tile of a bf16 product: some rows by some panels.

use super::kind::{Bf16, Kind};
use super::micro::{Finish, Piece, ROW_STEP, strip_rows};
use super::pack::{BLOCK, HalfPanels};
use crate::isa::{Isa, WordOp, dispatch_words};
use crate::matmul::{PANEL, Store, panel_width};
use crate::simd::{MAX_LANES, Words};

/// Rows of a left side are padded to this, a multiple of [`ROW_STEP`].
pub(crate) const ROW_PAD: usize = 32;

/// Multiplies one tile: `c[rows][columns] (+)= a . b`.
#[derive(Clone, Copy)]
pub(crate) struct HalfTile<'a> {
    /// `[blocks][rows_padded][BLOCK]`, or from one of its rows on; what lies in the padding does not matter.
    pub(crate) a: &'a [u32],
    /// Rows that count.
    pub(crate) rows: usize,
    /// Rows there are, a multiple of [`ROW_PAD`].
    pub(crate) rows_padded: usize,
    /// Words to multiply; the left side is 0 from there to the end of its last block.
    pub(crate) words: usize,
    pub(crate) b: HalfPanels<'a>,
    /// Word of each column where the sum starts.
    pub(crate) first: usize,
    /// First column, a multiple of [`PANEL`].
    pub(crate) start: usize,
    /// One past the last column: a multiple of [`PANEL`], or the matrix' width.
    pub(crate) end: usize,
    /// Output of row 0, column `start`.
    pub(crate) c: *mut f32,
    /// Outputs from one row to the next.
    pub(crate) c_step: usize,
    pub(crate) store: Store,
}

impl HalfTile<'_> {
    /// Blocks of a row.
    pub(super) fn blocks(&self) -> usize {
        self.words.div_ceil(BLOCK)
    }

    /// Checks what the computation relies on, apart from `c`.
    fn is_consistent(&self) -> bool {
        self.rows <= self.rows_padded
            && self.rows_padded.is_multiple_of(ROW_PAD)
            && (self.words == 0
                || self.a.len()
                    >= ((self.blocks() - 1) * self.rows_padded
                        + self.rows.next_multiple_of(ROW_PAD))
                        * BLOCK)
            && self.first + self.blocks() * BLOCK <= self.b.depth
            && self.b.is_whole()
            && self.start.is_multiple_of(PANEL)
            && self.end <= self.b.columns
            && (self.end.is_multiple_of(PANEL) || self.end == self.b.columns)
    }

    /// Calls `body(column, width, panel)` for each panel, `panel` starting at word `first`.
    #[inline(always)]
    fn panel(&self, column: usize) -> (usize, *const u32) {
        let width = panel_width(self.b.columns, column);
        let at = column * self.b.depth + self.first * width;
        (width, self.b.data[at..].as_ptr())
    }
}

/// Runs a tile.
///
/// # Safety
/// `tile.c` has `rows` rows of `end - start` writable values that no other task touches meanwhile.
pub(crate) unsafe fn run_tile(isa: Isa, tile: HalfTile<'_>) {
    assert!(tile.is_consistent(), "tile sizes disagree, this is a bug");
    dispatch_words(isa, Checked(tile));
}

/// A tile whose sizes agree and whose output is vouched for; only [`run_tile`] makes one.
struct Checked<'a>(HalfTile<'a>);

impl WordOp for Checked<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Words>(self, s: S) {
        let tile = self.0;
        debug_assert!(ROW_PAD.is_multiple_of(ROW_STEP));
        let mut column = tile.start;
        while column < tile.end {
            let (width, panel) = tile.panel(column);
            let after = if column + width < tile.end {
                panel.wrapping_add(width * tile.b.depth)
            } else {
                panel
            };
            let mut strip = 0;
            while strip < width.min(tile.end - column) {
                let piece = Piece {
                    a: tile.a.as_ptr(),
                    a_step: tile.rows_padded * BLOCK,
                    words: tile.words,
                    b: panel.wrapping_add(strip),
                    b_step: width,
                    next: after,
                };
                let to = ToRows {
                    c: tile.c.wrapping_add(column - tile.start + strip),
                    c_step: tile.c_step,
                    rows: tile.rows,
                    columns: tile.end - column - strip,
                    store: tile.store,
                };
                // SAFETY: the left side and the panel hold the words (`is_consistent`); rows and columns of the output are
                // vouched for by `run_tile`'s caller.
                unsafe {
                    if width - strip >= 2 * S::LANES {
                        strip_rows::<S, Bf16, ToRows, 2>(s, piece, tile.rows, to);
                        strip += 2 * S::LANES;
                    } else {
                        strip_rows::<S, Bf16, ToRows, 1>(s, piece, tile.rows, to);
                        strip += S::LANES;
                    }
                }
            }
            column += width;
        }
    }
}

/// Writes sums to rows of an output.
#[derive(Clone, Copy)]
struct ToRows {
    c: *mut f32,
    c_step: usize,
    rows: usize,
    columns: usize,
    store: Store,
}

impl Finish<Bf16> for ToRows {
    #[inline(always)]
    unsafe fn finish<S: Words, const MR: usize, const NV: usize>(
        self,
        s: S,
        first: usize,
        sums: &[[<Bf16 as Kind>::Sum<S>; NV]; MR],
    ) {
        let add = self.store == Store::Add;
        let mut i = 0;
        while i < MR {
            if first + i < self.rows {
                let mut j = 0;
                while j < NV {
                    let c = self
                        .c
                        .wrapping_add((first + i) * self.c_step + j * S::LANES);
                    let columns = self.columns.saturating_sub(j * S::LANES);
                    // SAFETY: a row below `rows`; whole vectors or the columns that are left, by the caller's promise.
                    unsafe {
                        if columns >= S::LANES {
                            let old = if add { s.load(c) } else { s.splat(0.0) };
                            s.store(c, s.add(old, sums[i][j]));
                        } else {
                            store_ragged(s, c, sums[i][j], columns, add);
                        }
                    }
                    j += 1;
                }
            }
            i += 1;
        }
    }
}

/// Writes the first `count` sums of a vector.
///
/// # Safety
/// `c` has `count` readable and writable values.
#[inline(always)]
unsafe fn store_ragged<S: Words>(s: S, c: *mut f32, sums: S::V, count: usize, add: bool) {
    let mut lanes = [0.0; MAX_LANES];
    // SAFETY: the copy holds any vector.
    unsafe { s.store(lanes.as_mut_ptr(), sums) };
    let mut i = 0;
    while i < count {
        // SAFETY: i < count, which the caller vouches for.
        unsafe {
            let old = if add { *c.add(i) } else { 0.0 };
            *c.add(i) = old + lanes[i];
        }
        i += 1;
    }
}
