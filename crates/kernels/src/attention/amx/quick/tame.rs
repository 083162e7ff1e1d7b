//! Whether keys and queries are fit for fixed-point logarithms.

use super::products::SIDE_BY_SIDE;
use crate::amx::SUMS;
use crate::half::BLOCK;
use crate::isa::WordOp;
use crate::simd::Words;

/// Bound of the scores' logarithms: up to twice this their integers are exact in f32.
const TAME: f32 = 2_097_152.0;

/// Whether keys and queries of so many words are fit for the tiles: all of a group's queries must be held at once. Deeper ones
/// have so many products that the softmax costs little beside them.
pub(in super::super) fn fits(deep: usize) -> bool {
    deep <= SIDE_BY_SIDE * BLOCK
}

/// Whether scores are fit, by the sum of the keys' squares and the largest of the queries' sums; none is that is not a number.
pub(in super::super) fn is_tame(keys: f32, queries: f32, factor: f32) -> bool {
    keys.sqrt() * queries.sqrt() * factor < TAME
}

/// Sum of the squares of all values of some words, NaN or infinite where one is.
pub(in super::super) struct Squares<'a>(pub(in super::super) &'a [u32]);

impl WordOp for Squares<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Words>(self, s: S) -> f32 {
        let mut sums = [s.splat(0.0); 2];
        let mut words = self.0.chunks_exact(2 * BLOCK);
        for words in &mut words {
            let mut i = 0;
            while i < BLOCK {
                // SAFETY: both vectors lie within the 32 words.
                unsafe {
                    let [a, b] = [words.as_ptr().add(i), words.as_ptr().add(BLOCK + i)];
                    let [a, b] = [s.load_words(a), s.load_words(b)];
                    sums[0] = s.dot_bf16(sums[0], a, a);
                    sums[1] = s.dot_bf16(sums[1], b, b);
                }
                i += S::LANES;
            }
        }
        assert!(
            words.remainder().is_empty(),
            "words are not in pairs of blocks, this is a bug"
        );
        s.sum(s.add(sums[0], sums[1]))
    }
}

/// The largest sum of squares of a query's words, `[groups][deep / 16][2][16][16]`, infinite where one is not a number.
pub(in super::super) struct Longest<'a> {
    pub(in super::super) q: &'a [u32],
    pub(in super::super) deep: usize,
}

impl WordOp for Longest<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Words>(self, s: S) -> f32 {
        let (mut longest, mut total) = (s.splat(0.0), s.splat(0.0));
        for group in self.q.chunks_exact(self.deep * SUMS) {
            let mut lane = 0;
            while lane < SUMS {
                let start = lane / BLOCK * BLOCK * BLOCK + lane % BLOCK;
                let mut sums = [s.splat(0.0); 4];
                let mut word = 0;
                while word < self.deep {
                    let at = word / BLOCK * BLOCK * SUMS + word % BLOCK * BLOCK + start;
                    for (i, sum) in sums.iter_mut().enumerate() {
                        // SAFETY: rows of 16 lanes of the group, of which vectors start at one; their number is a multiple of 16.
                        let words = unsafe { s.load_words(group.as_ptr().add(at + i * BLOCK)) };
                        *sum = s.dot_bf16(*sum, words, words);
                    }
                    word += sums.len();
                }
                let sum = s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3]));
                longest = s.max(longest, sum);
                total = s.add(total, sum);
                lane += S::LANES;
            }
        }
        if s.sum(total).is_finite() {
            s.largest(longest)
        } else {
            f32::INFINITY
        }
    }
}
