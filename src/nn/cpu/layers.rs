//! Packed weights and the calls that use them.

use std::sync::Arc;

use tintype_kernels as kernels;

use super::super::norm::Activation;
use super::super::weight::{decode_f32, decode_f32_into};
use super::super::{Bias, Scope};
use super::pending::{Pending, PendingLayerNorm, PendingNorm, Sources, sources};
use super::{Array, Context, KernelResult};
use crate::error::Result;
use crate::nn::profile::Account;
use crate::nn::{MemoryUse, Precision};

/// Reads a tensor as f32; `None` when planning.
pub(in crate::nn) fn values(
    scope: &Scope,
    name: &str,
    shape: &[usize],
) -> Result<Option<Vec<f32>>> {
    scope.tensor(name, shape, decode_f32)
}

/// The same in memory of the pool, where one weight after the other can lie until it is packed.
pub(super) fn large(
    context: &Context,
    scope: &Scope,
    name: &str,
    shape: &[usize],
) -> Result<Option<kernels::Lease>> {
    scope.tensor(name, shape, |raw| {
        let mut values = context.pool.take(shape.iter().product());
        decode_f32_into(raw, &mut values)?;
        Ok(values)
    })
}

/// A linear layer's weight (out, in) and bias (out).
#[derive(Debug, Clone)]
pub(in crate::nn) struct Product {
    weight: Arc<kernels::PackedMatrix>,
    bias: Option<Arc<[f32]>>,
    /// Whether a group norm reads the result.
    before_norm: bool,
}

impl Product {
    /// One product that computes the layers of all `scopes`, each from `inputs` to `outputs` channels,
    /// side by side; `None` when planning.
    pub(in crate::nn) fn load(
        context: &Context,
        scopes: &[Scope],
        (inputs, outputs): (usize, usize),
        bias: Bias,
    ) -> Result<Option<Self>> {
        let (mut weights, mut biases) = (None, Vec::new());
        let len = outputs * inputs;
        for (i, scope) in scopes.iter().enumerate() {
            scope.tensor("weight", &[outputs, inputs], |raw| {
                let all = weights.get_or_insert_with(|| context.pool.take(len * scopes.len()));
                decode_f32_into(raw, &mut all[i * len..][..len])
            })?;
            if bias == Bias::With {
                append(&mut biases, values(scope, "bias", &[outputs])?);
            }
        }
        let outputs = outputs * scopes.len();
        let Some(weights) = weights else {
            return Ok(None);
        };
        let pack = match context.precision_of(&scopes[0]) {
            // What is to be exact has few rows, and its error would be in every pixel alike.
            Precision::F32 if scopes[0].is_exact() || context.memory == MemoryUse::Low => {
                kernels::PackedMatrix::from_out_in
            }
            Precision::F32 => kernels::PackedMatrix::exact_from_out_in,
            Precision::Fast => kernels::PackedMatrix::bf16_from_out_in,
        };
        let weight = pack(&weights, outputs, inputs).op("pack")?;
        Ok(Some(Self {
            weight: Arc::new(weight),
            bias: (bias == Bias::With).then(|| biases.into()),
            before_norm: false,
        }))
    }

    /// The same where a group norm reads the result.
    pub(in crate::nn) fn before_group_norm(self) -> Self {
        Self {
            before_norm: kernels::Normed::suits(),
            ..self
        }
    }

    /// `x W^T + bias + residual` for each position of `x`.
    pub(in crate::nn) fn run(
        &self,
        x: &Array,
        residual: Option<&Array>,
        op: &str,
    ) -> Result<Array> {
        let mut room = Sources::new();
        let (dims, call) = self.call(x, residual, &mut room)?;
        let account = || Account::product("linear", &self.weight, x.rows());
        Array::build_recorded(x.pool(), dims, account, |out| {
            if self.before_norm {
                let pixels = dims[1] * dims[2];
                return kernels::linear_recorded(&call, pixels, out).op(op);
            }
            kernels::linear(&call, out).op(op).map(|()| None)
        })
    }

    /// `x W^T + bias` for a reader that rounds it, which is done here already where the kernel can.
    pub(super) fn run_rounded(&self, x: &Array, op: &str) -> Result<Array> {
        if !self.weight.writes_halves() {
            return self.run(x, None, op);
        }
        let mut room = Sources::new();
        let (dims, call) = self.call(x, None, &mut room)?;
        let account = || Account::product("linear", &self.weight, x.rows());
        Array::build_halves(x.pool(), dims, account, |out| {
            kernels::linear_halves(&call, out).op(op)
        })
    }

    /// The result's extents, and how to compute it; `room` is for what it reads.
    fn call<'a>(
        &'a self,
        x: &'a Array,
        residual: Option<&'a Array>,
        room: &'a mut Sources<'a>,
    ) -> Result<([usize; 4], kernels::Linear<'a>)> {
        let [batch, height, width, channels] = x.bhwc();
        let call = kernels::Linear {
            x: x.input(room, |input| self.weight.takes(input))?,
            rows: x.rows(),
            x_stride: channels,
            weight: &self.weight,
            bias: self.bias.as_deref(),
            residual: residual.map(Array::data),
        };
        let dims = [batch, height, width, self.weight.out_features()];
        Ok((dims, call))
    }
}

impl Account {
    /// `rows` rows times `weight`.
    fn product(kind: &'static str, weight: &kernels::PackedMatrix, rows: usize) -> Self {
        let (inputs, outputs) = (weight.in_features(), weight.out_features());
        Self {
            kind,
            kernel: weight.kernel(),
            shape: format!("{rows} {inputs}>{outputs}"),
            flops: 2.0 * rows as f64 * inputs as f64 * outputs as f64,
        }
    }
}

/// The weights of a gated linear layer.
#[derive(Debug, Clone)]
pub(in crate::nn) enum Gated {
    /// One product of twice the width, then the gates.
    Apart { proj: Product, inner: usize },
    /// Both in one pass.
    Fused {
        weight: Arc<kernels::PackedGeglu>,
        bias: Arc<[f32]>,
    },
}

impl Gated {
    /// Reads `weight` (2 * inner, dim) and `bias` of `scope`; `None` when planning.
    pub(in crate::nn) fn load(
        context: &Context,
        scope: &Scope,
        dim: usize,
        inner: usize,
    ) -> Result<Option<Self>> {
        let scopes = std::slice::from_ref(scope);
        let exact = context.precision_of(scope) == Precision::F32;
        let small = context.memory == MemoryUse::Low;
        if exact && (small || !kernels::PackedGeglu::suits_exact()) {
            let proj = Product::load(context, scopes, (dim, 2 * inner), Bias::With)?;
            return Ok(proj.map(|proj| Self::Apart { proj, inner }));
        }
        let pack = if exact {
            kernels::PackedGeglu::exact_from_out_in
        } else {
            kernels::PackedGeglu::from_out_in
        };
        let weight = large(context, scope, "weight", &[2 * inner, dim])?
            .map(|weight| pack(&weight, inner, dim).op("pack"))
            .transpose()?;
        let bias = values(scope, "bias", &[2 * inner])?;
        Ok(weight.zip(bias).map(|(weight, bias)| Self::Fused {
            weight: Arc::new(weight),
            bias: bias.into(),
        }))
    }

    /// (B, N, dim) to (B, N, inner), rounded where the product that reads it would round it.
    pub(in crate::nn) fn run(&self, x: &Array, op: &str) -> Result<Array> {
        let (weight, bias) = match self {
            Self::Apart { proj, inner } => return geglu(&proj.run(x, None, op)?, *inner, op),
            Self::Fused { weight, bias } => (weight, bias),
        };
        let [batch, height, width, inputs] = x.bhwc();
        let (rows, inner) = (x.rows(), weight.inner());
        let account = || Account {
            kind: "gated linear",
            kernel: weight.kernel(),
            shape: format!("{rows} {inputs}>2x{inner}"),
            flops: 4.0 * rows as f64 * inputs as f64 * inner as f64,
        };
        let mut room = Sources::new();
        let call = kernels::LinearGeglu {
            x: x.input(&mut room, |input| weight.takes(input))?,
            rows,
            weight,
            bias: Some(bias),
        };
        let dims = [batch, height, width, inner];
        if weight.writes_halves() {
            return Array::build_halves(x.pool(), dims, account, |out| {
                kernels::linear_geglu_halves(&call, out).op(op)
            });
        }
        Array::build(x.pool(), dims, account, |out| {
            kernels::linear_geglu(&call, out).op(op)
        })
    }
}

/// Avoids a copy of the first.
fn append(all: &mut Vec<f32>, more: Option<Vec<f32>>) {
    match more {
        Some(more) if all.is_empty() => *all = more,
        more => all.extend(more.into_iter().flatten()),
    }
}

/// A norm's factor and constant per channel.
#[derive(Debug, Clone)]
pub(in crate::nn) struct Gain {
    weight: Arc<[f32]>,
    bias: Arc<[f32]>,
}

impl Gain {
    /// Reads both; `None` when planning.
    pub(in crate::nn) fn load(scope: &Scope, channels: usize) -> Result<Option<Self>> {
        let weight = values(scope, "weight", &[channels])?;
        let bias = values(scope, "bias", &[channels])?;
        Ok(weight.zip(bias).map(|(weight, bias)| Self {
            weight: weight.into(),
            bias: bias.into(),
        }))
    }

    /// Normalises groups over the positions of `parts`, read as joined along the channels.
    pub(in crate::nn) fn group_norm(
        &self,
        parts: &[&Array],
        (groups, eps): (usize, f64),
        activation: Activation,
        op: &str,
    ) -> Result<Array> {
        let first = parts[0];
        let [batch, height, width, _] = first.bhwc();
        let parts: Vec<_> = parts
            .iter()
            .flat_map(|part| part.parts())
            .cloned()
            .collect();
        let sources = sources(&parts);
        let call = kernels::GroupNorm {
            parts: &sources,
            batch,
            pixels: height * width,
            groups,
            weight: &self.weight,
            bias: &self.bias,
            eps: eps as f32,
            activation: match activation {
                Activation::None => kernels::Activation::None,
                Activation::Silu => kernels::Activation::Silu,
            },
        };
        let dims = [batch, height, width, self.weight.len()];
        if kernels::Normed::suits() {
            // A convolution there writes its input anew anyway.
            let account = || Account::moving("group norm", dims);
            let known: Vec<_> = parts.iter().map(Array::moments).collect();
            let sums = || kernels::GroupAffine::with_moments(&call, &known).op(op);
            let norm = PendingNorm {
                affine: first.pool().profiler().time(account, sums)?,
                activation: call.activation,
                parts,
            };
            return Ok(Array::pending(first.pool(), dims, Pending::Group(norm)));
        }
        let account = || Account::moving("group norm", dims);
        Array::build(first.pool(), dims, account, |out| {
            kernels::group_norm(&call, out).op(op)
        })
    }

    /// Normalises each position over its channels.
    pub(in crate::nn) fn layer_norm(&self, x: &Array, eps: f64, op: &str) -> Result<Array> {
        if kernels::Normed::suits() {
            // So does a product.
            let norm = PendingLayerNorm {
                x: x.clone(),
                weight: Arc::clone(&self.weight),
                bias: Arc::clone(&self.bias),
                eps: eps as f32,
            };
            return Ok(Array::pending(x.pool(), x.bhwc(), Pending::Layer(norm)));
        }
        let call = kernels::LayerNorm {
            x: x.data(),
            weight: &self.weight,
            bias: &self.bias,
            eps: eps as f32,
        };
        let account = || Account::moving("layer norm", x.bhwc());
        Array::build(x.pool(), x.bhwc(), account, |out| {
            kernels::layer_norm(&call, out).op(op)
        })
    }
}

/// `a * gelu(g)` of `projected` (B, N, 2 * inner).
fn geglu(projected: &Array, inner: usize, op: &str) -> Result<Array> {
    let [batch, height, width, _] = projected.bhwc();
    let dims = [batch, height, width, inner];
    let account = || Account::moving("gate", dims);
    Array::build(projected.pool(), dims, account, |out| {
        kernels::geglu(projected.data(), inner, out).op(op)
    })
}
