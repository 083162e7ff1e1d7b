//! 16-bit linear layers, by signal-to-noise ratio against f64 loops; and what the tests of 16-bit kernels share.

use tintype_kernels::{
    Linear, LinearGeglu, PackedGeglu, PackedMatrix, linear, linear_geglu, reference,
};

use crate::{on_each_isa, values};

/// Normally distributed values, each channel of `channels` with a log-normal factor: the heavy tails of activations.
pub(crate) fn heavy(n: usize, channels: usize, seed: u64) -> Vec<f32> {
    let normal = |n: usize, seed: u64| -> Vec<f32> {
        let (a, b) = (values(n, seed), values(n, seed + 1000));
        a.iter()
            .zip(&b)
            .map(|(a, b)| {
                let radius = (-2.0 * f32::midpoint(*a, 1.0).max(1e-7).ln()).sqrt();
                radius * (std::f32::consts::PI * b).cos()
            })
            .collect()
    };
    let factors = normal(channels, seed + 2000);
    normal(n, seed)
        .iter()
        .enumerate()
        .map(|(i, x)| x * factors[i % channels].exp())
        .collect()
}

/// Signal-to-noise ratio in dB.
pub(crate) fn snr(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len(), "lengths");
    let signal: f64 = want.iter().map(|x| x * x).sum();
    let noise: f64 = got
        .iter()
        .zip(want)
        .map(|(&got, want)| (f64::from(got) - want).powi(2))
        .sum();
    10.0 * (signal / noise).log10()
}

/// Fails unless the ratio reaches `bar`; results of nothing, or all exact, pass. `SHOW_SNR=1` prints the ratios.
#[track_caller]
#[expect(clippy::print_stdout, reason = "ratios are printed when asked for")]
pub(crate) fn assert_snr(what: &str, got: &[f32], want: &[f64], bar: f64) {
    let ratio = snr(got, want);
    let exact = got
        .iter()
        .zip(want)
        .all(|(&got, &want)| (f64::from(got) - want).abs() <= 0.0);
    if std::env::var_os("SHOW_SNR").is_some() {
        println!("{what}: {ratio:.1} dB");
    }
    assert!(exact || ratio >= bar, "{what}: {ratio:.1} dB, bar {bar}");
}

#[test]
fn bf16_linear_layers_reach_their_ratio() {
    on_each_isa(|isa| {
        for rows in [0, 1, 2, 5, 11, 12, 13, 31, 32, 33, 95, 96, 97, 131] {
            for (n, k) in [
                (1, 1),
                (5, 3),
                (16, 31),
                (17, 32),
                (32, 33),
                (33, 64),
                (70, 40),
                (40, 1300),
            ] {
                let (x, raw) = (heavy(rows * (k + 3), k + 3, 1), heavy(n * k, 1, 2));
                let weight = PackedMatrix::bf16_from_out_in(&raw, n, k).unwrap();
                let (bias, residual) = (values(n, 3), values(rows * n, 4));
                for extras in [false, true] {
                    let call = Linear {
                        x_stride: k + 3,
                        bias: extras.then_some(&bias),
                        residual: extras.then_some(&residual),
                        ..Linear::new(&x, rows, &weight)
                    };
                    let mut out = vec![f32::NAN; rows * n];
                    linear(&call, &mut out).unwrap();
                    let mut want = reference::linear(&x, rows, k + 3, &raw, k);
                    if extras {
                        for (i, want) in want.iter_mut().enumerate() {
                            *want += f64::from(bias[i % n]) + f64::from(residual[i]);
                        }
                    }
                    // Of a handful of roundings the mean is not yet near its expectation.
                    let bar = if rows * n < 64 { 42.0 } else { 47.0 };
                    assert_snr(
                        &format!("{isa:?} {rows} {n} {k} {extras}"),
                        &out,
                        &want,
                        bar,
                    );
                }
            }
        }
    });
}

#[test]
fn exact_linear_layers_reach_their_ratio() {
    on_each_isa(|isa| {
        for (rows, n, k) in [
            (1, 1, 1),
            (5, 17, 33),
            (33, 40, 64),
            (131, 70, 1300),
            (40, 33, 2600),
        ] {
            let x = heavy(rows * k, k, 1);
            let mut bytes = Vec::new();
            for bits in STORED {
                let raw = stored(heavy(n * k, 1, 2), bits);
                let weight = PackedMatrix::exact_from_out_in(&raw, n, k).unwrap();
                let mut out = vec![f32::NAN; rows * n];
                linear(&Linear::new(&x, rows, &weight), &mut out).unwrap();
                let want = reference::linear(&x, rows, k, &raw, k);
                let what = format!("{isa:?} {rows} {n} {k} of {bits} bits");
                assert_snr(&what, &out, &want, 120.0);
                bytes.push(weight.bytes());
            }
            let falling = bytes.is_sorted_by(|a, b| a > b);
            assert_eq!(falling, isa == tintype_kernels::Isa::Amx, "{bytes:?}");
        }
    });
}

/// Significant bits of weights in f32, f16 and bf16, which need three, two and one part of bf16.
pub(crate) const STORED: [u32; 3] = [24, 11, 8];

/// The values cut to so many significant bits.
pub(crate) fn stored(mut values: Vec<f32>, bits: u32) -> Vec<f32> {
    for value in &mut values {
        *value = f32::from_bits(value.to_bits() & (u32::MAX << (f32::MANTISSA_DIGITS - bits)));
    }
    values
}

/// Sums so long that other products take them in pieces, which a gate cannot.
#[test]
fn gates_of_long_sums_reach_their_ratio() {
    on_each_isa(|isa| STORED.into_iter().for_each(|bits| check_gates(isa, bits)));
}

fn check_gates(isa: tintype_kernels::Isa, bits: u32) {
    let (rows, inner, k) = (70, 40, 2700);
    let (x, raw) = (
        heavy(rows * k, k, 1),
        stored(heavy(2 * inner * k, 1, 2), bits),
    );
    let mut weights = vec![(PackedGeglu::from_out_in(&raw, inner, k).unwrap(), 45.0)];
    if isa == tintype_kernels::Isa::Amx {
        weights.push((
            PackedGeglu::exact_from_out_in(&raw, inner, k).unwrap(),
            115.0,
        ));
    }
    let projected = reference::linear(&x, rows, k, &raw, k);
    let want: Vec<f64> = (0..rows * inner)
        .map(|i| {
            let row = &projected[i / inner * 2 * inner..][..2 * inner];
            row[i % inner] * reference::gelu(row[inner + i % inner])
        })
        .collect();
    for (weight, bar) in &weights {
        let mut out = vec![f32::NAN; rows * inner];
        let call = LinearGeglu {
            x: x.as_slice().into(),
            rows,
            weight,
            bias: None,
        };
        linear_geglu(&call, &mut out).unwrap();
        assert_snr(&format!("{isa:?} {}", weight.kernel()), &out, &want, *bar);
    }
}

#[test]
fn bf16_products_of_nothing_are_the_bias() {
    let weight = PackedMatrix::bf16_from_out_in(&[], 3, 0).unwrap();
    on_each_isa(|_| {
        let mut out = [f32::NAN; 6];
        let call = Linear {
            bias: Some(&[1.0, 2.0, 3.0]),
            ..Linear::new(&[], 2, &weight)
        };
        linear(&call, &mut out).unwrap();
        assert_eq!(
            out.map(f32::to_bits),
            [1.0f32, 2.0, 3.0, 1.0, 2.0, 3.0].map(f32::to_bits)
        );
        linear(&Linear::new(&[], 2, &weight), &mut out).unwrap();
        assert_eq!(out.map(f32::to_bits), [0; 6]);
        let wide = PackedMatrix::bf16_from_out_in(&[], 300, 0).unwrap();
        let mut out = vec![f32::NAN; 40 * 300];
        linear(&Linear::new(&[], 40, &wide), &mut out).unwrap();
        assert!(out.iter().all(|x| x.to_bits() == 0));
    });
}

#[test]
fn bf16_gated_layers_reach_their_ratio() {
    on_each_isa(|isa| {
        for (rows, inner, k) in [(0, 4, 4), (7, 5, 3), (33, 40, 64), (100, 300, 80)] {
            let (x, raw) = (heavy(rows * k, k, 1), values(2 * inner * k, 2));
            let weight = PackedGeglu::from_out_in(&raw, inner, k).unwrap();
            let bias = values(2 * inner, 3);
            for bias in [None, Some(&bias[..])] {
                let mut out = vec![f32::NAN; rows * inner];
                let call = LinearGeglu {
                    x: x.as_slice().into(),
                    rows,
                    weight: &weight,
                    bias,
                };
                linear_geglu(&call, &mut out).unwrap();
                let projected = reference::linear(&x, rows, k, &raw, k);
                let add = |i: usize| bias.map_or(0.0, |bias| f64::from(bias[i]));
                let want: Vec<f64> = (0..rows * inner)
                    .map(|i| {
                        let (row, c) = (i / inner, i % inner);
                        let at = |c: usize| projected[row * 2 * inner + c] + add(c);
                        at(c) * reference::gelu(at(inner + c))
                    })
                    .collect();
                let bar = if rows * inner < 64 { 40.0 } else { 45.0 };
                assert_snr(&format!("{isa:?} {rows} {inner} {k}"), &out, &want, bar);
            }
        }
    });
}
