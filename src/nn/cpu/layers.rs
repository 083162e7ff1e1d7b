//! Packed weights and the calls that use them.

use std::sync::Arc;

use tintype_kernels as kernels;

use super::super::conv2d::{Conv2dSpec, Padding};
use super::super::norm::Activation;
use super::super::weight::{decode_f32, decode_f32_into};
use super::super::{Bias, Scope};
use super::array::{Pending, PendingLayerNorm, PendingNorm, sources};
use super::{Array, Context, KernelResult, Pool};
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
fn large(
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
        }))
    }

    /// `x W^T + bias + residual` for each position of `x`.
    pub(in crate::nn) fn run(
        &self,
        x: &Array,
        residual: Option<&Array>,
        op: &str,
    ) -> Result<Array> {
        let (dims, call) = self.call(x, residual);
        let account = || Account::product("linear", &self.weight, x.rows());
        Array::build(x.pool(), dims, account, |out| {
            kernels::linear(&call, out).op(op)
        })
    }

    /// `x W^T + bias` for a reader that rounds it, which is done here already where the kernel can.
    pub(super) fn run_rounded(&self, x: &Array, op: &str) -> Result<Array> {
        if !self.weight.writes_halves() {
            return self.run(x, None, op);
        }
        let (dims, call) = self.call(x, None);
        let account = || Account::product("linear", &self.weight, x.rows());
        Array::build_halves(x.pool(), dims, account, |out| {
            kernels::linear_halves(&call, out).op(op)
        })
    }

    /// The result's extents, and how to compute it.
    fn call<'a>(
        &'a self,
        x: &'a Array,
        residual: Option<&'a Array>,
    ) -> ([usize; 4], kernels::Linear<'a>) {
        let [batch, height, width, channels] = x.bhwc();
        let call = kernels::Linear {
            x: x.input(|input| self.weight.takes(input)),
            rows: x.rows(),
            x_stride: channels,
            weight: &self.weight,
            bias: self.bias.as_deref(),
            residual: residual.map(Array::data),
        };
        let dims = [batch, height, width, self.weight.out_features()];
        (dims, call)
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
        let call = kernels::LinearGeglu {
            x: x.input(|input| weight.takes(input)),
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

/// A convolution's weight and bias.
#[derive(Debug, Clone)]
pub(in crate::nn) struct Conv {
    weight: Arc<kernels::ConvWeight>,
    bias: Arc<[f32]>,
}

/// What a convolution reads besides its input.
#[derive(Debug, Clone, Copy)]
pub(in crate::nn) struct ConvExtras<'a> {
    /// (B, 1, O) or (1, 1, O).
    pub(in crate::nn) channel_bias: Option<&'a Array>,
    /// (B, H', W', O).
    pub(in crate::nn) residual: Option<&'a Array>,
    /// Size to resize the input to first.
    pub(in crate::nn) upsample_to: Option<(usize, usize)>,
}

impl Conv {
    /// Reads and packs; `None` when planning.
    pub(in crate::nn) fn load(
        context: &Context,
        scope: &Scope,
        spec: &Conv2dSpec,
        upsamples: bool,
    ) -> Result<Option<Self>> {
        let shape = kernels::ConvShape {
            out_channels: spec.out_channels,
            in_channels: spec.in_channels,
            kernel_h: spec.kernel,
            kernel_w: spec.kernel,
        };
        let oihw = [
            spec.out_channels,
            spec.in_channels,
            spec.kernel,
            spec.kernel,
        ];
        let kernel = context.conv_kernel(
            shape,
            spec.stride,
            (context.precision_of(scope), scope.typical_pixels()),
        );
        let pack = if upsamples && context.memory == MemoryUse::Normal {
            kernels::ConvWeight::pack_upsampling
        } else {
            kernels::ConvWeight::pack
        };
        let weight = large(context, scope, "weight", &oihw)?
            .map(|weight| pack(&weight, shape, kernel).op("pack"))
            .transpose()?;
        let bias = values(scope, "bias", &oihw[..1])?;
        Ok(weight.zip(bias).map(|(weight, bias)| Self {
            weight: Arc::new(weight),
            bias: bias.into(),
        }))
    }

    pub(in crate::nn) fn run(
        &self,
        x: &Array,
        spec: &Conv2dSpec,
        extras: ConvExtras<'_>,
        op: &str,
    ) -> Result<Array> {
        let [batch, height, width, _] = x.bhwc();
        let repeated;
        let channel_bias = match extras.channel_bias.map(Array::data) {
            Some(bias) if bias.len() < batch * spec.out_channels => {
                repeated = bias.repeat(batch);
                Some(repeated.as_slice())
            }
            bias => bias,
        };
        if let Some(sum) = self.run_joined(x, spec, &extras, op) {
            return sum;
        }
        let waiting = x
            .waiting()
            .filter(|_| self.weight.takes_normed(spec.stride));
        let call = kernels::Conv2d {
            x: if waiting.is_some() { &[] } else { x.data() },
            normed: None,
            batch,
            height,
            width,
            weight: &self.weight,
            stride: spec.stride,
            padding: match spec.padding {
                Padding::Symmetric(padding) => kernels::Padding::symmetric(padding),
                Padding::BottomRight => kernels::Padding {
                    bottom: 1,
                    right: 1,
                    ..Default::default()
                },
            },
            upsample_to: extras.upsample_to,
            bias: Some(&self.bias),
            channel_bias,
            residual: extras.residual.map(Array::data),
        };
        let (out_height, out_width) = call.out_size().op(op)?;
        let dims = [batch, out_height, out_width, spec.out_channels];
        let account = || Self::account(spec, call.kernel(), [batch, out_height, out_width]);
        Array::build(x.pool(), dims, account, |out| match waiting {
            None => kernels::conv2d(&call, out).op(op),
            Some(norm) => norm.with(|normed| {
                let normed = Some(normed);
                kernels::conv2d(&kernels::Conv2d { normed, ..call }, out).op(op)
            }),
        })
    }

    /// A convolution of single pixels over arrays side by side, which a product reads as they lie; `None` for others.
    fn run_joined(
        &self,
        x: &Array,
        spec: &Conv2dSpec,
        extras: &ConvExtras<'_>,
        op: &str,
    ) -> Option<Result<Array>> {
        let apart = x.parts().len() > 1 && spec.stride == 1;
        let plain = extras.channel_bias.is_none() && extras.upsample_to.is_none();
        let matrix = self.weight.as_matrix().filter(|_| apart && plain)?;
        let parts = sources(x.parts());
        let input = kernels::Input::Joined(&parts);
        let call = kernels::Linear {
            x: Some(input).filter(|input| matrix.takes(input))?,
            rows: x.rows(),
            x_stride: spec.in_channels,
            weight: matrix,
            bias: Some(&self.bias),
            residual: extras.residual.map(Array::data),
        };
        let [batch, height, width, _] = x.bhwc();
        let dims = [batch, height, width, spec.out_channels];
        let account = || Self::account(spec, self.weight.kernel().name(), [batch, height, width]);
        Some(Array::build(x.pool(), dims, account, |out| {
            kernels::linear(&call, out).op(op)
        }))
    }

    fn account(
        spec: &Conv2dSpec,
        kernel: &'static str,
        [batch, height, width]: [usize; 3],
    ) -> Account {
        let (inputs, outputs) = (spec.in_channels, spec.out_channels);
        let outs = (batch * height * width * outputs) as f64;
        Account {
            kind: match (spec.kernel, spec.stride) {
                (1, _) => "conv 1x1",
                (3, 1) => "conv 3x3",
                (3, _) => "conv 3x3 down",
                _ => "conv other",
            },
            kernel,
            shape: format!("{batch}x{height}x{width} {inputs}>{outputs}"),
            flops: 2.0 * outs * (inputs * spec.kernel * spec.kernel) as f64,
        }
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
            let sums = || kernels::GroupAffine::of(&call).op(op);
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

/// An embedding's vectors (count, dim).
#[derive(Debug, Clone)]
pub(in crate::nn) struct Table {
    vectors: Arc<Vec<f32>>,
    dim: usize,
    pool: Arc<Pool>,
}

impl Table {
    /// Reads it; `None` when planning.
    pub(in crate::nn) fn load(
        scope: &Scope,
        pool: &Arc<Pool>,
        shape: [usize; 2],
    ) -> Result<Option<Self>> {
        let vectors = values(scope, "weight", &shape)?;
        Ok(vectors.map(|vectors| Self {
            vectors: Arc::new(vectors),
            dim: shape[1],
            pool: Arc::clone(pool),
        }))
    }

    /// `batch` rows of equal length: (batch, indices / batch, dim).
    pub(in crate::nn) fn run(&self, indices: &[u32], batch: usize, op: &str) -> Result<Array> {
        let dims = [batch, 1, indices.len() / batch.max(1), self.dim];
        let account = || Account::moving("embedding", dims);
        Array::build(&self.pool, dims, account, |out| {
            kernels::embedding(&self.vectors, self.dim, indices, out).op(op)
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
