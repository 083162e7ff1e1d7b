//! The products of a block, with weights of another between them.

use super::single::HELD;
use super::{Pen, Quick, Unit};
use crate::amx::{SUMS, TILE, Tiles};
use crate::half::BLOCK;
use crate::simd::Words;

/// Blocks of two tiles each that a right side may have.
pub(super) const SIDE_BY_SIDE: usize = HELD / 2;

impl Quick<'_> {
    /// Products while a unit is weighed.
    #[inline(always)]
    pub(super) fn slots(&self, next: Option<Unit>, before: Option<Unit>) -> usize {
        let sizes = self.block.side.sizes;
        let chunks = |unit: Option<Unit>| unit.map_or(0, |unit| unit.chunks);
        4 * (sizes.deep / BLOCK) * chunks(next) + 2 * (sizes.tall / TILE) * chunks(before)
    }

    /// `scores = k . q` of a unit.
    #[inline(always)]
    pub(super) fn score<S: Words>(&mut self, s: S, tiles: &Tiles, unit: Unit, pen: &mut Pen<S::V>) {
        let deep = self.block.side.sizes.deep;
        let keys = &self.block.keys[unit.start * deep..][..unit.chunks * SUMS * deep];
        let q = &self.q[unit.group * deep * SUMS..][..deep * SUMS];
        let scores = &mut self.scores[..unit.chunks * SUMS * SUMS];
        let count = deep / BLOCK;
        // SAFETY: `q` has `count` blocks of two tiles, and `fits` three at most; keys have rows of `deep` words, whose blocks these
        // are; each 16 of them have 16 rows of 32 scores.
        unsafe {
            hold(tiles, q.as_ptr(), count);
            let mut key = 0;
            while key < unit.chunks * SUMS {
                let left = Left {
                    at: keys.as_ptr().add(key * deep),
                    row: deep * size_of::<u32>(),
                    apart: BLOCK,
                    count,
                };
                let scores = scores.as_mut_ptr().add(key * SUMS);
                let keep = pen.pairs.saturating_sub(key / 2 + TILE / 2);
                left.multiply(s, tiles, 0, (scores, false, keep), pen);
                let scores = scores.add(TILE);
                left.multiply(s, tiles, SIDE_BY_SIDE, (scores, false, keep), pen);
                key += TILE;
            }
        }
    }

    /// `sums += values . weights` of a unit.
    #[inline(always)]
    pub(super) fn add_values<S: Words>(
        &mut self,
        s: S,
        tiles: &Tiles,
        unit: Unit,
        pen: &mut Pen<S::V>,
    ) {
        let tall = self.block.side.sizes.tall;
        let apart = tall * BLOCK;
        let values = &self.block.values[unit.start / SUMS * apart..][..unit.chunks * apart];
        let weights = &self.weights[..unit.chunks * BLOCK * SUMS];
        let sums = &mut self.sums[unit.group * self.values_len..][..tall * SUMS];
        let (count, adds) = (unit.chunks, unit.start > 0);
        // SAFETY: each group of keys has two tiles of weights and `tall` rows of 16 words, a multiple of a tile's; sums have as many
        // rows of 32.
        unsafe {
            hold(tiles, weights.as_ptr(), count);
            let mut row = 0;
            while row < tall {
                let at = values.as_ptr().add(row * BLOCK);
                let left = Left {
                    at,
                    row: BLOCK * size_of::<u32>(),
                    apart,
                    count,
                };
                let sums = sums.as_mut_ptr().add(row * SUMS);
                left.multiply(s, tiles, 0, (sums, adds, usize::MAX), pen);
                left.multiply(
                    s,
                    tiles,
                    SIDE_BY_SIDE,
                    (sums.add(TILE), adds, usize::MAX),
                    pen,
                );
                row += TILE;
            }
        }
    }
}

/// Tiles of a left side whose products with as many right sides make a sum.
#[derive(Clone, Copy)]
struct Left {
    at: *const u32,
    /// Bytes from a row to the next.
    row: usize,
    /// Words from a tile to the next.
    apart: usize,
    /// At most [`SIDE_BY_SIDE`].
    count: usize,
}

impl Left {
    /// Writes or adds to 16 rows of 16 sums, 32 apart, the products with the right sides held from `place` on, when `pen` has so
    /// many pairs left at most.
    ///
    /// # Safety
    /// The tiles are readable, the sums writable.
    #[inline(always)]
    unsafe fn multiply<S: Words>(
        self,
        s: S,
        tiles: &Tiles,
        place: usize,
        (sums, adds, keep): (*mut f32, bool, usize),
        pen: &mut Pen<S::V>,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            if adds {
                tiles.resume(sums);
            } else {
                tiles.begin();
            }
            tiles.multiply(place, self.at, self.row);
            pen.slot(s);
            if self.count > 1 {
                tiles.multiply(place + 1, self.at.add(self.apart), self.row);
                pen.slot(s);
            }
            if self.count > 2 {
                tiles.multiply(place + 2, self.at.add(2 * self.apart), self.row);
                pen.slot(s);
            }
            pen.leave(s, keep);
            tiles.end(sums);
        }
    }
}

/// Holds blocks of two tiles, the first ones from place 0 on.
///
/// # Safety
/// `b` is valid for reads of 2 KiB for each of `count`, which is [`SIDE_BY_SIDE`] at most.
#[inline(always)]
unsafe fn hold(tiles: &Tiles, b: *const u32, count: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let second = b.add(TILE * BLOCK);
        tiles.hold(0, b);
        tiles.hold(SIDE_BY_SIDE, second);
        if count > 1 {
            tiles.hold(1, b.add(SUMS * BLOCK));
            tiles.hold(SIDE_BY_SIDE + 1, second.add(SUMS * BLOCK));
        }
        if count > 2 {
            tiles.hold(2, b.add(2 * SUMS * BLOCK));
            tiles.hold(SIDE_BY_SIDE + 2, second.add(2 * SUMS * BLOCK));
        }
    }
}
