//! The blocked computation behind [`super::attention`], transposed: a score has its key's row and its query's lane.
//!
//! So the softmax needs nothing across lanes and weights are the right side of the product with the values as they are. A panel's scores
//! stay in the first cache from the one product to the other.

use rayon::prelude::*;

use super::pack::{head_rows, pack_head};
use super::softmax::{Running, Softmax};
use super::turn::Turn;
use super::{Attention, Causality};
use crate::isa::{Isa, dispatch, dispatch_words};
use crate::matmul::{Checked, PANEL, Panels, Rows, Store, Tile, packed_len, panel_width};
use crate::scratch;
use crate::shared::SharedMut;

/// Queries of a task: whole panels, which meet a block of keys while it is in the second cache.
const QUERIES: usize = 3 * PANEL;
/// Keys of a block at most, a multiple of every micro-kernel's rows: with a panel of queries 32 KiB of scores.
const KEYS: usize = 252;
/// The largest number of a micro-kernel's rows, which the others divide.
const ROWS: usize = 12;

/// Keys of a block: equal shares of whole micro-kernels' rows; a function of the shape, so the order of sums is fixed.
fn block_of(keys: usize) -> usize {
    let blocks = keys.div_ceil(KEYS);
    keys.div_ceil(blocks).next_multiple_of(ROWS)
}

/// Packs keys and values of every head, then computes blocks of queries, both on all threads. Sizes are checked and not 0.
pub(super) fn run(call: &Attention<'_>, out: &mut [f32]) {
    let isa = Isa::current();
    let heads = call.batch * call.heads;
    let key_len = call.keys * call.head_dim;
    let at_once = block_of(call.keys);
    scratch::with(heads * 2 * key_len, |packed| {
        packed
            .par_chunks_mut(2 * key_len)
            .enumerate()
            .for_each(|(head, packed)| pack_head((call, isa), head, at_once, packed));
        let packed = &*packed;
        let blocks = call.queries.div_ceil(QUERIES);
        let shared = SharedMut::new(out);
        (0..heads * blocks).into_par_iter().for_each(|task| {
            let (head, first) = (task / blocks, task % blocks * QUERIES);
            let (keys, values) = packed[head * 2 * key_len..][..2 * key_len].split_at(key_len);
            Block {
                call,
                isa,
                head,
                first,
                rows: QUERIES.min(call.queries - first),
                at_once,
                keys,
                values,
            }
            .compute(&shared);
        });
    });
}

/// One task: a block of queries of one head against all keys.
struct Block<'a> {
    call: &'a Attention<'a>,
    isa: Isa,
    /// Head, counted over all pictures.
    head: usize,
    /// First query.
    first: usize,
    /// Queries.
    rows: usize,
    /// Keys of a block.
    at_once: usize,
    /// Packed keys and values of this head.
    keys: &'a [f32],
    values: &'a [f32],
}

/// Some queries of a block, a lane each.
struct Panel<'a> {
    /// First query, counted from the block's.
    start: usize,
    /// Lanes, of which the last ones may have no query.
    width: usize,
    /// `[head_dim][width]`: queries and weighted values.
    q: &'a mut [f32],
    out: &'a mut [f32],
    /// `[width]`: the largest score yet and the sum of weights.
    max: &'a mut [f32],
    sum: &'a mut [f32],
}

impl Block<'_> {
    /// Writes the block's rows of `out`, at its head's channels.
    fn compute(&self, out: &SharedMut<'_>) {
        let dim = self.call.head_dim;
        let len = packed_len(self.rows, 1);
        scratch::with(2 * len * (dim + 1) + self.at_once * PANEL, |buffer| {
            let (scores, panels) = buffer.split_at_mut(self.at_once * PANEL);
            let mut panels: Vec<_> = panels
                .chunks_mut(2 * PANEL * (dim + 1))
                .enumerate()
                .map(|(i, panel)| self.panel(i * PANEL, panel))
                .collect();
            for start in (0..self.visible(self.rows)).step_by(self.at_once) {
                for panel in &mut panels {
                    self.add_keys(start, panel, scores);
                }
            }
            for panel in &mut panels {
                self.write(panel, out);
            }
        });
    }

    /// Keys that the first so many queries see.
    fn visible(&self, queries: usize) -> usize {
        match self.call.causality {
            Causality::Full => self.call.keys,
            Causality::Causal => self.call.keys.min(self.first + queries),
        }
    }

    /// The panel of the queries from `start` on, in memory for it; queries that are not there are 0.
    fn panel<'m>(&self, start: usize, memory: &'m mut [f32]) -> Panel<'m> {
        let (call, dim) = (self.call, self.call.head_dim);
        let width = panel_width(self.rows, start);
        let (q, rest) = memory.split_at_mut(width * dim);
        let (out, rest) = rest.split_at_mut(width * dim);
        let (max, sum) = rest.split_at_mut(width);
        let count = width.min(self.rows - start);
        if count < width {
            q.fill(0.0);
        }
        let part = self.first + start..self.first + start + count;
        let from = head_rows(call, (call.q, call.q_stride), call.queries, self.head, part);
        // SAFETY: `q` has `dim` rows of `width` lanes.
        let turn =
            unsafe { Turn::new((from, call.q_stride), (count, dim), (q.as_mut_ptr(), width)) };
        dispatch_words(self.isa, turn);
        max.fill(f32::NEG_INFINITY);
        sum.fill(0.0);
        Panel {
            start,
            width,
            q,
            out,
            max,
            sum,
        }
    }

    /// Scores, weights and weighted values of a block of keys.
    fn add_keys(&self, start: usize, panel: &mut Panel<'_>, scores: &mut [f32]) {
        let (dim, width) = (self.call.head_dim, panel.width);
        let visible = self.visible(panel.start + width);
        if start >= visible {
            return;
        }
        // Of the block's keys, those that a query sees.
        let in_block = self.at_once.min(self.call.keys - start);
        let count = in_block.min(visible - start);
        let scores = &mut scores[..count * width];
        let keys = self.keys[start * dim..].chunks_exact(dim);
        self.multiply((keys, count), (panel.q, dim), (scores, Store::Set));
        self.mask(start, panel, scores);
        let state = Softmax {
            scores,
            width,
            max: panel.max,
            sum: panel.sum,
            out: panel.out,
            first: start == 0,
        };
        dispatch(self.isa, Running(state));
        let values = self.values[start * dim..].chunks_exact(in_block);
        let store = if start == 0 { Store::Set } else { Store::Add };
        self.multiply((values, dim), (scores, count), (panel.out, store));
    }

    /// `to[rows][width] (+)= left . right`, of the first `depth` values of so many rows and `right: [depth][width]`.
    fn multiply<'x>(
        &self,
        (left, rows): (impl Iterator<Item = &'x [f32]>, usize),
        (right, depth): (&[f32], usize),
        (to, store): (&mut [f32], Store),
    ) {
        let width = right.len() / depth;
        let table: Vec<_> = left.take(rows).map(|row| row[..depth].as_ptr()).collect();
        assert!(
            table.len() == rows && to.len() == rows * width,
            "sizes of a product disagree, this is a bug"
        );
        let tile = Tile {
            a: Rows {
                table: &table,
                count: rows,
                taps: 1,
                len: depth,
            },
            b: Panels {
                data: right,
                columns: width,
                depth,
            },
            start: 0,
            end: width,
            c: to.as_mut_ptr(),
            c_step: width,
            store,
            next: std::ptr::null(),
        };
        // SAFETY: each pointer starts a row of `depth` values, and `to` has `rows` rows of `width`.
        dispatch(self.isa, unsafe { Checked::new(tile) });
    }

    /// Hides keys after the query.
    fn mask(&self, start: usize, panel: &Panel<'_>, scores: &mut [f32]) {
        if self.call.causality == Causality::Full {
            return;
        }
        for (i, scores) in scores.chunks_exact_mut(panel.width).enumerate() {
            let earlier = (start + i).saturating_sub(self.first + panel.start);
            scores[..earlier.min(panel.width)].fill(f32::NEG_INFINITY);
        }
    }

    /// Writes the panel's rows of `out`.
    fn write(&self, panel: &mut Panel<'_>, out: &SharedMut<'_>) {
        let (call, dim) = (self.call, self.call.head_dim);
        let (picture, head) = (self.head / call.heads, self.head % call.heads);
        panel.sum.iter_mut().for_each(|sum| *sum = 1.0 / *sum);
        for row in panel.out.chunks_exact_mut(panel.width) {
            let pairs = row.iter_mut().zip(&*panel.sum);
            pairs.for_each(|(out, factor)| *out *= factor);
        }
        let count = panel.width.min(self.rows - panel.start);
        let row = picture * call.queries + self.first + panel.start;
        let to = (out.at((row * call.heads + head) * dim), call.heads * dim);
        // SAFETY: the rows of this block's queries, at this head's channels, are in the output and this task's alone.
        let turn = unsafe { Turn::new((panel.out, panel.width), (dim, count), to) };
        dispatch_words(self.isa, turn);
    }
}
