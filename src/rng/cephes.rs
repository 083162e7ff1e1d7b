//! Logarithm, sine and cosine in f32 by the polynomials of the Cephes library (Moshier), with the
//! roundings of torch's AVX2 build: multiplications and additions that follow one another are fused.

/// Natural logarithm of a positive normal `x`.
pub(super) fn ln(x: f32) -> f32 {
    const P: [f32; 8] = [
        -0.115_146_1,
        0.116_769_984,
        -0.124_201_41,
        0.142_493_23,
        -0.166_680_57,
        0.200_007_14,
        -0.249_999_94,
        0.333_333_3,
    ];
    let bits = x.to_bits();
    let mut exponent = ((bits >> 23) as i32 - 126) as f32;
    // The mantissa, 0.5 to below 1; below sqrt(1/2) it is doubled so that the polynomial sees -0.29..0.41.
    let mut m = f32::from_bits(bits & 0x007f_ffff | 0x3f00_0000);
    if m < std::f32::consts::FRAC_1_SQRT_2 {
        exponent -= 1.0;
        m = (m - 1.0) + m;
    } else {
        m -= 1.0;
    }
    let z = m * m;
    let mut y = 0.070_376_836_f32;
    for coefficient in P {
        y = y.mul_add(m, coefficient);
    }
    y = (y * m).mul_add(z, exponent * -0.000_212_194_44);
    y = (-z).mul_add(0.5, y);
    exponent.mul_add(0.693_359_4, m + y)
}

/// Sine and cosine of `x` from 0 to 2 pi.
pub(super) fn sin_cos(x: f32) -> (f32, f32) {
    let octant = ((x * (4.0 / std::f32::consts::PI)) as i32 + 1) & !1;
    let y = octant as f32;
    // pi / 4 in three parts, so that the remainder keeps its low bits.
    let r = y.mul_add(-0.785_156_25, x);
    let r = y.mul_add(-0.000_241_875_65, r);
    let r = y.mul_add(-3.774_895e-8, r);
    let z = r * r;
    let mut c = 2.443_315_7e-5_f32.mul_add(z, -0.001_388_731_6);
    c = c.mul_add(z, 0.041_666_646);
    c = (c * z).mul_add(z, -(z * 0.5)) + 1.0;
    let mut s = (-0.000_195_152_96_f32).mul_add(z, 0.008_332_161);
    s = s.mul_add(z, -0.166_666_55);
    s = (s * z).mul_add(r, r);
    let (mut sin, mut cos) = if octant & 2 == 0 { (s, c) } else { (c, s) };
    if octant & 4 != 0 {
        sin = -sin;
    }
    if (octant - 2) & 4 == 0 {
        cos = -cos;
    }
    (sin, cos)
}
