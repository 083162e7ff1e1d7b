//! Word operations with AVX2: bf16 pairs are widened by shift and mask, i16 pairs have an instruction.

use std::arch::x86_64::{
    __m256, __m256i, _CMP_UNORD_Q, _mm_storeu_si128, _mm256_add_epi32, _mm256_and_si256,
    _mm256_blendv_ps, _mm256_castps_si256, _mm256_castsi256_ps, _mm256_castsi256_si128,
    _mm256_cmp_ps, _mm256_cvtepi32_ps, _mm256_cvtps_epi32, _mm256_extracti128_si256,
    _mm256_fmadd_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_or_si256, _mm256_packs_epi32,
    _mm256_packus_epi32, _mm256_permute4x64_epi64, _mm256_set1_epi32, _mm256_setzero_si256,
    _mm256_slli_epi32, _mm256_srli_epi32,
};

use super::avx2::Avx2;
use super::words::Words;

/// The bits of the nearest bf16 in the low half of each word.
#[inline(always)]
fn round(v: __m256) -> __m256i {
    // SAFETY: only reached through a token of AVX2.
    unsafe {
        let bits = _mm256_castps_si256(v);
        let high = _mm256_srli_epi32::<16>(bits);
        let odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
        let bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
        let near = _mm256_srli_epi32::<16>(_mm256_add_epi32(bits, bias));
        let nan = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
        _mm256_castps_si256(_mm256_blendv_ps(
            _mm256_castsi256_ps(near),
            _mm256_castsi256_ps(nan),
            _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v),
        ))
    }
}

/// Writes what a lane-wise pack of two vectors gave, in order.
///
/// # Safety
/// `to` is valid for writes of 16 u16.
#[inline(always)]
unsafe fn store_packed(to: *mut u16, packed: __m256i) {
    // SAFETY: only reached through a token of AVX2; the caller vouches for the places.
    unsafe {
        let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
        _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(ordered));
        _mm_storeu_si128(to.add(8).cast(), _mm256_extracti128_si256::<1>(ordered));
    }
}

impl Words for Avx2 {
    type I = __m256i;

    #[inline(always)]
    fn zero_words(self) -> Self::I {
        // SAFETY: the token proves the features.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    fn splat_word(self, word: u32) -> Self::I {
        // SAFETY: the token proves the features.
        unsafe { _mm256_set1_epi32(word.cast_signed()) }
    }

    #[inline(always)]
    unsafe fn load_words(self, from: *const u32) -> Self::I {
        // SAFETY: the caller vouches for the pointer, the token for the features.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    fn as_float(self, words: Self::I) -> Self::V {
        // SAFETY: the token proves the features.
        unsafe { _mm256_castsi256_ps(words) }
    }

    #[inline(always)]
    fn to_float(self, words: Self::I) -> Self::V {
        // SAFETY: the token proves the features.
        unsafe { _mm256_cvtepi32_ps(words) }
    }

    #[inline(always)]
    fn dot_bf16(self, sum: Self::V, a: Self::I, b: Self::I) -> Self::V {
        // SAFETY: the token proves the features.
        unsafe {
            let mask = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
            let sum = _mm256_fmadd_ps(
                _mm256_castsi256_ps(_mm256_and_si256(a, mask)),
                _mm256_castsi256_ps(_mm256_and_si256(b, mask)),
                sum,
            );
            _mm256_fmadd_ps(
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(a)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(b)),
                sum,
            )
        }
    }

    #[inline(always)]
    fn dot_i16(self, sum: Self::I, a: Self::I, b: Self::I) -> Self::I {
        // SAFETY: the token proves the features.
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, first: Self::V, second: Self::V) {
        // SAFETY: the token proves the features; the caller vouches for the places.
        unsafe { store_packed(to, _mm256_packus_epi32(round(first), round(second))) }
    }

    #[inline(always)]
    unsafe fn store_i16(self, to: *mut u16, first: Self::V, second: Self::V) {
        // SAFETY: the token proves the features; the caller vouches for the places.
        unsafe {
            let packed = _mm256_packs_epi32(_mm256_cvtps_epi32(first), _mm256_cvtps_epi32(second));
            store_packed(to, packed);
        }
    }
}
