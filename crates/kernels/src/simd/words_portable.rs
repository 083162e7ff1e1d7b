//! Word operations on plain arrays.

use super::portable::Portable;
use super::words::{Words, bf16};

/// Lanes of the portable vector.
const LANES: usize = 4;

/// The f32 whose upper half is `half`.
#[inline(always)]
fn widen(half: u32) -> f32 {
    f32::from_bits(half << 16)
}

impl Words for Portable {
    type I = [u32; LANES];

    #[inline(always)]
    fn zero_words(self) -> Self::I {
        [0; LANES]
    }

    #[inline(always)]
    fn splat_word(self, word: u32) -> Self::I {
        [word; LANES]
    }

    #[inline(always)]
    unsafe fn load_words(self, from: *const u32) -> Self::I {
        // SAFETY: the caller vouches for LANES words; an array of u32 has u32's alignment.
        unsafe { *from.cast() }
    }

    #[inline(always)]
    fn as_float(self, words: Self::I) -> Self::V {
        words.map(f32::from_bits)
    }

    #[inline(always)]
    fn to_float(self, words: Self::I) -> Self::V {
        words.map(|word| word.cast_signed() as f32)
    }

    #[inline(always)]
    fn dot_bf16(self, sum: Self::V, a: Self::I, b: Self::I) -> Self::V {
        std::array::from_fn(|i| {
            let odd = f32::from_bits(a[i] & 0xffff_0000) * f32::from_bits(b[i] & 0xffff_0000);
            sum[i] + odd + widen(a[i]) * widen(b[i])
        })
    }

    #[inline(always)]
    fn dot_i16(self, sum: Self::I, a: Self::I, b: Self::I) -> Self::I {
        let half = |word: u32, shift: u32| i32::from((word >> shift) as u16 as i16);
        std::array::from_fn(|i| {
            let pair = half(a[i], 0)
                .wrapping_mul(half(b[i], 0))
                .wrapping_add(half(a[i], 16).wrapping_mul(half(b[i], 16)));
            sum[i].wrapping_add(pair.cast_unsigned())
        })
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, first: Self::V, second: Self::V) {
        let halves: [u16; 2 * LANES] = std::array::from_fn(|i| {
            bf16(if i < LANES {
                first[i]
            } else {
                second[i - LANES]
            })
        });
        // SAFETY: the caller vouches for 2 * LANES places; an array of u16 has u16's alignment.
        unsafe { *to.cast() = halves };
    }

    #[inline(always)]
    unsafe fn store_i16(self, to: *mut u16, first: Self::V, second: Self::V) {
        let halves: [i16; 2 * LANES] = std::array::from_fn(|i| {
            let x = if i < LANES {
                first[i]
            } else {
                second[i - LANES]
            };
            x.round_ties_even() as i16
        });
        // SAFETY: the caller vouches for 2 * LANES places; an array of i16 has u16's alignment.
        unsafe { *to.cast() = halves };
    }
}
