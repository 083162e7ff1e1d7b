//! The transformed weight: for each panel of output channels and each position a packed right-hand side.

use rayon::prelude::*;

use super::transform::weight as transform;
use super::{NORM_LIMIT, SMALLEST_FACTOR, VALUE_LIMIT};
use crate::half::BLOCK;
use crate::matmul::{PANEL, packed_len, panel_width};

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
    pub(super) data: Vec<u32>,
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
        let mut data = vec![0; packed_len(columns, depth)];
        let mut panels = Vec::new();
        if depth > 0 {
            data.par_chunks_mut(PANEL * depth)
                .enumerate()
                .map(|(panel, out)| {
                    let start = panel * PANEL;
                    let count = PANEL.min(columns - start);
                    let window = &weight[start * channels * 9..][..count * channels * 9];
                    pack_panel(
                        window,
                        &runs,
                        tile,
                        values,
                        (out, panel_width(columns, start)),
                    )
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

    /// Bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len() * size_of::<u32>() + self.factors.len() * size_of::<f32>()
    }
}

/// Packs the windows of one panel; returns the factors `[run][position][PANEL]` of i16.
fn pack_panel(
    windows: &[f32],
    runs: &Runs,
    tile: usize,
    values: Values,
    (out, width): (&mut [u32], usize),
) -> Vec<f32> {
    let positions = tile * tile;
    let channels = runs.channels;
    let mut factors = vec![0.0; runs.count * positions * PANEL];
    let mut transformed = vec![0.0; channels * positions];
    for (column, window) in windows.chunks_exact(channels * 9).enumerate() {
        for (window, out) in window
            .chunks_exact(9)
            .zip(transformed.chunks_exact_mut(positions))
        {
            transform(tile, window, out);
        }
        let mut write = |position: usize, channel: usize, bits: u32| {
            let word = position * runs.depth + channel / runs.per_word;
            out[word * width + column] |= bits;
        };
        for position in 0..positions {
            let at = |channel: usize| transformed[channel * positions + position];
            for run in 0..runs.count {
                let part = run * runs.len..channels.min((run + 1) * runs.len);
                if values == Values::F32 {
                    part.for_each(|channel| {
                        write(position, channel, (at(channel) as f32).to_bits());
                    });
                    continue;
                }
                let (mut squares, mut largest) = (0.0f64, 0.0f64);
                for channel in part.clone() {
                    squares += at(channel) * at(channel);
                    largest = largest.max(at(channel).abs());
                }
                let factor = (squares.sqrt() / NORM_LIMIT)
                    .max(largest / VALUE_LIMIT)
                    .max(SMALLEST_FACTOR) as f32;
                factors[(run * positions + position) * PANEL + column] = factor;
                for channel in part {
                    let value = (at(channel) / f64::from(factor)).round() as i16;
                    let bits = u32::from(value.cast_unsigned()) << (channel % 2 * 16);
                    write(position, channel, bits);
                }
            }
        }
    }
    if values == Values::F32 {
        Vec::new()
    } else {
        factors
    }
}
