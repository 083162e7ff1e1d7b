//! Group normalisation (Wu and He, arXiv:1803.08494) in two passes: sums a channel, then one multiply-add a value.
//!
//! The sums are those of [`super::moments`], taken here or by the layer that wrote the map.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use std::ops::Range;

use rayon::prelude::*;

use super::Activation;
use super::group_lanes::{Affine, PixelAffine};
use super::moments::{ChannelSums, Moments, block_of, pixels_of_task, sums_of};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::rounded::{PixelNorm, RoundPixels};
use crate::error::{Result, check, check_len, product};
use crate::half::Order;
use crate::isa::{Isa, dispatch_words};
use crate::matmul::order_of_rows;
use crate::shared::SharedMut;

const OP: &str = "group_norm";
/// Channels of a plane of bf16.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
const PLANE: usize = 32;
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
        let (factor, offset) = affine(call, &sums_of(call.parts, picture, call.pixels), channels);
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
        Self::with_moments(call, &vec![None; call.parts.len()])
    }

    /// The same where the moments of some of the parts are known.
    ///
    /// # Errors
    /// As [`group_norm`], or moments are another map's.
    pub fn with_moments(call: &GroupNorm<'_>, known: &[Option<&Moments>]) -> Result<Self> {
        let channels = check_sizes(call)?;
        check_len(OP, "known", known.len(), call.parts.len())?;
        for (&(_, c), moments) in call.parts.iter().zip(known) {
            if let Some(moments) = moments {
                moments.check(OP, [call.batch, call.pixels, c])?;
            }
        }
        let (mut factor, mut offset) = (Vec::new(), Vec::new());
        for picture in 0..call.batch {
            let affine = affine(call, &sums_with(call, known, picture), channels);
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

    /// Channels of a pixel.
    pub(crate) fn channels(&self) -> usize {
        self.parts.iter().map(|&(_, c)| c).sum()
    }

    /// Picture and pixel of a row of all pictures' pixels, and how many pixels there are from it on in its picture.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    pub(crate) fn place(&self, row: usize) -> ((usize, usize), usize) {
        let pixel = row % self.pixels;
        ((row / self.pixels, pixel), self.pixels - pixel)
    }

    /// Whether [`round_run`](Self::round_run) writes what rounding the norm's values would.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    pub(crate) fn rounds_alike(&self) -> bool {
        self.activation == Activation::None
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
        let channels = self.channels();
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
        let channels = self.channels();
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

    /// Writes some channels of `count` pixels from one on as bf16 planes; `false` if a part's channels are not whole planes.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    pub(crate) fn round_run(
        &self,
        (picture, pixel): (usize, usize),
        count: usize,
        channels: &Range<usize>,
        (to, plane): (&mut [u32], usize),
    ) -> bool {
        let whole = |&(_, width): &(_, usize)| width.is_multiple_of(PLANE);
        if !self.parts.iter().all(whole) || !channels.start.is_multiple_of(PLANE) {
            return false;
        }
        let total = self.channels();
        let at = picture * self.pixels + pixel;
        let mut first = 0;
        for &(part, width) in self.parts {
            let (start, end) = (channels.start.max(first), channels.end.min(first + width));
            if start < end {
                let of = picture * total + start..picture * total + end;
                let run = RoundPixels {
                    x: &part[at * width + start - first..(at + count) * width],
                    width,
                    channels: end - start,
                    norm: Some(PixelNorm {
                        factor: &self.factor[of.clone()],
                        offset: &self.offset[of],
                        silu: self.activation == Activation::Silu,
                    }),
                    to: &mut to[(start - channels.start) / PLANE * plane..],
                    plane,
                };
                dispatch_words(Isa::Amx, run);
            }
            first += width;
        }
        true
    }

    /// Some channels of a pixel by an instruction set, with 16-bit precision where `rough`.
    pub(crate) fn pixel(
        &self,
        (picture, pixel): (usize, usize),
        channels: std::ops::Range<usize>,
        (isa, rough): (Isa, bool),
        out: &mut [f32],
    ) {
        let total = self.channels();
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

/// Sums of a picture's channels, those that are not known taken in one pass where none is.
fn sums_with(call: &GroupNorm<'_>, known: &[Option<&Moments>], picture: usize) -> Vec<ChannelSums> {
    if known.iter().all(Option::is_none) {
        return sums_of(call.parts, picture, call.pixels);
    }
    let of_part = |(part, moments): (_, Option<&Moments>)| match moments {
        Some(moments) => moments.of(picture).to_vec(),
        None => sums_of(std::slice::from_ref(part), picture, call.pixels),
    };
    let known = known.iter().copied();
    call.parts.iter().zip(known).flat_map(of_part).collect()
}

/// Factor and offset of each channel of a picture: `y = x * factor + offset`.
fn affine(call: &GroupNorm<'_>, sums: &[ChannelSums], channels: usize) -> (Vec<f32>, Vec<f32>) {
    let count = call.pixels as f64;
    let (mut factor, mut offset) = (vec![0.0; channels], vec![0.0; channels]);
    let width = channels / call.groups;
    for start in (0..channels).step_by(width) {
        let group = start..start + width;
        let mean = group.clone().map(|c| sums[c].mean(count)).sum::<f64>() / width as f64;
        // Variance inside each channel, plus that of the channels' means.
        let variance = group
            .clone()
            .map(|c| sums[c].variance(count) + (sums[c].mean(count) - mean).powi(2))
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
