//! Convolutions to few channels: pictures of more rows and columns than a task has, whatever else a call may ask for.

use tintype_kernels::{
    Activation, Conv2d, ConvKernel, ConvShape, ConvWeight, GroupAffine, GroupNorm, Isa, Normed,
    Padding, conv2d, reference,
};

use crate::fast::{assert_snr, heavy};
use crate::{on_each_isa, values};

/// Of f32 products.
const BAR: f64 = 120.0;

fn shape((in_channels, out_channels): (usize, usize), window: (usize, usize)) -> ConvShape {
    ConvShape {
        out_channels,
        in_channels,
        kernel_h: window.0,
        kernel_w: window.1,
    }
}

fn weights(shape: ConvShape) -> Vec<f32> {
    let places = shape.kernel_h * shape.kernel_w;
    heavy(shape.out_channels * shape.in_channels * places, 1, 2)
}

/// The result on `threads`; of `normed`, where it stands for the input.
fn run(call: &Conv2d<'_>, normed: Option<Normed<'_>>, threads: usize) -> Vec<f32> {
    let call = Conv2d {
        normed,
        x: if normed.is_some() { &[] } else { call.x },
        ..*call
    };
    let (height, width) = call.out_size().unwrap();
    let outputs = call.weight.shape().out_channels;
    let mut out = vec![f32::NAN; call.batch * height * width * outputs];
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    let isa = Isa::current();
    pool.install(|| isa.with(|| conv2d(&call, &mut out)))
        .unwrap();
    out
}

#[test]
fn large_maps_reach_their_ratio_and_do_not_depend_on_threads() {
    on_each_isa(|isa| {
        for (sizes, channels) in [
            ((1, 70, 20), (16, 3)),
            ((2, 9, 300), (5, 4)),
            ((1, 3, 129), (320, 4)),
            ((3, 8, 8), (512, 8)),
            ((1, 131, 5), (7, 1)),
            ((2, 20, 50), (128, 3)),
        ] {
            let shape = shape(channels, (3, 3));
            let raw = weights(shape);
            let weight = ConvWeight::pack(&raw, shape, ConvKernel::ShiftedF32).unwrap();
            let (batch, height, width) = sizes;
            let pixels = batch * height * width;
            let x = heavy(pixels * channels.0, channels.0, 1);
            let bias = values(channels.1, 3);
            let residual = values(pixels * channels.1, 4);
            let channel = values(batch * channels.1, 5);
            let mut call = Conv2d::new(&x, sizes, &weight);
            call.padding = Padding::symmetric(1);
            call.bias = Some(&bias);
            call.residual = Some(&residual);
            call.channel_bias = Some(&channel);
            let one = run(&call, None, 1);
            let name = format!("{isa:?} {sizes:?} {channels:?}");
            assert_snr(&name, &one, &reference::conv2d(&call, &raw), BAR);
            for threads in [2, 5] {
                assert!(run(&call, None, threads) == one, "{name}: {threads} differ");
            }
        }
    });
}

#[test]
fn windows_and_steps_of_every_kind_reach_their_ratio_over_many_columns() {
    on_each_isa(|isa| {
        for (window, stride, padding) in [
            ((3, 3), 2, 1),
            ((3, 3), 5, 0),
            ((1, 1), 1, 0),
            ((5, 2), 1, 2),
            ((2, 7), 3, 3),
        ] {
            let shape = shape((6, 3), window);
            let raw = weights(shape);
            let weight = ConvWeight::pack(&raw, shape, ConvKernel::ShiftedF32).unwrap();
            let x = heavy(2 * 23 * 280 * 6, 6, 1);
            let mut call = Conv2d::new(&x, (2, 23, 280), &weight);
            (call.stride, call.padding) = (stride, Padding::symmetric(padding));
            let name = format!("{isa:?} {window:?} by {stride}");
            let want = reference::conv2d(&call, &raw);
            assert_snr(&name, &run(&call, None, 2), &want, BAR);
        }
    });
}

#[test]
fn a_norm_of_two_arrays_is_carried_out_while_their_values_are_read() {
    let (height, width, batch) = (11, 140, 2);
    let pixels = batch * height * width;
    let (first, second) = (heavy(pixels * 32, 32, 1), heavy(pixels * 16, 16, 2));
    let parts = [(&first[..], 32), (&second[..], 16)];
    let (factor, offset) = (values(48, 3), values(48, 4));
    let shape = shape((48, 3), (3, 3));
    let raw = weights(shape);
    on_each_isa(|isa| {
        let norm = GroupNorm {
            parts: &parts,
            batch,
            pixels: height * width,
            groups: 6,
            weight: &factor,
            bias: &offset,
            eps: 1e-5,
            activation: Activation::Silu,
        };
        let affine = GroupAffine::of(&norm).unwrap();
        let normed = affine.normed(&parts, Activation::Silu).unwrap();
        let mut x = vec![f32::NAN; pixels * 48];
        normed.write(&mut x).unwrap();
        let weight = ConvWeight::pack(&raw, shape, ConvKernel::ShiftedF32).unwrap();
        assert!(weight.takes_normed(1));
        let mut call = Conv2d::new(&x, (batch, height, width), &weight);
        call.padding = Padding::symmetric(1);
        let want = reference::conv2d(&call, &raw);
        let got = run(&call, Some(normed), 2);
        assert_snr(&format!("{isa:?}"), &got, &want, BAR);
        assert!(got == run(&call, None, 1), "{isa:?}: values written first");
    });
}
