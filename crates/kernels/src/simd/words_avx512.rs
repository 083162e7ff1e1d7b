//! Word operations with AVX-512: one instruction a dot product with BF16 and VNNI, AVX2's way without.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _CMP_UNORD_Q, _mm_sfence, _mm256_storeu_si256, _mm512_add_epi32,
    _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_castsi512_si256,
    _mm512_cmp_ps_mask, _mm512_cvtepi32_epi16, _mm512_cvtepi32_ps, _mm512_cvtepu16_epi32,
    _mm512_cvtne2ps_pbh, _mm512_cvtps_epi32, _mm512_dpbf16_ps, _mm512_dpwssd_epi32,
    _mm512_extracti64x4_epi64, _mm512_fmadd_ps, _mm512_loadu_si512, _mm512_madd_epi16,
    _mm512_mask_blend_epi16, _mm512_mask_blend_epi32, _mm512_maskz_permutexvar_epi8, _mm512_max_ps,
    _mm512_or_si512, _mm512_rcp14_ps, _mm512_reduce_ps, _mm512_scalef_ps, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_slli_epi32,
    _mm512_srli_epi16, _mm512_srli_epi32, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_stream_ps,
    _mm512_sub_epi16, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::mem::transmute;

use super::avx512::Avx512;
use super::words::{POWERS, Words};

/// 2^f on 0 <= f < 1, relative error 7.5e-5: our own weighted least-squares minimax fit.
const EXP2: [f32; 4] = [0.999_925_2, 0.695_833_5, 0.226_067_2, 0.078_024_52];

/// The bits of the nearest bf16 in the low half of each word.
#[inline(always)]
fn round(v: __m512) -> __m512i {
    // SAFETY: only reached through a token of AVX-512.
    unsafe {
        let bits = _mm512_castps_si512(v);
        let high = _mm512_srli_epi32::<16>(bits);
        let odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
        let bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
        let near = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, bias));
        let nan = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
        _mm512_mask_blend_epi32(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v), near, nan)
    }
}

/// Writes the low halves of two vectors' words, in order.
///
/// # Safety
/// `to` is valid for writes of 32 u16.
#[inline(always)]
unsafe fn store_low_halves(to: *mut u16, first: __m512i, second: __m512i) {
    // SAFETY: only reached through a token of AVX-512; the caller vouches for the places.
    unsafe {
        _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(first));
        _mm256_storeu_si256(to.add(16).cast(), _mm512_cvtepi32_epi16(second));
    }
}

impl<const DOT: bool> Words for Avx512<DOT> {
    type I = __m512i;

    #[inline(always)]
    fn zero_words(self) -> Self::I {
        // SAFETY: the token proves the features.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn splat_word(self, word: u32) -> Self::I {
        // SAFETY: the token proves the features.
        unsafe { _mm512_set1_epi32(word.cast_signed()) }
    }

    #[inline(always)]
    unsafe fn load_words(self, from: *const u32) -> Self::I {
        // SAFETY: the caller vouches for the pointer, the token for the features.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut f32, v: Self::V) {
        // SAFETY: the caller vouches for the place, the token for the features; the instruction wants whole lines.
        unsafe {
            if to.addr().is_multiple_of(64) {
                _mm512_stream_ps(to, v);
            } else {
                _mm512_storeu_ps(to, v);
            }
        }
    }

    #[inline(always)]
    fn fence(self) {
        // SAFETY: the token proves the features.
        unsafe { _mm_sfence() };
    }

    #[inline(always)]
    fn exp2(self, x: Self::V) -> Self::V {
        // SAFETY: the token proves the features.
        unsafe {
            // x - floor(x), and the power of it times 2^floor(x); what would be subnormal, which is slow, is kept at 2^-125.
            let x = _mm512_max_ps(_mm512_set1_ps(-125.0), x);
            let f = _mm512_reduce_ps::<0x01>(x);
            let mut p = _mm512_set1_ps(EXP2[3]);
            p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(EXP2[2]));
            p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(EXP2[1]));
            p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(EXP2[0]));
            _mm512_scalef_ps(p, x)
        }
    }

    #[inline(always)]
    fn reciprocal_rough(self, v: Self::V) -> Self::V {
        // SAFETY: the token proves the features.
        unsafe { _mm512_rcp14_ps(v) }
    }

    #[inline(always)]
    fn as_float(self, words: Self::I) -> Self::V {
        // SAFETY: the token proves the features.
        unsafe { _mm512_castsi512_ps(words) }
    }

    #[inline(always)]
    fn to_float(self, words: Self::I) -> Self::V {
        // SAFETY: the token proves the features.
        unsafe { _mm512_cvtepi32_ps(words) }
    }

    #[inline(always)]
    fn dot_bf16(self, sum: Self::V, a: Self::I, b: Self::I) -> Self::V {
        if DOT {
            // SAFETY: the token proves the features; both types are 512 plain bits.
            return unsafe {
                _mm512_dpbf16_ps(
                    sum,
                    transmute::<__m512i, __m512bh>(a),
                    transmute::<__m512i, __m512bh>(b),
                )
            };
        }
        // SAFETY: the token proves the features.
        unsafe {
            let mask = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
            let sum = _mm512_fmadd_ps(
                _mm512_castsi512_ps(_mm512_and_si512(a, mask)),
                _mm512_castsi512_ps(_mm512_and_si512(b, mask)),
                sum,
            );
            _mm512_fmadd_ps(
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(a)),
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(b)),
                sum,
            )
        }
    }

    #[inline(always)]
    fn dot_i16(self, sum: Self::I, a: Self::I, b: Self::I) -> Self::I {
        // SAFETY: the token proves the features.
        unsafe {
            if DOT {
                _mm512_dpwssd_epi32(sum, a, b)
            } else {
                _mm512_add_epi32(sum, _mm512_madd_epi16(a, b))
            }
        }
    }

    #[inline(always)]
    fn round_pairs(self, even: Self::V, odd: Self::V) -> Self::I {
        // SAFETY: the token proves the features; both types are 512 plain bits.
        unsafe {
            let (even, odd) = if DOT {
                // The halves of one instruction's result, widened.
                let both = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(odd, even));
                let half = |v| _mm512_cvtepu16_epi32(v);
                (
                    half(_mm512_castsi512_si256(both)),
                    half(_mm512_extracti64x4_epi64::<1>(both)),
                )
            } else {
                (round(even), round(odd))
            };
            _mm512_or_si512(even, _mm512_slli_epi32::<16>(odd))
        }
    }

    #[inline(always)]
    unsafe fn transpose(self, from: *const u32, from_step: usize, to: *mut u32, to_step: usize) {
        // SAFETY: the token proves the features, the caller vouches for the places.
        unsafe {
            let mut rows = [_mm512_setzero_si512(); 16];
            let mut i = 0;
            while i < 16 {
                rows[i] = _mm512_loadu_si512(from.add(i * from_step).cast());
                i += 1;
            }
            // Pairs of rows, word by word, then fours of words, then quarters of the vectors.
            let mut pairs = rows;
            i = 0;
            while i < 8 {
                pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
                pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
                i += 1;
            }
            // fours[4 * q + j]: column 4 * lane + j of rows 4 * q.. in each quarter `lane`.
            let mut fours = rows;
            i = 0;
            while i < 4 {
                let p = 4 * i;
                fours[p] = _mm512_unpacklo_epi64(pairs[p], pairs[p + 2]);
                fours[p + 1] = _mm512_unpackhi_epi64(pairs[p], pairs[p + 2]);
                fours[p + 2] = _mm512_unpacklo_epi64(pairs[p + 1], pairs[p + 3]);
                fours[p + 3] = _mm512_unpackhi_epi64(pairs[p + 1], pairs[p + 3]);
                i += 1;
            }
            let mut j = 0;
            while j < 4 {
                let (a, b, c, d) = (fours[j], fours[4 + j], fours[8 + j], fours[12 + j]);
                let low = [
                    _mm512_shuffle_i32x4::<0x88>(a, b),
                    _mm512_shuffle_i32x4::<0x88>(c, d),
                ];
                let high = [
                    _mm512_shuffle_i32x4::<0xdd>(a, b),
                    _mm512_shuffle_i32x4::<0xdd>(c, d),
                ];
                let columns = [
                    _mm512_shuffle_i32x4::<0x88>(low[0], low[1]),
                    _mm512_shuffle_i32x4::<0x88>(high[0], high[1]),
                    _mm512_shuffle_i32x4::<0xdd>(low[0], low[1]),
                    _mm512_shuffle_i32x4::<0xdd>(high[0], high[1]),
                ];
                let mut lane = 0;
                while lane < 4 {
                    let place = to.add((4 * lane + j) * to_step);
                    _mm512_storeu_si512(place.cast(), columns[lane]);
                    lane += 1;
                }
                j += 1;
            }
        }
    }

    #[inline(always)]
    fn cut(self, v: Self::V) -> Self::V {
        // SAFETY: the token proves the features.
        unsafe {
            let mask = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
            _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(v), mask))
        }
    }

    #[inline(always)]
    unsafe fn store_cut_pairs(self, to: *mut u32, even: Self::V, odd: Self::V) {
        // SAFETY: the token proves the features, the caller vouches for the place.
        unsafe {
            let even = _mm512_srli_epi32::<16>(_mm512_castps_si512(even));
            let mask = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
            // even | (odd & mask)
            let words = _mm512_ternarylogic_epi32::<0xf8>(even, _mm512_castps_si512(odd), mask);
            _mm512_storeu_si512(to.cast(), words);
        }
    }

    #[inline(always)]
    unsafe fn powers(self, even: Self::V, odd: Self::V) -> Self::I {
        // SAFETY: the token proves the features but VBMI, which the caller vouches for.
        unsafe {
            let (even, odd) = (_mm512_castps_si512(even), _mm512_castps_si512(odd));
            let odd = _mm512_slli_epi32::<16>(odd);
            let logs = _mm512_mask_blend_epi16(0xaaaa_aaaa, even, odd);
            // The six upper bits of 9 behind the point pick a byte for the lower half of each number.
            let table = _mm512_loadu_si512(POWERS.as_ptr().cast());
            let places = _mm512_srli_epi16::<3>(logs);
            let less = _mm512_maskz_permutexvar_epi8(0x5555_5555_5555_5555, places, table);
            _mm512_srli_epi16::<2>(_mm512_sub_epi16(logs, less))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, first: Self::V, second: Self::V) {
        // SAFETY: the token proves the features; the caller vouches for the places; both types are 512 plain bits.
        unsafe {
            if DOT {
                let both = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
                _mm512_storeu_si512(to.cast(), both);
            } else {
                store_low_halves(to, round(first), round(second));
            }
        }
    }

    #[inline(always)]
    unsafe fn stream_bf16(self, to: *mut u16, first: Self::V, second: Self::V) {
        // SAFETY: as for `store_bf16`; the instruction wants whole lines.
        unsafe {
            if DOT && to.addr().is_multiple_of(64) {
                let both = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
                _mm512_stream_ps(to.cast(), _mm512_castsi512_ps(both));
            } else {
                self.store_bf16(to, first, second);
            }
        }
    }

    #[inline(always)]
    unsafe fn store_i16(self, to: *mut u16, first: Self::V, second: Self::V) {
        // SAFETY: the token proves the features; the caller vouches for the places.
        unsafe { store_low_halves(to, _mm512_cvtps_epi32(first), _mm512_cvtps_epi32(second)) }
    }
}
