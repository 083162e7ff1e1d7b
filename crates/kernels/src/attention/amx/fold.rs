//! The running softmax of a block of queries.

use super::super::Causality;
use super::{Block, KEYS};
use crate::amx::{Fetch, HalfSums, SUMS, Step, Sums, TILE, Tiles};
use crate::half::BLOCK;
use crate::isa::WordOp;
use crate::simd::Words;

/// The running softmax of a block.
pub(super) struct Fold<'a> {
    pub(super) block: &'a Block<'a>,
    /// `[groups][deep / 16][2][16][16]`.
    pub(super) q: &'a [u32],
    /// Blocks of a query's or key's words.
    pub(super) steps: &'a [Step],
    /// `[KEYS][32]`.
    pub(super) scores: &'a mut [f32],
    /// Pairs of keys as a right side in the order of tiles, `[KEYS / 32][2][16][16]`.
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
        let mut start = 0;
        while start < visible {
            let count = KEYS.min(call.keys - start);
            let tiles_of_keys = count.next_multiple_of(SUMS) / TILE;
            let mut group = 0;
            while group < groups {
                let mut tile = 0;
                while tile < tiles_of_keys {
                    self.score(&tiles, group, start, tile);
                    tile += 1;
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
            start += KEYS;
        }
    }
}

impl Fold<'_> {
    /// `scores = k . q` for sixteen keys and the queries of a group.
    #[inline(always)]
    fn score(&mut self, tiles: &Tiles, group: usize, start: usize, tile: usize) {
        let deep = self.block.side.sizes.deep;
        let q = &self.q[group * deep * SUMS..][..deep * SUMS];
        let k = &self.block.keys[(start + tile * TILE) * deep..][..TILE * deep];
        let sums = HalfSums {
            a: k.as_ptr(),
            a_row: deep * size_of::<u32>(),
            b: q.as_ptr(),
            steps: self.steps,
            adds: false,
        };
        let scores = &mut self.scores[tile * TILE * SUMS..];
        // SAFETY: `k` has 16 rows of `deep` words and `q` `deep` rows of 32; the steps are blocks of them.
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
                    let factor = s.exp2(s.mul(s.sub(old, new), s.splat(self.factor)));
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
        let weights = &mut self.weights[tile / 2 * BLOCK * SUMS..][..BLOCK * SUMS];
        let place = tile % 2 * TILE / 2 * BLOCK;
        let mut lane = 0;
        while lane < SUMS {
            // SAFETY: rows of 32 lanes, of which a vector starts at `lane`; 2 * pair + 1 < TILE.
            unsafe {
                let factor = s.splat(self.factor);
                let shift = s.mul(s.load(largest.as_ptr().add(lane)), s.splat(-self.factor));
                let mut pair = 0;
                while pair < TILE / 2 {
                    let from = scores.as_ptr().add(2 * pair * SUMS + lane);
                    let even = s.exp2(s.mul_add(s.load(from), factor, shift));
                    let odd = s.exp2(s.mul_add(s.load(from.add(SUMS)), factor, shift));
                    let to = weights
                        .as_mut_ptr()
                        .add(place + lane * BLOCK + pair * BLOCK);
                    s.store_cut_pairs(to, even, odd);
                    pair += 1;
                }
            }
            lane += S::LANES;
        }
    }

    /// `sums += values . weights`.
    #[inline(always)]
    fn add_values(&mut self, tiles: &Tiles, group: usize, start: usize, count: usize) {
        let tall = self.block.side.sizes.tall;
        let groups = count.div_ceil(SUMS);
        let steps: [Step; KEYS / SUMS] = std::array::from_fn(|i| Step {
            a: i * tall * BLOCK * size_of::<u32>(),
            b: i * BLOCK,
        });
        let values = &self.block.values[start / SUMS * tall * BLOCK..][..groups * tall * BLOCK];
        let sums = &mut self.sums[group * self.values_len..][..self.values_len];
        let mut row = 0;
        while row < tall {
            let at = values[row * BLOCK..].as_ptr();
            let a_row = BLOCK * size_of::<u32>();
            let (b, steps, adds) = (self.weights.as_ptr(), &steps[..groups], start > 0);
            let to = &mut sums[row * SUMS..];
            // SAFETY: each group of keys has `tall` rows of 16 words, a multiple of a tile's, and 16 rows of 32 weights.
            unsafe {
                if row + TILE < tall {
                    let second = values[(row + TILE) * BLOCK..].as_ptr();
                    let block = Sums {
                        a: [at, second],
                        a_row,
                        b,
                        b_row: SUMS * size_of::<u32>(),
                        steps,
                        adds,
                        fetch: Fetch::NOTHING,
                    };
                    block.compute(tiles, block_of(to));
                } else {
                    let a = at;
                    let block = HalfSums {
                        a,
                        a_row,
                        b,
                        steps,
                        adds,
                    };
                    block.compute(tiles, block_of(to));
                }
            }
            row += SUMS;
        }
    }
}

/// The block of sums at the start of `sums`.
fn block_of<const LEN: usize>(sums: &mut [f32]) -> &mut [f32; LEN] {
    sums.first_chunk_mut()
        .expect("no room for a block of sums, this is a bug")
}
