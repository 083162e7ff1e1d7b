//! Group normalisation (Wu and He, arXiv:1803.08494) in two passes: sums a channel, then one multiply-add a value.
//!
//! Sums are taken of values less a pivot (the channel's first pixel), in f32 over 64 pixels and in f64 from there on, so
//! neither a large mean nor a large map costs accuracy.

use rayon::prelude::*;

use super::Activation;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::group_lanes::PixelAffine;
use super::group_lanes::{Affine, Sums};
use crate::error::{Result, check, check_len, product};
use crate::half::Order;
use crate::isa::{Isa, dispatch, dispatch_words};
use crate::matmul::order_of_rows;
use crate::shared::SharedMut;

/// Pixels summed in f32 before the sums move to f64.
const RUN: usize = 64;
const OP: &str = "group_norm";
/// Values of an output that is written past the caches: more than most of them hold.
const STREAMED: usize = 4 * 1024 * 1024;

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
    let channels = check_sizes(call)?;
    let len = product(OP, "out", &[call.batch, call.pixels, channels])?;
    check_len(OP, "out", out.len(), len)?;
    if len == 0 {
        return Ok(());
    }
    let shared = SharedMut::new(out);
    for picture in 0..call.batch {
        let (factor, offset) = affine_of(call, picture, channels);
        let normed = Normed {
            parts: call.parts,
            pixels: call.pixels,
            factor: &factor,
            offset: &offset,
            activation: call.activation,
        };
        normed.write_picture(picture, (0, len > STREAMED), &shared);
    }
    Ok(())
}

/// What a group norm makes of each channel of each picture: a factor and an offset.
#[derive(Clone, Debug)]
pub struct GroupAffine {
    factor: Vec<f32>,
    offset: Vec<f32>,
    batch: usize,
    pixels: usize,
}

impl GroupAffine {
    /// Finds it; the activation and the values stay as they are.
    ///
    /// # Errors
    /// As [`group_norm`].
    pub fn of(call: &GroupNorm<'_>) -> Result<Self> {
        let channels = check_sizes(call)?;
        let (mut factor, mut offset) = (Vec::new(), Vec::new());
        for picture in 0..call.batch {
            let affine = affine_of(call, picture, channels);
            factor.extend(affine.0);
            offset.extend(affine.1);
        }
        Ok(Self {
            factor,
            offset,
            batch: call.batch,
            pixels: call.pixels,
        })
    }

    /// The norm of `parts`, those it was found for.
    ///
    /// # Errors
    /// A length does not fit.
    pub fn normed<'a>(
        &'a self,
        parts: &'a [(&'a [f32], usize)],
        activation: Activation,
    ) -> Result<Normed<'a>> {
        let channels: usize = parts.iter().map(|&(_, c)| c).sum();
        check_len(OP, "parts", channels * self.batch, self.factor.len())?;
        for &(part, c) in parts {
            let len = product(OP, "part", &[self.batch, self.pixels, c])?;
            check_len(OP, "part", part.len(), len)?;
        }
        Ok(Normed {
            parts,
            pixels: self.pixels,
            factor: &self.factor,
            offset: &self.offset,
            activation,
        })
    }
}

/// A group norm that is carried out value by value, where they are read.
#[derive(Clone, Copy, Debug)]
pub struct Normed<'a> {
    parts: &'a [(&'a [f32], usize)],
    pixels: usize,
    /// `(batch, channels)`.
    factor: &'a [f32],
    offset: &'a [f32],
    activation: Activation,
}

impl Normed<'_> {
    /// Whether convolutions of this processor may take one: see [`crate::ConvWeight::takes_normed`].
    pub fn suits() -> bool {
        order_of_rows() == Order::Tiles
    }

    /// Values it stands for.
    pub(crate) fn len(&self) -> usize {
        self.factor.len() * self.pixels
    }

    /// Writes all of it; `out: (batch, pixels, channels)`.
    ///
    /// # Errors
    /// The length does not fit.
    pub fn write(&self, out: &mut [f32]) -> Result<()> {
        check_len(OP, "out", out.len(), self.len())?;
        let channels: usize = self.parts.iter().map(|&(_, c)| c).sum();
        let streams = out.len() > STREAMED;
        let shared = SharedMut::new(out);
        for picture in 0..self.factor.len() / channels.max(1) {
            self.write_picture(picture, (picture * channels, streams), &shared);
        }
        Ok(())
    }

    /// Writes a picture, whose factors start at `first`.
    fn write_picture(&self, picture: usize, (first, streams): (usize, bool), out: &SharedMut<'_>) {
        let isa = Isa::current();
        let channels: usize = self.parts.iter().map(|&(_, c)| c).sum();
        let step = pixels_of_task(channels);
        (0..self.pixels.div_ceil(step))
            .into_par_iter()
            .for_each(|block| {
                let pixels = block_of(self.pixels, picture, block, step);
                // SAFETY: blocks are disjoint ranges of pixels.
                let out = unsafe { out.part(pixels.start * channels, pixels.len() * channels) };
                let mut start = 0;
                for &(part, width) in self.parts {
                    let affine = Affine {
                        x: &part[pixels.start * width..pixels.end * width],
                        factor: &self.factor[first + start..][..width],
                        offset: &self.offset[first + start..][..width],
                        silu: self.activation == Activation::Silu,
                        streams,
                        start,
                        out_width: channels,
                        out,
                    };
                    dispatch_words(isa, affine);
                    start += width;
                }
            });
    }

    /// Some channels of a pixel, with 16-bit precision where `rough`.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    pub(crate) fn pixel(
        &self,
        (picture, pixel): (usize, usize),
        channels: std::ops::Range<usize>,
        rough: bool,
        out: &mut [f32],
    ) {
        let isa = Isa::current();
        let total: usize = self.parts.iter().map(|&(_, c)| c).sum();
        let mut first = 0;
        for &(part, width) in self.parts {
            let (start, end) = (channels.start.max(first), channels.end.min(first + width));
            if start < end {
                let row = &part[(picture * self.pixels + pixel) * width..][..width];
                let at = picture * total + start;
                let len = end - start;
                let values = PixelAffine {
                    x: &row[start - first..][..len],
                    factor: &self.factor[at..][..len],
                    offset: &self.offset[at..][..len],
                    silu: self.activation == Activation::Silu,
                    rough,
                    out: &mut out[start - channels.start..][..len],
                };
                dispatch_words(isa, values);
            }
            first += width;
        }
    }
}

/// Checks a call; its channels.
fn check_sizes(call: &GroupNorm<'_>) -> Result<usize> {
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
    check_len(OP, "weight", call.weight.len(), channels)?;
    check_len(OP, "bias", call.bias.len(), channels)?;
    Ok(channels)
}

/// Pixels of a task: 256 KiB of values, in whole runs; a function of the shape alone, as the sums' order must be.
fn pixels_of_task(channels: usize) -> usize {
    (64 * 1024 / channels.max(1)).max(1).next_multiple_of(RUN)
}

/// Pixels of a block, counted over all pictures.
fn block_of(pixels: usize, picture: usize, block: usize, step: usize) -> std::ops::Range<usize> {
    let first = picture * pixels + block * step;
    first..first + step.min(pixels - block * step)
}

/// Factor and offset of each channel of a picture.
fn affine_of(call: &GroupNorm<'_>, picture: usize, channels: usize) -> (Vec<f32>, Vec<f32>) {
    let isa = Isa::current();
    let step = pixels_of_task(channels);
    let sums: Vec<Vec<[f64; 2]>> = (0..call.pixels.div_ceil(step))
        .into_par_iter()
        .map(|block| {
            let pixels = block_of(call.pixels, picture, block, step);
            channel_sums(call, isa, picture, pixels, channels)
        })
        .collect();
    affine(call, picture, channels, &sums)
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
