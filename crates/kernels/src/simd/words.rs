//! Operations on vectors of 32-bit words, each a pair of 16-bit values or one f32.

use super::{MAX_LANES, Simd};
use crate::math::exp2_coarse;

/// Words of what `make` makes of each lane, `even` in the low halves.
#[inline(always)]
fn pairs_by_lane<S: Words>(s: S, even: S::V, odd: S::V, make: impl Fn(f32) -> u16) -> S::I {
    let (mut evens, mut odds) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
    let mut words = [0; MAX_LANES];
    // SAFETY: the copies hold any vector.
    unsafe {
        s.store(evens.as_mut_ptr(), even);
        s.store(odds.as_mut_ptr(), odd);
        let mut i = 0;
        while i < S::LANES {
            words[i] = u32::from(make(evens[i])) | u32::from(make(odds[i])) << 16;
            i += 1;
        }
        s.load_words(words.as_ptr())
    }
}

/// What the 16-bit kernels need of an instruction set beside its f32 operations.
///
/// A word holds the even element in its low half. As with [`Simd`], everything is `#[inline(always)]`.
pub(crate) trait Words: Simd {
    /// A vector of `LANES` words.
    type I: Copy;

    /// Stores past the caches where it can, which saves reading what is overwritten; the writes of a thread that streams are seen by
    /// others after [`Self::fence`].
    ///
    /// # Safety
    /// `to` is valid for writes of [`Simd::LANES`] values.
    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, v: Self::V) {
        // SAFETY: the caller's promise.
        unsafe { self.store(to, v) };
    }

    /// Ends a run of [`Self::stream`].
    #[inline(always)]
    fn fence(self) {}

    /// All words 0.
    fn zero_words(self) -> Self::I;
    /// All words `word`.
    fn splat_word(self, word: u32) -> Self::I;
    /// Reads `LANES` words.
    ///
    /// # Safety
    /// `from` is valid for reads of `LANES` words.
    unsafe fn load_words(self, from: *const u32) -> Self::I;
    /// 2^x to 1e-4 of itself, or better, for -125 <= x <= 120; at most 2^-125 below, NaN for NaN.
    #[inline(always)]
    fn exp2(self, x: Self::V) -> Self::V {
        exp2_coarse(self, x)
    }
    /// 1 / v within 1e-4 of itself.
    #[inline(always)]
    fn reciprocal_rough(self, v: Self::V) -> Self::V {
        self.div(self.splat(1.0), v)
    }
    /// The words as the f32 they hold.
    fn as_float(self, words: Self::I) -> Self::V;
    /// The words, as signed integers, converted to f32.
    fn to_float(self, words: Self::I) -> Self::V;
    /// `sum + a.even * b.even + a.odd * b.odd` of bf16 pairs.
    fn dot_bf16(self, sum: Self::V, a: Self::I, b: Self::I) -> Self::V;
    /// The same of i16 pairs, in i32.
    fn dot_i16(self, sum: Self::I, a: Self::I, b: Self::I) -> Self::I;
    /// Words of bf16 pairs, rounded to nearest even.
    #[inline(always)]
    fn round_pairs(self, even: Self::V, odd: Self::V) -> Self::I {
        pairs_by_lane(self, even, odd, bf16)
    }
    /// Turns `LANES` rows of `LANES` words into columns.
    ///
    /// # Safety
    /// `from + i * from_step` is valid for reads, `to + i * to_step` for writes of `LANES` words for i below `LANES`.
    #[inline(always)]
    unsafe fn transpose(self, from: *const u32, from_step: usize, to: *mut u32, to_step: usize) {
        let mut i = 0;
        while i < Self::LANES {
            let mut j = 0;
            while j < Self::LANES {
                // SAFETY: the caller's promise.
                unsafe { *to.add(j * to_step + i) = *from.add(i * from_step + j) };
                j += 1;
            }
            i += 1;
        }
    }
    /// The values with all but their first 8 bits 0, that is as bf16, cut off.
    #[inline(always)]
    fn cut(self, v: Self::V) -> Self::V {
        let mut values = [0.0; MAX_LANES];
        // SAFETY: the copy holds any vector.
        unsafe {
            self.store(values.as_mut_ptr(), v);
            for value in &mut values {
                *value = f32::from_bits(value.to_bits() & 0xffff_0000);
            }
            self.load(values.as_ptr())
        }
    }
    /// Writes `LANES` words of bf16 pairs, cut off instead of rounded.
    ///
    /// # Safety
    /// `to` is valid for writes of `LANES` words.
    #[inline(always)]
    unsafe fn store_cut_pairs(self, to: *mut u32, even: Self::V, odd: Self::V) {
        let (mut evens, mut odds) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
        // SAFETY: the copies hold any vector; the caller vouches for `to`.
        unsafe {
            self.store(evens.as_mut_ptr(), even);
            self.store(odds.as_mut_ptr(), odd);
            let mut i = 0;
            while i < Self::LANES {
                *to.add(i) = evens[i].to_bits() >> 16 | odds[i].to_bits() & 0xffff_0000;
                i += 1;
            }
        }
    }
    /// Words of pairs of bf16 near `2^(1 + x)` for values [`POWERS_RULER`]` + x`, [`POWERS_LOW`] at least and x < 0: 1.8e-3 of it
    /// off in the mean, half a unit in the last place more or less.
    ///
    /// # Safety
    /// This runs where [`crate::Isa::Amx`] is.
    #[inline(always)]
    unsafe fn powers(self, even: Self::V, odd: Self::V) -> Self::I {
        pairs_by_lane(self, even, odd, power)
    }
    /// Writes `2 * LANES` values as bf16, rounded to nearest even: `first`, then `second`.
    ///
    /// # Safety
    /// `to` is valid for writes of `2 * LANES` u16.
    unsafe fn store_bf16(self, to: *mut u16, first: Self::V, second: Self::V);
    /// The same past the caches, as [`Self::stream`].
    ///
    /// # Safety
    /// As for [`Self::store_bf16`].
    #[inline(always)]
    unsafe fn stream_bf16(self, to: *mut u16, first: Self::V, second: Self::V) {
        // SAFETY: the caller's promise.
        unsafe { self.store_bf16(to, first, second) };
    }
    /// Writes `2 * LANES` values, each of at most 32767 in size, as the nearest i16: `first`, then `second`.
    ///
    /// # Safety
    /// `to` is valid for writes of `2 * LANES` u16.
    unsafe fn store_i16(self, to: *mut u16, first: Self::V, second: Self::V);
}

/// What [`Words::powers`] takes for x = 0: the low half of its bits, and of a little more or less, is 512 x and 2 to round by.
pub(crate) const POWERS_RULER: f32 = 24_576.0 + 1.0 / 256.0;
/// The least it takes: x = -63.
pub(crate) const POWERS_LOW: f32 = POWERS_RULER - 63.0;
/// The most that lies below x = 0 for sure.
pub(crate) const POWERS_HIGH: f32 = POWERS_RULER - 1.0 / 64.0;
/// 512 (f - (2^f - 1)) for f = (8 i + 1.5) / 512, the mean of the eight 512 f + 2 from 8 i on: what makes of a number's logarithm,
/// read as a float's exponent and fraction, the number.
pub(crate) const POWERS: [u8; 64] = [
    1, 3, 5, 8, 10, 12, 14, 16, 18, 20, 22, 24, 25, 27, 28, 30, 31, 33, 34, 35, 36, 37, 38, 39, 40,
    41, 42, 42, 43, 43, 43, 44, 44, 44, 44, 44, 44, 44, 43, 43, 42, 42, 41, 40, 39, 38, 37, 36, 35,
    33, 32, 30, 28, 27, 25, 23, 21, 18, 16, 14, 11, 8, 5, 2,
];

/// A bf16 of [`Words::powers`].
#[inline(always)]
fn power(x: f32) -> u16 {
    let y = x.to_bits() as u16;
    y.wrapping_sub(u16::from(POWERS[usize::from(y >> 3 & 63)])) >> 2
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
