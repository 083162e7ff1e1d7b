//! The running softmax of a panel of queries, a lane each.

use crate::isa::Op;
use crate::math::exp2;
use crate::simd::Simd;

/// Rows taken at once, so that a largest score or a sum need not wait for the one before.
const CHAINS: usize = 4;

/// State of the running softmax; scores are logarithms to base 2.
pub(super) struct Softmax<'a> {
    /// `[keys][width]`: scores in, weights out.
    pub(super) scores: &'a mut [f32],
    /// Queries, whole vectors.
    pub(super) width: usize,
    /// `[width]`: the largest score yet.
    pub(super) max: &'a mut [f32],
    /// `[width]`: the sum of weights yet.
    pub(super) sum: &'a mut [f32],
    /// `[channels][width]`: the weighted values yet.
    pub(super) out: &'a mut [f32],
    /// Whether there is nothing yet.
    pub(super) first: bool,
}

/// Turns scores into weights, and what there is into multiples of the new largest score's.
pub(super) struct Running<'a>(pub(super) Softmax<'a>);

impl Op for Running<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let state = self.0;
        let width = state.width;
        assert!(
            width.is_multiple_of(S::LANES)
                && state.max.len() == width
                && state.sum.len() == width
                && state.scores.len().is_multiple_of(width)
                && state.out.len().is_multiple_of(width),
            "sizes of a softmax disagree, this is a bug"
        );
        let rows = state.scores.len() / width;
        let channels = state.out.len() / width;
        let mut lane = 0;
        while lane < width {
            // SAFETY: a vector from `lane` on is inside each row of all of them.
            unsafe {
                let scores = state.scores.as_mut_ptr().add(lane);
                let max = state.max.as_mut_ptr().add(lane);
                let sum = state.sum.as_mut_ptr().add(lane);
                let old = s.load(max);
                let new = s.max(largest(s, scores.cast_const(), width, rows), old);
                let added = weigh(s, scores, width, rows, new);
                s.store(max, new);
                if state.first {
                    s.store(sum, added);
                } else {
                    let factor = exp2(s, s.sub(old, new));
                    s.store(sum, s.mul_add(s.load(sum), factor, added));
                    if s.sum(s.sub(s.splat(1.0), factor)) != 0.0 {
                        let out = state.out.as_mut_ptr().add(lane);
                        let mut channel = 0;
                        while channel < channels {
                            let at = out.add(channel * width);
                            s.store(at, s.mul(s.load(at), factor));
                            channel += 1;
                        }
                    }
                }
            }
            lane += S::LANES;
        }
    }
}

/// Largest of a column of vectors.
///
/// # Safety
/// `from + i * width` is readable for each row.
#[inline(always)]
unsafe fn largest<S: Simd>(s: S, from: *const f32, width: usize, rows: usize) -> S::V {
    let mut most = [s.splat(f32::NEG_INFINITY); CHAINS];
    let mut row = 0;
    while row + CHAINS <= rows {
        let mut i = 0;
        while i < CHAINS {
            // SAFETY: row + i < rows.
            most[i] = s.max(unsafe { s.load(from.add((row + i) * width)) }, most[i]);
            i += 1;
        }
        row += CHAINS;
    }
    while row < rows {
        // SAFETY: row < rows.
        most[0] = s.max(unsafe { s.load(from.add(row * width)) }, most[0]);
        row += 1;
    }
    s.max(s.max(most[0], most[1]), s.max(most[2], most[3]))
}

/// `scores = 2^(scores - max)` of a column of vectors; their sum.
///
/// # Safety
/// `scores + i * width` is readable and writable for each row.
#[inline(always)]
unsafe fn weigh<S: Simd>(s: S, scores: *mut f32, width: usize, rows: usize, max: S::V) -> S::V {
    let mut sums = [s.splat(0.0); CHAINS];
    let mut row = 0;
    while row + CHAINS <= rows {
        let mut i = 0;
        while i < CHAINS {
            // SAFETY: row + i < rows.
            unsafe {
                let at = scores.add((row + i) * width);
                let weight = exp2(s, s.sub(s.load(at), max));
                s.store(at, weight);
                sums[i] = s.add(sums[i], weight);
            }
            i += 1;
        }
        row += CHAINS;
    }
    while row < rows {
        // SAFETY: row < rows.
        unsafe {
            let at = scores.add(row * width);
            let weight = exp2(s, s.sub(s.load(at), max));
            s.store(at, weight);
            sums[0] = s.add(sums[0], weight);
        }
        row += 1;
    }
    s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3]))
}
