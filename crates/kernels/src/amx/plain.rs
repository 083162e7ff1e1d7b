//! Sums with what a product adds to them.

use super::SUMS;
use super::finish::{Finish, Target, load, put, put_halves};
use super::recording::{Slot, Tally};
use crate::matmul::Epilogue;
use crate::norm::Recorder;
use crate::simd::Words;

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
