//! The running softmax with weights of 16 bits, whose logarithms are fixed-point numbers.
//!
//! While the vector units make weights of a block of scores, the tiles add the values of the block before and form the next one's
//! scores. Products stand one by one between the weights' instructions: behind eight in a row the processor sees no weights. What
//! is in use at a time, scores and weights of one block, a group's queries and sums and a block's keys and values, fits L1.

mod course;
mod pen;
mod products;
mod single;
mod tame;

use self::course::{Course, Unit};
use self::pen::Pen;
pub(super) use self::tame::{Longest, Squares, fits, is_tame};
use super::super::Causality;
use super::Block;
use crate::amx::{SUMS, TILE, Tiles};
use crate::half::BLOCK;
use crate::isa::WordOp;
use crate::simd::{POWERS_LOW, POWERS_RULER, Words};

/// Keys of a block.
const QUICK_KEYS: usize = 2 * SUMS;
/// Scores of a block.
pub(super) const SCORES: usize = QUICK_KEYS * SUMS;
/// Words of its weights.
pub(super) const WEIGHTS: usize = SCORES / 2;
/// Blocks that are weighed or about to be added.
pub(super) const TURNS: usize = 2;

/// Values of work memory, without the references.
pub(super) const LEN: usize = SCORES + WEIGHTS + TURNS * SUMS;

/// Powers of two that are left above a query's largest score when its reference is set, so that it is set seldom.
const ROOM: f32 = 8.0;
/// Adding and subtracting this rounds a small f32 to the nearest integer.
const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23

/// The running softmax of a block.
pub(super) struct Quick<'a> {
    pub(super) block: &'a Block<'a>,
    /// `[groups][deep / 16][2][16][16]`.
    pub(super) q: &'a [u32],
    /// `[keys of a block][32]`: the next block's replace those that are weights.
    pub(super) scores: &'a mut [f32],
    /// Pairs of keys as a right side in the order of tiles, `[keys of a block / 32][2][16][16]`: overwritten as soon as it is held.
    pub(super) weights: &'a mut [u32],
    /// `[turns][32]`: what a block does to the sums before it.
    pub(super) down: &'a mut [f32],
    /// `[groups][32]`: each query's reference, an integer above the logarithm of its largest score yet.
    pub(super) top: &'a mut [f32],
    /// `[groups][tall][32]`: the weighted values yet.
    pub(super) sums: &'a mut [f32],
    pub(super) values_len: usize,
    /// What makes scores logarithms to base 2.
    pub(super) factor: f32,
}

impl WordOp for Quick<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Words>(mut self, s: S) {
        // SAFETY: this runs where `Isa::Amx` is, which is handed out only where AMX is ready; nothing below configures tiles.
        let tiles = unsafe { Tiles::configure() };
        let block = self.block;
        let call = block.side.call;
        let causal = call.causality == Causality::Causal;
        let visible = if causal {
            call.keys.min(block.first + block.rows)
        } else {
            call.keys
        };
        let course = Course::of(block, visible);
        let mut at = 0;
        let mut next = course.unit(0);
        let (mut now, mut before): (Option<Unit>, Option<Unit>) = (None, None);
        while next.is_some() || now.is_some() || before.is_some() {
            if let Some(now) = now {
                self.prepare(now, causal);
                if now.start == 0 {
                    self.raise(s, now);
                }
            }
            if let Some(before) = before.filter(|unit| unit.sinks) {
                self.sink(s, before);
            }
            let mut pen = self.pen(s, now, self.slots(next, before));
            if let Some(before) = before {
                self.add_values(s, &tiles, before, &mut pen);
            }
            if let Some(next) = next {
                self.score(s, &tiles, next, &mut pen);
            }
            let over = pen.finish(s);
            if let Some(now) = &mut now {
                if over {
                    self.weigh_again(s, &tiles, (now, causal), next);
                }
                if causal {
                    self.hide(*now);
                }
            }
            at += 1;
            (before, now) = (now, next);
            next = course.unit(at);
        }
    }
}

impl Quick<'_> {
    /// Weighs a unit whose references were too low, and forms the next one's scores again behind it.
    #[inline(always)]
    fn weigh_again<S: Words>(
        &mut self,
        s: S,
        tiles: &Tiles,
        (unit, causal): (&mut Unit, bool),
        next: Option<Unit>,
    ) {
        let mut idle = self.pen(s, None, 0);
        self.score(s, tiles, *unit, &mut idle);
        self.prepare(*unit, causal);
        self.raise(s, *unit);
        unit.sinks = unit.start > 0;
        self.pen(s, Some(*unit), 0).finish(s);
        if let Some(next) = next {
            self.score(s, tiles, next, &mut idle);
        }
    }

    /// What writes the unit's weights while so many products are formed.
    #[inline(always)]
    fn pen<S: Words>(&mut self, s: S, unit: Option<Unit>, slots: usize) -> Pen<S::V> {
        assert!(
            2 * S::LANES == SUMS,
            "vectors are no tile's rows, this is a bug"
        );
        let (group, chunks) = unit.map_or((0, 0), |unit| (unit.group, unit.chunks));
        let top = &self.top[group * SUMS..][..SUMS];
        let scores = &self.scores[..chunks * SUMS * SUMS];
        let weights = &mut self.weights[..chunks * BLOCK * SUMS];
        let ruler = s.splat(POWERS_RULER);
        // SAFETY: two vectors of references.
        let shift = unsafe {
            [
                s.sub(ruler, s.load(top.as_ptr())),
                s.sub(ruler, s.load(top.as_ptr().add(S::LANES))),
            ]
        };
        Pen {
            from: scores.as_ptr(),
            to: weights.as_mut_ptr(),
            left: chunks * BLOCK,
            pairs: chunks * BLOCK,
            slots: slots.max(1),
            due: 0,
            factor: s.splat(self.factor),
            low: s.splat(POWERS_LOW),
            shift,
            most: [s.splat(0.0); 2],
        }
    }

    /// Hides what is no key of the unit's queries.
    #[inline(always)]
    fn prepare(&mut self, unit: Unit, causal: bool) {
        let scores = &mut self.scores[..unit.chunks * SUMS * SUMS];
        scores[unit.count * SUMS..].fill(f32::NEG_INFINITY);
        if causal {
            let first = self.block.first + unit.group * SUMS;
            let scores = scores.chunks_exact_mut(SUMS);
            for (key, scores) in scores.take(unit.count).enumerate() {
                let hidden = (unit.start + key).saturating_sub(first).min(SUMS);
                scores[..hidden].fill(f32::NEG_INFINITY);
            }
        }
    }

    /// Raises each query's reference above its scores, and notes what that makes of sums before.
    #[inline(always)]
    fn raise<S: Words>(&mut self, s: S, unit: Unit) {
        let scores = &self.scores[..unit.chunks * SUMS * SUMS];
        let top = &mut self.top[unit.group * SUMS..][..SUMS];
        let down = &mut self.down[unit.turn * SUMS..][..SUMS];
        let round = s.splat(ROUND);
        let mut lane = 0;
        while lane < SUMS {
            // SAFETY: rows of 32 lanes, of which a vector starts at `lane`.
            unsafe {
                let from = scores.as_ptr().add(lane);
                let mut most = [s.splat(f32::NEG_INFINITY); 4];
                let mut key = 0;
                while key < unit.chunks * SUMS {
                    let from = from.add(key * SUMS);
                    most[0] = s.max(most[0], s.load(from));
                    most[1] = s.max(most[1], s.load(from.add(SUMS)));
                    most[2] = s.max(most[2], s.load(from.add(2 * SUMS)));
                    most[3] = s.max(most[3], s.load(from.add(3 * SUMS)));
                    key += 4;
                }
                let most = s.max(s.max(most[0], most[1]), s.max(most[2], most[3]));
                let most = s.mul(most, s.splat(self.factor));
                let raised = s.add(s.sub(s.add(most, round), round), s.splat(ROOM));
                let old = s.load(top.as_ptr().add(lane));
                let new = s.max(old, raised);
                s.store(top.as_mut_ptr().add(lane), new);
                let power = s.max(s.splat(-127.0), s.sub(old, new));
                let power = s.scale_by_power(s.add(power, round), s.splat(1.0));
                s.store(down.as_mut_ptr().add(lane), power);
            }
            lane += S::LANES;
        }
    }

    /// Brings what is summed before a unit down to its reference.
    #[inline(always)]
    fn sink<S: Words>(&mut self, s: S, unit: Unit) {
        let down = &self.down[unit.turn * SUMS..][..SUMS];
        let sums = &mut self.sums[unit.group * self.values_len..][..self.values_len];
        for row in sums.chunks_exact_mut(SUMS) {
            let mut lane = 0;
            while lane < SUMS {
                // SAFETY: rows of 32 lanes, of which a vector starts at `lane`.
                unsafe {
                    let to = row.as_mut_ptr().add(lane);
                    s.store(to, s.mul(s.load(to), s.load(down.as_ptr().add(lane))));
                }
                lane += S::LANES;
            }
        }
    }

    /// Takes the weights of keys after the query.
    #[inline(always)]
    fn hide(&mut self, unit: Unit) {
        let first = self.block.first + unit.group * SUMS;
        let weights = &mut *self.weights;
        for key in 0..unit.count {
            let hidden = (unit.start + key).saturating_sub(first).min(SUMS);
            let at = key / SUMS * BLOCK * SUMS + key % SUMS / 2 * BLOCK;
            let kept = if key % 2 == 0 { 0xffff_0000 } else { 0xffff };
            for lane in 0..hidden {
                weights[at + lane / TILE * TILE * BLOCK + lane % TILE] &= kept;
            }
        }
    }
}
