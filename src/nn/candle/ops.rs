//! Elementwise operations, products and changes of shape.

use candle_core::{DType, Tensor};

use super::super::repr::CandleResult;
use super::super::tokens::Pointwise;
use crate::error::Result;

/// The extents of a tensor of rank `N`; zeros for any other rank, which no layer makes.
pub(in crate::nn) fn extents<const N: usize>(x: &Tensor) -> [usize; N] {
    x.dims().try_into().unwrap_or([0; N])
}

pub(in crate::nn) fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if x.dims() == y.dims() {
        x.add(y)
    } else {
        x.broadcast_add(y)
    }
    .op("add")
}

pub(in crate::nn) fn scale(x: &Tensor, factor: f64) -> Result<Tensor> {
    x.affine(factor, 0.0).op("scale")
}

pub(in crate::nn) fn pointwise(x: &Tensor, function: Pointwise) -> Result<Tensor> {
    match function {
        Pointwise::Silu => x.silu().op("silu"),
        Pointwise::Gelu => gelu(x).op("gelu"),
        Pointwise::QuickGelu => quick_gelu(x).op("quick_gelu"),
    }
}

/// `x / 2 * (1 + erf(x / sqrt(2)))` in f32, rounded once.
pub(in crate::nn) fn gelu(x: &Tensor) -> candle_core::Result<Tensor> {
    let x32 = x.to_dtype(DType::F32)?;
    let phi = x32
        .affine(std::f64::consts::FRAC_1_SQRT_2, 0.0)?
        .erf()?
        .affine(0.5, 0.5)?;
    (x32 * phi)?.to_dtype(x.dtype())
}

/// `x * sigmoid(a x)` is `silu(a x) / a`.
fn quick_gelu(x: &Tensor) -> candle_core::Result<Tensor> {
    const A: f64 = 1.702;
    let x32 = x.to_dtype(DType::F32)?;
    x32.affine(A, 0.0)?
        .silu()?
        .affine(1.0 / A, 0.0)?
        .to_dtype(x.dtype())
}

pub(in crate::nn) fn concat(parts: &[&Tensor], dim: usize, op: &str) -> Result<Tensor> {
    Tensor::cat(parts, dim).and_then(|x| x.contiguous()).op(op)
}

pub(in crate::nn) fn narrow(x: &Tensor, dim: usize, start: usize, len: usize) -> Result<Tensor> {
    x.narrow(dim, start, len)
        .and_then(|x| x.contiguous())
        .op("narrow")
}

/// Of item `i` the token `positions[i]`: (B, 1, C).
pub(in crate::nn) fn select_tokens(x: &Tensor, positions: &[usize]) -> Result<Tensor> {
    let picked = (0..)
        .zip(positions)
        .map(|(item, &position)| x.narrow(0, item, 1)?.narrow(1, position, 1)?.contiguous());
    picked
        .collect::<candle_core::Result<Vec<_>>>()
        .and_then(|picked| Tensor::cat(&picked, 0))
        .op("select")
}

/// (B, C, H, W) to (B, H * W, C).
pub(in crate::nn) fn map_to_tokens(x: &Tensor) -> Result<Tensor> {
    x.flatten_from(2)
        .and_then(|x| x.transpose(1, 2)?.contiguous())
        .op("into_tokens")
}

/// (B, H * W, C) to (B, C, H, W).
pub(in crate::nn) fn tokens_to_map(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let [batch, _, channels] = extents(x);
    x.transpose(1, 2)
        .and_then(|x| x.contiguous()?.reshape((batch, channels, height, width)))
        .op("into_feature_map")
}

/// Torch's choice of source elements, which Candle's own operation only shares for whole factors.
pub(in crate::nn) fn upsample_nearest(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let [_, _, h, w] = extents(x);
    let whole = height.is_multiple_of(h) && width.is_multiple_of(w);
    let upsampled = if whole {
        x.upsample_nearest2d(height, width)
    } else {
        let pick = |x: &Tensor, dim, from, to| {
            let sources = super::super::nearest_sources(from, to).map(|i| i as u32);
            x.index_select(&Tensor::from_iter(sources, x.device())?, dim)
        };
        pick(x, 2, h, height).and_then(|x| pick(&x, 3, w, width))
    };
    upsampled.op("upsample_nearest")
}

/// `x` (B, N, I) times the transpose of `weight` (O, I), plus `bias` (O).
pub(in crate::nn) fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> candle_core::Result<Tensor> {
    let [batch, tokens, inputs] = extents(x);
    let outputs = weight.dim(0)?;
    let y = x.reshape((batch * tokens, inputs))?.matmul(&weight.t()?)?;
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    y.reshape((batch, tokens, outputs))
}

/// The first `inner` channels of `projected` times the gelu of the others.
pub(in crate::nn) fn geglu(projected: &Tensor, inner: usize) -> candle_core::Result<Tensor> {
    let gate = gelu(&projected.narrow(2, inner, inner)?.contiguous()?)?;
    projected.narrow(2, 0, inner)?.mul(&gate)
}
