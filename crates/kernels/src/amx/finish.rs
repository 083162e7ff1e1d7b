//! What becomes of a block of sums.

use super::blocks::NONE;
use super::recording::Slot;
use super::{SUMS, TALL, TILE};
use crate::math::{gelu, gelu_coarse};
use crate::norm::Recorder;
use crate::shared::SharedMut;
use crate::simd::Words;

/// Where a block of sums goes.
pub(crate) struct Target<'a> {
    pub(super) out: &'a SharedMut<'a>,
    /// Output row of each row of sums.
    pub(super) rows: [[u32; TILE]; TALL],
    /// Rows of the block, those of two tiles or three.
    pub(super) high: usize,
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
    /// Where sums of what is written are kept.
    pub(super) slot: Option<Slot<'a>>,
}

impl<'a> Target<'a> {
    /// The places of a row that the block has, half as many where each takes two values.
    ///
    /// # Safety
    /// No other task touches them.
    #[inline(always)]
    pub(super) unsafe fn row_of<const HALVES: bool>(&self, row: usize) -> &'a mut [f32] {
        let (at, in_place) = (row * self.columns + self.start, 1 + usize::from(HALVES));
        assert!(
            !HALVES || self.columns.is_multiple_of(SUMS),
            "halves of a narrow output, this is a bug"
        );
        // SAFETY: the caller's promise.
        unsafe { self.out.part(at / in_place, self.count / in_place) }
    }

    /// Output row of row `i` of the sums.
    #[inline(always)]
    pub(super) fn row(&self, i: usize) -> Option<usize> {
        let row = self.rows[i / TILE][i % TILE];
        (row != NONE).then_some(row as usize)
    }

    /// Fetches what writing will read.
    #[inline(always)]
    pub(super) fn fetch<S: Words, F: Finish<W>, const W: usize>(&self, s: S, finish: &F) {
        let mut i = 0;
        while i < self.high {
            if let Some(row) = self.row(i) {
                let at = row * self.columns + self.start;
                if !self.streams && !F::HALVES {
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
    /// Whether it writes bf16, two in each place of the output. Blocks are 32 columns wide then.
    const HALVES: bool;

    /// What it reads at each output's place.
    fn reads(&self) -> Option<&[f32]>;

    /// Who wants the sums of what it writes.
    fn recorder(&self) -> Option<&Recorder> {
        None
    }

    /// Writes a block, whose sums come in rows of 32.
    ///
    /// # Safety
    /// No other task touches the target's rows and columns.
    unsafe fn write<S: Words>(&self, s: S, to: &Target<'_>, sums: [&[f32]; W]);
}

/// `(values + bias) * gelu(gates + bias)`.
#[derive(Clone, Copy)]
pub(crate) struct Gates<'a, const HALVES: bool> {
    /// Of the values and of the gates.
    pub(crate) bias: Option<[&'a [f32]; 2]>,
    /// Whether to compute the gates as precisely as f32 can.
    pub(crate) exact: bool,
}

impl<const HALVES: bool> Gates<'_, HALVES> {
    /// A vector of `count` results from place `at` of both sums and place `column` of the bias on.
    ///
    /// # Safety
    /// So many are there.
    #[inline(always)]
    unsafe fn gated<S: Words>(
        &self,
        s: S,
        sums: [&[f32]; 2],
        (at, column, count): (usize, usize, usize),
    ) -> S::V {
        let mut v = [s.splat(0.0); 2];
        let mut k = 0;
        while k < 2 {
            // SAFETY: the caller's promise.
            unsafe {
                v[k] = s.load(sums[k].as_ptr().add(at));
                if let Some(bias) = self.bias {
                    let bias = &bias[k][column..][..count];
                    v[k] = s.add(v[k], load(s, bias.as_ptr(), count));
                }
            }
            k += 1;
        }
        let gate = if self.exact {
            gelu(s, v[1])
        } else {
            gelu_coarse(s, v[1])
        };
        s.mul(v[0], gate)
    }
}

impl<const HALVES: bool> Finish<2> for Gates<'_, HALVES> {
    const ADDS: bool = false;
    const HALVES: bool = HALVES;

    fn reads(&self) -> Option<&[f32]> {
        None
    }

    #[inline(always)]
    unsafe fn write<S: Words>(&self, s: S, to: &Target<'_>, sums: [&[f32]; 2]) {
        assert!(
            sums.iter().all(|sums| sums.len() >= to.high * SUMS),
            "sums of a lower block, this is a bug"
        );
        let mut i = 0;
        while i < to.high {
            if let Some(row) = to.row(i) {
                // SAFETY: the caller's promise.
                let out = unsafe { to.row_of::<HALVES>(row) };
                let mut j = 0;
                while j < to.count {
                    let (at, column) = (i * SUMS + j, to.start + j);
                    // SAFETY: `count` elements are left of the output's part, of both sums' rows and, from column `start + j`
                    // on, of both biases, by the slices; halves come in rows of 32.
                    unsafe {
                        if HALVES {
                            let next = (at + S::LANES, column + S::LANES, S::LANES);
                            let first = self.gated(s, sums, (at, column, S::LANES));
                            let v = [first, self.gated(s, sums, next)];
                            put_halves(s, out.as_mut_ptr().add(j / 2), v, to.streams);
                            j += 2 * S::LANES;
                        } else {
                            let count = S::LANES.min(to.count - j);
                            let v = self.gated(s, sums, (at, column, count));
                            put(s, out.as_mut_ptr().add(j), v, count, to.streams);
                            j += count;
                        }
                    }
                }
            }
            i += 1;
        }
    }
}

/// # Safety
/// `to` has a vector of writable places, for two vectors of values.
#[inline(always)]
pub(super) unsafe fn put_halves<S: Words>(
    s: S,
    to: *mut f32,
    [first, second]: [S::V; 2],
    streams: bool,
) {
    // SAFETY: the caller's promise; a place takes two bf16.
    unsafe {
        if streams {
            s.stream_bf16(to.cast(), first, second);
        } else {
            s.store_bf16(to.cast(), first, second);
        }
    }
}

/// # Safety
/// `from` has `count` readable values, at most a vector.
#[inline(always)]
pub(super) unsafe fn load<S: Words>(s: S, from: *const f32, count: usize) -> S::V {
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
pub(super) unsafe fn put<S: Words>(s: S, to: *mut f32, v: S::V, count: usize, streams: bool) {
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
