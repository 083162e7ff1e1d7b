//! Attention with bf16 products, blocked as the f32 one; the weighted values stay in work memory until the end.

use std::ops::Range;

use rayon::prelude::*;

use super::fold::Fold;
use super::pack::head_row;
use super::{Attention, Causality};
use crate::half::{BLOCK, Convert, HalfPanels, HalfTile, half_len, padded_words, run_tile};
use crate::isa::{Isa, dispatch, dispatch_words};
use crate::lanes::{Scale, Zip};
use crate::matmul::{PANEL, Store, packed_len, panel_width};
use crate::scratch;
use crate::shared::SharedMut;
use crate::simd::bf16;

/// Queries of a task: a multiple of 12 and of 32.
const QUERIES: usize = 96;
/// Keys of a block: their weights are 48 KiB for 96 queries; with keys and values of 160 channels (160 KiB) they stay in L2.
pub(super) const KEYS: usize = 256;
/// Queries whose scores are computed at once: 32 x 256 scores are 32 KiB and stay in L1 until they are weights.
const GROUP: usize = 32;

/// Rounds and packs keys and values of every head, then computes blocks of queries. Sizes are checked and not 0.
pub(super) fn run(call: &Attention<'_>, out: &mut [f32]) {
    let isa = Isa::current();
    let heads = call.batch * call.heads;
    let key_len = half_len(call.keys, padded_words(call.head_dim));
    let head_len = key_len + half_len(call.head_dim, padded_words(call.keys));
    scratch::with_words(heads * head_len, |packed| {
        packed
            .par_chunks_mut(head_len)
            .enumerate()
            .for_each(|(head, packed)| {
                let (keys, values) = packed.split_at_mut(key_len);
                pack_keys(call, isa, head, keys);
                pack_values(call, head, values);
            });
        let packed = &*packed;
        let blocks = call.queries.div_ceil(QUERIES);
        let shared = SharedMut::new(out);
        (0..heads * blocks).into_par_iter().for_each(|task| {
            let (head, first) = (task / blocks, task % blocks * QUERIES);
            let (keys, values) = packed[head * head_len..(head + 1) * head_len].split_at(key_len);
            let block = Block {
                call,
                isa,
                head,
                first,
                rows: QUERIES.min(call.queries - first),
                keys: HalfPanels {
                    data: keys,
                    columns: call.keys,
                    depth: padded_words(call.head_dim),
                    parts: 1,
                },
                values: HalfPanels {
                    data: values,
                    columns: call.head_dim,
                    depth: padded_words(call.keys),
                    parts: 1,
                },
            };
            block.compute(&shared);
        });
    });
}

/// Keys as the right-hand side of q . k^T: one column a key.
fn pack_keys(call: &Attention<'_>, isa: Isa, head: usize, packed: &mut [u32]) {
    let depth = padded_words(call.head_dim);
    packed[packed_len(call.keys, depth)..].fill(0);
    scratch::with_words(PANEL * depth, |rounded| {
        for start in (0..call.keys).step_by(PANEL) {
            let width = panel_width(call.keys, start);
            let count = width.min(call.keys - start);
            for (i, line) in rounded.chunks_exact_mut(depth).take(count).enumerate() {
                let convert = Convert {
                    from: head_row(call, call.k, call.k_stride, call.keys, head, start + i),
                    factor: 1.0,
                    to: line,
                    step: BLOCK,
                };
                dispatch_words(isa, convert);
            }
            let panel = &mut packed[start * depth..][..width * depth];
            for (word, row) in panel.chunks_exact_mut(width).enumerate() {
                let (keys, none) = row.split_at_mut(count);
                for (i, to) in keys.iter_mut().enumerate() {
                    *to = rounded[i * depth + word];
                }
                none.fill(0);
            }
        }
    });
}

/// Values as the right-hand side of p . v: one column a channel.
fn pack_values(call: &Attention<'_>, head: usize, packed: &mut [u32]) {
    let depth = padded_words(call.keys);
    let columns = call.head_dim;
    // The last pair and what pads it to a block; everything else is overwritten, but for the columns past the last.
    let used = packed_len(columns, depth);
    packed[used..].fill(0);
    let value = |key: usize| {
        (key < call.keys).then(|| head_row(call, call.v, call.v_stride, call.keys, head, key))
    };
    for word in 0..depth {
        let (even, odd) = (value(2 * word), value(2 * word + 1));
        for start in (0..columns).step_by(PANEL) {
            let width = panel_width(columns, start);
            let row = &mut packed[start * depth + word * width..][..width];
            let count = width.min(columns - start);
            row[count..].fill(0);
            let row = &mut row[..count];
            match (even, odd) {
                (Some(even), Some(odd)) => {
                    let pairs = even[start..].iter().zip(&odd[start..]);
                    for (word, (&even, &odd)) in row.iter_mut().zip(pairs) {
                        *word = u32::from(bf16(even)) | u32::from(bf16(odd)) << 16;
                    }
                }
                (Some(even), None) => {
                    for (word, &even) in row.iter_mut().zip(&even[start..]) {
                        *word = u32::from(bf16(even));
                    }
                }
                _ => row.fill(0),
            }
        }
    }
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
    keys: HalfPanels<'a>,
    values: HalfPanels<'a>,
}

impl Block<'_> {
    /// Writes the block's rows of `out`, at its head's channels.
    fn compute(&self, out: &SharedMut<'_>) {
        let (call, rows, dim) = (self.call, self.rows, self.call.head_dim);
        let q_len = padded_words(dim) * QUERIES;
        let weights_len = KEYS / 2 * QUERIES;
        let len = q_len + weights_len + GROUP * KEYS + rows * (dim + 2);
        scratch::with(len, |buffer| {
            let (words, rest) = buffer.split_at_mut(q_len + weights_len);
            let (q, weights) = scratch::as_words(words).split_at_mut(q_len);
            let (scores, rest) = rest.split_at_mut(GROUP * KEYS);
            let (sums, rest) = rest.split_at_mut(rows * dim);
            let (max, sum) = rest.split_at_mut(rows);
            self.round_queries(q);
            max.fill(f32::NEG_INFINITY);
            sum.fill(0.0);
            let visible = match call.causality {
                Causality::Full => call.keys,
                Causality::Causal => call.keys.min(self.first + rows),
            };
            for start in (0..visible).step_by(KEYS) {
                let count = KEYS.min(call.keys - start);
                for first in (0..rows).step_by(GROUP) {
                    let group = first..rows.min(first + GROUP);
                    self.scores(q, &group, start..start + count, scores);
                    self.mask(&group, start, count, scores);
                    let fold = Fold {
                        scores,
                        count,
                        max: &mut max[group.clone()],
                        sum: &mut sum[group],
                        weights: &mut weights[first * BLOCK..],
                        rows_padded: QUERIES,
                        out: &mut sums[first * dim..],
                        out_step: dim,
                    };
                    dispatch_words(self.isa, fold);
                }
                self.add_values(start, count, weights, sums);
            }
            let (picture, head) = (self.head / call.heads, self.head % call.heads);
            let step = call.heads * dim;
            let start = (picture * call.queries + self.first) * step + head * dim;
            for (row, (sum, values)) in sum.iter().zip(sums.chunks_exact(dim)).enumerate() {
                // SAFETY: the output rows of this block and head are this task's alone.
                let out = unsafe { out.part(start + row * step, dim) };
                let zip = Zip {
                    f: Scale(1.0 / sum),
                    a: Some(values),
                    b: None,
                    out,
                };
                dispatch(self.isa, zip);
            }
        });
    }

    /// Queries as a left side, times the factor that makes scores logarithms to base 2.
    fn round_queries(&self, q: &mut [u32]) {
        let call = self.call;
        for row in 0..self.rows {
            let query = self.first + row;
            let from = head_row(call, call.q, call.q_stride, call.queries, self.head, query);
            let convert = Convert {
                from,
                factor: call.scale * std::f32::consts::LOG2_E,
                to: &mut q[row * BLOCK..],
                step: QUERIES * BLOCK,
            };
            dispatch_words(self.isa, convert);
        }
    }

    /// `scores[rows][KEYS] = q . k^T` for some rows and keys.
    fn scores(&self, q: &[u32], rows: &Range<usize>, keys: Range<usize>, scores: &mut [f32]) {
        let tile = HalfTile {
            a: &q[rows.start * BLOCK..],
            rows: rows.len(),
            rows_padded: QUERIES,
            words: self.call.head_dim.div_ceil(2),
            b: self.keys,
            first: 0,
            start: keys.start,
            end: keys.end,
            c: scores.as_mut_ptr(),
            c_step: KEYS,
            store: Store::Set,
        };
        assert!(
            scores.len() >= rows.len() * KEYS,
            "no room for scores, this is a bug"
        );
        // SAFETY: scores has as many rows of KEYS values.
        unsafe { run_tile(self.isa, tile) };
    }

    /// Hides keys after the query.
    fn mask(&self, rows: &Range<usize>, start: usize, count: usize, scores: &mut [f32]) {
        if self.call.causality == Causality::Full {
            return;
        }
        for (row, scores) in rows.clone().zip(scores.chunks_exact_mut(KEYS)) {
            let visible = (self.first + row + 1).saturating_sub(start);
            if visible < count {
                scores[visible..count].fill(f32::NEG_INFINITY);
            }
        }
    }

    /// `sums[rows][dim] += p . v` for the block of keys from `start` on.
    fn add_values(&self, start: usize, count: usize, weights: &[u32], sums: &mut [f32]) {
        let tile = HalfTile {
            a: weights,
            rows: self.rows,
            rows_padded: QUERIES,
            words: count.div_ceil(2),
            b: self.values,
            first: start / 2,
            start: 0,
            end: self.call.head_dim,
            c: sums.as_mut_ptr(),
            c_step: self.call.head_dim,
            store: if start == 0 { Store::Set } else { Store::Add },
        };
        // SAFETY: sums has `rows` rows of head_dim values.
        unsafe { run_tile(self.isa, tile) };
    }
}
