//! The transforms of F(2x2,3x3) (`T` = 4) and F(4x4,3x3) (`T` = 6), one dimension at a time.
//!
//! The points are 0, 1, -1, (2, -2,) infinity; the matrices are those of Lavin and Gray.

use crate::simd::Simd;

/// G of `T` = 4 and 6.
const WEIGHT_4: [[f64; 3]; 4] = [
    [1.0, 0.0, 0.0],
    [0.5, 0.5, 0.5],
    [0.5, -0.5, 0.5],
    [0.0, 0.0, 1.0],
];
const WEIGHT_6: [[f64; 3]; 6] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// `G g G^T` of many 3x3 windows: `windows: (channels, 3, 3)` to `out: (tile * tile, channels)`.
///
/// f64, since the f32 kernel's error is mostly the transforms'. `work` holds `(9 + 3 * tile) * channels` values. Plain loops
/// over channels, which become vectors of the instruction set this is compiled into.
#[inline(always)]
pub(super) fn weights(tile: usize, windows: &[f32], work: &mut [f64], out: &mut [f64]) {
    let channels = windows.len() / 9;
    let rows: &[[f64; 3]] = if tile == 4 { &WEIGHT_4 } else { &WEIGHT_6 };
    let (planes, half) = work.split_at_mut(9 * channels);
    for (channel, window) in windows.chunks_exact(9).enumerate() {
        for (tap, value) in window.iter().enumerate() {
            planes[tap * channels + channel] = f64::from(*value);
        }
    }
    for (i, row) in rows.iter().enumerate() {
        for x in 0..3 {
            let from = [x, 3 + x, 6 + x].map(|tap| &planes[tap * channels..][..channels]);
            let to = &mut half[(3 * i + x) * channels..][..channels];
            combine(row, from, to);
        }
    }
    for i in 0..tile {
        for (j, row) in rows.iter().enumerate() {
            let from = [0, 1, 2].map(|x| &half[(3 * i + x) * channels..][..channels]);
            combine(row, from, &mut out[(i * tile + j) * channels..][..channels]);
        }
    }
}

/// `to = factors . from`.
#[inline(always)]
fn combine(factors: &[f64; 3], from: [&[f64]; 3], to: &mut [f64]) {
    let [a, b, c] = from;
    for (((to, a), b), c) in to.iter_mut().zip(a).zip(b).zip(c) {
        *to = factors[0] * a + factors[1] * b + factors[2] * c;
    }
}

/// `B^T d`.
#[inline(always)]
pub(super) fn input<S: Simd, const T: usize>(s: S, d: &[S::V; T]) -> [S::V; T] {
    let mut r = [s.splat(0.0); T];
    if T == 4 {
        r[0] = s.sub(d[0], d[2]);
        r[1] = s.add(d[1], d[2]);
        r[2] = s.sub(d[2], d[1]);
        r[3] = s.sub(d[1], d[3]);
    } else {
        let (four, five) = (s.splat(-4.0), s.splat(-5.0));
        let even = s.mul_add(four, d[2], d[4]);
        let odd = s.mul_add(four, d[1], d[3]);
        let half_even = s.sub(d[4], d[2]);
        let half_odd = s.sub(d[3], d[1]);
        r[0] = s.mul_add(s.splat(4.0), d[0], s.mul_add(five, d[2], d[4]));
        r[1] = s.add(even, odd);
        r[2] = s.sub(even, odd);
        r[3] = s.mul_add(s.splat(2.0), half_odd, half_even);
        r[4] = s.mul_add(s.splat(-2.0), half_odd, half_even);
        r[5] = s.mul_add(s.splat(4.0), d[1], s.mul_add(five, d[3], d[5]));
    }
    r
}

/// `A^T m`; the first `T - 2` results count.
#[inline(always)]
pub(super) fn output<S: Simd, const T: usize>(s: S, m: &[S::V; T]) -> [S::V; 4] {
    let mut r = [s.splat(0.0); 4];
    if T == 4 {
        r[0] = s.add(m[0], s.add(m[1], m[2]));
        r[1] = s.sub(s.sub(m[1], m[2]), m[3]);
    } else {
        let (sum1, dif1) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
        let (sum2, dif2) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
        r[0] = s.add(m[0], s.add(sum1, sum2));
        r[1] = s.mul_add(s.splat(2.0), dif2, dif1);
        r[2] = s.mul_add(s.splat(4.0), sum2, sum1);
        r[3] = s.add(s.mul_add(s.splat(8.0), dif2, dif1), m[5]);
    }
    r
}
