//! Word operations with AVX2: bf16 pairs are widened by shift and mask, i16 pairs have an instruction.

use std::arch::x86_64::{
    __m256, __m256i, _CMP_UNORD_Q, _mm_storeu_si128, _mm256_add_epi32, _mm256_and_si256,
    _mm256_blendv_ps, _mm256_castps_si256, _mm256_castsi256_ps, _mm256_castsi256_si128,
    _mm256_cmp_ps, _mm256_cvtepi32_ps, _mm256_cvtps_epi32, _mm256_extracti128_si256,
    _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_or_si256,
    _mm256_packs_epi32, _mm256_packus_epi32, _mm256_permute2f128_ps, _mm256_permute4x64_epi64,
    _mm256_set1_epi32, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_shuffle_ps,
    _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
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
    unsafe fn transpose(self, from: *const u32, from_step: usize, to: *mut u32, to_step: usize) {
        // SAFETY: the token proves the features; the caller vouches for eight rows on both sides.
        unsafe {
            let mut rows = [_mm256_setzero_ps(); 8];
            let mut i = 0;
            while i < 8 {
                rows[i] = _mm256_loadu_ps(from.add(i * from_step).cast());
                i += 1;
            }
            // Pairs of rows, then fours, then halves of all eight.
            let mut i = 0;
            while i < 8 {
                let (a, b) = (rows[i], rows[i + 1]);
                rows[i] = _mm256_unpacklo_ps(a, b);
                rows[i + 1] = _mm256_unpackhi_ps(a, b);
                i += 2;
            }
            let mut fours = rows;
            let mut i = 0;
            while i < 8 {
                fours[i] = _mm256_shuffle_ps::<0b01_00_01_00>(rows[i], rows[i + 2]);
                fours[i + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(rows[i], rows[i + 2]);
                fours[i + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(rows[i + 1], rows[i + 3]);
                fours[i + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(rows[i + 1], rows[i + 3]);
                i += 4;
            }
            let mut i = 0;
            while i < 4 {
                let (a, b) = (fours[i], fours[i + 4]);
                let low = _mm256_permute2f128_ps::<0x20>(a, b);
                let high = _mm256_permute2f128_ps::<0x31>(a, b);
                _mm256_storeu_ps(to.add(i * to_step).cast(), low);
                _mm256_storeu_ps(to.add((i + 4) * to_step).cast(), high);
                i += 1;
            }
        }
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
