//! Naive loops with f64 sums: what every kernel is tested against.

use crate::{Attention, Causality};

/// Error function, by its series (|x| < 3) or continued fraction, to about 1e-15.
pub fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a > 6.0 {
        return x.signum();
    }
    if a < 3.0 {
        // erf x = 2/sqrt(pi) * exp(-x^2) * sum 2^n x^(2n+1) / (2n+1)!!  (all terms positive: no cancellation)
        let mut term = x;
        let mut sum = x;
        let mut n = 0.0;
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

/// Attention as its formula says, one query at a time.
pub fn attention(call: &Attention<'_>, out: &mut [f32]) {
    let (d, dim) = (call.head_dim, call.heads * call.head_dim);
    for b in 0..call.batch {
        for i in 0..call.queries {
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
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
                let sum: f64 = weights.iter().sum();
                let out = &mut out[(b * call.queries + i) * dim + h * d..][..d];
                for (c, o) in out.iter_mut().enumerate() {
                    let at = |j: usize| {
                        f64::from(call.v[(b * call.keys + j) * call.v_stride + h * d + c])
                    };
                    *o = (weights
                        .iter()
                        .enumerate()
                        .map(|(j, w)| w * at(j))
                        .sum::<f64>()
                        / sum) as f32;
                }
            }
        }
    }
}
