//! Attention of every head of a layer.

use candle_core::{D, Result, Tensor};
use criterion::Criterion;
use tintype_kernels::{Attention, Causality, attention, attention_bf16};
use tintype_kernels_bench::values;

/// Pictures, heads, queries, keys and channels of a head.
const SHAPES: [[usize; 5]; 5] = [
    [2, 8, 4096, 4096, 40],
    [2, 8, 1024, 1024, 80],
    [2, 8, 256, 256, 160],
    [2, 8, 4096, 77, 40],
    [1, 1, 4096, 4096, 512],
];

pub(crate) fn run(criterion: &mut Criterion) {
    for [batch, heads, queries, keys, head_dim] in SHAPES {
        let inner = heads * head_dim;
        let (q, k) = (
            values(batch * queries * inner),
            values(batch * keys * inner),
        );
        let scale = 1.0 / (head_dim as f32).sqrt();
        let call = Attention {
            q: &q,
            k: &k,
            v: &k,
            q_stride: inner,
            k_stride: inner,
            v_stride: inner,
            batch,
            queries,
            keys,
            heads,
            head_dim,
            scale,
            causality: Causality::Full,
        };
        let mut out = vec![0.0; q.len()];
        let name = format!("attention {batch}x{heads}x{queries}x{keys}x{head_dim}");
        let mut group = crate::group(criterion, name, 4 * batch * queries * keys * inner);
        group.bench_function("ours f32", |b| {
            b.iter(|| attention(&call, &mut out).unwrap());
        });
        group.bench_function("ours fast", |b| {
            b.iter(|| attention_bf16(&call, &mut out).unwrap());
        });
        let q = crate::tensor(&q, &[batch, queries, heads, head_dim]);
        let k = crate::tensor(&k, &[batch, keys, heads, head_dim]);
        group.bench_function("candle", |b| {
            b.iter(|| with_candle(&q, &k, &k, scale).unwrap());
        });
    }
}

/// softmax(Q K^T) V from tokens to tokens, as candle-transformers writes it.
fn with_candle(q: &Tensor, k: &Tensor, v: &Tensor, scale: f32) -> Result<Tensor> {
    let heads = |x: &Tensor| x.transpose(1, 2)?.contiguous();
    let (q, k, v) = (heads(q)?, heads(k)?, heads(v)?);
    let scores = (q * f64::from(scale))?.matmul(&k.transpose(D::Minus1, D::Minus2)?)?;
    let weights = candle_nn::ops::softmax_last_dim(&scores)?;
    weights
        .matmul(&v)?
        .transpose(1, 2)?
        .contiguous()?
        .flatten_from(2)
}
