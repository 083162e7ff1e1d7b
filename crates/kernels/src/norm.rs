//! Group and layer normalisation, channels-last.

use crate::error::{Result, check, check_len, product};

/// What follows a normalisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// `y * sigmoid(y)`.
    Silu,
}

/// One call of [`group_norm`].
#[derive(Clone, Copy, Debug)]
pub struct GroupNorm<'a> {
    /// One or more inputs `(batch, pixels, channels)` with their channel counts; more than one is read as their concatenation over
    /// channels.
    pub parts: &'a [(&'a [f32], usize)],
    /// Pictures.
    pub batch: usize,
    /// Pixels of one picture.
    pub pixels: usize,
    /// Groups the channels (of all parts) are divided into.
    pub groups: usize,
    /// `(channels)`.
    pub weight: &'a [f32],
    /// `(channels)`.
    pub bias: &'a [f32],
    /// Added to the variance.
    pub eps: f32,
    /// Applied to the result.
    pub activation: Activation,
}

/// Normalises each group of channels of each picture over its pixels; `out: (batch, pixels, channels)`.
///
/// # Errors
/// A length does not fit, or `groups` does not divide the channels.
pub fn group_norm(call: &GroupNorm<'_>, out: &mut [f32]) -> Result<()> {
    const OP: &str = "group_norm";
    let channels: usize = call.parts.iter().map(|&(_, c)| c).sum();
    check(
        OP,
        "groups",
        call.groups > 0 && channels.is_multiple_of(call.groups),
        "a divisor of the channels",
        call.groups,
    )?;
    for &(part, c) in call.parts {
        check_len(
            OP,
            "part",
            part.len(),
            product(OP, "part", &[call.batch, call.pixels, c])?,
        )?;
    }
    let len = product(OP, "out", &[call.batch, call.pixels, channels])?;
    check_len(OP, "out", out.len(), len)?;
    check_len(OP, "weight", call.weight.len(), channels)?;
    check_len(OP, "bias", call.bias.len(), channels)?;
    if len == 0 {
        return Ok(());
    }
    crate::layout::concat_channels(call.parts, call.batch * call.pixels, out)?;
    let width = channels / call.groups;
    for image in out.chunks_exact_mut(call.pixels * channels) {
        for g in 0..call.groups {
            let count = (call.pixels * width) as f64;
            let values = |image: &[f32]| -> Vec<f32> {
                image
                    .chunks_exact(channels)
                    .flat_map(|p| p[g * width..(g + 1) * width].to_vec())
                    .collect()
            };
            let all = values(image);
            let mean = all.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
            let var = all
                .iter()
                .map(|&v| (f64::from(v) - mean).powi(2))
                .sum::<f64>()
                / count;
            let rstd = 1.0 / (var + f64::from(call.eps)).sqrt();
            for pixel in image.chunks_exact_mut(channels) {
                for c in g * width..(g + 1) * width {
                    let y = ((f64::from(pixel[c]) - mean) * rstd) as f32 * call.weight[c]
                        + call.bias[c];
                    pixel[c] = match call.activation {
                        Activation::None => y,
                        Activation::Silu => y / (1.0 + (-y).exp()),
                    };
                }
            }
        }
    }
    Ok(())
}

/// One call of [`layer_norm`].
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm<'a> {
    /// `(rows, dim)`, contiguous.
    pub x: &'a [f32],
    /// `(dim)`.
    pub weight: &'a [f32],
    /// `(dim)`.
    pub bias: &'a [f32],
    /// Added to the variance.
    pub eps: f32,
}

/// Normalises each row; `out: (rows, dim)`.
///
/// # Errors
/// A length does not fit the weight's.
pub fn layer_norm(call: &LayerNorm<'_>, out: &mut [f32]) -> Result<()> {
    const OP: &str = "layer_norm";
    let dim = call.weight.len();
    check_len(OP, "bias", call.bias.len(), dim)?;
    check_len(OP, "out", out.len(), call.x.len())?;
    if dim == 0 {
        return check_len(OP, "x", call.x.len(), 0);
    }
    check(
        OP,
        "x",
        call.x.len().is_multiple_of(dim),
        "a multiple of the weight's length",
        call.x.len(),
    )?;
    for (x, out) in call.x.chunks_exact(dim).zip(out.chunks_exact_mut(dim)) {
        let mean = x.iter().sum::<f32>() / dim as f32;
        let var = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / dim as f32;
        let rstd = 1.0 / (var + call.eps).sqrt();
        for (i, o) in out.iter_mut().enumerate() {
            *o = (x[i] - mean) * rstd * call.weight[i] + call.bias[i];
        }
    }
    Ok(())
}
