//! Sums of channels that a convolution or a linear layer takes while it writes.

use tintype_kernels::{
    Activation, Conv2d, ConvKernel, ConvShape, ConvWeight, GroupAffine, GroupNorm, Isa, Linear,
    Moments, PackedMatrix, Padding, conv2d, conv2d_recorded, linear, linear_recorded, reference,
};

use crate::{EPS, assert_close, on_each_isa, values};

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Compares the norm that `moments` give of `map`, whose deviation is about `deviation`, with one from sums in f64.
fn check_norm(what: &str, map: &[f32], dims: [usize; 3], moments: &Moments, deviation: f64) {
    let [batch, pixels, channels] = dims;
    let (weight, bias) = (values(channels, 1), values(channels, 2));
    let parts = [(map, channels)];
    let call = GroupNorm {
        parts: &parts,
        batch,
        pixels,
        groups: channels / 8,
        weight: &weight,
        bias: &bias,
        eps: 1e-5,
        activation: Activation::None,
    };
    let affine = GroupAffine::with_moments(&call, &[Some(moments)]).unwrap();
    let mut found = vec![f32::NAN; map.len()];
    let normed = affine.normed(&parts, Activation::None).unwrap();
    normed.write(&mut found).unwrap();
    let largest = map.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let tolerance = EPS * (16.0 + 4.0 * f64::from(largest) / deviation);
    let want = reference::group_norm(&call);
    assert_close(what, &found, &want, tolerance, 4.0 * EPS);
}

struct Case {
    batch: usize,
    size: (usize, usize),
    inputs: usize,
    outputs: usize,
    stride: usize,
    doubles: bool,
    /// Whether every panel is whole and each picture has tiles of its own, so that AMX can tell.
    tells: bool,
}

/// A window of 3x3 over maps of `size`.
const PLAIN: Case = Case {
    batch: 1,
    size: (16, 16),
    inputs: 32,
    outputs: 32,
    stride: 1,
    doubles: false,
    tells: true,
};

const CASES: [Case; 11] = [
    PLAIN,
    // Several blocks, whose last one is lower.
    Case {
        size: (70, 64),
        outputs: 64,
        ..PLAIN
    },
    // Two pictures in a block.
    Case {
        batch: 2,
        size: (8, 8),
        inputs: 64,
        ..PLAIN
    },
    // More pictures than a block holds.
    Case {
        batch: 5,
        size: (16, 32),
        ..PLAIN
    },
    // Blocks side by side.
    Case {
        batch: 2,
        size: (20, 130),
        ..PLAIN
    },
    Case {
        batch: 2,
        size: (32, 32),
        stride: 2,
        ..PLAIN
    },
    Case {
        batch: 2,
        size: (10, 16),
        doubles: true,
        ..PLAIN
    },
    // An odd number of tiles of a picture, and another one's behind them.
    Case {
        batch: 2,
        size: (9, 16),
        ..PLAIN
    },
    // More planes than are rounded at once.
    Case {
        size: (24, 24),
        inputs: 1600,
        ..PLAIN
    },
    // Tiles that run on from row to row and from a picture to the next.
    Case {
        batch: 3,
        size: (5, 7),
        ..PLAIN
    },
    Case {
        outputs: 40,
        tells: false,
        ..PLAIN
    },
];

fn check_conv(isa: Isa, kernel: ConvKernel, case: &Case) {
    let (height, width) = case.size;
    let (c, o) = (case.inputs, case.outputs);
    let x = values(case.batch * height * width * c, 3);
    let shape = ConvShape {
        out_channels: o,
        in_channels: c,
        kernel_h: 3,
        kernel_w: 3,
    };
    let raw = values(o * c * 9, 4);
    let weight = ConvWeight::pack_upsampling(&raw, shape, kernel).unwrap();
    // A mean far above the deviation, which differs from channel to channel.
    let bias: Vec<f32> = values(o, 5).iter().map(|x| 300.0 * x).collect();
    let time = values(case.batch * o, 6);
    let call = Conv2d {
        stride: case.stride,
        padding: Padding::symmetric(1),
        upsample_to: case.doubles.then_some((2 * height, 2 * width)),
        bias: Some(&bias),
        channel_bias: Some(&time),
        ..Conv2d::new(&x, (case.batch, height, width), &weight)
    };
    let (high, wide) = call.out_size().unwrap();
    let residual = values(case.batch * high * wide * o, 7);
    let call = Conv2d {
        residual: Some(&residual),
        ..call
    };
    let what = format!("{kernel:?} {}x{height}x{width} {c}>{o}", case.batch);
    let mut want = vec![f32::NAN; residual.len()];
    conv2d(&call, &mut want).unwrap();
    let mut found = vec![f32::NAN; residual.len()];
    let moments = conv2d_recorded(&call, &mut found).unwrap();
    assert_eq!(bits(&found), bits(&want), "{what}");
    assert_eq!(moments.is_some(), isa == Isa::Amx && case.tells, "{what}");
    if let Some(moments) = moments {
        let dims = [case.batch, high * wide, o];
        check_norm(&what, &found, dims, &moments, (c as f64).sqrt());
    }
}

#[test]
fn sums_of_convolutions_are_those_of_what_they_wrote() {
    on_each_isa(|isa| {
        for case in &CASES {
            check_conv(isa, ConvKernel::DirectBf16, case);
            if isa == Isa::Amx {
                check_conv(isa, ConvKernel::SplitBf16, case);
            }
        }
        let direct = Case {
            tells: false,
            ..PLAIN
        };
        check_conv(isa, ConvKernel::DirectF32, &direct);
    });
}

/// Batch, rows of a picture, columns, and whether AMX can tell.
const ROWS: [(usize, usize, usize, bool); 7] = [
    (1, 1, 32, true),
    (2, 64, 64, true),
    (2, 1056, 96, true),
    (3, 32, 32, true),
    // Blocks that hold the end of a picture and the start of the next.
    (3, 992, 320, true),
    (3, 100, 32, false),
    (2, 64, 40, false),
];

#[test]
fn sums_of_linear_layers_are_those_of_what_they_wrote() {
    on_each_isa(|isa| {
        for (batch, pixels, n, tells) in ROWS {
            for k in [32, 40, 2600] {
                let rows = batch * pixels;
                let (x, raw) = (values(rows * k, 1), values(n * k, 2));
                for (exact, weight) in [
                    (false, PackedMatrix::bf16_from_out_in(&raw, n, k).unwrap()),
                    (true, PackedMatrix::exact_from_out_in(&raw, n, k).unwrap()),
                ] {
                    let (bias, residual) = (values(n, 3), values(rows * n, 4));
                    let call = Linear {
                        bias: Some(&bias),
                        residual: Some(&residual),
                        ..Linear::new(&x, rows, &weight)
                    };
                    let what = format!("{batch}x{pixels} {k}>{n}, exact {exact}");
                    let mut want = vec![f32::NAN; rows * n];
                    linear(&call, &mut want).unwrap();
                    let mut found = vec![f32::NAN; rows * n];
                    let moments = linear_recorded(&call, pixels, &mut found).unwrap();
                    assert_eq!(bits(&found), bits(&want), "{what}");
                    assert_eq!(moments.is_some(), isa == Isa::Amx && tells, "{what}");
                    let Some(moments) = moments.filter(|_| pixels > 1) else {
                        continue;
                    };
                    check_norm(&what, &found, [batch, pixels, n], &moments, 1.0);
                }
            }
        }
    });
}

#[test]
fn a_map_of_known_and_unknown_sums_is_normed_alike() {
    if !Isa::available().contains(&Isa::Amx) {
        eprintln!("skipped: no AMX, whose kernels alone tell sums");
        return;
    }
    Isa::Amx.with(|| {
        let (batch, pixels, k) = (2, 96, 64);
        let x = values(batch * pixels * k, 1);
        let weight = PackedMatrix::bf16_from_out_in(&values(32 * k, 2), 32, k).unwrap();
        let mut first = vec![0.0; batch * pixels * 32];
        let call = Linear::new(&x, batch * pixels, &weight);
        let moments = linear_recorded(&call, pixels, &mut first).unwrap();
        assert!(moments.is_some());
        let second = values(batch * pixels * 16, 3);
        let parts = [(&first[..], 32), (&second[..], 16)];
        let (weight, bias) = (values(48, 4), values(48, 5));
        let call = GroupNorm {
            parts: &parts,
            batch,
            pixels,
            // A group of both.
            groups: 2,
            weight: &weight,
            bias: &bias,
            eps: 1e-5,
            activation: Activation::Silu,
        };
        let affine = GroupAffine::with_moments(&call, &[moments.as_ref(), None]).unwrap();
        let mut found = vec![f32::NAN; batch * pixels * 48];
        let normed = affine.normed(&parts, Activation::Silu).unwrap();
        normed.write(&mut found).unwrap();
        let want = reference::group_norm(&call);
        assert_close("known and unknown", &found, &want, 64.0 * EPS, 4.0 * EPS);
        // Moments of another map.
        let swapped = GroupAffine::with_moments(&call, &[None, moments.as_ref()]);
        assert_eq!(swapped.unwrap_err().argument, "known");
        assert!(GroupAffine::with_moments(&call, &[None]).is_err());
    });
}

#[test]
fn sums_do_not_depend_on_threads() {
    on_each_isa(|isa| {
        let (batch, pixels, n, k) = (2, 1056, 320, 64);
        let x = values(batch * pixels * k, 1);
        let weight = PackedMatrix::bf16_from_out_in(&values(n * k, 2), n, k).unwrap();
        let normed = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new();
            let pool = pool.num_threads(threads).build().unwrap();
            pool.install(|| {
                isa.with(|| {
                    let mut out = vec![0.0; batch * pixels * n];
                    let call = Linear::new(&x, batch * pixels, &weight);
                    let moments = linear_recorded(&call, pixels, &mut out).unwrap();
                    let parts = [(&out[..], n)];
                    let call = GroupNorm {
                        parts: &parts,
                        batch,
                        pixels,
                        groups: 32,
                        weight: &x[..n],
                        bias: &x[..n],
                        eps: 1e-5,
                        activation: Activation::None,
                    };
                    let affine = GroupAffine::with_moments(&call, &[moments.as_ref()]).unwrap();
                    let mut found = vec![f32::NAN; out.len()];
                    let normed = affine.normed(&parts, Activation::None).unwrap();
                    normed.write(&mut found).unwrap();
                    bits(&found)
                })
            })
        };
        let one = normed(1);
        for threads in [2, 3, 7] {
            assert!(normed(threads) == one, "{isa:?} {threads} threads");
        }
    });
}

#[test]
fn rows_that_are_not_whole_pictures_are_refused() {
    let (x, raw) = (values(6 * 32, 1), values(32 * 32, 2));
    let weight = PackedMatrix::from_out_in(&raw, 32, 32).unwrap();
    let call = Linear::new(&x, 6, &weight);
    let mut out = vec![0.0; 6 * 32];
    for pixels in [0, 4, 7] {
        let refused = linear_recorded(&call, pixels, &mut out);
        assert_eq!(refused.unwrap_err().argument, "pixels");
    }
    assert!(linear_recorded(&call, 3, &mut out).unwrap().is_none());
}
