//! The running softmax of a block of queries, from f32 scores to bf16 weights.

use super::bf16::KEYS;
use crate::half::BLOCK;
use crate::isa::Op;
use crate::isa::WordOp;
use crate::lanes::{Largest, Scale, Zip};
use crate::simd::Words;

/// State of the running softmax; scores are logarithms to base 2.
pub(super) struct Fold<'a> {
    /// `[rows][KEYS]`, the first `count` of each row in use; those up to a multiple of 32 are overwritten.
    pub(super) scores: &'a mut [f32],
    pub(super) count: usize,
    /// For each row the largest score yet and the sum of powers.
    pub(super) max: &'a mut [f32],
    pub(super) sum: &'a mut [f32],
    /// `[blocks][rows_padded][BLOCK]`: the weights, zeros to the end of the last block.
    pub(super) weights: &'a mut [u32],
    pub(super) rows_padded: usize,
    /// `[rows][out_step]`: the weighted values yet.
    pub(super) out: &'a mut [f32],
    pub(super) out_step: usize,
}

impl WordOp for Fold<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Words>(self, s: S) {
        let Fold {
            scores,
            count,
            max,
            sum,
            weights,
            rows_padded,
            out,
            out_step,
        } = self;
        let blocks = count.div_ceil(2 * BLOCK);
        assert!(
            max.len() <= rows_padded
                && blocks * 2 * BLOCK <= KEYS
                && scores.len() >= max.len() * KEYS
                && sum.len() == max.len(),
            "sizes of a softmax disagree, this is a bug"
        );
        let mut row = 0;
        while row < max.len() {
            let scores = &mut scores[row * KEYS..][..KEYS];
            let old = max[row];
            let largest = Largest(&scores[..count]).run(s);
            let new = if largest > old { largest } else { old };
            // What is behind the last key weighs nothing.
            scores[count..blocks * 2 * BLOCK].fill(f32::NEG_INFINITY);
            let shift = s.splat(new);
            let mut sums = [s.splat(0.0); 2];
            let mut block = 0;
            while block < blocks {
                let from = scores[block * 2 * BLOCK..][..2 * BLOCK].as_ptr();
                let at = (block * rows_padded + row) * BLOCK;
                let to = weights[at..at + BLOCK].as_mut_ptr().cast::<u16>();
                let mut i = 0;
                while i < 2 * BLOCK {
                    // SAFETY: two vectors of the block's 32 scores, and as many halves of its 16 words.
                    unsafe {
                        let first = s.exp2(s.sub(s.load(from.add(i)), shift));
                        let second = s.exp2(s.sub(s.load(from.add(i + S::LANES)), shift));
                        sums = [s.add(sums[0], first), s.add(sums[1], second)];
                        s.store_bf16(to.add(i), first, second);
                    }
                    i += 2 * S::LANES;
                }
                block += 1;
            }
            if new > old && old > f32::NEG_INFINITY {
                let factor = (old - new).exp2();
                sum[row] *= factor;
                Zip {
                    f: Scale(factor),
                    a: None,
                    b: None,
                    out: &mut out[row * out_step..(row + 1) * out_step],
                }
                .run(s);
            }
            sum[row] += s.sum(s.add(sums[0], sums[1]));
            max[row] = new;
            row += 1;
        }
    }
}
