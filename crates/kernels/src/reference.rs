//! Naive loops with f64 sums: what every kernel is tested against.

use crate::{Activation, Attention, Causality, Conv2d, ConvShape, GroupNorm};

/// Error function, by its series (|x| < 3) or continued fraction, to about 1e-15.
pub fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a > 6.0 {
        return x.signum();
    }
    if a < 3.0 {
        // erf x = 2/sqrt(pi) exp(-x^2) sum 2^n x^(2n+1) / (2n+1)!!: all terms have one sign, so nothing cancels.
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term.abs() > 1e-17 * sum.abs() {
            n += 1.0;
            term *= 2.0 * x * x / (2.0 * n + 1.0);
            sum += term;
        }
        return sum * (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI;
    }
    // erfc x = exp(-x^2)/sqrt(pi) / (x + (1/2)/(x + 1/(x + (3/2)/(x + ...))))
    let mut tail = a;
    for i in (1..=60).rev() {
        tail = a + f64::from(i) / 2.0 / tail;
    }
    x.signum() * (1.0 - (-a * a).exp() / tail * std::f64::consts::FRAC_2_SQRT_PI / 2.0)
}

/// x * Phi(x).
pub fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

/// x * sigmoid(factor * x).
pub fn swish(x: f64, factor: f64) -> f64 {
    x / (1.0 + (-factor * x).exp())
}

/// `x . weight^T`; `x` has rows of `k` values, `x_stride` apart, `weight` is `(n, k)`.
pub fn linear(x: &[f32], rows: usize, x_stride: usize, weight: &[f32], k: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for row in 0..rows {
        let x = &x[row * x_stride..][..k];
        let dot = |w: &[f32]| {
            x.iter()
                .zip(w)
                .map(|(&x, &w)| f64::from(x) * f64::from(w))
                .sum::<f64>()
        };
        out.extend(weight.chunks_exact(k).map(dot));
    }
    out
}

/// The convolution `call` describes, with the unpacked weight (O, I, KH, KW).
///
/// # Panics
/// The window does not fit; the reference is for valid calls.
pub fn conv2d(call: &Conv2d<'_>, weight: &[f32]) -> Vec<f64> {
    let (oh, ow) = call.out_size().expect("a valid call");
    let ConvShape {
        out_channels,
        in_channels,
        kernel_h,
        kernel_w,
    } = call.weight.shape();
    let (vh, vw) = call.upsample_to.unwrap_or((call.height, call.width));
    let source = |at: usize, pad: usize, virtual_size: usize, size: usize| {
        let at = at.checked_sub(pad).filter(|&at| at < virtual_size)?;
        Some((at as f32 * (size as f32 / virtual_size as f32)) as usize)
    };
    let mut out = Vec::new();
    for b in 0..call.batch {
        for (y, x) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
            for o in 0..out_channels {
                let mut sum = call.bias.map_or(0.0, |bias| f64::from(bias[o]));
                sum += call
                    .channel_bias
                    .map_or(0.0, |bias| f64::from(bias[b * out_channels + o]));
                sum += call
                    .residual
                    .map_or(0.0, |residual| f64::from(residual[out.len()]));
                for (ky, kx) in (0..kernel_h).flat_map(|ky| (0..kernel_w).map(move |kx| (ky, kx))) {
                    let sy = source(y * call.stride + ky, call.padding.top, vh, call.height);
                    let sx = source(x * call.stride + kx, call.padding.left, vw, call.width);
                    let (Some(sy), Some(sx)) = (sy, sx) else {
                        continue;
                    };
                    for i in 0..in_channels {
                        let w = weight[((o * in_channels + i) * kernel_h + ky) * kernel_w + kx];
                        let v =
                            call.x[((b * call.height + sy) * call.width + sx) * in_channels + i];
                        sum += f64::from(w) * f64::from(v);
                    }
                }
                out.push(sum);
            }
        }
    }
    out
}

/// Group normalisation of the concatenation of `call.parts`.
pub fn group_norm(call: &GroupNorm<'_>) -> Vec<f64> {
    let channels = call.weight.len();
    let mut all = Vec::new();
    for pixel in 0..call.batch * call.pixels {
        for &(part, width) in call.parts {
            all.extend(
                part[pixel * width..(pixel + 1) * width]
                    .iter()
                    .map(|&x| f64::from(x)),
            );
        }
    }
    let width = channels / call.groups;
    for image in all.chunks_exact_mut((call.pixels * channels).max(1)) {
        for start in (0..channels).step_by(width) {
            let places: Vec<usize> = (0..call.pixels)
                .flat_map(|p| (start..start + width).map(move |c| p * channels + c))
                .collect();
            let count = places.len() as f64;
            let mean = places.iter().map(|&at| image[at]).sum::<f64>() / count;
            let variance = places
                .iter()
                .map(|&at| (image[at] - mean).powi(2))
                .sum::<f64>()
                / count;
            for at in places {
                let c = at % channels;
                let y = (image[at] - mean) / (variance + f64::from(call.eps)).sqrt();
                let y = y * f64::from(call.weight[c]) + f64::from(call.bias[c]);
                image[at] = if call.activation == Activation::Silu {
                    swish(y, 1.0)
                } else {
                    y
                };
            }
        }
    }
    all
}

/// Softmax of one row.
pub fn softmax(row: &[f64]) -> Vec<f64> {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = row.iter().map(|x| (x - max).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| w / sum).collect()
}

/// Attention as its formula says, one query at a time.
pub fn attention(call: &Attention<'_>) -> Vec<f64> {
    let d = call.head_dim;
    let mut out = Vec::new();
    for (b, i) in (0..call.batch).flat_map(|b| (0..call.queries).map(move |i| (b, i))) {
        for h in 0..call.heads {
            let q = &call.q[(b * call.queries + i) * call.q_stride + h * d..][..d];
            let visible = match call.causality {
                Causality::Full => call.keys,
                Causality::Causal => (i + 1).min(call.keys),
            };
            let scores: Vec<f64> = (0..visible)
                .map(|j| {
                    let k = &call.k[(b * call.keys + j) * call.k_stride + h * d..][..d];
                    q.iter()
                        .zip(k)
                        .map(|(&q, &k)| f64::from(q) * f64::from(k))
                        .sum::<f64>()
                        * f64::from(call.scale)
                })
                .collect();
            let weights = softmax(&scores);
            for c in 0..d {
                let at =
                    |j: usize| f64::from(call.v[(b * call.keys + j) * call.v_stride + h * d + c]);
                out.push(
                    weights
                        .iter()
                        .enumerate()
                        .map(|(j, w)| w * at(j))
                        .sum::<f64>(),
                );
            }
        }
    }
    out
}
