//! What becomes of a block of sums.

use super::blocks::NONE;
use super::{SUMS, TILE};
use crate::math::{gelu, gelu_coarse};
use crate::matmul::Epilogue;
use crate::shared::SharedMut;
use crate::simd::Words;

/// Where a block of sums goes.
pub(crate) struct Target<'a> {
    pub(super) out: &'a SharedMut<'a>,
    /// Output row of each row of sums.
    pub(super) rows: [[u32; TILE]; 2],
    /// Columns of the output.
    pub(super) columns: usize,
    /// First column.
    pub(super) start: usize,
    /// Columns that count, at most 32.
    pub(super) count: usize,
    /// Whether the output holds a part of the sums already.
    pub(super) adds: bool,
    /// Whether the output is too large to be found in a cache by who reads it.
    pub(super) streams: bool,
}

impl Target<'_> {
    /// Output row of row `i` of the sums.
    #[inline(always)]
    fn row(&self, i: usize) -> Option<usize> {
        let row = self.rows[i / TILE][i % TILE];
        (row != NONE).then_some(row as usize)
    }

    /// Fetches what writing will read.
    #[inline(always)]
    pub(super) fn fetch<S: Words, F: Finish<W>, const W: usize>(&self, s: S, finish: &F) {
        let mut i = 0;
        while i < SUMS {
            if let Some(row) = self.row(i) {
                let at = row * self.columns + self.start;
                if !self.streams {
                    s.prefetch(self.out.at(at).cast_const());
                    s.prefetch(self.out.at(at).wrapping_add(TILE).cast_const());
                }
                if let Some(residual) = finish.reads() {
                    s.prefetch(residual.as_ptr().wrapping_add(at));
                    s.prefetch(residual.as_ptr().wrapping_add(at + TILE));
                }
            }
            i += 1;
        }
    }
}

/// Turns sums of `W` products into output.
pub(crate) trait Finish<const W: usize>: Sync {
    /// Whether parts of sums may be written one after the other; if not, the left side must be [whole](super::RowBlocks::whole).
    const ADDS: bool;

    /// What it reads at each output's place.
    fn reads(&self) -> Option<&[f32]>;

    /// Writes a block.
    ///
    /// # Safety
    /// No other task touches the target's rows and columns.
    unsafe fn write<S: Words>(&self, s: S, to: &Target<'_>, sums: &[[f32; SUMS * SUMS]; W]);
}

/// Sums with what a product adds to them.
#[derive(Clone, Copy)]
pub(crate) struct Plain<'a>(pub(crate) Epilogue<'a>);

impl Finish<1> for Plain<'_> {
    const ADDS: bool = true;

    fn reads(&self) -> Option<&[f32]> {
        self.0.residual
    }

    #[inline(always)]
    unsafe fn write<S: Words>(&self, s: S, to: &Target<'_>, [sums]: &[[f32; SUMS * SUMS]; 1]) {
        let mut i = 0;
        while i < SUMS {
            if let Some(row) = to.row(i) {
                let sums = &sums[i * SUMS..][..to.count];
                let at = row * to.columns + to.start;
                // SAFETY: the caller's promise.
                let out = unsafe { to.out.part(at, to.count) };
                let first = !to.adds;
                let epilogue = &self.0;
                let addend = [
                    epilogue
                        .bias
                        .filter(|_| first)
                        .map(|bias| &bias[to.start..][..to.count]),
                    epilogue.row_bias.filter(|_| first).map(|(bias, group)| {
                        &bias[row / group * to.columns + to.start..][..to.count]
                    }),
                    epilogue
                        .residual
                        .filter(|_| first)
                        .map(|from| &from[at..][..to.count]),
                ];
                add_rows(s, sums, addend, [to.adds, to.streams], out);
            }
            i += 1;
        }
    }
}

/// `out = sums + addends`, and what `out` holds when `adds`; all of one length.
#[inline(always)]
fn add_rows<S: Words>(
    s: S,
    sums: &[f32],
    addends: [Option<&[f32]>; 3],
    [adds, streams]: [bool; 2],
    out: &mut [f32],
) {
    let mut i = 0;
    while i < out.len() {
        let count = S::LANES.min(out.len() - i);
        // SAFETY: all slices have the length of `out`, of which `count` elements are left from `i` on.
        unsafe {
            let mut v = load(s, sums.as_ptr().add(i), count);
            let mut j = 0;
            while j < addends.len() {
                if let Some(addend) = addends[j] {
                    v = s.add(v, load(s, addend.as_ptr().add(i), count));
                }
                j += 1;
            }
            if adds {
                v = s.add(v, load(s, out.as_ptr().add(i), count));
            }
            put(s, out.as_mut_ptr().add(i), v, count, streams);
        }
        i += count;
    }
}

/// `(values + bias) * gelu(gates + bias)`.
#[derive(Clone, Copy)]
pub(crate) struct Gates<'a> {
    /// Of the values and of the gates.
    pub(crate) bias: Option<[&'a [f32]; 2]>,
    /// Whether to compute the gates as precisely as f32 can.
    pub(crate) exact: bool,
}

impl Finish<2> for Gates<'_> {
    const ADDS: bool = false;

    fn reads(&self) -> Option<&[f32]> {
        None
    }

    #[inline(always)]
    unsafe fn write<S: Words>(&self, s: S, to: &Target<'_>, sums: &[[f32; SUMS * SUMS]; 2]) {
        let mut i = 0;
        while i < SUMS {
            if let Some(row) = to.row(i) {
                // SAFETY: the caller's promise.
                let out = unsafe { to.out.part(row * to.columns + to.start, to.count) };
                let mut j = 0;
                while j < to.count {
                    let count = S::LANES.min(to.count - j);
                    // SAFETY: `count` elements are left of the output's part, of both sums' rows and, from column `start + j`
                    // on, of both biases, by the slices.
                    unsafe {
                        let mut v = [s.splat(0.0); 2];
                        let mut k = 0;
                        while k < 2 {
                            v[k] = s.load(sums[k].as_ptr().add(i * SUMS + j));
                            if let Some(bias) = self.bias {
                                let bias = &bias[k][to.start + j..][..count];
                                v[k] = s.add(v[k], load(s, bias.as_ptr(), count));
                            }
                            k += 1;
                        }
                        let gate = if self.exact {
                            gelu(s, v[1])
                        } else {
                            gelu_coarse(s, v[1])
                        };
                        let gated = s.mul(v[0], gate);
                        put(s, out.as_mut_ptr().add(j), gated, count, to.streams);
                    }
                    j += count;
                }
            }
            i += 1;
        }
    }
}

/// # Safety
/// `from` has `count` readable values, at most a vector.
#[inline(always)]
unsafe fn load<S: Words>(s: S, from: *const f32, count: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        if count == S::LANES {
            s.load(from)
        } else {
            s.load_partial(from, count, 0.0)
        }
    }
}

/// # Safety
/// `to` has `count` writable values, at most a vector.
#[inline(always)]
unsafe fn put<S: Words>(s: S, to: *mut f32, v: S::V, count: usize, streams: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        if count == S::LANES && streams {
            s.stream(to, v);
        } else if count == S::LANES {
            s.store(to, v);
        } else {
            s.store_partial(to, v, count);
        }
    }
}
