//! Attention over fused projections: queries, keys and values lie side by side in one array.

use tintype_kernels as kernels;

use super::super::Scope;
use super::super::attention::{AttentionSpec, Rule};
use super::layers::Product;
use super::{Array, Context, KernelResult};
use crate::error::Result;
use crate::nn::Precision;
use crate::nn::profile::Account;

/// The input projections of one layer.
#[derive(Debug, Clone)]
pub(in crate::nn) enum Projections {
    /// (B, N, query) to queries, keys and values (B, N, 3 * inner).
    SelfOnly(Product),
    /// (B, N, query) to queries (B, N, inner); (B, M, context) to keys and values (B, M, 2 * inner).
    Context { q: Product, kv: Product },
}

impl Projections {
    /// Reads and packs; `None` when planning.
    pub(in crate::nn) fn load(
        context: &Context,
        scope: &Scope,
        spec: &AttentionSpec,
    ) -> Result<Option<Self>> {
        let [q, k, v] = [spec.names.q, spec.names.k, spec.names.v].map(|name| scope.pp(name));
        let inner = spec.heads * spec.head_dim;
        let load =
            |scopes: &[Scope], from| Product::load(context, scopes, (from, inner), spec.qkv_bias);
        let Some(context_dim) = spec.context_dim else {
            return Ok(load(&[q, k, v], spec.query_dim)?.map(Self::SelfOnly));
        };
        let q = load(&[q], spec.query_dim)?;
        let kv = load(&[k, v], context_dim)?;
        Ok(q.zip(kv).map(|(q, kv)| Self::Context { q, kv }))
    }
}

/// `x` times an input projection, for an attention of `precision`.
pub(in crate::nn) fn project(
    projection: &Product,
    x: &Array,
    precision: Precision,
    op: &str,
) -> Result<Array> {
    match precision {
        Precision::F32 => projection.run(x, None, op),
        Precision::Fast => projection.run_rounded(x, op),
    }
}

/// One of several matrices side by side in an array.
#[derive(Debug, Clone, Copy)]
pub(in crate::nn) struct Part<'a> {
    pub(in crate::nn) array: &'a Array,
    /// First channel.
    pub(in crate::nn) offset: usize,
}

impl<'a> Part<'a> {
    fn values(self) -> &'a [f32] {
        self.array.data().get(self.offset..).unwrap_or_default()
    }

    /// The same as bf16, two in each place.
    fn halves(self) -> Option<&'a [f32]> {
        let halves = self.array.halves()?;
        Some(halves.get(self.offset / 2..).unwrap_or_default())
            .filter(|_| self.offset.is_multiple_of(2))
    }
}

/// Attention of `q` (B, N, inner) over `k` and `v` (B, M, inner): (B, N, inner).
pub(in crate::nn) fn attend(
    qkv: [Part<'_>; 3],
    rule: Rule,
    precision: Precision,
    op: &str,
) -> Result<Array> {
    let [q, k, v] = qkv;
    let halves = precision == Precision::Fast && kernels::takes_halves(rule.head_dim);
    let halves = halves.then(|| qkv.map(Part::halves));
    let ([q_data, k_data, v_data], rounded) = match halves {
        Some([Some(q), Some(k), Some(v)]) => ([q, k, v], true),
        _ => (qkv.map(Part::values), false),
    };
    let ([batch, queries, q_stride], [_, keys, k_stride]) =
        (q.array.token_dims(), k.array.token_dims());
    let call = kernels::Attention {
        q: q_data,
        k: k_data,
        v: v_data,
        q_stride,
        k_stride,
        v_stride: v.array.channels(),
        batch,
        queries,
        keys,
        heads: rule.heads,
        head_dim: rule.head_dim,
        scale: rule.scale as f32,
        causality: if rule.causal {
            kernels::Causality::Causal
        } else {
            kernels::Causality::Full
        },
    };
    let (heads, dim) = (rule.heads, rule.head_dim);
    let (kernel, compute): (_, fn(&_, &mut [f32]) -> _) = match precision {
        Precision::F32 => (kernels::attention_kernel(), kernels::attention),
        Precision::Fast => ("attention-bf16", kernels::attention_bf16),
    };
    let account = || Account {
        kind: "attention",
        kernel,
        shape: format!("{batch}x{heads}x{dim} {queries}>{keys}"),
        flops: 4.0 * (batch * heads * dim) as f64 * queries as f64 * keys as f64,
    };
    let dims = [batch, 1, queries, heads * dim];
    if rounded {
        return Array::build_halves(q.array.pool(), dims, account, |out| {
            kernels::attention_halves(&call, out).op(op)
        });
    }
    Array::build(q.array.pool(), dims, account, |out| {
        compute(&call, out).op(op)
    })
}
