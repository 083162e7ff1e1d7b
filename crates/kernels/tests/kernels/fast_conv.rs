//! Every convolution kernel, by signal-to-noise ratio against f64 loops.

use tintype_kernels::{
    Conv2d, ConvKernel, ConvShape, ConvUse, ConvWeight, Isa, Padding, Precision, WinogradTile,
    conv2d, reference,
};

use crate::fast::{STORED, assert_snr, heavy, stored};
use crate::{on_each_isa, values};

const F2: WinogradTile = WinogradTile::F2;
const F4: WinogradTile = WinogradTile::F4;

#[derive(Clone, Copy, Debug)]
struct Case {
    kernel: ConvKernel,
    bar: f64,
    batch: usize,
    size: (usize, usize),
    channels: (usize, usize),
    window: (usize, usize),
    stride: usize,
    padding: Padding,
    upsample_to: Option<(usize, usize)>,
    extras: bool,
    /// Significant bits of the weight.
    bits: u32,
}

fn case(kernel: ConvKernel, size: (usize, usize), channels: (usize, usize)) -> Case {
    Case {
        kernel,
        bar: match kernel {
            ConvKernel::DirectF32 | ConvKernel::ShiftedF32 | ConvKernel::SplitBf16 => 120.0,
            ConvKernel::WinogradF32(_) => 100.0,
            ConvKernel::DirectBf16 => 47.0,
            ConvKernel::WinogradI16(_) => 50.0,
        },
        batch: 1,
        size,
        channels,
        window: (3, 3),
        stride: 1,
        padding: Padding::symmetric(1),
        upsample_to: None,
        extras: true,
        bits: f32::MANTISSA_DIGITS,
    }
}

fn check_conv(isa: Isa, case: Case) {
    let ((h, w), (ci, co)) = (case.size, case.channels);
    let shape = ConvShape {
        out_channels: co,
        in_channels: ci,
        kernel_h: case.window.0,
        kernel_w: case.window.1,
    };
    let x = heavy(case.batch * h * w * ci, ci.max(1), 1);
    let raw = stored(
        heavy(co * ci * case.window.0 * case.window.1, 1, 2),
        case.bits,
    );
    let pack = if case.upsample_to.is_some() {
        ConvWeight::pack_upsampling
    } else {
        ConvWeight::pack
    };
    let weight = pack(&raw, shape, case.kernel).unwrap();
    assert_eq!(weight.kernel(), case.kernel);
    let mut call = Conv2d::new(&x, (case.batch, h, w), &weight);
    call.stride = case.stride;
    call.padding = case.padding;
    call.upsample_to = case.upsample_to;
    let (oh, ow) = call.out_size().unwrap();
    let len = case.batch * oh * ow * co;
    let (bias, channel, residual) = (values(co, 3), values(case.batch * co, 4), values(len, 5));
    if case.extras {
        call.bias = Some(&bias);
        call.channel_bias = Some(&channel);
        call.residual = Some(&residual);
    }
    let mut out = vec![f32::NAN; len];
    conv2d(&call, &mut out).unwrap();
    let want = reference::conv2d(&call, &raw);
    assert_snr(&format!("{isa:?} {case:?}"), &out, &want, case.bar);
}

/// Those of any window and step first.
const ALL: [ConvKernel; 7] = [
    ConvKernel::DirectF32,
    ConvKernel::ShiftedF32,
    ConvKernel::DirectBf16,
    ConvKernel::WinogradF32(F2),
    ConvKernel::WinogradF32(F4),
    ConvKernel::WinogradI16(F2),
    ConvKernel::WinogradI16(F4),
];
const ANY_WINDOW: usize = 3;

#[test]
fn convolutions_reach_their_ratio_at_edge_sizes() {
    on_each_isa(|isa| {
        for kernel in ALL {
            for size in [
                (2, 1),
                (1, 1),
                (3, 4),
                (4, 4),
                (5, 3),
                (8, 8),
                (13, 7),
                (17, 12),
            ] {
                check_conv(isa, case(kernel, size, (32, 32)));
            }
            for channels in [
                (1, 1),
                (3, 5),
                (4, 33),
                (15, 16),
                (17, 31),
                (31, 48),
                (33, 65),
                (64, 20),
            ] {
                check_conv(isa, case(kernel, (6, 9), channels));
            }
        }
    });
}

#[test]
fn convolutions_reach_their_ratio_with_batches_paddings_and_upsampling() {
    let base = |kernel| case(kernel, (7, 9), (40, 36));
    on_each_isa(|isa| {
        for kernel in ALL {
            let base = base(kernel);
            check_conv(isa, Case { batch: 3, ..base });
            check_conv(
                isa,
                Case {
                    batch: 2,
                    extras: false,
                    ..base
                },
            );
            check_conv(
                isa,
                Case {
                    padding: Padding::default(),
                    ..base
                },
            );
            let padding = Padding {
                top: 0,
                left: 3,
                bottom: 2,
                right: 1,
            };
            check_conv(isa, Case { padding, ..base });
            check_conv(
                isa,
                Case {
                    upsample_to: Some((14, 18)),
                    batch: 2,
                    ..base
                },
            );
            check_conv(
                isa,
                Case {
                    upsample_to: Some((13, 19)),
                    ..base
                },
            );
        }
        for kernel in ALL.into_iter().take(ANY_WINDOW) {
            let base = base(kernel);
            check_conv(isa, Case { stride: 2, ..base });
            let bottom_right = Padding {
                bottom: 1,
                right: 1,
                ..Padding::default()
            };
            check_conv(
                isa,
                Case {
                    stride: 2,
                    size: (8, 8),
                    padding: bottom_right,
                    ..base
                },
            );
            check_conv(
                isa,
                Case {
                    window: (1, 1),
                    padding: Padding::default(),
                    ..base
                },
            );
            check_conv(
                isa,
                Case {
                    window: (5, 2),
                    stride: 3,
                    channels: (3, 7),
                    ..base
                },
            );
        }
    });
}

/// Input channels by 32, as AMX takes pixels: windows, steps, frames and blocks of every kind.
fn whole_planes(kernel: ConvKernel) -> Vec<Case> {
    let base = case(kernel, (7, 9), (64, 36));
    let plain = Padding::default();
    let odd = Padding {
        top: 0,
        left: 3,
        bottom: 2,
        right: 1,
    };
    let mut cases = vec![base; 11];
    cases[0].batch = 3;
    (cases[1].batch, cases[1].extras) = (2, false);
    cases[2].padding = plain;
    cases[3].padding = odd;
    (cases[4].upsample_to, cases[4].batch) = (Some((14, 18)), 2);
    cases[5].upsample_to = Some((13, 19));
    cases[6].stride = 2;
    (cases[7].stride, cases[7].size, cases[7].batch) = (2, (32, 33), 2);
    (cases[8].stride, cases[8].window) = (3, (5, 2));
    (cases[9].window, cases[9].padding) = ((1, 1), plain);
    cases[10] = Case {
        stride: 2,
        ..cases[9]
    };
    for (batch, stride, size) in [
        (2, 1, (5, 150)),
        (1, 2, (5, 150)),
        (1, 1, (40, 64)),
        (1, 1, (70, 16)),
        (5, 1, (8, 8)),
        (5, 1, (16, 16)),
    ] {
        cases.push(Case {
            batch,
            stride,
            ..case(kernel, size, (32, 33))
        });
    }
    cases.push(Case {
        batch: 2,
        ..case(kernel, (8, 8), (1280, 40))
    });
    cases.push(case(kernel, (16, 16), (1280, 33)));
    for (size, channels) in [
        ((1, 1), (32, 32)),
        ((8, 8), (1280, 40)),
        ((35, 70), (32, 33)),
    ] {
        cases.push(Case {
            batch: 2,
            upsample_to: Some((2 * size.0, 2 * size.1)),
            ..case(kernel, size, channels)
        });
    }
    // Twice the size, but not the whole of it.
    cases.push(Case {
        padding: odd,
        ..cases[4]
    });
    cases
}

#[test]
fn a_layer_that_doubles_the_size_has_four_small_windows_with_amx() {
    on_each_isa(|isa| {
        let shape = ConvShape {
            out_channels: 8,
            in_channels: 32,
            kernel_h: 3,
            kernel_w: 3,
        };
        let raw = values(8 * 32 * 9, 1);
        let x = values(3 * 5 * 32, 2);
        let bf16 = ConvKernel::DirectBf16;
        let weight = ConvWeight::pack_upsampling(&raw, shape, bf16).unwrap();
        let mut call = Conv2d::new(&x, (1, 3, 5), &weight);
        call.padding = Padding::symmetric(1);
        assert_eq!(call.kernel(), "conv-bf16-direct");
        call.upsample_to = Some((6, 9));
        assert_eq!(call.kernel(), "conv-bf16-direct");
        call.upsample_to = Some((6, 10));
        let phases = isa == Isa::Amx;
        let name = if phases {
            "conv-bf16-phases"
        } else {
            "conv-bf16-direct"
        };
        assert_eq!(call.kernel(), name);
        let plain = ConvWeight::pack(&raw, shape, bf16).unwrap();
        assert_eq!(weight.bytes() > 2 * plain.bytes(), phases);
    });
}

#[test]
fn direct_convolutions_of_whole_planes_reach_their_ratio() {
    on_each_isa(|isa| {
        for case in whole_planes(ConvKernel::DirectBf16) {
            check_conv(isa, case);
        }
        if isa == Isa::Amx {
            for bits in STORED {
                for case in whole_planes(ConvKernel::SplitBf16) {
                    check_conv(isa, Case { bits, ..case });
                }
            }
        }
    });
}

#[test]
fn three_parts_want_amx_and_whole_planes() {
    let shape = |in_channels| ConvShape {
        out_channels: 2,
        in_channels,
        kernel_h: 1,
        kernel_w: 1,
    };
    let error = ConvWeight::pack(&[0.0; 66], shape(33), ConvKernel::SplitBf16).unwrap_err();
    assert!(error.to_string().contains("multiple of 32"), "{error}");
    let pack = ConvWeight::pack(&[0.0; 64], shape(32), ConvKernel::SplitBf16);
    assert_eq!(pack.is_ok(), Isa::available().contains(&Isa::Amx));
}

#[test]
fn winograd_reaches_its_ratio_at_the_widths_of_stable_diffusion() {
    let i16 = ConvKernel::WinogradI16(F4);
    on_each_isa(|isa| {
        check_conv(isa, case(i16, (8, 8), (320, 64)));
        check_conv(isa, case(i16, (4, 8), (640, 32)));
        check_conv(isa, case(i16, (8, 4), (1280, 32)));
        check_conv(isa, case(i16, (4, 4), (2560, 32)));
        check_conv(isa, case(ConvKernel::WinogradI16(F2), (4, 4), (1280, 32)));
        check_conv(isa, case(ConvKernel::WinogradF32(F4), (8, 4), (1280, 32)));
        check_conv(isa, case(ConvKernel::DirectBf16, (4, 8), (1280, 32)));
    });
}

#[test]
fn both_orders_of_winograd_give_the_same_bits() {
    // 64x64 makes 22 groups, enough for two threads to take whole tiles and too few for sixteen.
    let shape = ConvShape {
        out_channels: 48,
        in_channels: 64,
        kernel_h: 3,
        kernel_w: 3,
    };
    let (x, raw) = (heavy(64 * 64 * 64, 64, 1), values(48 * 64 * 9, 2));
    for kernel in [ConvKernel::WinogradI16(F4), ConvKernel::WinogradF32(F2)] {
        let weight = ConvWeight::pack(&raw, shape, kernel).unwrap();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let mut out = vec![f32::NAN; 64 * 64 * 48];
            let mut call = Conv2d::new(&x, (1, 64, 64), &weight);
            call.padding = Padding::symmetric(1);
            pool.install(|| conv2d(&call, &mut out)).unwrap();
            out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        let one = run(1);
        assert!(one.iter().all(|&x| f32::from_bits(x).is_finite()));
        for threads in [2, 3, 64] {
            assert!(
                run(threads) == one,
                "{kernel}: {threads} threads differ from one"
            );
        }
    }
}

#[test]
fn no_sum_of_i16_leaves_its_range_when_input_and_weight_are_parallel() {
    // The input is the weight's own picture at every pixel, so every sum is as large as Cauchy and Schwarz allow.
    for channels in [320, 600] {
        let shape = ConvShape {
            out_channels: 32,
            in_channels: channels,
            kernel_h: 3,
            kernel_w: 3,
        };
        let pattern = heavy(channels, 1, 9);
        let raw: Vec<f32> = (0..32 * channels * 9)
            .map(|i| pattern[i / 9 % channels])
            .collect();
        let x: Vec<f32> = (0..12 * 12 * channels)
            .map(|i| pattern[i % channels] * 1e3)
            .collect();
        for tile in [F2, F4] {
            let weight = ConvWeight::pack(&raw, shape, ConvKernel::WinogradI16(tile)).unwrap();
            on_each_isa(|isa| {
                let call = Conv2d::new(&x, (1, 12, 12), &weight);
                let mut out = vec![f32::NAN; 10 * 10 * 32];
                conv2d(&call, &mut out).unwrap();
                let want = reference::conv2d(&call, &raw);
                assert_snr(&format!("{isa:?} {tile:?} {channels}"), &out, &want, 60.0);
            });
        }
    }
}

#[test]
fn a_value_that_is_not_finite_shows_near_itself_and_nowhere_else() {
    let shape = ConvShape {
        out_channels: 32,
        in_channels: 32,
        kernel_h: 3,
        kernel_w: 3,
    };
    let raw = values(32 * 32 * 9, 2);
    for kernel in ALL {
        let weight = ConvWeight::pack(&raw, shape, kernel).unwrap();
        for bad in [f32::NAN, f32::INFINITY] {
            let mut x = values(20 * 20 * 32, 1);
            x[(10 * 20 + 10) * 32 + 5] = bad;
            on_each_isa(|isa| {
                let mut call = Conv2d::new(&x, (1, 20, 20), &weight);
                call.padding = Padding::symmetric(1);
                let mut out = vec![0.0; x.len()];
                conv2d(&call, &mut out).unwrap();
                let finite = |y: usize, x: usize| {
                    out[(y * 20 + x) * 32..][..32].iter().all(|v| v.is_finite())
                };
                assert!(!finite(10, 10), "{isa:?} {kernel}: {bad} is lost");
                assert!(
                    finite(2, 3) && finite(10, 17),
                    "{isa:?} {kernel}: {bad} spreads"
                );
            });
        }
    }
}

#[test]
fn winograd_refuses_windows_and_strides_it_cannot_do() {
    let kernel = ConvKernel::WinogradI16(F4);
    let mut shape = ConvShape {
        out_channels: 2,
        in_channels: 2,
        kernel_h: 1,
        kernel_w: 1,
    };
    let error = ConvWeight::pack(&[1.0; 4], shape, kernel).unwrap_err();
    assert_eq!(
        error.to_string(),
        "pack_conv: kernel: found 1, expected a window of 3x3 for a Winograd kernel"
    );
    (shape.kernel_h, shape.kernel_w) = (3, 3);
    let none = ConvShape {
        in_channels: 0,
        ..shape
    };
    let error = ConvWeight::pack(&[], none, kernel).unwrap_err();
    assert_eq!(error.argument, "in_channels");
    let weight = ConvWeight::pack(&[1.0; 36], shape, kernel).unwrap();
    let x = values(50, 1);
    let mut call = Conv2d::new(&x, (1, 5, 5), &weight);
    call.stride = 2;
    let error = conv2d(&call, &mut [0.0; 8]).unwrap_err();
    assert_eq!(error.argument, "stride");
}

#[test]
fn the_choice_follows_shape_precision_and_instruction_set() {
    let shape = ConvShape {
        out_channels: 320,
        in_channels: 320,
        kernel_h: 3,
        kernel_w: 3,
    };
    let fast = ConvUse {
        shape,
        stride: 1,
        precision: Precision::Fast,
        pixels: 4096,
    };
    let name = |use_: ConvUse, isa| ConvKernel::choose_for(&use_, isa).name();
    assert_eq!(name(fast, Isa::Avx512Bf16), "conv-i16-winograd4");
    assert_eq!(name(fast, Isa::Amx), "conv-bf16-direct");
    assert_eq!(
        name(ConvUse { pixels: 64, ..fast }, Isa::Avx512Bf16),
        "conv-i16-winograd2"
    );
    assert_eq!(
        name(ConvUse { stride: 2, ..fast }, Isa::Avx512Bf16),
        "conv-bf16-direct"
    );
    let exact = ConvUse {
        precision: Precision::F32,
        ..fast
    };
    assert_eq!(name(exact, Isa::Avx2), "conv-f32-winograd4");
    assert_eq!(name(exact, Isa::Amx), "conv-f32-winograd4");
    let small = ConvUse {
        pixels: 256,
        ..exact
    };
    assert_eq!(name(small, Isa::Amx), "conv-3xbf16-direct");
    assert_eq!(name(small, Isa::Avx512Bf16), "conv-f32-winograd4");
    assert_eq!(
        name(
            ConvUse {
                pixels: 64,
                ..exact
            },
            Isa::Avx2
        ),
        "conv-f32-direct"
    );
    let narrow = |isa, precision, out_channels, stride| {
        let shape = ConvShape {
            out_channels,
            ..shape
        };
        let use_ = ConvUse {
            shape,
            stride,
            precision,
            ..fast
        };
        name(use_, isa)
    };
    let (f32, half) = (Precision::F32, Precision::Fast);
    assert_eq!(narrow(Isa::Avx512Bf16, half, 4, 1), "conv-f32-shifted");
    assert_eq!(narrow(Isa::Avx512Bf16, half, 4, 2), "conv-bf16-direct");
    assert_eq!(narrow(Isa::Avx512Bf16, half, 9, 1), "conv-bf16-direct");
    assert_eq!(narrow(Isa::Amx, half, 4, 1), "conv-bf16-direct");
    for isa in [Isa::Amx, Isa::Avx512, Isa::Avx2] {
        assert_eq!(narrow(isa, f32, 8, 1), "conv-f32-shifted");
    }
    assert_eq!(narrow(Isa::Portable, f32, 4, 1), "conv-f32-shifted");
    assert_eq!(narrow(Isa::Portable, f32, 8, 1), "conv-f32-direct");
    assert_eq!(narrow(Isa::Amx, f32, 9, 1), "conv-3xbf16-direct");
    assert_eq!(narrow(Isa::Avx2, f32, 9, 1), "conv-f32-direct");
}

#[test]
fn a_weight_that_is_not_a_number_shows_in_its_channel_and_nowhere_else() {
    let shape = ConvShape {
        out_channels: 33,
        in_channels: 34,
        kernel_h: 3,
        kernel_w: 3,
    };
    let mut raw = values(33 * 34 * 9, 2);
    raw[(7 * 34 + 33) * 9 + 4] = f32::NAN;
    let x = values(6 * 6 * 34, 1);
    on_each_isa(|isa| {
        for kernel in ALL {
            let weight = ConvWeight::pack(&raw, shape, kernel).unwrap();
            let mut out = vec![0.0; 4 * 4 * 33];
            conv2d(&Conv2d::new(&x, (1, 6, 6), &weight), &mut out).unwrap();
            for (i, value) in out.iter().enumerate() {
                assert_eq!(value.is_nan(), i % 33 == 7, "{isa:?} {kernel}: {i}");
            }
        }
    });
}
