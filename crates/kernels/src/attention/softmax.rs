//! The running softmax of a block of queries.

use super::block::KEYS;
use crate::isa::Op;
use crate::lanes::{ExpSum, Largest, Scale, Zip};
use crate::simd::Simd;

/// State of the running softmax: for each row the largest score yet, the sum of exponentials and the weighted values.
pub(super) struct Softmax<'a> {
    /// `[rows][KEYS]`, the first `count` of each row in use: scores in, weights out.
    pub(super) scores: &'a mut [f32],
    pub(super) count: usize,
    pub(super) max: &'a mut [f32],
    pub(super) sum: &'a mut [f32],
    /// Weighted values of row 0.
    pub(super) out: *mut f32,
    pub(super) out_step: usize,
    pub(super) dim: usize,
}

/// The promise that the output pointer is good.
pub(super) struct Running<'a>(Softmax<'a>);

impl<'a> Running<'a> {
    /// # Safety
    /// `out` has `max.len()` rows of `dim` values, `out_step` apart, that no other task touches.
    pub(super) unsafe fn new(state: Softmax<'a>) -> Self {
        Self(state)
    }
}

impl Op for Running<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Softmax {
            scores,
            count,
            max,
            sum,
            out,
            out_step,
            dim,
        } = self.0;
        let mut row = 0;
        while row < max.len() {
            let scores = &mut scores[row * KEYS..row * KEYS + count];
            let old = max[row];
            let block = Largest(scores).run(s);
            let new = if block > old { block } else { old };
            let added = ExpSum {
                row: scores,
                max: new,
            }
            .run(s);
            if new > old && old > f32::NEG_INFINITY {
                let mut factor = [old - new];
                ExpSum {
                    row: &mut factor,
                    max: 0.0,
                }
                .run(s);
                sum[row] *= factor[0];
                // SAFETY: row `row` of the output, by the promise of `new`.
                let out = unsafe { std::slice::from_raw_parts_mut(out.add(row * out_step), dim) };
                Zip {
                    f: Scale(factor[0]),
                    a: None,
                    b: None,
                    out,
                }
                .run(s);
            }
            sum[row] += added;
            max[row] = new;
            row += 1;
        }
    }
}
