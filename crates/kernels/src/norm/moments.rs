//! Sums and sums of squares of each channel of each picture, which are all a group norm must know of a map before it can be
//! carried out value by value.
//!
//! They are taken of values less a pivot, a value of the channel, in f32 over some pixels and in f64 from there on, so neither a
//! large mean nor a large map costs accuracy.

use std::ops::Range;
use std::sync::Mutex;

use rayon::prelude::*;

use super::group_lanes::Sums;
use crate::error::{Result, ShapeError, product};
use crate::isa::{Isa, dispatch};

/// Pixels summed in f32 before the sums move to f64.
const RUN: usize = 64;

/// What is summed of a channel of a picture.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ChannelSums {
    pivot: f64,
    /// Of values less the pivot.
    sum: f64,
    /// Of their squares.
    square: f64,
}

impl ChannelSums {
    /// Mean of `count` values.
    pub(super) fn mean(&self, count: f64) -> f64 {
        self.pivot + self.sum / count
    }

    /// Their variance.
    pub(super) fn variance(&self, count: f64) -> f64 {
        let shift = self.sum / count;
        (self.square / count - shift * shift).max(0.0)
    }

    /// Adds the sums of `count` more values, taken about `pivot`.
    fn add(&mut self, count: f64, pivot: f64, [sum, square]: [f64; 2]) {
        let shift = pivot - self.pivot;
        self.sum += sum + count * shift;
        self.square += square + shift * (2.0 * sum + count * shift);
    }
}

/// The sums of a map, taken while it was written.
#[derive(Clone, Debug)]
pub struct Moments {
    batch: usize,
    pixels: usize,
    channels: usize,
    /// `(batch, channels)`.
    sums: Vec<ChannelSums>,
}

impl Moments {
    /// Checks that they are those of a map `(batch, pixels, channels)`.
    pub(super) fn check(&self, op: &'static str, expected: [usize; 3]) -> Result<()> {
        if [self.batch, self.pixels, self.channels] == expected {
            return Ok(());
        }
        let found = product(op, "known", &[self.batch, self.pixels, self.channels])?;
        Err(ShapeError {
            op,
            argument: "known",
            expected: format!("moments of a map {expected:?} (batch, pixels, channels)"),
            got: found,
        })
    }

    /// Those of a picture.
    pub(super) fn of(&self, picture: usize) -> &[ChannelSums] {
        &self.sums[picture * self.channels..][..self.channels]
    }
}

/// Collects the sums of a map from those who write its parts.
#[derive(Debug)]
pub(crate) struct Recorder {
    pixels: usize,
    channels: usize,
    /// Of each picture, the pixels that were counted, and the channels' sums.
    pictures: Mutex<Vec<(usize, Vec<ChannelSums>)>>,
}

impl Recorder {
    /// For a map `(batch, pixels, channels)`.
    pub(crate) fn new([batch, pixels, channels]: [usize; 3]) -> Self {
        let picture = (0, vec![ChannelSums::default(); channels]);
        Self {
            pixels,
            channels,
            pictures: Mutex::new(vec![picture; batch]),
        }
    }

    /// Pixels of a picture.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    pub(crate) fn pixels(&self) -> usize {
        self.pixels
    }

    /// Adds what was summed of `count` pixels of a picture about each channel's pivot. The order of these calls is that of the sums.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    pub(crate) fn add(&self, picture: usize, count: usize, [pivot, sum, square]: [&[f32]; 3]) {
        let mut pictures = self.pictures.lock().expect("a thread died while adding");
        let (counted, sums) = &mut pictures[picture];
        let from = pivot.iter().zip(sum).zip(square);
        for (to, ((pivot, sum), square)) in sums.iter_mut().zip(from) {
            let pivot = f64::from(*pivot);
            if *counted == 0 {
                to.pivot = pivot;
            }
            let sums = [f64::from(*sum), f64::from(*square)];
            to.add(count as f64, pivot, sums);
        }
        *counted += count;
    }

    /// The sums, if they are those of all pixels.
    pub(crate) fn finish(self) -> Option<Moments> {
        let pictures = self.pictures.into_inner().ok()?;
        let whole = |(count, _): &(usize, _)| *count == self.pixels;
        pictures.iter().all(whole).then(|| Moments {
            batch: pictures.len(),
            pixels: self.pixels,
            channels: self.channels,
            sums: pictures.into_iter().flat_map(|(_, sums)| sums).collect(),
        })
    }
}

/// Pixels of a task: 256 KiB of values, in whole runs; a function of the shape alone, as the sums' order must be.
pub(super) fn pixels_of_task(channels: usize) -> usize {
    (64 * 1024 / channels.max(1)).max(1).next_multiple_of(RUN)
}

/// Pixels of a block, counted over all pictures.
pub(super) fn block_of(pixels: usize, picture: usize, block: usize, step: usize) -> Range<usize> {
    let first = picture * pixels + block * step;
    first..first + step.min(pixels - block * step)
}

/// Sums of each channel of a picture of `parts`, which have `pixels` a picture.
pub(super) fn sums_of(
    parts: &[(&[f32], usize)],
    picture: usize,
    pixels: usize,
) -> Vec<ChannelSums> {
    let isa = Isa::current();
    let channels = parts.iter().map(|&(_, c)| c).sum();
    let step = pixels_of_task(channels);
    let blocks: Vec<Vec<[f64; 2]>> = (0..pixels.div_ceil(step))
        .into_par_iter()
        .map(|block| {
            let range = block_of(pixels, picture, block, step);
            block_sums(parts, isa, (picture, pixels), range)
        })
        .collect();
    let mut sums: Vec<ChannelSums> = parts
        .iter()
        .filter(|(_, width)| *width > 0)
        .flat_map(|&(part, width)| &part[picture * pixels * width..][..width])
        .map(|&x| ChannelSums {
            pivot: f64::from(x),
            ..ChannelSums::default()
        })
        .collect();
    for block in &blocks {
        for (total, [sum, square]) in sums.iter_mut().zip(block) {
            total.sum += sum;
            total.square += square;
        }
    }
    sums
}

/// Sum and sum of squares, less the pivot, of each channel over a range of pixels.
fn block_sums(
    parts: &[(&[f32], usize)],
    isa: Isa,
    (picture, pixels): (usize, usize),
    range: Range<usize>,
) -> Vec<[f64; 2]> {
    let mut sums = Vec::new();
    for &(part, width) in parts {
        let start = sums.len();
        sums.resize(start + width, [0.0; 2]);
        if width == 0 {
            continue;
        }
        let pivot = &part[picture * pixels * width..][..width];
        for run in part[range.start * width..range.end * width].chunks(RUN * width) {
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
