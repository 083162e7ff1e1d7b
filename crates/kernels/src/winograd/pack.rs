//! The transformed weight: for each panel of output channels and each position a packed right-hand side.

use rayon::prelude::*;

use super::transform::weights as transform;
use super::{NORM_LIMIT, SMALLEST_FACTOR, VALUE_LIMIT};
use crate::buffer::Buffer;
use crate::half::BLOCK;
use crate::isa::{Isa, Op, dispatch};
use crate::matmul::{PANEL, packed_len, panel_width};
use crate::simd::Simd;

/// Longest run of channels summed at once, and with one factor. Shorter runs lose less to their largest value (i16) and to the
/// rounding of long sums (f32); 320 cost no time to speak of.
const RUN: usize = 320;

/// What the products are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    F32,
    I16,
}

/// How the channels of the sums are cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runs {
    /// Channels of the input.
    pub(super) channels: usize,
    /// Channels of a run, but the last; a multiple of a block of words.
    pub(super) len: usize,
    /// Runs.
    pub(super) count: usize,
    /// Channels a word holds.
    pub(super) per_word: usize,
    /// Words of all runs: whole blocks.
    pub(super) depth: usize,
}

impl Runs {
    fn new(values: Values, channels: usize) -> Self {
        let per_word = match values {
            Values::F32 => 1,
            Values::I16 => 2,
        };
        let count = channels.div_ceil(RUN).max(1);
        Self {
            channels,
            len: channels.div_ceil(count).next_multiple_of(BLOCK * per_word),
            count,
            per_word,
            depth: channels.next_multiple_of(BLOCK * per_word) / per_word,
        }
    }

    /// First word and number of words of a run.
    pub(super) fn words(&self, run: usize) -> (usize, usize) {
        let first = run * self.len / self.per_word;
        (first, (self.len / self.per_word).min(self.depth - first))
    }
}

/// A 3x3 weight prepared once, at load.
#[derive(Clone, Debug)]
pub(crate) struct WinogradWeight {
    pub(super) values: Values,
    /// Side of an input tile: 4 or 6.
    pub(super) tile: usize,
    pub(super) columns: usize,
    pub(super) runs: Runs,
    /// `[panel][position][word][width]`.
    data: Buffer,
    /// i16: `[run][position][columns, padded to a panel]`; f32: empty.
    pub(super) factors: Vec<f32>,
}

impl WinogradWeight {
    /// Packs `weight: (columns, channels, 3, 3)`, for tiles of `tile` x `tile` inputs; on all threads.
    pub(crate) fn new(
        weight: &[f32],
        (columns, channels): (usize, usize),
        tile: usize,
        values: Values,
    ) -> Self {
        assert!(
            (tile == 4 || tile == 6) && weight.len() == columns * channels * 9,
            "sizes of a Winograd weight disagree, this is a bug"
        );
        let runs = Runs::new(values, channels);
        let positions = tile * tile;
        let depth = positions * runs.depth;
        let mut data = Buffer::zeroed(packed_len(columns, depth));
        let mut panels = Vec::new();
        let isa = Isa::current();
        if depth > 0 {
            data.words_mut()
                .par_chunks_mut(PANEL * depth)
                .enumerate()
                .map(|(panel, out)| {
                    let start = panel * PANEL;
                    let count = PANEL.min(columns - start);
                    let window = &weight[start * channels * 9..][..count * channels * 9];
                    let panel = PackPanel {
                        windows: window,
                        runs: &runs,
                        tile,
                        values,
                        out,
                        width: panel_width(columns, start),
                    };
                    dispatch(isa, panel)
                })
                .collect_into_vec(&mut panels);
        }
        let padded = columns.next_multiple_of(PANEL);
        let mut factors = Vec::new();
        if values == Values::I16 {
            factors.resize(runs.count * positions * padded, 0.0);
            for (panel, own) in panels.iter().enumerate() {
                for (row, own) in own.chunks_exact(PANEL).enumerate() {
                    factors[row * padded + panel * PANEL..][..PANEL].copy_from_slice(own);
                }
            }
        }
        Self {
            values,
            tile,
            columns,
            runs,
            data,
            factors,
        }
    }

    /// The panels.
    pub(super) fn data(&self) -> &[u32] {
        self.data.words()
    }

    /// Bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len() * size_of::<u32>() + self.factors.len() * size_of::<f32>()
    }
}

/// Packs the windows of one panel; returns the factors `[run][position][PANEL]` of i16.
struct PackPanel<'a> {
    windows: &'a [f32],
    runs: &'a Runs,
    tile: usize,
    values: Values,
    out: &'a mut [u32],
    width: usize,
}

impl Op for PackPanel<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Vec<f32> {
        let Self {
            windows,
            runs,
            tile,
            values,
            out,
            width,
        } = self;
        let (positions, channels) = (tile * tile, runs.channels);
        let mut factors = Vec::new();
        if values == Values::I16 {
            factors.resize(runs.count * positions * PANEL, 0.0);
        }
        let mut work = vec![0.0; (9 + 3 * tile) * channels];
        let mut transformed = vec![0.0; positions * channels];
        let mut rounded = vec![0i32; runs.len];
        for (column, windows) in windows.chunks_exact(channels * 9).enumerate() {
            transform(tile, windows, &mut work, &mut transformed);
            for (position, line) in transformed.chunks_exact(channels).enumerate() {
                for (run, part) in line.chunks(runs.len).enumerate() {
                    let (first, _) = runs.words(run);
                    let words = out[(position * runs.depth + first) * width + column..]
                        .iter_mut()
                        .step_by(width);
                    if values == Values::F32 {
                        for (word, value) in words.zip(part) {
                            *word = (*value as f32).to_bits();
                        }
                        continue;
                    }
                    let rounded = &mut rounded[..part.len()];
                    factors[(run * positions + position) * PANEL + column] = round(part, rounded);
                    for (word, pair) in words.zip(rounded.chunks(2)) {
                        let odd = pair.get(1).map_or(0, |odd| odd.cast_unsigned() << 16);
                        *word = pair[0].cast_unsigned() & 0xffff | odd;
                    }
                }
            }
        }
        factors
    }
}

/// Rounds to whole numbers of i16's range; returns the factor they stand for.
#[inline(always)]
fn round(values: &[f64], rounded: &mut [i32]) -> f32 {
    let (mut squares, mut largest) = ([0.0f64; 8], [0.0f64; 8]);
    for part in values.chunks(8) {
        for (i, value) in part.iter().enumerate() {
            squares[i] += value * value;
            largest[i] = largest[i].max(value.abs());
        }
    }
    let norm = squares.iter().sum::<f64>().sqrt();
    let largest = largest.iter().copied().fold(0.0, f64::max);
    // `f64::max` drops a NaN, which must show.
    let factor = if norm.is_nan() {
        f32::NAN
    } else {
        (norm / NORM_LIMIT)
            .max(largest / VALUE_LIMIT)
            .max(SMALLEST_FACTOR) as f32
    };
    let inverse = 1.0 / f64::from(factor);
    for (rounded, value) in rounded.iter_mut().zip(values) {
        *rounded = (value * inverse).round_ties_even() as i32;
    }
    factor
}
