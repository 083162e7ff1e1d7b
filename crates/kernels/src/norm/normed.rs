//! Group norms whose factors are known, carried out where values are read.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use std::ops::Range;

use rayon::prelude::*;

use super::Activation;
use super::group::OP;
use super::group_lanes::{Affine, PixelAffine};
use super::moments::{block_of, pixels_of_task};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::rounded::{PixelNorm, RoundPixels};
use crate::error::{Result, check_len};
use crate::half::Order;
use crate::isa::{Isa, dispatch_words};
use crate::matmul::order_of_rows;
use crate::shared::SharedMut;

/// Channels of a plane of bf16.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
const PLANE: usize = 32;
/// Values of an output that is written past the caches: more than most of them hold.
pub(super) const STREAMED: usize = 4 * 1024 * 1024;

/// A group norm that is carried out value by value, where they are read.
#[derive(Clone, Copy, Debug)]
pub struct Normed<'a> {
    pub(super) parts: &'a [(&'a [f32], usize)],
    pub(super) pixels: usize,
    /// `(batch, channels)`.
    pub(super) factor: &'a [f32],
    pub(super) offset: &'a [f32],
    pub(super) activation: Activation,
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
    pub(super) fn write_picture(
        &self,
        picture: usize,
        (first, streams): (usize, bool),
        out: &SharedMut<'_>,
    ) {
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
