//! Linear layers: matrix products with a packed weight.

use criterion::Criterion;
use tintype_kernels::{Linear, PackedMatrix, linear};
use tintype_kernels_bench::{gemm_crate, values};

/// Rows, inputs and outputs.
const SHAPES: [[usize; 3]; 6] = [
    [8192, 320, 320],
    [8192, 320, 2560],
    [8192, 1280, 320],
    [2048, 640, 640],
    [512, 5120, 1280],
    [154, 768, 640],
];

pub(crate) fn run(criterion: &mut Criterion) {
    for shape in SHAPES {
        let [rows, inputs, outputs] = shape;
        let (x, weight) = (values(rows * inputs), values(outputs * inputs));
        let mut out = vec![0.0; rows * outputs];
        let name = format!("product {rows}x{inputs}x{outputs}");
        let mut group = crate::group(criterion, name, 2 * rows * inputs * outputs);
        for (name, packed) in [
            (
                "ours f32",
                PackedMatrix::exact_from_out_in(&weight, outputs, inputs),
            ),
            (
                "ours fast",
                PackedMatrix::bf16_from_out_in(&weight, outputs, inputs),
            ),
        ] {
            let packed = packed.unwrap();
            let call = Linear::new(&x, rows, &packed);
            group.bench_function(name, |b| b.iter(|| linear(&call, &mut out).unwrap()));
        }
        group.bench_function("gemm crate", |b| {
            b.iter(|| gemm_crate(shape, &x, &weight, &mut out));
        });
        let weight = crate::tensor(&weight, &[outputs, inputs]).t().unwrap();
        let x = crate::tensor(&x, &[rows, inputs]);
        group.bench_function("candle", |b| b.iter(|| x.matmul(&weight).unwrap()));
    }
}
