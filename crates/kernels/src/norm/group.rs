//! Group normalisation (Wu and He, arXiv:1803.08494) in two passes: sums a channel, then one multiply-add a value.
//!
//! Sums are taken of values less a pivot (the channel's first pixel), in f32 over 64 pixels and in f64 from there on, so
//! neither a large mean nor a large map costs accuracy.

use rayon::prelude::*;

use super::Activation;
use super::group_lanes::{Affine, Sums};
use crate::error::{Result, check, check_len, product};
use crate::isa::{Isa, dispatch};
use crate::shared::SharedMut;

/// Pixels summed in f32 before the sums move to f64.
const RUN: usize = 64;

/// One call of [`group_norm`].
#[derive(Clone, Copy, Debug)]
pub struct GroupNorm<'a> {
    /// One or more inputs `(batch, pixels, channels)` with their channel counts; more than one is read as their concatenation
    /// over channels.
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
    let divides = call.groups > 0 && channels.is_multiple_of(call.groups);
    check(
        OP,
        "groups",
        divides,
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
    let isa = Isa::current();
    // Pixels of a task: 256 KiB of values, in whole runs; a function of the shape alone, as the sums' order must be.
    let step = (64 * 1024 / channels).max(1).next_multiple_of(RUN);
    let blocks = call.pixels.div_ceil(step);
    let shared = SharedMut::new(out);
    for picture in 0..call.batch {
        let pixels_of = |block: usize| {
            let first = picture * call.pixels + block * step;
            first..first + step.min(call.pixels - block * step)
        };
        let sums: Vec<Vec<[f64; 2]>> = (0..blocks)
            .into_par_iter()
            .map(|block| channel_sums(call, isa, picture, pixels_of(block), channels))
            .collect();
        let affine = affine(call, picture, channels, &sums);
        (0..blocks).into_par_iter().for_each(|block| {
            let pixels = pixels_of(block);
            // SAFETY: blocks are disjoint ranges of pixels.
            let out = unsafe { shared.part(pixels.start * channels, pixels.len() * channels) };
            let mut start = 0;
            for &(part, width) in call.parts {
                let x = &part[pixels.start * width..pixels.end * width];
                let (factor, offset) = (
                    &affine.0[start..start + width],
                    &affine.1[start..start + width],
                );
                let silu = call.activation == Activation::Silu;
                dispatch(
                    isa,
                    Affine {
                        x,
                        factor,
                        offset,
                        silu,
                        start,
                        out_width: channels,
                        out,
                    },
                );
                start += width;
            }
        });
    }
    Ok(())
}

/// Sum and sum of squares, less the pivot, of each channel over some pixels.
fn channel_sums(
    call: &GroupNorm<'_>,
    isa: Isa,
    picture: usize,
    pixels: std::ops::Range<usize>,
    channels: usize,
) -> Vec<[f64; 2]> {
    let mut sums = Vec::with_capacity(channels);
    for &(part, width) in call.parts {
        let start = sums.len();
        sums.resize(start + width, [0.0; 2]);
        if width == 0 {
            continue;
        }
        let pivot = &part[picture * call.pixels * width..][..width];
        for run in part[pixels.start * width..pixels.end * width].chunks(RUN * width) {
            dispatch(
                isa,
                Sums {
                    x: run,
                    pivot,
                    totals: &mut sums[start..],
                },
            );
        }
    }
    sums
}

/// Factor and offset of each channel: `y = x * factor + offset`.
fn affine(
    call: &GroupNorm<'_>,
    picture: usize,
    channels: usize,
    sums: &[Vec<[f64; 2]>],
) -> (Vec<f32>, Vec<f32>) {
    let pivots: Vec<f64> = call
        .parts
        .iter()
        .filter(|(_, width)| *width > 0)
        .flat_map(|&(part, width)| &part[picture * call.pixels * width..][..width])
        .map(|&x| f64::from(x))
        .collect();
    let count = call.pixels as f64;
    let mut moments = vec![[0.0f64; 2]; channels];
    for block in sums {
        for (total, sum) in moments.iter_mut().zip(block) {
            total[0] += sum[0];
            total[1] += sum[1];
        }
    }
    let (mut factor, mut offset) = (vec![0.0; channels], vec![0.0; channels]);
    let width = channels / call.groups;
    for start in (0..channels).step_by(width) {
        let group = start..start + width;
        let mean_of = |c: usize| pivots[c] + moments[c][0] / count;
        let mean = group.clone().map(mean_of).sum::<f64>() / width as f64;
        // Variance inside each channel, plus that of the channels' means.
        let variance = group
            .clone()
            .map(|c| {
                let shift = moments[c][0] / count;
                (moments[c][1] / count - shift * shift).max(0.0) + (mean_of(c) - mean).powi(2)
            })
            .sum::<f64>()
            / width as f64;
        let rstd = 1.0 / (variance + f64::from(call.eps)).sqrt();
        for c in group {
            let scale = rstd * f64::from(call.weight[c]);
            factor[c] = scale as f32;
            offset[c] = (f64::from(call.bias[c]) - mean * scale) as f32;
        }
    }
    (factor, offset)
}
