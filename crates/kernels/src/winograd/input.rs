//! The input's way: 6x6 (or 4x4) pixels of a tile to the left-hand rows of all positions.

use super::pack::{Runs, Values};
use super::transform::input as transform;
use super::{CHUNK, NORM_LIMIT, SMALLEST_FACTOR, VALUE_LIMIT};
use crate::half::BLOCK;
use crate::isa::WordOp;
use crate::simd::Words;

/// Transforms one tile.
pub(super) struct Input<'a, const T: usize> {
    pub(super) values: Values,
    pub(super) runs: Runs,
    /// Pixels of the tile, row by row, each of `runs.channels` values.
    pub(super) pixels: &'a [&'a [f32]],
    /// Which tile of the chunk this is.
    pub(super) slot: usize,
    /// `[position][block][CHUNK][BLOCK]`, of which this tile's words are written.
    pub(super) words: &'a mut [u32],
    /// i16: `[run][position][CHUNK]`, likewise.
    pub(super) factors: &'a mut [f32],
    /// `[position][runs.len]`, work memory.
    pub(super) work: &'a mut [f32],
}

impl<const T: usize> WordOp for Input<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Words>(mut self, s: S) {
        let runs = self.runs;
        assert!(
            self.pixels.len() == T * T
                && self.slot < CHUNK
                && self.pixels.iter().all(|pixel| pixel.len() >= runs.channels)
                && self.words.len() >= T * T * runs.depth * CHUNK
                && self.work.len() >= T * T * runs.len,
            "sizes of a tile disagree, this is a bug"
        );
        let mut run = 0;
        while run < runs.count {
            // SAFETY: the sizes are checked above.
            unsafe { self.transform_run(s, run) };
            let mut position = 0;
            while position < T * T {
                let row = position * runs.len;
                let (first, words) = runs.words(run);
                let at = (position * runs.depth + first) * CHUNK + self.slot * BLOCK;
                let place = Place {
                    work: &self.work[row..][..runs.len],
                    words: &mut self.words[at..],
                    blocks: words / BLOCK,
                };
                if self.values == Values::F32 {
                    place.copy(s);
                } else {
                    let factor = place.round(s);
                    self.factors[(run * T * T + position) * CHUNK + self.slot] = factor;
                }
                position += 1;
            }
            run += 1;
        }
    }
}

impl<const T: usize> Input<'_, T> {
    /// Transforms the channels of a run into the work memory; channels past the last are 0.
    ///
    /// # Safety
    /// Sizes are as `run` checks them.
    #[inline(always)]
    unsafe fn transform_run<S: Words>(&mut self, s: S, run: usize) {
        let len = self.runs.len;
        let first = run * len;
        let mut c = 0;
        while c < len {
            let left = self.runs.channels.saturating_sub(first + c);
            let mut half = [[s.splat(0.0); T]; T];
            let mut x = 0;
            while x < T {
                let mut column = [s.splat(0.0); T];
                let mut y = 0;
                while y < T {
                    let from = self.pixels[y * T + x].as_ptr().wrapping_add(first + c);
                    // SAFETY: `left` values are left of the pixel.
                    column[y] = unsafe {
                        if left >= S::LANES {
                            s.load(from)
                        } else {
                            s.load_partial(from, left, 0.0)
                        }
                    };
                    y += 1;
                }
                let column = transform::<S, T>(s, &column);
                let mut y = 0;
                while y < T {
                    half[y][x] = column[y];
                    y += 1;
                }
                x += 1;
            }
            let mut y = 0;
            while y < T {
                let row = transform::<S, T>(s, &half[y]);
                let mut x = 0;
                while x < T {
                    // SAFETY: c + LANES <= len, since blocks are multiples of vectors; the work memory has a row a position.
                    unsafe { s.store(self.work.as_mut_ptr().add((y * T + x) * len + c), row[x]) };
                    x += 1;
                }
                y += 1;
            }
            c += S::LANES;
        }
    }
}

/// One position of one run on its way from f32 to words.
struct Place<'a> {
    work: &'a [f32],
    /// From this tile's first block of the run on; blocks are `CHUNK * BLOCK` apart.
    words: &'a mut [u32],
    blocks: usize,
}

impl Place<'_> {
    /// f32 are words as they are.
    #[inline(always)]
    fn copy<S: Words>(self, s: S) {
        let mut block = 0;
        while block < self.blocks {
            let from = &self.work[block * BLOCK..][..BLOCK];
            let to = &mut self.words[block * CHUNK * BLOCK..][..BLOCK];
            let mut i = 0;
            while i < BLOCK {
                // SAFETY: both slices are a block long; a word holds an f32.
                unsafe { s.store(to.as_mut_ptr().add(i).cast(), s.load(from.as_ptr().add(i))) };
                i += S::LANES;
            }
            block += 1;
        }
    }

    /// Rounds to i16; returns the factor they stand for. A value that is not finite makes the factor so.
    #[inline(always)]
    fn round<S: Words>(self, s: S) -> f32 {
        let values = self.blocks * 2 * BLOCK;
        let work = self.work[..values].as_ptr();
        let zero = s.splat(0.0);
        let (mut squares, mut largest) = ([zero; 2], [zero; 2]);
        let mut i = 0;
        while i < values {
            let mut j = 0;
            while j < 2 {
                // SAFETY: a block of 32 values is a multiple of two vectors.
                let v = unsafe { s.load(work.add(i + j * S::LANES)) };
                squares[j] = s.mul_add(v, v, squares[j]);
                largest[j] = s.max(largest[j], s.max(v, s.sub(zero, v)));
                j += 1;
            }
            i += 2 * S::LANES;
        }
        let norm = s.sum(s.add(squares[0], squares[1])).sqrt() * (1.0 / NORM_LIMIT) as f32;
        let peak = s.largest(s.max(largest[0], largest[1])) * (1.0 / VALUE_LIMIT) as f32;
        let finite = norm.max(peak).max(SMALLEST_FACTOR as f32);
        // `f32::max` drops a NaN, which must show.
        let factor = if norm.is_nan() { norm } else { finite };
        let inverse = s.splat(1.0 / factor);
        let mut block = 0;
        while block < self.blocks {
            let to = self.words[block * CHUNK * BLOCK..][..BLOCK].as_mut_ptr();
            let mut i = 0;
            while i < 2 * BLOCK {
                // SAFETY: 32 values of the row and as many halves of the block's words.
                unsafe {
                    let from = work.add(block * 2 * BLOCK + i);
                    let first = s.mul(s.load(from), inverse);
                    let second = s.mul(s.load(from.add(S::LANES)), inverse);
                    s.store_i16(to.cast::<u16>().add(i), first, second);
                }
                i += 2 * S::LANES;
            }
            block += 1;
        }
        factor
    }
}
