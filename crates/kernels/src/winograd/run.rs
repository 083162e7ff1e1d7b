//! The order of the work: either each task takes some tiles all the way, or inputs come first and panels then.

use std::marker::PhantomData;

use rayon::prelude::*;

use super::CHUNK;
use super::input::Input;
use super::pack::{Values, WinogradWeight};
use super::panel::{Checked, Panel, Pixels, Spot};
use crate::half::{F32, I16, Kind};
use crate::isa::{Isa, dispatch_words};
use crate::matmul::{Epilogue, LeftSide, PANEL, panel_width};
use crate::scratch;
use crate::shared::SharedMut;

/// A convolution; `window` finds the input under a row `(picture, y, x)` and a tap `(y, x)`.
pub(crate) struct Call<'a, W> {
    pub(crate) window: &'a W,
    pub(crate) weight: &'a WinogradWeight,
    pub(crate) batch: usize,
    /// Output height and width.
    pub(crate) size: (usize, usize),
    pub(crate) epilogue: Epilogue<'a>,
}

/// Computes all of `out`, of `batch * size.0 * size.1` pixels, none of them empty.
pub(crate) fn run<'x, W>(call: &Call<'_, W>, out: &mut [f32])
where
    W: LeftSide<'x, Row = (usize, usize, usize), Tap = (usize, usize)>,
{
    let weight = call.weight;
    assert_eq!(
        out.len(),
        call.batch * call.size.0 * call.size.1 * weight.columns,
        "output size disagrees, this is a bug"
    );
    match (weight.values, weight.tile) {
        (Values::F32, 4) => Job::<W, F32, 4>::new(call, out).run(),
        (Values::F32, _) => Job::<W, F32, 6>::new(call, out).run(),
        (Values::I16, 4) => Job::<W, I16, 4>::new(call, out).run(),
        (Values::I16, _) => Job::<W, I16, 6>::new(call, out).run(),
    }
}

struct Job<'a, W, K, const T: usize> {
    call: &'a Call<'a, W>,
    kind: PhantomData<K>,
    isa: Isa,
    out: SharedMut<'a>,
    /// Tiles of a picture.
    down: usize,
    across: usize,
}

/// Chunks of tiles a task takes at once: their left sides (36 x 12 x 640 bytes at 320 channels) stay in L2 while the weight
/// passes by, and the more there are the fewer times it does. 12, 24 and 36 tiles were the best of a sweep on Zen 4.
fn chunks_at_once(channels: usize) -> usize {
    match channels {
        0..=128 => 1,
        129..=384 => 2,
        _ => 3,
    }
}

impl<'a, 'x, W, K: Kind, const T: usize> Job<'a, W, K, T>
where
    W: LeftSide<'x, Row = (usize, usize, usize), Tap = (usize, usize)>,
{
    fn new(call: &'a Call<'a, W>, out: &'a mut [f32]) -> Self {
        Self {
            call,
            kind: PhantomData,
            isa: Isa::current(),
            out: SharedMut::new(out),
            down: call.size.0.div_ceil(T - 2),
            across: call.size.1.div_ceil(T - 2),
        }
    }

    fn tiles(&self) -> usize {
        self.call.batch * self.down * self.across
    }

    /// Words and factors of a chunk, and work memory of its transform.
    fn lengths(&self) -> (usize, usize, usize) {
        let runs = self.call.weight.runs;
        let positions = T * T;
        let factors = if K::PER_WORD == 2 { runs.count } else { 0 };
        (
            positions * runs.depth * CHUNK,
            positions * factors * CHUNK,
            positions * runs.len,
        )
    }

    /// The way of the work changes no bit: every tile and channel is computed alike.
    fn run(&self) {
        let chunks = self.tiles().div_ceil(CHUNK);
        let enough = 2 * rayon::current_num_threads();
        let channels = self.call.weight.runs.channels;
        let group = (1..=chunks_at_once(channels))
            .rev()
            .find(|group| chunks.div_ceil(*group) >= enough);
        match group {
            Some(group) => self.whole_tiles(group),
            None => self.inputs_then_panels(),
        }
    }

    /// Each task takes `group` chunks from pixels to pixels.
    fn whole_tiles(&self, group: usize) {
        let (words, factors, work) = self.lengths();
        let tiles = self.tiles();
        (0..tiles.div_ceil(group * CHUNK))
            .into_par_iter()
            .for_each(|task| {
                let own = task * group * CHUNK..tiles.min((task + 1) * group * CHUNK);
                let sums = T * T * own.len() * PANEL;
                scratch::with(group * (words + factors) + work.max(sums), |buffer| {
                    let (left, rest) = buffer.split_at_mut(group * words);
                    let (scales, rest) = rest.split_at_mut(group * factors);
                    let left = scratch::as_words(left);
                    for (i, first) in own.clone().step_by(CHUNK).enumerate() {
                        let chunk = first..own.end.min(first + CHUNK);
                        let left = &mut left[i * words..][..words];
                        self.transform(chunk, left, &mut scales[i * factors..][..factors], rest);
                    }
                    for start in (0..self.call.weight.columns).step_by(PANEL) {
                        self.panel(start, own.clone(), (left, scales), rest);
                    }
                });
            });
    }

    /// For few tiles: all inputs are transformed, then each task takes a panel of the weight, which is read once.
    fn inputs_then_panels(&self) {
        /// Tiles a task takes at once: bounds its work memory.
        const MOST: usize = 12 * CHUNK;
        let (words, factors, work) = self.lengths();
        let tiles = self.tiles();
        let chunks = tiles.div_ceil(CHUNK);
        scratch::with(chunks * (words + factors), |buffer| {
            let (left, scales) = buffer.split_at_mut(chunks * words);
            let left = scratch::as_words(left);
            let transform = |(chunk, (left, scales)): (usize, (&mut [u32], &mut [f32]))| {
                let own = chunk * CHUNK..tiles.min((chunk + 1) * CHUNK);
                scratch::with(work, |work| self.transform(own, left, scales, work));
            };
            if factors == 0 {
                left.par_chunks_mut(words)
                    .enumerate()
                    .for_each(|(chunk, left)| transform((chunk, (left, &mut []))));
            } else {
                left.par_chunks_mut(words)
                    .zip(scales.par_chunks_mut(factors))
                    .enumerate()
                    .for_each(transform);
            }
            let (left, scales) = (&*left, &*scales);
            let panels = self.call.weight.columns.div_ceil(PANEL);
            let parts = tiles.div_ceil(MOST);
            (0..panels * parts).into_par_iter().for_each(|task| {
                let (start, first) = (task / parts * PANEL, task % parts * MOST);
                let own = first..tiles.min(first + MOST);
                let left = &left[first / CHUNK * words..];
                let scales = &scales[first / CHUNK * factors..];
                scratch::with(T * T * own.len() * PANEL, |sums| {
                    self.panel(start, own, (left, scales), sums);
                });
            });
        });
    }

    /// Picture, row and column of a tile's first output.
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let (row, x) = (tile / self.across, tile % self.across);
        let (picture, y) = (row / self.down, row % self.down);
        (picture, y * (T - 2), x * (T - 2))
    }

    /// Transforms the inputs of one chunk.
    fn transform(
        &self,
        tiles: std::ops::Range<usize>,
        words: &mut [u32],
        factors: &mut [f32],
        work: &mut [f32],
    ) {
        let window = self.call.window;
        for (slot, tile) in tiles.enumerate() {
            let place = self.place(tile);
            let mut pixels = [&[] as &[f32]; 36];
            for (i, pixel) in pixels[..T * T].iter_mut().enumerate() {
                *pixel = window.run(place, (i / T, i % T));
            }
            let input = Input::<T> {
                values: self.call.weight.values,
                runs: self.call.weight.runs,
                pixels: &pixels[..T * T],
                slot,
                words,
                factors,
                work,
            };
            dispatch_words(self.isa, input);
        }
    }

    /// Computes the panel of channels from `start` on for some tiles, whose left sides begin at `left`.
    fn panel(
        &self,
        start: usize,
        tiles: std::ops::Range<usize>,
        (words, factors): (&[u32], &[f32]),
        sums: &mut [f32],
    ) {
        let weight = self.call.weight;
        let (height, width) = self.call.size;
        let spots: Vec<Spot> = tiles
            .map(|tile| {
                let (picture, y, x) = self.place(tile);
                Spot {
                    picture,
                    pixel: (picture * height + y) * width + x,
                    rows: (T - 2).min(height - y),
                    columns: (T - 2).min(width - x),
                }
            })
            .collect();
        let depth = T * T * weight.runs.depth;
        let panel = Panel::<K, T> {
            kind: self.kind,
            runs: weight.runs,
            words,
            factors,
            weight: &weight.data()[start * depth..],
            width: panel_width(weight.columns, start),
            weight_factors: weight.factors.get(start..).unwrap_or_default(),
            weight_columns: weight.columns.next_multiple_of(PANEL),
            sums,
            spots: &spots,
            to: Pixels {
                out: self.out.at(0),
                channels: weight.columns,
                row: width,
                start,
                count: PANEL.min(weight.columns - start),
                epilogue: self.call.epilogue,
            },
        };
        // SAFETY: spots lie inside the output, whose size `run` checks; tasks have disjoint tiles or channels.
        dispatch_words(self.isa, unsafe { Checked::new(panel) });
    }
}
