//! The number of threads changes no bit.

use tintype_kernels::{
    Activation, Attention, Causality, Conv2d, ConvKernel, ConvShape, ConvWeight, GroupNorm,
    LayerNorm, Linear, LinearGeglu, PackedGeglu, PackedMatrix, Padding, WinogradTile, attention,
    attention_bf16, conv2d, gelu_erf, group_norm, layer_norm, linear, linear_geglu, softmax_rows,
};

use crate::{on_each_isa, values};

/// Runs `kernel` on 1, 2, 3 and 7 threads and compares bits.
fn check(name: &str, len: usize, kernel: impl Fn(&mut [f32]) + Sync) {
    on_each_isa(|isa| {
        let bits = |threads: usize| -> Vec<u32> {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let mut out = vec![f32::NAN; len];
            pool.install(|| isa.with(|| kernel(&mut out)));
            out.iter().map(|x| x.to_bits()).collect()
        };
        let one = bits(1);
        assert!(
            one.iter().all(|&x| f32::from_bits(x).is_finite()),
            "{name} {isa:?}: not finite"
        );
        for threads in [2, 3, 7] {
            assert!(
                bits(threads) == one,
                "{name} {isa:?}: {threads} threads differ from one"
            );
        }
    });
}

#[test]
fn matrix_products_do_not_depend_on_threads() {
    let (rows, n, k) = (205, 333, 301);
    let (x, raw) = (values(rows * k, 1), values(n * k, 2));
    let weight = PackedMatrix::from_out_in(&raw, n, k).unwrap();
    check("linear", rows * n, |out| {
        linear(&Linear::new(&x, rows, &weight), out).unwrap();
    });
    let weight = PackedMatrix::bf16_from_out_in(&raw, n, k).unwrap();
    check("bf16 linear", rows * n, |out| {
        linear(&Linear::new(&x, rows, &weight), out).unwrap();
    });
    let weight = PackedMatrix::exact_from_out_in(&raw, n, k).unwrap();
    check("exact linear", rows * n, |out| {
        linear(&Linear::new(&x, rows, &weight), out).unwrap();
    });
    let gated = PackedGeglu::from_out_in(&raw[..2 * 100 * k], 100, k).unwrap();
    check("linear_geglu", rows * 100, |out| {
        let call = LinearGeglu {
            x: x.as_slice().into(),
            rows,
            weight: &gated,
            bias: None,
        };
        linear_geglu(&call, out).unwrap();
    });
    let shape = ConvShape {
        out_channels: 33,
        in_channels: 29,
        kernel_h: 3,
        kernel_w: 3,
    };
    let raw = values(33 * 29 * 9, 3);
    let x = values(2 * 17 * 13 * 29, 4);
    for kernel in [
        ConvKernel::DirectF32,
        ConvKernel::ShiftedF32,
        ConvKernel::DirectBf16,
        ConvKernel::WinogradF32(WinogradTile::F4),
        ConvKernel::WinogradI16(WinogradTile::F4),
        ConvKernel::WinogradI16(WinogradTile::F2),
    ] {
        let weight = ConvWeight::pack(&raw, shape, kernel).unwrap();
        check_conv(kernel.name(), &weight, &x, (2, 17, 13));
    }
}

/// A 3x3 convolution with a frame of zeros.
fn check_conv(name: &str, weight: &ConvWeight, x: &[f32], sizes: (usize, usize, usize)) {
    let (batch, height, width) = sizes;
    let len = batch * height * width * weight.shape().out_channels;
    check(name, len, |out| {
        let mut call = Conv2d::new(x, sizes, weight);
        call.padding = Padding::symmetric(1);
        conv2d(&call, out).unwrap();
    });
}

#[test]
fn convolutions_of_whole_planes_do_not_depend_on_threads() {
    let shape = ConvShape {
        out_channels: 72,
        in_channels: 64,
        kernel_h: 3,
        kernel_w: 3,
    };
    let raw = values(72 * 64 * 9, 3);
    let x = values(2 * 17 * 90 * 64, 4);
    let weight = ConvWeight::pack(&raw, shape, ConvKernel::DirectBf16).unwrap();
    check_conv("planes", &weight, &x, (2, 17, 90));
}

#[test]
fn a_row_does_not_depend_on_the_rows_beside_it() {
    let (rows, n, k) = (110, 70, 300);
    let (x, raw) = (values(rows * k, 1), values(n * k, 2));
    let weight = PackedMatrix::from_out_in(&raw, n, k).unwrap();
    on_each_isa(|_| {
        let run = |x: &[f32], rows: usize| {
            let mut out = vec![0.0; rows * n];
            linear(&Linear::new(x, rows, &weight), &mut out).unwrap();
            out
        };
        let all = run(&x, rows);
        for row in [0, 1, 13, 96, 109] {
            assert_eq!(
                run(&x[row * k..(row + 1) * k], 1),
                all[row * n..(row + 1) * n],
                "row {row}"
            );
        }
    });
}

#[test]
fn attention_does_not_depend_on_threads() {
    let (q, k, v) = (
        values(2 * 200 * 60, 1),
        values(2 * 300 * 60, 2),
        values(2 * 300 * 60, 3),
    );
    check("attention", 2 * 200 * 60, |out| {
        let call = Attention {
            q: &q,
            k: &k,
            v: &v,
            q_stride: 60,
            k_stride: 60,
            v_stride: 60,
            batch: 2,
            queries: 200,
            keys: 300,
            heads: 3,
            head_dim: 20,
            scale: 0.2,
            causality: Causality::Full,
        };
        attention(&call, out).unwrap();
    });
    check("attention_bf16", 2 * 200 * 60, |out| {
        let call = Attention {
            q: &q,
            k: &k,
            v: &v,
            q_stride: 60,
            k_stride: 60,
            v_stride: 60,
            batch: 2,
            queries: 200,
            keys: 300,
            heads: 3,
            head_dim: 20,
            scale: 0.2,
            causality: Causality::Full,
        };
        attention_bf16(&call, out).unwrap();
    });
}

#[test]
fn norms_and_elementwise_do_not_depend_on_threads() {
    let (x, w) = (values(2 * 5000 * 32, 1), values(32, 2));
    check("group_norm", x.len(), |out| {
        let parts = [(&x[..], 32)];
        let call = GroupNorm {
            parts: &parts,
            batch: 2,
            pixels: 5000,
            groups: 4,
            weight: &w,
            bias: &w,
            eps: 1e-6,
            activation: Activation::Silu,
        };
        group_norm(&call, out).unwrap();
    });
    check("layer_norm", x.len(), |out| {
        layer_norm(
            &LayerNorm {
                x: &x,
                weight: &w,
                bias: &w,
                eps: 1e-5,
            },
            out,
        )
        .unwrap();
    });
    check("gelu_erf", x.len(), |out| gelu_erf(&x, out).unwrap());
    check("softmax_rows", x.len(), |out| {
        out.copy_from_slice(&x);
        softmax_rows(out, 1000).unwrap();
    });
}
