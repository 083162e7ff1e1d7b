//! One panel of output channels for a group of tiles: the products of every position, then the way back to pixels.

use std::marker::PhantomData;

use super::CHUNK;
use super::pack::Runs;
use super::sums::ToSums;
use super::transform::output as transform;
use crate::half::{BLOCK, Kind, Piece, strip_rows};
use crate::isa::WordOp;
use crate::matmul::{Epilogue, PANEL};
use crate::simd::Words;

/// Where a tile's outputs lie.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    pub(super) picture: usize,
    /// First pixel, counted over all pictures.
    pub(super) pixel: usize,
    /// Outputs there are of the tile: fewer at the picture's lower and right edges.
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// A group of tiles against one panel.
pub(super) struct Panel<'a, K: Kind, const T: usize> {
    pub(super) kind: PhantomData<K>,
    pub(super) runs: Runs,
    /// The tiles' left-hand sides, chunk by chunk: `[position][block][CHUNK][BLOCK]`.
    pub(super) words: &'a [u32],
    /// i16: `[run][position][CHUNK]` a chunk; f32: empty.
    pub(super) factors: &'a [f32],
    /// `[position][word][width]`.
    pub(super) weight: &'a [u32],
    pub(super) width: usize,
    /// i16: `[run][position][weight_columns]`, from this panel's first column on.
    pub(super) weight_factors: &'a [f32],
    pub(super) weight_columns: usize,
    /// `[position][tiles][PANEL]`, work memory.
    pub(super) sums: &'a mut [f32],
    pub(super) spots: &'a [Spot],
    pub(super) to: Pixels<'a>,
}

/// The pixels a panel is written to.
#[derive(Clone, Copy)]
pub(super) struct Pixels<'a> {
    /// First value of the output.
    pub(super) out: *mut f32,
    /// Channels of a pixel.
    pub(super) channels: usize,
    /// Pixels of a row.
    pub(super) row: usize,
    /// First channel of the panel.
    pub(super) start: usize,
    /// Channels of the panel.
    pub(super) count: usize,
    pub(super) epilogue: Epilogue<'a>,
}

/// A panel whose output is vouched for.
pub(super) struct Checked<'a, K: Kind, const T: usize>(Panel<'a, K, T>);

impl<'a, K: Kind, const T: usize> Checked<'a, K, T> {
    /// # Safety
    /// `to.out` has every pixel of the spots; no other task touches the panel's channels of them.
    pub(super) unsafe fn new(panel: Panel<'a, K, T>) -> Self {
        let (tiles, positions) = (panel.spots.len(), T * T);
        let chunks = tiles.div_ceil(CHUNK);
        let factors = if K::PER_WORD == 2 {
            panel.runs.count * positions
        } else {
            0
        };
        assert!(
            panel.words.len() >= chunks * CHUNK * positions * panel.runs.depth
                && panel.factors.len() >= chunks * CHUNK * factors
                && panel.weight.len() >= positions * panel.runs.depth * panel.width
                && panel.width <= PANEL
                && panel.to.count <= panel.width
                && panel.to.start + panel.to.count <= panel.to.channels
                && (factors == 0
                    || panel.weight_factors.len() >= (factors - 1) * panel.weight_columns + PANEL)
                && panel.sums.len() >= positions * tiles * PANEL,
            "sizes of a panel disagree, this is a bug"
        );
        Self(panel)
    }
}

impl<K: Kind, const T: usize> WordOp for Checked<'_, K, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Words>(self, s: S) {
        let mut panel = self.0;
        // SAFETY: sizes are checked in `new`, whose caller vouches for the output.
        unsafe {
            panel.multiply(s);
            let mut tile = 0;
            while tile < panel.spots.len() {
                let mut strip = 0;
                while strip < panel.to.count {
                    panel.write(s, tile, strip);
                    strip += S::LANES;
                }
                tile += 1;
            }
        }
    }
}

impl<K: Kind, const T: usize> Panel<'_, K, T> {
    /// The sums of all positions.
    ///
    /// # Safety
    /// Sizes are as `Checked::new` checks them.
    #[inline(always)]
    unsafe fn multiply<S: Words>(&mut self, s: S) {
        let (runs, tiles, positions) = (self.runs, self.spots.len(), T * T);
        let chunk_words = positions * runs.depth * CHUNK;
        let mut position = 0;
        while position < positions {
            let mut run = 0;
            while run < runs.count {
                let (first, words) = runs.words(run);
                let weight = &self.weight[(position * runs.depth + first) * self.width..];
                let row = run * positions + position;
                let mut chunk = 0;
                while chunk * CHUNK < tiles {
                    let a = &self.words[chunk * chunk_words..];
                    let a = &a[(position * runs.depth + first) * CHUNK..];
                    let mut strip = 0;
                    while strip < self.width {
                        let b = weight.as_ptr().wrapping_add(strip);
                        let after = b.wrapping_add(words * self.width);
                        let piece = Piece {
                            a: a.as_ptr(),
                            a_step: CHUNK * BLOCK,
                            words,
                            b,
                            b_step: self.width,
                            // Two calls of 12 rows fetch the two lines a word of the next panel; later ones have it.
                            next: match chunk {
                                0 => after,
                                1 => after.wrapping_add(words * BLOCK),
                                _ => b,
                            },
                        };
                        let scaled = K::PER_WORD == 2;
                        let at = (position * tiles + chunk * CHUNK) * PANEL + strip;
                        let to = ToSums {
                            sums: self.sums.as_mut_ptr().wrapping_add(at),
                            rows: CHUNK.min(tiles - chunk * CHUNK),
                            factors: scaled.then(|| {
                                let own = chunk * CHUNK * runs.count * positions + row * CHUNK;
                                let other = row * self.weight_columns + strip;
                                (
                                    self.factors[own..].as_ptr(),
                                    self.weight_factors[other..].as_ptr(),
                                )
                            }),
                            add: run > 0,
                        };
                        // SAFETY: the chunk has CHUNK rows of these words, the weight these rows; sums and factors of the
                        // chunk's tiles and of a panel's columns are there.
                        unsafe {
                            if self.width - strip >= 2 * S::LANES {
                                strip_rows::<S, K, ToSums, 2>(s, piece, to.rows, to);
                                strip += 2 * S::LANES;
                            } else {
                                strip_rows::<S, K, ToSums, 1>(s, piece, to.rows, to);
                                strip += S::LANES;
                            }
                        }
                    }
                    chunk += 1;
                }
                run += 1;
            }
            position += 1;
        }
    }

    /// Transforms the sums of a tile and writes a vector of channels, from `strip` on.
    ///
    /// # Safety
    /// Sizes are as `Checked::new` checks them; the output is this panel's own.
    #[inline(always)]
    unsafe fn write<S: Words>(&self, s: S, tile: usize, strip: usize) {
        let step = self.spots.len() * PANEL;
        let sums = self.sums[tile * PANEL + strip..].as_ptr();
        let mut half = [[s.splat(0.0); T]; 4];
        let mut x = 0;
        while x < T {
            let mut column = [s.splat(0.0); T];
            let mut y = 0;
            while y < T {
                // SAFETY: a vector inside the panel's sums of this position and tile.
                column[y] = unsafe { s.load(sums.add((y * T + x) * step)) };
                y += 1;
            }
            let column = transform::<S, T>(s, &column);
            let mut y = 0;
            while y < T - 2 {
                half[y][x] = column[y];
                y += 1;
            }
            x += 1;
        }
        let (spot, to) = (self.spots[tile], self.to);
        let count = S::LANES.min(to.count - strip);
        let channel = to.start + strip;
        let picture = to
            .epilogue
            .row_bias
            .map(|(bias, _)| &bias[spot.picture * to.channels..]);
        let mut base = s.splat(0.0);
        // SAFETY: `read` checks the length of what it reads.
        unsafe {
            if let Some(bias) = to.epilogue.bias {
                base = read(s, &bias[channel..], count);
            }
            if let Some(bias) = picture {
                base = s.add(base, read(s, &bias[channel..], count));
            }
        }
        let mut y = 0;
        while y < T - 2 {
            let row = transform::<S, T>(s, &half[y]);
            let mut x = 0;
            while x < T - 2 {
                if y < spot.rows && x < spot.columns {
                    let at = (spot.pixel + y * to.row + x) * to.channels + channel;
                    let mut value = s.add(row[x], base);
                    // SAFETY: a pixel of the spot, whose output the caller vouches for; `read` checks its length.
                    unsafe {
                        if let Some(residual) = to.epilogue.residual {
                            value = s.add(value, read(s, &residual[at..], count));
                        }
                        if count == S::LANES {
                            s.store(to.out.add(at), value);
                        } else {
                            s.store_partial(to.out.add(at), value, count);
                        }
                    }
                }
                x += 1;
            }
            y += 1;
        }
    }
}

/// The first `count` values, the rest 0.
///
/// # Safety
/// The token's features are there (as everywhere); the length is checked.
#[inline(always)]
unsafe fn read<S: Words>(s: S, from: &[f32], count: usize) -> S::V {
    let from = from[..count].as_ptr();
    // SAFETY: `count` values are there.
    unsafe {
        if count == S::LANES {
            s.load(from)
        } else {
            s.load_partial(from, count, 0.0)
        }
    }
}
