//! Normalisations.

use tintype_kernels::{
    Activation, Conv2d, ConvKernel, ConvShape, ConvWeight, GroupAffine, GroupNorm, Isa, LayerNorm,
    Padding, conv2d, group_norm, layer_norm, reference,
};

use crate::fast::assert_snr;
use crate::{EPS, assert_close, on_each_isa, values};

fn check_group(widths: &[usize], batch: usize, pixels: usize, groups: usize, mean: f32) {
    let data: Vec<Vec<f32>> = widths
        .iter()
        .enumerate()
        .map(|(i, width)| {
            values(batch * pixels * width, 10 + i as u64)
                .iter()
                .map(|x| x + mean)
                .collect()
        })
        .collect();
    let parts: Vec<(&[f32], usize)> = data
        .iter()
        .map(Vec::as_slice)
        .zip(widths.iter().copied())
        .collect();
    let channels = widths.iter().sum();
    let (weight, bias) = (values(channels, 1), values(channels, 2));
    for activation in [Activation::None, Activation::Silu] {
        let call = GroupNorm {
            parts: &parts,
            batch,
            pixels,
            groups,
            weight: &weight,
            bias: &bias,
            eps: 1e-5,
            activation,
        };
        let mut out = vec![f32::NAN; batch * pixels * channels];
        group_norm(&call, &mut out).unwrap();
        // x * factor + offset: both are rounded at the size of (1 + |mean|) / deviation. Over many values of -1..1 the
        // deviation is about 0.58; over one pixel it may be as small as sqrt(eps) = 1 / 316.
        let steepness = if pixels == 1 { 316.0 } else { 4.0 };
        let tolerance = EPS * (16.0 + 2.0 * steepness * (1.0 + f64::from(mean.abs())));
        let what = format!(
            "group_norm {widths:?} batch {batch} pixels {pixels} groups {groups} mean {mean} {activation:?}"
        );
        assert_close(
            &what,
            &out,
            &reference::group_norm(&call),
            tolerance,
            4.0 * EPS,
        );
    }
}

#[test]
fn group_norm_agrees_at_edges_and_over_concatenations() {
    on_each_isa(|_| {
        for (widths, batch, pixels, groups) in [
            (&[1][..], 1, 1, 1),
            (&[6], 2, 1, 3),
            (&[32], 2, 63, 32),
            (&[40], 1, 65, 4),
            (&[35], 3, 130, 5),
            (&[5, 7], 2, 67, 3),
            (&[32, 0, 17, 15], 1, 40, 8),
            (&[320], 1, 300, 32),
            (&[4], 0, 5, 2),
            (&[4], 2, 0, 2),
        ] {
            check_group(widths, batch, pixels, groups, 0.0);
        }
    });
}

#[test]
fn group_norm_keeps_its_accuracy_under_a_large_mean() {
    on_each_isa(|_| check_group(&[16], 1, 20_000, 2, 100.0));
}

#[test]
fn group_norm_refuses_what_does_not_fit() {
    let (x, w) = (values(24, 1), values(6, 2));
    let parts = [(&x[..], 6)];
    let good = GroupNorm {
        parts: &parts,
        batch: 2,
        pixels: 2,
        groups: 3,
        weight: &w,
        bias: &w,
        eps: 1e-5,
        activation: Activation::None,
    };
    let mut out = vec![0.0; 24];
    assert!(group_norm(&good, &mut out).is_ok());
    assert!(group_norm(&good, &mut out[1..]).is_err());
    assert_eq!(
        group_norm(&GroupNorm { groups: 4, ..good }, &mut out)
            .unwrap_err()
            .argument,
        "groups"
    );
    assert_eq!(
        group_norm(&GroupNorm { groups: 0, ..good }, &mut out)
            .unwrap_err()
            .argument,
        "groups"
    );
    assert_eq!(
        group_norm(
            &GroupNorm {
                weight: &w[1..],
                ..good
            },
            &mut out
        )
        .unwrap_err()
        .argument,
        "weight"
    );
    assert_eq!(
        group_norm(
            &GroupNorm {
                bias: &w[1..],
                ..good
            },
            &mut out
        )
        .unwrap_err()
        .argument,
        "bias"
    );
    assert_eq!(
        group_norm(&GroupNorm { pixels: 3, ..good }, &mut out)
            .unwrap_err()
            .argument,
        "part"
    );
}

#[test]
fn layer_norm_agrees() {
    on_each_isa(|_| {
        for (rows, dim) in [
            (0, 3),
            (1, 1),
            (2, 5),
            (3, 16),
            (5, 33),
            (60, 320),
            (2, 1280),
        ] {
            let x: Vec<f32> = values(rows * dim, 1)
                .iter()
                .map(|x| x * 3.0 + 2.0)
                .collect();
            let (weight, bias) = (values(dim, 2), values(dim, 3));
            let mut out = vec![f32::NAN; rows * dim];
            layer_norm(
                &LayerNorm {
                    x: &x,
                    weight: &weight,
                    bias: &bias,
                    eps: 1e-5,
                },
                &mut out,
            )
            .unwrap();
            let want: Vec<f64> = x
                .chunks_exact(dim)
                .flat_map(|row| {
                    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / dim as f64;
                    let variance = row
                        .iter()
                        .map(|&x| (f64::from(x) - mean).powi(2))
                        .sum::<f64>()
                        / dim as f64;
                    let rstd = 1.0 / (variance + f64::from(1e-5f32)).sqrt();
                    let y = |(i, &x): (usize, &f32)| {
                        (f64::from(x) - mean) * rstd * f64::from(weight[i]) + f64::from(bias[i])
                    };
                    row.iter().enumerate().map(y).collect::<Vec<_>>()
                })
                .collect();
            assert_close(
                &format!("layer_norm {rows} {dim}"),
                &out,
                &want,
                24.0 * EPS,
                8.0 * EPS,
            );
        }
        let (x, w) = (values(6, 1), values(3, 2));
        let call = LayerNorm {
            x: &x,
            weight: &w,
            bias: &w,
            eps: 1e-5,
        };
        assert!(layer_norm(&call, &mut [0.0; 5]).is_err());
        assert!(
            layer_norm(
                &LayerNorm {
                    bias: &w[1..],
                    ..call
                },
                &mut [0.0; 6]
            )
            .is_err()
        );
        assert!(layer_norm(&LayerNorm { x: &x[1..], ..call }, &mut [0.0; 5]).is_err());
    });
}

/// A norm that waits gives the same bits when it is carried out, and a convolution that carries it out while it reads what one
/// gives that follows it.
#[test]
fn a_norm_that_waits_is_the_same_norm() {
    let (batch, height, width) = (2, 9, 21);
    let (first, second) = (
        values(batch * height * width * 40, 1),
        values(batch * height * width * 24, 2),
    );
    let parts = [(&first[..], 40), (&second[..], 24)];
    let (weight, bias) = (values(64, 3), values(64, 4));
    let shape = ConvShape {
        out_channels: 33,
        in_channels: 64,
        kernel_h: 3,
        kernel_w: 3,
    };
    let raw = values(33 * 64 * 9, 5);
    on_each_isa(|isa| {
        for activation in [Activation::None, Activation::Silu] {
            let call = GroupNorm {
                parts: &parts,
                batch,
                pixels: height * width,
                groups: 8,
                weight: &weight,
                bias: &bias,
                eps: 1e-5,
                activation,
            };
            let mut now = vec![f32::NAN; first.len() + second.len()];
            group_norm(&call, &mut now).unwrap();
            let affine = GroupAffine::of(&call).unwrap();
            let normed = affine.normed(&parts, activation).unwrap();
            let mut later = vec![f32::NAN; now.len()];
            normed.write(&mut later).unwrap();
            assert_eq!(now, later, "{isa:?} {activation:?}");
            assert!(normed.write(&mut later[1..]).is_err());
            assert!(affine.normed(&parts[1..], activation).is_err());
            for (kernel, bar) in [
                (ConvKernel::DirectBf16, 47.0),
                (ConvKernel::SplitBf16, 120.0),
                (ConvKernel::ShiftedF32, 120.0),
            ] {
                if isa != Isa::Amx && kernel == ConvKernel::SplitBf16 {
                    continue;
                }
                let packed = ConvWeight::pack(&raw, shape, kernel).unwrap();
                let takes = isa == Isa::Amx || kernel == ConvKernel::ShiftedF32;
                assert_eq!(packed.takes_normed(1), takes);
                let sizes = (batch, height, width);
                let padding = Padding::symmetric(1);
                let plain = Conv2d {
                    padding,
                    ..Conv2d::new(&now, sizes, &packed)
                };
                let waiting = Conv2d {
                    padding,
                    normed: Some(normed),
                    ..Conv2d::new(&[], sizes, &packed)
                };
                let mut out = vec![f32::NAN; batch * height * width * 33];
                if takes {
                    conv2d(&waiting, &mut out).unwrap();
                    let what = format!("{kernel} {activation:?}");
                    assert_snr(&what, &out, &reference::conv2d(&plain, &raw), bar);
                } else {
                    assert!(conv2d(&waiting, &mut out).is_err());
                }
            }
        }
    });
}
