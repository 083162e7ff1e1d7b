//! What becomes of a block of sums.

use super::blocks::NONE;
use super::recording::{Slot, Tally};
use super::{SUMS, TALL, TILE};
use crate::math::{gelu, gelu_coarse};
use crate::matmul::Epilogue;
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
    unsafe fn row_of<const HALVES: bool>(&self, row: usize) -> &'a mut [f32] {
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
    fn row(&self, i: usize) -> Option<usize> {
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

/// Sums with what a product adds to them.
#[derive(Clone, Copy)]
pub(crate) struct Plain<'a, const HALVES: bool>(pub(crate) Epilogue<'a>);

impl<const HALVES: bool> Finish<1> for Plain<'_, HALVES> {
    const ADDS: bool = !HALVES;
    const HALVES: bool = HALVES;

    fn reads(&self) -> Option<&[f32]> {
        self.0.residual
    }

    fn recorder(&self) -> Option<&Recorder> {
        self.0.recorder.filter(|_| !HALVES)
    }

    #[inline(always)]
    unsafe fn write<S: Words>(&self, s: S, to: &Target<'_>, [sums]: [&[f32]; 1]) {
        if let Some(slot) = &to.slot {
            // SAFETY: the caller's promise.
            return unsafe { self.write_recorded(s, to, sums, slot) };
        }
        let mut i = 0;
        while i < to.high {
            if let Some(row) = to.row(i) {
                let sums = &sums[i * SUMS..][..to.count];
                // SAFETY: the caller's promise.
                let out = unsafe { to.row_of::<HALVES>(row) };
                let addend = self.addends(to, row);
                if HALVES {
                    add_rounded(s, sums, addend, to.streams, out);
                } else {
                    add_rows(s, sums, addend, [to.adds, to.streams], out);
                }
            }
            i += 1;
        }
    }
}

impl<const HALVES: bool> Plain<'_, HALVES> {
    /// What is added to a row of the target.
    #[inline(always)]
    fn addends(&self, to: &Target<'_>, row: usize) -> [Option<&[f32]>; 3] {
        let (first, epilogue) = (!to.adds, &self.0);
        let at = row * to.columns + to.start;
        [
            epilogue
                .bias
                .filter(|_| first)
                .map(|bias| &bias[to.start..][..to.count]),
            epilogue
                .row_bias
                .filter(|_| first)
                .map(|(bias, group)| &bias[row / group * to.columns + to.start..][..to.count]),
            epilogue
                .residual
                .filter(|_| first)
                .map(|from| &from[at..][..to.count]),
        ]
    }

    /// Writes a block of 32 columns and adds up what it writes.
    ///
    /// # Safety
    /// As [`Finish::write`].
    #[inline(always)]
    unsafe fn write_recorded<S: Words>(
        &self,
        s: S,
        to: &Target<'_>,
        sums: &[f32],
        slot: &Slot<'_>,
    ) {
        assert!(
            to.count == SUMS && !HALVES,
            "sums of a narrow block, this is a bug"
        );
        // SAFETY: who writes a block's columns has their places of the slot.
        let mut tally = unsafe { Tally::new(s, slot, to.start) };
        let mut i = 0;
        while i < to.high {
            if let Some(row) = to.row(i) {
                let sums = &sums[i * SUMS..][..SUMS];
                let addends = self.addends(to, row);
                // SAFETY: the caller's promise; sums, addends and `out` have two vectors of values.
                unsafe {
                    let out = to.row_of::<false>(row).as_mut_ptr();
                    let mut v = [s.splat(0.0); 2];
                    let mut k = 0;
                    while k < 2 {
                        let at = k * S::LANES;
                        v[k] = sum(s, sums, addends, at);
                        if to.adds {
                            v[k] = s.add(v[k], s.load(out.add(at)));
                        }
                        put(s, out.add(at), v[k], S::LANES, to.streams);
                        k += 1;
                    }
                    tally.add(s, v);
                }
            }
            i += 1;
        }
        tally.finish(s);
    }
}

/// A vector of sums and what is added to them, from place `at` on.
///
/// # Safety
/// So many values are there.
#[inline(always)]
unsafe fn sum<S: Words>(s: S, sums: &[f32], addends: [Option<&[f32]>; 3], at: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let mut v = s.load(sums.as_ptr().add(at));
        let mut j = 0;
        while j < addends.len() {
            if let Some(addend) = addends[j] {
                v = s.add(v, s.load(addend.as_ptr().add(at)));
            }
            j += 1;
        }
        v
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

/// `out = sums + addends` as bf16, two in each place of `out`; rows of 32.
#[inline(always)]
fn add_rounded<S: Words>(
    s: S,
    sums: &[f32],
    addends: [Option<&[f32]>; 3],
    streams: bool,
    out: &mut [f32],
) {
    assert!(
        sums.len() == SUMS && out.len() == SUMS / 2,
        "halves of a narrow block, this is a bug"
    );
    let mut i = 0;
    while i < SUMS {
        // SAFETY: sums and addends have 32 values, `out` 16 places.
        unsafe {
            let v = [
                sum(s, sums, addends, i),
                sum(s, sums, addends, i + S::LANES),
            ];
            put_halves(s, out.as_mut_ptr().add(i / 2), v, streams);
        }
        i += 2 * S::LANES;
    }
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
unsafe fn put_halves<S: Words>(s: S, to: *mut f32, [first, second]: [S::V; 2], streams: bool) {
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
