//! Channels and low frequencies turned up and down.

use candle_core::{DType, Tensor};

use super::super::repr::CandleResult;
use super::extents;
use crate::error::Result;

/// The first `count` channels times `factor`.
pub(in crate::nn) fn scale_first_channels(x: &Tensor, count: usize, factor: f64) -> Result<Tensor> {
    let [_, channels, _, _] = extents(x);
    let factor = factor as f32;
    let factors = (0..channels).map(|channel| if channel < count { factor } else { 1.0 });
    Tensor::from_iter(factors, x.device())
        .and_then(|factors| factors.reshape((1, channels, 1, 1))?.to_dtype(x.dtype()))
        .and_then(|factors| x.broadcast_mul(&factors))
        .op("scale_first_channels")
}

/// `x` plus `gain` times its projection on each of `waves`, which run over the positions; in f32.
pub(in crate::nn) fn add_waves(x: &Tensor, waves: &[f32], gain: f64) -> Result<Tensor> {
    let [batch, channels, height, width] = extents(x);
    let positions = height * width;
    let projected = || {
        let waves = Tensor::from_slice(
            waves,
            (waves.len() / positions.max(1), positions),
            x.device(),
        )?;
        let rows = x
            .to_dtype(DType::F32)?
            .reshape((batch * channels, positions))?;
        let heights = rows.matmul(&waves.t()?.contiguous()?)?;
        let low = heights.affine(gain, 0.0)?.matmul(&waves)?;
        (rows + low)?
            .reshape((batch, channels, height, width))?
            .to_dtype(x.dtype())
    };
    projected().op("scale_low_frequencies")
}
