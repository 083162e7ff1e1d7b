//! Two-dimensional convolution.

use candle_core::{Result, Tensor};

use super::super::conv2d::{Conv2dSpec, Padding};

/// Weights (O, I, K, K) and bias (O).
#[derive(Debug, Clone)]
pub(in crate::nn) struct Conv {
    pub(in crate::nn) weight: Tensor,
    pub(in crate::nn) bias: Tensor,
}

/// Convolves `x` (B, I, H, W) and adds the bias, `channel_bias` (B, 1, O) and `residual`.
pub(in crate::nn) fn conv2d(
    x: &Tensor,
    conv: &Conv,
    spec: &Conv2dSpec,
    (channel_bias, residual): (Option<&Tensor>, Option<&Tensor>),
) -> Result<Tensor> {
    let (x, padding) = match spec.padding {
        Padding::Symmetric(padding) => (x.clone(), padding),
        Padding::BottomRight => (
            x.pad_with_zeros(2, 0, 1)?
                .pad_with_zeros(3, 0, 1)?
                .contiguous()?,
            0,
        ),
    };
    let channels = spec.out_channels;
    let mut bias = conv.bias.reshape((1, channels, 1, 1))?;
    if let Some(channel_bias) = channel_bias {
        let batch = channel_bias.dim(0)?;
        bias = channel_bias
            .reshape((batch, channels, 1, 1))?
            .broadcast_add(&bias)?;
    }
    let y = x
        .conv2d(&conv.weight, padding, spec.stride, 1, 1)?
        .broadcast_add(&bias)?;
    match residual {
        Some(residual) => y + residual,
        None => Ok(y),
    }
}
