//! What the words of a product hold, and how they are multiplied.

use crate::simd::Words;

/// A kind of product of words.
pub(crate) trait Kind: Copy + Send + Sync + 'static {
    /// A vector of sums.
    type Sum<S: Words>: Copy;
    /// Elements a word holds.
    const PER_WORD: usize;

    /// Sums of nothing.
    fn zero<S: Words>(s: S) -> Self::Sum<S>;
    /// Adds the products of each pair of words.
    fn step<S: Words>(s: S, sum: Self::Sum<S>, a: S::I, b: S::I) -> Self::Sum<S>;
    /// The sums as f32.
    fn value<S: Words>(s: S, sum: Self::Sum<S>) -> S::V;
}

/// Pairs of bf16, summed in f32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bf16;

impl Kind for Bf16 {
    type Sum<S: Words> = S::V;
    const PER_WORD: usize = 2;

    #[inline(always)]
    fn zero<S: Words>(s: S) -> S::V {
        s.splat(0.0)
    }

    #[inline(always)]
    fn step<S: Words>(s: S, sum: S::V, a: S::I, b: S::I) -> S::V {
        s.dot_bf16(sum, a, b)
    }

    #[inline(always)]
    fn value<S: Words>(_: S, sum: S::V) -> S::V {
        sum
    }
}

/// Pairs of i16, summed in i32: exact as long as no sum leaves i32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct I16;

impl Kind for I16 {
    type Sum<S: Words> = S::I;
    const PER_WORD: usize = 2;

    #[inline(always)]
    fn zero<S: Words>(s: S) -> S::I {
        s.zero_words()
    }

    #[inline(always)]
    fn step<S: Words>(s: S, sum: S::I, a: S::I, b: S::I) -> S::I {
        s.dot_i16(sum, a, b)
    }

    #[inline(always)]
    fn value<S: Words>(s: S, sum: S::I) -> S::V {
        s.to_float(sum)
    }
}

/// Single f32.
#[derive(Clone, Copy, Debug)]
pub(crate) struct F32;

impl Kind for F32 {
    type Sum<S: Words> = S::V;
    const PER_WORD: usize = 1;

    #[inline(always)]
    fn zero<S: Words>(s: S) -> S::V {
        s.splat(0.0)
    }

    #[inline(always)]
    fn step<S: Words>(s: S, sum: S::V, a: S::I, b: S::I) -> S::V {
        s.mul_add(s.as_float(a), s.as_float(b), sum)
    }

    #[inline(always)]
    fn value<S: Words>(_: S, sum: S::V) -> S::V {
        sum
    }
}
