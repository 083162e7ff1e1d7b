//! 3x3 convolutions, each with the kernel that a model's layer of this shape has.

use criterion::Criterion;
use tintype_kernels::{
    Conv2d, ConvKernel, ConvShape, ConvUse, ConvWeight, Padding, Precision, conv2d,
};
use tintype_kernels_bench::values;

/// Pictures, side, inputs and outputs.
const SHAPES: [[usize; 4]; 6] = [
    [2, 64, 320, 320],
    [2, 32, 640, 640],
    [2, 16, 1280, 1280],
    [2, 8, 1280, 1280],
    [1, 256, 256, 256],
    [1, 512, 128, 128],
];

pub(crate) fn run(criterion: &mut Criterion) {
    for [batch, side, inputs, outputs] in SHAPES {
        let shape = ConvShape {
            out_channels: outputs,
            in_channels: inputs,
            kernel_h: 3,
            kernel_w: 3,
        };
        let pixels = batch * side * side;
        let (x, weight) = (values(pixels * inputs), values(9 * inputs * outputs));
        let mut out = vec![0.0; pixels * outputs];
        let name = format!("convolution {batch}x{side}x{side} {inputs} to {outputs}");
        let mut group = crate::group(criterion, name, 18 * pixels * inputs * outputs);
        for (name, precision) in [("ours f32", Precision::F32), ("ours fast", Precision::Fast)] {
            let kernel = ConvKernel::choose(&ConvUse {
                shape,
                stride: 1,
                precision,
                pixels: side * side,
            });
            let weight = ConvWeight::pack(&weight, shape, kernel).unwrap();
            let mut call = Conv2d::new(&x, (batch, side, side), &weight);
            call.padding = Padding::symmetric(1);
            group.bench_function(format!("{name}, {kernel}"), |b| {
                b.iter(|| conv2d(&call, &mut out).unwrap());
            });
        }
        let x = crate::tensor(&x, &[batch, inputs, side, side]);
        let weight = crate::tensor(&weight, &[outputs, inputs, 3, 3]);
        group.bench_function("candle", |b| {
            b.iter(|| x.conv2d(&weight, 1, 1, 1, 1).unwrap());
        });
    }
}
