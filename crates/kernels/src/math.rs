//! Elementary functions on vectors: exp, sigmoid and the normal distribution function.
//!
//! Coefficients are our own weighted least-squares minimax fits in f64, rounded to f32.

use crate::simd::{Simd, Words};

/// Adding and subtracting this rounds a small f32 to the nearest integer and leaves it in the low bits.
const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23
/// exp is evaluated on [-88.02, 88.02]: below lies 0 in f32's normal range, above lies more than softmax or a sigmoid can use.
const EXP_LIMIT: f32 = 88.02;
/// ln 2 in two parts; the first has 9 trailing zero bits, so n times it is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// (exp(r) - 1 - r) / r^2 on |r| <= ln 2 / 2, relative error of the whole 3e-9.
const EXP: [f32; 5] = [
    0.499_999_94,
    0.166_665_21,
    0.041_668_39,
    0.008_368_745,
    0.001_381_454,
];
/// Phi(-z) exp(z^2/2) = t P(t), t = 1 / (1 + 0.23 z), for 0 <= z <= 9, relative error 4e-8.
const TAIL_STEP: f32 = 0.23;
const TAIL: [f32; 8] = [
    0.091_972_26,
    0.088_295_26,
    0.110_722_49,
    -0.014_318_366,
    0.276_884_4,
    -0.258_276_25,
    0.281_454_3,
    -0.076_734_215,
];

/// exp(x) within 2 ulp for |x| <= 87.3; smaller x gives 0 from -87.7 on, larger x stays at exp(88.02); NaN stays NaN.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let x = s.min(s.splat(EXP_LIMIT), s.max(s.splat(-EXP_LIMIT), x));
    let shifted = s.mul_add(x, s.splat(std::f32::consts::LOG2_E), s.splat(ROUND));
    let n = s.sub(shifted, s.splat(ROUND));
    let r = s.mul_add(n, s.splat(-LN2_HIGH), x);
    let r = s.mul_add(n, s.splat(-LN2_LOW), r);
    let mut p = s.splat(EXP[4]);
    p = s.mul_add(p, r, s.splat(EXP[3]));
    p = s.mul_add(p, r, s.splat(EXP[2]));
    p = s.mul_add(p, r, s.splat(EXP[1]));
    p = s.mul_add(p, r, s.splat(EXP[0]));
    p = s.mul_add(p, s.mul(r, r), r);
    s.scale_by_power(shifted, s.add(p, s.splat(1.0)))
}

/// 2^f on |f| <= 1/2 less 1, divided by f: relative error of the whole 3e-6, far below the rounding of a bf16.
const EXP2: [f32; 4] = [0.693_124_2, 0.240_240_99, 0.055_906_43, 0.009_582_85];

/// 2^x within 3e-6 of itself for -126 <= x <= 127, 0 from -126.5 down; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp2_coarse<S: Simd>(s: S, x: S::V) -> S::V {
    let x = s.max(s.splat(-127.0), x);
    let shifted = s.add(x, s.splat(ROUND));
    let f = s.sub(x, s.sub(shifted, s.splat(ROUND)));
    let mut p = s.splat(EXP2[3]);
    p = s.mul_add(p, f, s.splat(EXP2[2]));
    p = s.mul_add(p, f, s.splat(EXP2[1]));
    p = s.mul_add(p, f, s.splat(EXP2[0]));
    s.scale_by_power(shifted, s.mul_add(p, f, s.splat(1.0)))
}

/// 2^f on |f| <= 1/2 less 1, divided by f: relative error of the whole 1.6e-8.
const EXP2_FINE: [f32; 6] = [
    std::f32::consts::LN_2,
    0.240_226_48,
    0.055_503_324,
    0.009_618_437,
    0.001_339_887_5,
    0.000_153_533_59,
];

/// 2^x within 1 ulp for -126 <= x <= 127, 0 from -126.5 down; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp2<S: Simd>(s: S, x: S::V) -> S::V {
    exp2_from(s, x, -127.0)
}

/// The same with 2^-100 from -100 down.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[inline(always)]
pub(crate) fn exp2_fine<S: Simd>(s: S, x: S::V) -> S::V {
    exp2_from(s, x, -100.0)
}

/// 2^x, or that of `least`.
#[inline(always)]
fn exp2_from<S: Simd>(s: S, x: S::V, least: f32) -> S::V {
    let x = s.max(s.splat(least), x);
    let shifted = s.add(x, s.splat(ROUND));
    let f = s.sub(x, s.sub(shifted, s.splat(ROUND)));
    let mut p = s.splat(EXP2_FINE[5]);
    p = s.mul_add(p, f, s.splat(EXP2_FINE[4]));
    p = s.mul_add(p, f, s.splat(EXP2_FINE[3]));
    p = s.mul_add(p, f, s.splat(EXP2_FINE[2]));
    p = s.mul_add(p, f, s.splat(EXP2_FINE[1]));
    p = s.mul_add(p, f, s.splat(EXP2_FINE[0]));
    s.scale_by_power(shifted, s.mul_add(p, f, s.splat(1.0)))
}

/// x / (1 + exp(-factor x)): SiLU with factor 1, CLIP's quick GELU with factor 1.702.
#[inline(always)]
pub(crate) fn swish<S: Simd>(s: S, x: S::V, factor: f32) -> S::V {
    let e = exp(s, s.mul(x, s.splat(-factor)));
    s.div(x, s.add(s.splat(1.0), e))
}

/// x / (1 + exp(-x)) within 3e-4 of itself or 1e-30, no division: where the result is rounded to bf16.
#[inline(always)]
pub(crate) fn swish_rough<S: Words>(s: S, x: S::V) -> S::V {
    // Below -100 the result is nothing; NaN stays NaN.
    let z = s.mul(x, s.splat(-std::f32::consts::LOG2_E));
    let e = s.exp2(s.min(s.splat(120.0), z));
    s.mul(x, s.reciprocal_rough(s.add(s.splat(1.0), e)))
}

/// x Phi(x), the exact GELU: absolute error below 3e-7 max(1, |x|).
#[inline(always)]
pub(crate) fn gelu<S: Simd>(s: S, x: S::V) -> S::V {
    let z = s.max(s.sub(s.splat(0.0), x), x);
    let t = s.div(s.splat(1.0), s.mul_add(z, s.splat(TAIL_STEP), s.splat(1.0)));
    let mut p = s.splat(TAIL[7]);
    p = s.mul_add(p, t, s.splat(TAIL[6]));
    p = s.mul_add(p, t, s.splat(TAIL[5]));
    p = s.mul_add(p, t, s.splat(TAIL[4]));
    p = s.mul_add(p, t, s.splat(TAIL[3]));
    p = s.mul_add(p, t, s.splat(TAIL[2]));
    p = s.mul_add(p, t, s.splat(TAIL[1]));
    p = s.mul_add(p, t, s.splat(TAIL[0]));
    let e = exp(s, s.mul(s.mul(z, z), s.splat(-0.5)));
    let tail = s.mul(s.mul(p, t), e);
    s.mul(x, s.if_negative(x, tail, s.sub(s.splat(1.0), tail)))
}

/// Phi(x) - 1/2 = x P(x^2) for |x| <= 3.9.
const PHI: [f32; 7] = [
    0.398_085_6,
    -0.064_869_47,
    0.008_913_786,
    -0.000_844_511_8,
    5.123_726e-5,
    -1.770_494_7e-6,
    2.627_147_6e-8,
];
const PHI_LIMIT: f32 = 3.9;

/// x Phi(x) within 1.5e-4, no division: for gates whose products are of 16 bits.
#[inline(always)]
pub(crate) fn gelu_coarse<S: Simd>(s: S, x: S::V) -> S::V {
    let z = s.min(s.splat(PHI_LIMIT), s.max(s.splat(-PHI_LIMIT), x));
    let t = s.mul(z, z);
    let mut p = s.splat(PHI[6]);
    p = s.mul_add(p, t, s.splat(PHI[5]));
    p = s.mul_add(p, t, s.splat(PHI[4]));
    p = s.mul_add(p, t, s.splat(PHI[3]));
    p = s.mul_add(p, t, s.splat(PHI[2]));
    p = s.mul_add(p, t, s.splat(PHI[1]));
    p = s.mul_add(p, t, s.splat(PHI[0]));
    let phi = s.mul_add(p, z, s.splat(0.5));
    s.mul(x, s.min(s.splat(1.0), s.max(s.splat(0.0), phi)))
}
