//! Group norm with SiLU, and layer norm.

use candle_nn::Module;
use criterion::Criterion;
use tintype_kernels::{Activation, GroupNorm, LayerNorm, group_norm, layer_norm};
use tintype_kernels_bench::values;

/// Pictures, side and channels.
const MAPS: [[usize; 3]; 3] = [[2, 64, 320], [2, 16, 1280], [1, 512, 128]];
/// Rows and channels.
const ROWS: [[usize; 2]; 2] = [[8192, 320], [2048, 640]];
const GROUPS: usize = 32;

pub(crate) fn run(criterion: &mut Criterion) {
    for [batch, side, channels] in MAPS {
        let pixels = side * side;
        let (x, weight) = (values(batch * pixels * channels), values(channels));
        let call = GroupNorm {
            parts: &[(&x, channels)],
            batch,
            pixels,
            groups: GROUPS,
            weight: &weight,
            bias: &weight,
            eps: 1e-5,
            activation: Activation::Silu,
        };
        let mut out = vec![0.0; x.len()];
        let name = format!("group norm, SiLU {batch}x{side}x{side}x{channels}");
        let mut group = crate::group(criterion, name, x.len());
        group.bench_function("ours", |b| b.iter(|| group_norm(&call, &mut out).unwrap()));
        let weight = crate::tensor(&weight, &[channels]);
        let norm =
            candle_nn::GroupNorm::new(weight.clone(), weight, channels, GROUPS, 1e-5).unwrap();
        let x = crate::tensor(&x, &[batch, channels, side, side]);
        group.bench_function("candle", |b| {
            b.iter(|| norm.forward(&x).unwrap().silu().unwrap());
        });
    }
    for [rows, channels] in ROWS {
        let (x, weight) = (values(rows * channels), values(channels));
        let call = LayerNorm {
            x: &x,
            weight: &weight,
            bias: &weight,
            eps: 1e-5,
        };
        let mut out = vec![0.0; x.len()];
        let mut group = crate::group(criterion, format!("layer norm {rows}x{channels}"), x.len());
        group.bench_function("ours", |b| b.iter(|| layer_norm(&call, &mut out).unwrap()));
        let weight = crate::tensor(&weight, &[channels]);
        let norm = candle_nn::LayerNorm::new(weight.clone(), weight, 1e-5);
        let x = crate::tensor(&x, &[rows, channels]);
        group.bench_function("candle", |b| b.iter(|| norm.forward(&x).unwrap()));
    }
}
