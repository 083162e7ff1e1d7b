//! Linear layers and convolutions.

use tintype_kernels::{
    Conv2d, ConvShape, ConvWeight, Linear, PackedMatrix, Padding, conv2d, linear, reference,
};

use crate::{assert_close, on_each_isa, sum_tolerance, values};

/// Runs one linear against the reference, with every combination of bias and residual.
fn check_linear(rows: usize, n: usize, k: usize, extra_stride: usize) {
    let stride = k + extra_stride;
    let x = values(rows * stride, 1);
    let weight = values(n * k, 2);
    let (bias, residual) = (values(n, 3), values(rows * n, 4));
    let plain = if k == 0 {
        vec![0.0; rows * n]
    } else {
        reference::linear(&x, rows, stride, &weight, k)
    };
    let packed = PackedMatrix::from_out_in(&weight, n, k).unwrap();
    for combination in 0..4 {
        let bias = (combination & 1 != 0).then_some(&bias[..]);
        let residual = (combination & 2 != 0).then_some(&residual[..]);
        let want: Vec<f64> = plain
            .iter()
            .enumerate()
            .map(|(i, v)| {
                v + bias.map_or(0.0, |b| f64::from(b[i % n]))
                    + residual.map_or(0.0, |r| f64::from(r[i]))
            })
            .collect();
        let mut out = vec![f32::NAN; rows * n];
        linear(
            &Linear {
                x_stride: stride,
                bias,
                residual,
                ..Linear::new(&x, rows, &packed)
            },
            &mut out,
        )
        .unwrap();
        let what =
            format!("linear rows {rows} n {n} k {k} stride {stride} combination {combination}");
        assert_close(&what, &out, &want, sum_tolerance(k), 0.0);
    }
}

#[test]
fn linear_agrees_at_edge_sizes() {
    on_each_isa(|_| {
        for rows in [0, 1, 2, 3, 5, 7, 11, 12, 13, 24, 95, 96, 97] {
            for (n, k) in [
                (0, 3),
                (1, 1),
                (3, 0),
                (4, 5),
                (15, 31),
                (16, 7),
                (17, 8),
                (31, 9),
                (32, 33),
                (33, 64),
                (49, 12),
            ] {
                check_linear(rows, n, k, 0);
            }
        }
    });
}

#[test]
fn linear_agrees_across_blocks_of_k_and_tiles_of_columns() {
    on_each_isa(|_| {
        for (rows, n, k) in [
            (5, 65, 257),
            (26, 130, 255),
            (193, 321, 40),
            (100, 64, 513),
            (3, 40, 1031),
        ] {
            check_linear(rows, n, k, 3);
        }
    });
}

#[test]
fn linear_refuses_wrong_lengths() {
    let weight = PackedMatrix::from_out_in(&values(6, 1), 2, 3).unwrap();
    let x = values(12, 2);
    let good = Linear::new(&x, 4, &weight);
    let mut out = vec![0.0; 8];
    assert!(linear(&good, &mut out).is_ok());
    let error = linear(&good, &mut out[..7]).unwrap_err();
    assert_eq!(error.to_string(), "linear: out: found 7, expected 8");
    assert!(
        linear(
            &Linear {
                x: x[..11].into(),
                ..good
            },
            &mut out
        )
        .is_err()
    );
    assert!(
        linear(
            &Linear {
                x_stride: 2,
                ..good
            },
            &mut out
        )
        .is_err()
    );
    assert!(
        linear(
            &Linear {
                x_stride: usize::MAX,
                ..good
            },
            &mut out
        )
        .is_err()
    );
    assert!(
        linear(
            &Linear {
                bias: Some(&[0.0]),
                ..good
            },
            &mut out
        )
        .is_err()
    );
    assert!(
        linear(
            &Linear {
                residual: Some(&[0.0]),
                ..good
            },
            &mut out
        )
        .is_err()
    );
    assert!(PackedMatrix::from_out_in(&x, 5, 3).is_err());
    assert!(PackedMatrix::from_out_in(&x, usize::MAX, 2).is_err());
}

/// A convolution to check.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// Output and input channels, window.
    shape: [usize; 4],
    /// Batch, height, width.
    size: (usize, usize, usize),
    stride: usize,
    padding: Padding,
    upsample_to: Option<(usize, usize)>,
}

/// A 3x3 window with one pixel of padding.
fn case(out_channels: usize, in_channels: usize, size: (usize, usize, usize)) -> Case {
    let shape = [out_channels, in_channels, 3, 3];
    Case {
        shape,
        size,
        stride: 1,
        padding: Padding::symmetric(1),
        upsample_to: None,
    }
}

fn check_conv(case: Case) {
    let [out_channels, in_channels, kernel_h, kernel_w] = case.shape;
    let (batch, height, width) = case.size;
    let shape = ConvShape {
        out_channels,
        in_channels,
        kernel_h,
        kernel_w,
    };
    let x = values(batch * height * width * in_channels, 1);
    let raw = values(out_channels * in_channels * kernel_h * kernel_w, 2);
    let weight = ConvWeight::from_oihw(&raw, shape).unwrap();
    assert_eq!(weight.shape(), shape);
    let (bias, channel_bias) = (values(out_channels, 3), values(batch * out_channels, 4));
    let mut call = Conv2d::new(&x, case.size, &weight);
    (call.stride, call.padding, call.upsample_to) = (case.stride, case.padding, case.upsample_to);
    let (oh, ow) = call.out_size().unwrap();
    let residual = values(batch * oh * ow * out_channels, 5);
    for combination in 0..8 {
        call.bias = (combination & 1 != 0).then_some(&bias[..]);
        call.channel_bias = (combination & 2 != 0).then_some(&channel_bias[..]);
        call.residual = (combination & 4 != 0).then_some(&residual[..]);
        let mut out = vec![f32::NAN; residual.len()];
        conv2d(&call, &mut out).unwrap();
        let want = reference::conv2d(&call, &raw);
        let tolerance = sum_tolerance(in_channels * kernel_h * kernel_w);
        assert_close(
            &format!("{case:?} combination {combination}"),
            &out,
            &want,
            tolerance,
            0.0,
        );
    }
}

#[test]
fn conv_agrees_at_sizes_around_blocks() {
    let cases = [
        case(5, 3, (2, 6, 7)),
        case(33, 16, (1, 12, 9)),
        case(4, 37, (2, 5, 4)),
        case(2, 300, (1, 3, 3)),
        case(2, 100, (1, 3, 3)),
        case(3, 2, (1, 1, 1)),
        case(5, 3, (0, 6, 7)),
        case(0, 3, (2, 6, 7)),
        case(3, 0, (2, 6, 7)),
    ];
    on_each_isa(|_| cases.into_iter().for_each(check_conv));
}

#[test]
fn conv_agrees_at_windows_strides_and_paddings_of_the_models() {
    let plain = case(5, 3, (2, 6, 7));
    let none = Padding::default();
    let bottom_right = Padding {
        bottom: 1,
        right: 1,
        ..none
    };
    let uneven = Padding {
        top: 2,
        left: 0,
        bottom: 1,
        right: 3,
    };
    let cases = [
        Case { stride: 2, ..plain },
        Case {
            stride: 2,
            padding: bottom_right,
            ..case(5, 3, (1, 8, 8))
        },
        Case {
            shape: [17, 9, 1, 1],
            padding: none,
            ..plain
        },
        Case {
            shape: [3, 2, 1, 1],
            stride: 2,
            padding: none,
            ..plain
        },
        Case {
            shape: [2, 3, 5, 2],
            padding: uneven,
            ..plain
        },
        Case {
            upsample_to: Some((12, 14)),
            ..plain
        },
        Case {
            upsample_to: Some((11, 13)),
            ..plain
        },
    ];
    on_each_isa(|_| cases.into_iter().for_each(check_conv));
}

#[test]
fn conv_refuses_what_does_not_fit() {
    let shape = ConvShape {
        out_channels: 2,
        in_channels: 3,
        kernel_h: 3,
        kernel_w: 3,
    };
    let weight = ConvWeight::from_oihw(&values(54, 1), shape).unwrap();
    let x = values(48, 2);
    let mut good = Conv2d::new(&x, (1, 4, 4), &weight);
    good.padding = Padding::symmetric(1);
    let mut out = vec![0.0; 32];
    assert!(conv2d(&good, &mut out).is_ok());
    assert_eq!(conv2d(&good, &mut out[..31]).unwrap_err().argument, "out");
    let wrong = [
        (
            "x",
            Conv2d {
                x: &x[..47],
                ..good
            },
        ),
        ("stride", Conv2d { stride: 0, ..good }),
        (
            "bias",
            Conv2d {
                bias: Some(&[0.0]),
                ..good
            },
        ),
        (
            "channel_bias",
            Conv2d {
                channel_bias: Some(&[0.0]),
                ..good
            },
        ),
        (
            "residual",
            Conv2d {
                residual: Some(&[0.0]),
                ..good
            },
        ),
        ("height", Conv2d::new(&x[..3], (1, 1, 1), &weight)),
        (
            "x",
            Conv2d {
                x: &[],
                height: 0,
                upsample_to: Some((4, 4)),
                ..good
            },
        ),
    ];
    for (argument, call) in wrong {
        assert_eq!(
            conv2d(&call, &mut out).map_err(|error| error.argument),
            Err(argument)
        );
    }
    assert!(ConvWeight::from_oihw(&values(53, 1), shape).is_err());
    assert!(
        ConvWeight::from_oihw(
            &[],
            ConvShape {
                kernel_h: 0,
                ..shape
            }
        )
        .is_err()
    );
}
