//! The running softmax of a block of queries.

use super::super::Causality;
use super::parts::store_parts;
use super::{Block, Sizes, block_of};
use crate::amx::{
    Apart, Fetch, HalfSums, PARTS, SUMS, SplitHalfSums, SplitSums, Step, Sums, TILE, Tiles,
};
use crate::half::BLOCK;
use crate::isa::WordOp;
use crate::math::exp2_fine;
use crate::simd::Words;

/// The running softmax of a block.
pub(super) struct Fold<'a> {
    pub(super) block: &'a Block<'a>,
    /// `[groups][deep / 16][2][16][16]`.
    pub(super) q: &'a [u32],
    /// Blocks of keys and queries whose parts' products make a score, and blocks that meet as they are.
    pub(super) steps: &'a [Vec<Step>; 2],
    /// Groups of values and weights.
    pub(super) value_steps: &'a [Step],
    /// `[keys of a block][32]`.
    pub(super) scores: &'a mut [f32],
    /// Pairs of keys as a right side in the order of tiles, `[parts][keys of a block / 32][2][16][16]`.
    pub(super) weights: &'a mut [u32],
    /// `[groups][32]`: each query's largest score yet.
    pub(super) largest: &'a mut [f32],
    /// `[groups][tall][32]`: the weighted values yet.
    pub(super) sums: &'a mut [f32],
    pub(super) values_len: usize,
    /// What makes scores logarithms to base 2.
    pub(super) factor: f32,
}

impl WordOp for Fold<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Words>(mut self, s: S) {
        // SAFETY: this runs where `Isa::Amx` is, which is handed out only where AMX is ready; nothing below configures tiles.
        let tiles = unsafe { Tiles::configure() };
        let block = self.block;
        let call = block.side.call;
        let visible = match call.causality {
            Causality::Full => call.keys,
            Causality::Causal => call.keys.min(block.first + block.rows),
        };
        let groups = block.rows.div_ceil(SUMS);
        let keys = block.side.sizes.block;
        let mut start = 0;
        while start < visible {
            let count = keys.min(call.keys - start);
            let tiles_of_keys = count.next_multiple_of(SUMS) / TILE;
            let mut group = 0;
            while group < groups {
                let mut tile = 0;
                while tile < tiles_of_keys {
                    self.score(&tiles, group, start, tile);
                    tile += 2;
                }
                if call.causality == Causality::Causal {
                    self.mask(group, start, count);
                }
                self.raise(s, group, start, count);
                let mut tile = 0;
                while tile < tiles_of_keys {
                    self.weigh(s, group, tile);
                    tile += 1;
                }
                self.add_values(&tiles, group, start, count);
                group += 1;
            }
            start += keys;
        }
    }
}

impl Fold<'_> {
    /// Whether weights are as precise as f32, of scores that are logarithms already.
    #[inline(always)]
    fn exact(&self) -> bool {
        self.block.side.sizes.parts > 1
    }

    /// `scores = k . q` for 32 keys and the queries of a group.
    #[inline(always)]
    fn score(&mut self, tiles: &Tiles, group: usize, start: usize, tile: usize) {
        let deep = self.block.side.sizes.deep;
        let q = &self.q[group * deep * SUMS..][..deep * SUMS];
        let k = &self.block.keys[(start + tile * TILE) * deep..][..SUMS * deep];
        let sums = Sums {
            a: [k.as_ptr(), k[TILE * deep..].as_ptr()],
            a_row: deep * size_of::<u32>(),
            b: q.as_ptr(),
            b_row: SUMS * size_of::<u32>(),
            steps: &self.steps[1],
            adds: false,
            fetch: Fetch::NOTHING,
        };
        let sums = SplitSums {
            sums,
            split: &self.steps[0],
            apart: Apart {
                a: BLOCK * size_of::<u32>(),
                b: BLOCK * SUMS * size_of::<u32>(),
            },
            parts: PARTS,
        };
        let scores = &mut self.scores[tile * TILE * SUMS..];
        // SAFETY: `k` has 32 rows of `deep` words and `q` `deep` rows of 32; the steps are blocks of them.
        unsafe { sums.compute(tiles, block_of(scores)) };
    }

    /// Hides keys after the query.
    fn mask(&mut self, group: usize, start: usize, count: usize) {
        let first = self.block.first + group * SUMS;
        let scores = self.scores.chunks_exact_mut(SUMS);
        for (key, scores) in scores.take(count).enumerate() {
            let hidden = (start + key).saturating_sub(first).min(SUMS);
            scores[..hidden].fill(f32::NEG_INFINITY);
        }
    }

    /// Brings each query's largest score up to date, and what is summed yet with it.
    #[inline(always)]
    fn raise<S: Words>(&mut self, s: S, group: usize, start: usize, count: usize) {
        let exact = self.exact();
        let scores = &mut *self.scores;
        let padded = count.next_multiple_of(SUMS);
        scores[count * SUMS..padded * SUMS].fill(f32::NEG_INFINITY);
        let scores = &scores[..padded * SUMS];
        let largest = &mut self.largest[group * SUMS..][..SUMS];
        let sums = &mut self.sums[group * self.values_len..][..self.values_len];
        let mut lane = 0;
        while lane < SUMS {
            // SAFETY: rows of 32 lanes, of which a vector starts at `lane`.
            unsafe {
                let old = s.load(largest.as_ptr().add(lane));
                let mut new = [old; 4];
                let mut key = 0;
                while key + 4 <= count {
                    let from = scores.as_ptr().add(key * SUMS + lane);
                    new[0] = s.max(new[0], s.load(from));
                    new[1] = s.max(new[1], s.load(from.add(SUMS)));
                    new[2] = s.max(new[2], s.load(from.add(2 * SUMS)));
                    new[3] = s.max(new[3], s.load(from.add(3 * SUMS)));
                    key += 4;
                }
                while key < count {
                    new[0] = s.max(new[0], s.load(scores.as_ptr().add(key * SUMS + lane)));
                    key += 1;
                }
                let new = s.max(s.max(new[0], new[1]), s.max(new[2], new[3]));
                s.store(largest.as_mut_ptr().add(lane), new);
                if start > 0 && s.sum(s.sub(new, old)) != 0.0 {
                    let down = s.mul(s.sub(old, new), s.splat(self.factor));
                    let factor = if exact {
                        exp2_fine(s, down)
                    } else {
                        s.exp2(down)
                    };
                    let mut row = 0;
                    while row < self.block.side.sizes.tall {
                        let to = sums[row * SUMS + lane..].as_mut_ptr();
                        s.store(to, s.mul(s.load(to), factor));
                        row += 1;
                    }
                }
            }
            lane += S::LANES;
        }
    }

    /// `weights = 2^(factor * (scores - largest))` of sixteen keys.
    #[inline(always)]
    fn weigh<S: Words>(&mut self, s: S, group: usize, tile: usize) {
        let largest = &self.largest[group * SUMS..][..SUMS];
        let scores = &self.scores[tile * TILE * SUMS..][..TILE * SUMS];
        // Sixteen keys are the upper or lower eight words of a block of two tiles.
        let place = tile / 2 * BLOCK * SUMS + tile % 2 * TILE / 2 * BLOCK;
        let parts = self.block.side.sizes.parts;
        let apart = self.weights.len() / parts;
        let exact = self.exact();
        let weights = &mut self.weights[place..]
            [..(parts - 1) * apart + BLOCK * SUMS - place % (BLOCK * SUMS)];
        let mut lane = 0;
        while lane < SUMS {
            // SAFETY: rows of 32 lanes, of which a vector starts at `lane`; 2 * pair + 1 < TILE.
            unsafe {
                let factor = s.splat(self.factor);
                let largest = s.load(largest.as_ptr().add(lane));
                let shift = s.mul(largest, s.splat(-self.factor));
                let mut pair = 0;
                while pair < TILE / 2 {
                    let from = scores.as_ptr().add(2 * pair * SUMS + lane);
                    let [even, odd] = [s.load(from), s.load(from.add(SUMS))];
                    let to = weights.as_mut_ptr().add(lane * BLOCK + pair * BLOCK);
                    if exact {
                        let [even, odd] = [even, odd].map(|x| exp2_fine(s, s.sub(x, largest)));
                        store_parts(s, to, apart, even, odd);
                    } else {
                        let [even, odd] = [even, odd].map(|x| s.exp2(s.mul_add(x, factor, shift)));
                        s.store_cut_pairs(to, even, odd);
                    }
                    pair += 1;
                }
            }
            lane += S::LANES;
        }
    }

    /// `sums += values . weights`.
    #[inline(always)]
    fn add_values(&mut self, tiles: &Tiles, group: usize, start: usize, count: usize) {
        let Sizes { tall, parts, .. } = self.block.side.sizes;
        let groups = count.div_ceil(SUMS);
        let steps = &self.value_steps[..groups];
        let apart = Apart {
            a: tall * BLOCK * size_of::<u32>(),
            b: self.weights.len() / parts * size_of::<u32>(),
        };
        let exact = self.exact();
        let group_len = parts * tall * BLOCK;
        let values = &self.block.values[start / SUMS * group_len..][..groups * group_len];
        let sums = &mut self.sums[group * self.values_len..][..self.values_len];
        let mut row = 0;
        while row < tall {
            let at = values[row * BLOCK..].as_ptr();
            let a_row = BLOCK * size_of::<u32>();
            let (b, adds) = (self.weights.as_ptr(), start > 0);
            let to = &mut sums[row * SUMS..];
            // SAFETY: each part of a group of keys has `tall` rows of 16 words, a multiple of a tile's, and 16 rows of 32 weights.
            unsafe {
                if row + TILE < tall {
                    let second = values[(row + TILE) * BLOCK..].as_ptr();
                    let sums = Sums {
                        a: [at, second],
                        a_row,
                        b,
                        b_row: SUMS * size_of::<u32>(),
                        steps: if exact { &[] } else { steps },
                        adds,
                        fetch: Fetch::NOTHING,
                    };
                    let split = if exact { steps } else { &[] };
                    let block = SplitSums {
                        sums,
                        split,
                        apart,
                        parts,
                    };
                    block.compute(tiles, block_of(to));
                } else {
                    let sums = HalfSums {
                        a: at,
                        a_row,
                        b,
                        steps,
                        adds,
                    };
                    if exact {
                        SplitHalfSums { sums, apart }.compute(tiles, block_of(to));
                    } else {
                        sums.compute(tiles, block_of(to));
                    }
                }
            }
            row += SUMS;
        }
    }
}
