//! A tile of the product: some rows by some panels, walked so that panels stay in L1 and rows in L2.

use super::micro::{Segment, Store, Strip, rows};
use super::pack::{PANEL, Panels, panel_width};
use crate::isa::Op;
use crate::simd::Simd;

/// Longest run of k multiplied at once: a panel's 256 x 32 f32 are 32 KiB and stay in a 48 KiB L1 (or half stays in 32 KiB)
/// while the rows of a tile pass by.
const DEPTH: usize = 256;

/// The rows of a tile as pointers: `taps` tables of `count` pointers, each to `len` values; the sum runs over taps, then values.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// `[taps][count]`.
    pub(crate) table: &'a [*const f32],
    pub(crate) count: usize,
    pub(crate) taps: usize,
    pub(crate) len: usize,
}

/// Multiplies one tile: `c[rows][columns] (+)= a . b`.
#[derive(Clone, Copy)]
pub(crate) struct Tile<'a> {
    pub(crate) a: Rows<'a>,
    pub(crate) b: Panels<'a>,
    /// First column, a multiple of [`PANEL`].
    pub(crate) start: usize,
    /// One past the last column: a multiple of [`PANEL`], or the matrix' width.
    pub(crate) end: usize,
    /// Output of row 0, column `start`.
    pub(crate) c: *mut f32,
    /// Outputs from one row to the next.
    pub(crate) c_step: usize,
    pub(crate) store: Store,
    /// What to fetch while the last panel is multiplied: the rows of the next tile, or null for nothing.
    pub(crate) next: *const f32,
}

impl Tile<'_> {
    /// Checks what [`Op::run`] relies on, apart from the pointers themselves.
    fn is_consistent(&self) -> bool {
        self.a.table.len() >= self.a.taps * self.a.count
            && self.a.taps * self.a.len == self.b.depth
            && self.b.data.len() >= super::pack::packed_len(self.b.columns, self.b.depth)
            && self.start.is_multiple_of(PANEL)
            && self.end <= self.b.columns
            && (self.end.is_multiple_of(PANEL) || self.end == self.b.columns)
    }
}

/// The unsafe promise that a tile's pointers are good; only this can be dispatched.
pub(crate) struct Checked<'a>(Tile<'a>);

impl<'a> Checked<'a> {
    /// # Safety
    /// Every pointer of the table has `a.len` readable values; `c` has `a.count` rows of `end - start` writable values that no
    /// other task touches meanwhile.
    pub(crate) unsafe fn new(tile: Tile<'a>) -> Self {
        assert!(tile.is_consistent(), "tile sizes disagree, this is a bug");
        Self(tile)
    }
}

impl Op for Checked<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Tile {
            a,
            b,
            start,
            end,
            c,
            c_step,
            store,
            next,
        } = self.0;
        if b.depth == 0 {
            // SAFETY: the whole tile is ours to write.
            unsafe { clear(&self.0) };
            return;
        }
        let (taps_at_once, len_at_once) = block(a.len);
        let mut tap = 0;
        let mut offset = 0;
        while tap < a.taps {
            let taps = taps_at_once.min(a.taps - tap);
            let len = len_at_once.min(a.len - offset);
            let seg = Segment {
                first: tap * a.count,
                tap_step: a.count,
                taps,
                offset,
                len,
            };
            let store = if tap == 0 && offset == 0 {
                store
            } else {
                Store::Add
            };
            let mut column = start;
            while column < end {
                let width = panel_width(b.columns, column);
                let panel = b.data[column * b.depth + (tap * a.len + offset) * width..].as_ptr();
                let after = if column + width < end {
                    panel.wrapping_add(width * b.depth)
                } else if next.is_null() {
                    panel
                } else {
                    next
                };
                let mut strip_start = 0;
                while strip_start < width.min(end - column) {
                    let strip = Strip {
                        b: panel.wrapping_add(strip_start),
                        b_step: width,
                        c: c.wrapping_add(column - start + strip_start),
                        c_step,
                        columns: end - column - strip_start,
                        store,
                        next: after,
                    };
                    // SAFETY: the segment lies inside the table and the runs (`is_consistent`), the strip inside the panel; rows
                    // and outputs are vouched for by `Checked::new`.
                    unsafe {
                        if width - strip_start >= 2 * S::LANES {
                            strip_rows::<S, 2>(s, &a, seg, strip);
                            strip_start += 2 * S::LANES;
                        } else {
                            strip_rows::<S, 1>(s, &a, seg, strip);
                            strip_start += S::LANES;
                        }
                    }
                }
                column += width;
            }
            offset += len;
            if offset == a.len {
                offset = 0;
                tap += taps;
            }
        }
    }
}

/// All rows of the tile against one strip.
///
/// # Safety
/// As [`rows`] for all of `a.count`.
#[inline(always)]
unsafe fn strip_rows<S: Simd, const NV: usize>(s: S, a: &Rows<'_>, seg: Segment, strip: Strip) {
    // SAFETY: the caller's promise.
    unsafe { rows::<S, NV>(s, a.table.as_ptr(), a.count, seg, strip) }
}

/// Taps and values a tap taken at once, at most [`DEPTH`] values in all: whole taps, or equal pieces of one.
///
/// Depends on the run alone, so the order of every sum is a function of the shape.
fn block(len: usize) -> (usize, usize) {
    if len <= DEPTH {
        return ((DEPTH / len.max(1)).max(1), len);
    }
    let pieces = len.div_ceil(DEPTH);
    (1, len.div_ceil(pieces).next_multiple_of(8))
}

/// What a product with no terms leaves.
///
/// # Safety
/// The tile's outputs are writable.
unsafe fn clear(tile: &Tile<'_>) {
    if tile.store == Store::Add {
        return;
    }
    for row in 0..tile.a.count {
        for column in 0..tile.end - tile.start {
            // SAFETY: the caller's promise.
            unsafe { *tile.c.add(row * tile.c_step + column) = 0.0 };
        }
    }
}
