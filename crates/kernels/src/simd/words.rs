//! Operations on vectors of 32-bit words, each a pair of 16-bit values or one f32.

use super::Simd;
use crate::math::exp2_coarse;

/// What the 16-bit kernels need of an instruction set beside its f32 operations.
///
/// A word holds the even element in its low half. As with [`Simd`], everything is `#[inline(always)]`.
pub(crate) trait Words: Simd {
    /// A vector of `LANES` words.
    type I: Copy;

    /// All words 0.
    fn zero_words(self) -> Self::I;
    /// All words `word`.
    fn splat_word(self, word: u32) -> Self::I;
    /// Reads `LANES` words.
    ///
    /// # Safety
    /// `from` is valid for reads of `LANES` words.
    unsafe fn load_words(self, from: *const u32) -> Self::I;
    /// 2^x to 1e-4 of itself, or better, for -125 <= x <= 0; at most 2^-125 below, NaN for NaN.
    #[inline(always)]
    fn exp2(self, x: Self::V) -> Self::V {
        exp2_coarse(self, x)
    }
    /// The words as the f32 they hold.
    fn as_float(self, words: Self::I) -> Self::V;
    /// The words, as signed integers, converted to f32.
    fn to_float(self, words: Self::I) -> Self::V;
    /// `sum + a.even * b.even + a.odd * b.odd` of bf16 pairs.
    fn dot_bf16(self, sum: Self::V, a: Self::I, b: Self::I) -> Self::V;
    /// The same of i16 pairs, in i32.
    fn dot_i16(self, sum: Self::I, a: Self::I, b: Self::I) -> Self::I;
    /// Writes `2 * LANES` values as bf16, rounded to nearest even: `first`, then `second`.
    ///
    /// # Safety
    /// `to` is valid for writes of `2 * LANES` u16.
    unsafe fn store_bf16(self, to: *mut u16, first: Self::V, second: Self::V);
    /// Writes `2 * LANES` values, each of at most 32767 in size, as the nearest i16: `first`, then `second`.
    ///
    /// # Safety
    /// `to` is valid for writes of `2 * LANES` u16.
    unsafe fn store_i16(self, to: *mut u16, first: Self::V, second: Self::V);
}

/// Nearest bf16, ties to even; NaN stays NaN.
#[inline(always)]
pub(crate) fn bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}
