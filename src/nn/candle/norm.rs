//! Group and layer norm in f32.

use candle_core::{DType, Result, Tensor};

use super::super::norm::Activation;

/// Normalises each group of channels of `x` (B, C, H, W); `weight` and `bias` are f32 of (C).
pub(in crate::nn) fn group_norm(
    x: &Tensor,
    groups: usize,
    (weight, bias, eps): (&Tensor, &Tensor, f64),
    activation: Activation,
) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    // Means of row means: a mean over the whole group in one f32 sum would lose digits at 512 x 512.
    let mean = |x: &Tensor| x.mean_keepdim(3)?.mean_keepdim(2);
    let x32 = x
        .to_dtype(DType::F32)?
        .reshape((b, groups, c / groups * h, w))?;
    let centred = x32.broadcast_sub(&mean(&x32)?)?;
    // What rounding left of the mean goes into the constant: a far-off mean costs digits otherwise.
    let rest = mean(&centred)?;
    let variance = (mean(&centred.sqr()?)? - rest.sqr()?)?;
    let deviation = variance.affine(1.0, eps)?.sqrt()?;
    let per_channel = (1, groups, c / groups, 1);
    let factor = weight.reshape(per_channel)?.broadcast_div(&deviation)?;
    let constant = bias
        .reshape(per_channel)?
        .broadcast_sub(&factor.broadcast_mul(&rest)?)?;
    let y = centred
        .reshape((b, c, h, w))?
        .broadcast_mul(&factor.reshape((b, c, 1, 1))?)?
        .broadcast_add(&constant.reshape((b, c, 1, 1))?)?;
    let y = match activation {
        Activation::None => y,
        Activation::Silu => y.silu()?,
    };
    y.to_dtype(x.dtype())
}

/// Normalises each token of `x` (B, N, C); `weight` and `bias` are f32 of (C).
pub(in crate::nn) fn layer_norm(
    x: &Tensor,
    (weight, bias, eps): (&Tensor, &Tensor, f64),
) -> Result<Tensor> {
    let x32 = x.to_dtype(DType::F32)?;
    let centred = x32.broadcast_sub(&x32.mean_keepdim(2)?)?;
    let deviation = centred.sqr()?.mean_keepdim(2)?.affine(1.0, eps)?.sqrt()?;
    centred
        .broadcast_div(&deviation)?
        .broadcast_mul(weight)?
        .broadcast_add(bias)?
        .to_dtype(x.dtype())
}
