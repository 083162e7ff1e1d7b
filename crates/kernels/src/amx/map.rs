//! Pixels of feature maps, under a window that moves over them, as a left side.

use std::ops::Range;

use super::TILE;
use super::blocks::{Blocks, NONE, TileRows, Values, plane_words};
use super::rows::{BYTES, DEEP};
use super::unit::Step;
use crate::conv::Phase;
use crate::half::BLOCK;

/// Finds pixels of padded maps.
pub(crate) trait Pixels: Sync {
    /// Writes some channels of `count` pixels from a place (picture, row, column) on into planes of `plane` words, from the first
    /// position of `to` on.
    fn round(
        &self,
        place: (usize, usize, usize),
        count: usize,
        channels: Range<usize>,
        values: Values,
        planes: (&mut [u32], usize),
    );
}

/// Output columns of a block at most.
const WIDE: usize = 64;
/// Output pixels of a block at most; its frame is read by its neighbours too, so larger is better.
const PIXELS: usize = 1024;
/// Planes of a block at least, where there are as many.
const PLANES: usize = 30;

/// Maps under a window.
#[derive(Clone, Copy)]
pub(crate) struct Map<'a, P> {
    pub(crate) pixels: &'a P,
    pub(crate) batch: usize,
    /// Height and width of the result.
    pub(crate) size: (usize, usize),
    /// Rows and columns of the window.
    pub(crate) window: (usize, usize),
    pub(crate) stride: usize,
    pub(crate) channels: usize,
    values: Values,
    shape: Shape,
    /// Which of each four pixels of a result of twice the size these are.
    phase: Option<Phase>,
}

/// Sizes of a block.
#[derive(Clone, Copy)]
struct Shape {
    /// Pictures, more than one only of whole pictures.
    pictures: usize,
    /// Rows and columns of the result.
    high: usize,
    wide: usize,
    /// Rows and columns read.
    frame: (usize, usize),
    /// Whether tiles run on over the ends of rows, with outputs between that do not count.
    flows: bool,
    planes_at_once: usize,
}

impl<'a, P> Map<'a, P> {
    /// `batch` maps of `channels`, a multiple of 32, padded already as far as `pixels` goes.
    pub(crate) fn new(
        pixels: &'a P,
        (batch, size): (usize, (usize, usize)),
        (window, stride): ((usize, usize), usize),
        (channels, values): (usize, Values),
    ) -> Self {
        let shape = Shape::choose(batch, size, (window, stride), (channels, values.parts()));
        Self {
            pixels,
            batch,
            size,
            window,
            stride,
            channels,
            values,
            shape,
            phase: None,
        }
    }

    /// The same, whose outputs are one of each four pixels of a result of twice the size.
    pub(crate) fn with_phase(self, phase: Phase) -> Self {
        Self {
            phase: Some(phase),
            ..self
        }
    }

    /// Row of the output of a pixel of the result.
    fn row(&self, picture: usize, y: usize, x: usize) -> u32 {
        let (height, width) = self.size;
        let row = match self.phase {
            None => (picture * height + y) * width + x,
            Some((lower, right)) => {
                ((picture * height + y) * 2 + lower) * 2 * width + 2 * x + right
            }
        };
        row as u32
    }

    /// Blocks of a picture, down and across; 1 where a block has several pictures.
    fn grid(&self) -> (usize, usize) {
        (
            self.size.0.div_ceil(self.shape.high),
            self.size.1.div_ceil(self.shape.wide),
        )
    }

    /// Pictures, rows and columns of the result in a block.
    fn of(&self, block: usize) -> [Range<usize>; 3] {
        let (down, across) = self.grid();
        let part = |i: usize, step: usize, len: usize| i * step..len.min((i + 1) * step);
        [
            part(block / (down * across), self.shape.pictures, self.batch),
            part(block / across % down, self.shape.high, self.size.0),
            part(block % across, self.shape.wide, self.size.1),
        ]
    }

    /// Position of a frame's pixel in a plane.
    fn position(&self, picture: usize, y: usize, x: usize) -> usize {
        let (rows, columns) = self.shape.frame;
        (picture * rows + y) * columns + x
    }
}

impl Shape {
    fn choose(
        batch: usize,
        (height, width): (usize, usize),
        (window, stride): ((usize, usize), usize),
        (channels, parts): (usize, usize),
    ) -> Self {
        let frame_of = |high: usize, wide: usize| {
            (
                (high - 1) * stride + window.0,
                (wide - 1) * stride + window.1,
            )
        };
        let across = width.div_ceil(WIDE);
        let wide = match width.div_ceil(across) {
            wide if across > 1 => wide.next_multiple_of(TILE),
            wide => wide,
        };
        let planes = channels / DEEP;
        let least = planes.clamp(1, PLANES / parts);
        let bytes = |pictures: usize, high: usize, planes: usize| {
            let (rows, columns) = frame_of(high, wide);
            pictures * rows * columns * planes * parts * 2 * DEEP
        };
        let fits = |high: &usize| {
            *high == 1 || (*high * wide <= PIXELS && bytes(1, *high, least) <= BYTES)
        };
        let most = (1..=height).rev().find(fits).unwrap_or(1);
        let high = height.div_ceil(height.div_ceil(most));
        let pictures = if (high, wide) == (height, width) {
            let fit = (PIXELS / (high * wide)).min(BYTES / bytes(1, high, least));
            let most = fit.clamp(1, batch.max(1));
            batch.max(1).div_ceil(batch.max(1).div_ceil(most))
        } else {
            1
        };
        let most = (BYTES / bytes(pictures, high, 1)).clamp(1, planes.max(1));
        Self {
            pictures,
            high,
            wide,
            frame: frame_of(high, wide),
            flows: stride == 1 && !wide.is_multiple_of(TILE),
            planes_at_once: planes.max(1).div_ceil(planes.max(1).div_ceil(most)),
        }
    }

    fn positions(&self) -> usize {
        self.pictures * self.frame.0 * self.frame.1
    }
}

impl<P: Pixels> Blocks for Map<'_, P> {
    fn count(&self) -> usize {
        let (down, across) = self.grid();
        self.batch.div_ceil(self.shape.pictures) * down * across
    }

    fn values(&self) -> Values {
        self.values
    }

    fn plane(&self) -> usize {
        // A tile that starts at the last pixel may step over 15 more.
        plane_words(self.shape.positions() + TILE * self.stride)
    }

    fn planes(&self) -> usize {
        self.channels / DEEP
    }

    fn planes_at_once(&self) -> usize {
        self.shape.planes_at_once
    }

    fn row_bytes(&self) -> usize {
        2 * DEEP * self.stride
    }

    fn tiles(&self, block: usize) -> Vec<TileRows> {
        let [pictures, ys, xs] = self.of(block);
        let row = |picture: usize, y: usize, x: usize| {
            self.row(pictures.start + picture, ys.start + y, xs.start + x)
        };
        let mut tiles = Vec::new();
        if self.shape.flows {
            // Positions from the first output to the last, whatever lies between.
            let columns = self.shape.frame.1;
            let end = self.position(pictures.len() - 1, ys.len() - 1, xs.len() - 1) + 1;
            for first in (0..end).step_by(TILE) {
                let output = |i: usize| {
                    let at = first + i;
                    let (y, x) = (at / columns, at % columns);
                    let (picture, y) = (y / self.shape.frame.0, y % self.shape.frame.0);
                    let counts = picture < pictures.len() && y < ys.len() && x < xs.len();
                    if counts { row(picture, y, x) } else { NONE }
                };
                tiles.push(TileRows {
                    at: first * BLOCK,
                    rows: std::array::from_fn(output),
                });
            }
            return tiles;
        }
        for picture in 0..pictures.len() {
            for y in 0..ys.len() {
                for x in (0..xs.len()).step_by(TILE) {
                    let at = self.position(picture, y * self.stride, x * self.stride);
                    let count = TILE.min(xs.len() - x);
                    let row = |i| {
                        if i < count {
                            row(picture, y, x + i)
                        } else {
                            NONE
                        }
                    };
                    tiles.push(TileRows {
                        at: at * BLOCK,
                        rows: std::array::from_fn(row),
                    });
                }
            }
        }
        tiles
    }

    fn pictures(&self, block: usize, _: usize) -> Range<usize> {
        let [pictures, ..] = self.of(block);
        pictures
    }

    fn fill(&self, block: usize, planes: Range<usize>, to: &mut [u32]) {
        let [pictures, ys, xs] = self.of(block);
        let step = self.plane();
        let part = planes.start * DEEP..planes.end * DEEP;
        let rows = (ys.len() - 1) * self.stride + self.window.0;
        let columns = (xs.len() - 1) * self.stride + self.window.1;
        for (picture, source) in pictures.enumerate() {
            for y in 0..rows {
                let place = (source, ys.start * self.stride + y, xs.start * self.stride);
                let to = &mut to[self.position(picture, y, 0) * BLOCK..];
                let planes = (to, step);
                self.pixels
                    .round(place, columns, part.clone(), self.values, planes);
            }
        }
    }

    fn steps(&self, planes: Range<usize>) -> Vec<Step> {
        let places = self.window.0 * self.window.1;
        let plane = self.plane() * size_of::<u32>();
        let mut steps = Vec::with_capacity(planes.len() * places);
        for p in planes.clone() {
            for place in 0..places {
                let (y, x) = (place / self.window.1, place % self.window.1);
                let a = (p - planes.start, self.position(0, y, x) * 2 * DEEP);
                let b = (place * self.channels / DEEP + p) * BLOCK;
                steps.push(self.values.step(a, b, plane));
            }
        }
        steps
    }
}
