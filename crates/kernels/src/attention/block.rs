//! The blocked computation behind [`super::attention`].

use rayon::prelude::*;

use super::pack::{head_row, pack_keys, pack_values};
use super::softmax::{Running, Softmax};
use super::{Attention, Causality};
use crate::isa::{Isa, dispatch};
use crate::lanes::{Scale, Zip};
use crate::matmul::{Checked, Panels, Rows, Store, Tile, packed_len};
use crate::scratch;
use crate::shared::SharedMut;

/// Queries of a task: a multiple of every micro-kernel's rows.
const QUERIES: usize = 96;
/// Keys of a block: a multiple of the panel width; 96 x 256 scores are 96 KiB and, with 256 keys and values of 160 channels
/// (320 KiB), stay in L2.
pub(super) const KEYS: usize = 256;

/// Packs keys and values of every head, then computes blocks of queries, both on all threads. Sizes are checked and not 0.
pub(super) fn run(call: &Attention<'_>, out: &mut [f32]) {
    let isa = Isa::current();
    let heads = call.batch * call.heads;
    let key_len = packed_len(call.keys, call.head_dim);
    let head_len = key_len + packed_len(call.head_dim, call.keys);
    scratch::with(heads * head_len, |packed| {
        packed
            .par_chunks_mut(head_len)
            .enumerate()
            .for_each(|(head, packed)| {
                let (keys, values) = packed.split_at_mut(key_len);
                pack_keys(call, head, keys);
                pack_values(call, head, values);
            });
        let packed = &*packed;
        let blocks = call.queries.div_ceil(QUERIES);
        let shared = SharedMut::new(out);
        (0..heads * blocks).into_par_iter().for_each(|task| {
            let (head, first) = (task / blocks, task % blocks * QUERIES);
            let (keys, values) = packed[head * head_len..(head + 1) * head_len].split_at(key_len);
            Block {
                call,
                isa,
                head,
                first,
                rows: QUERIES.min(call.queries - first),
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
    /// Packed keys and values of this head.
    keys: &'a [f32],
    values: &'a [f32],
}

impl Block<'_> {
    /// Writes the block's rows of `out`, at its head's channels.
    fn compute(&self, out: &SharedMut<'_>) {
        let (rows, dim) = (self.rows, self.call.head_dim);
        scratch::with(rows * (dim + KEYS + 2), |buffer| {
            let (q, rest) = buffer.split_at_mut(rows * dim);
            let (scores, rest) = rest.split_at_mut(rows * KEYS);
            let (max, sum) = rest.split_at_mut(rows);
            for (row, q) in q.chunks_exact_mut(dim).enumerate() {
                let from = head_row(
                    self.call,
                    self.call.q,
                    self.call.q_stride,
                    self.call.queries,
                    self.head,
                    self.first + row,
                );
                q.iter_mut()
                    .zip(from)
                    .for_each(|(q, x)| *q = x * self.call.scale);
            }
            max.fill(f32::NEG_INFINITY);
            sum.fill(0.0);
            let q_rows: Vec<*const f32> = q.chunks_exact(dim).map(<[f32]>::as_ptr).collect();
            let visible = match self.call.causality {
                Causality::Full => self.call.keys,
                Causality::Causal => self.call.keys.min(self.first + rows),
            };
            for start in (0..visible).step_by(KEYS) {
                let count = KEYS.min(self.call.keys - start);
                self.scores(&q_rows, start..start + count, scores);
                self.mask(start, count, scores);
                let state = Softmax {
                    scores,
                    count,
                    max,
                    sum,
                    out: self.out_at(out),
                    out_step: self.out_step(),
                    dim,
                };
                // SAFETY: the output rows of this block and head are this task's alone.
                dispatch(self.isa, unsafe { Running::new(state) });
                self.add_values(start, count, scores, out);
            }
            for (row, sum) in sum.iter().enumerate() {
                // SAFETY: the output rows of this block and head are this task's alone.
                let out = unsafe { out.part(self.out_start() + row * self.out_step(), dim) };
                dispatch(
                    self.isa,
                    Zip {
                        f: Scale(1.0 / sum),
                        a: None,
                        b: None,
                        out,
                    },
                );
            }
        });
    }

    fn out_step(&self) -> usize {
        self.call.heads * self.call.head_dim
    }

    /// First output of this block: its first query's row, at its head's channels.
    fn out_start(&self) -> usize {
        let (picture, head) = (self.head / self.call.heads, self.head % self.call.heads);
        (picture * self.call.queries + self.first) * self.out_step() + head * self.call.head_dim
    }

    fn out_at(&self, out: &SharedMut<'_>) -> *mut f32 {
        out.at(self.out_start())
    }

    /// `scores[rows][KEYS] = q . k^T` for some keys.
    fn scores(&self, q_rows: &[*const f32], keys: std::ops::Range<usize>, scores: &mut [f32]) {
        let tile = Tile {
            a: Rows {
                table: q_rows,
                count: self.rows,
                taps: 1,
                len: self.call.head_dim,
            },
            b: Panels {
                data: self.keys,
                columns: self.call.keys,
                depth: self.call.head_dim,
            },
            start: keys.start,
            end: keys.end,
            c: scores.as_mut_ptr(),
            c_step: KEYS,
            store: Store::Set,
            next: std::ptr::null(),
        };
        // SAFETY: each query pointer starts a row of head_dim values; scores holds rows of KEYS values.
        dispatch(self.isa, unsafe { Checked::new(tile) });
    }

    /// Hides keys after the query.
    fn mask(&self, start: usize, count: usize, scores: &mut [f32]) {
        if self.call.causality == Causality::Full {
            return;
        }
        for (row, scores) in scores.chunks_exact_mut(KEYS).enumerate() {
            let visible = (self.first + row + 1).saturating_sub(start);
            if visible < count {
                scores[visible..count].fill(f32::NEG_INFINITY);
            }
        }
    }

    /// `out += p . v` for the block of keys from `start` on.
    fn add_values(&self, start: usize, count: usize, weights: &[f32], out: &SharedMut<'_>) {
        let dim = self.call.head_dim;
        let table: [*const f32; QUERIES] =
            std::array::from_fn(|row| weights.as_ptr().wrapping_add(row * KEYS));
        let tile = Tile {
            a: Rows {
                table: &table[..self.rows],
                count: self.rows,
                taps: 1,
                len: count,
            },
            b: Panels {
                data: &self.values[packed_len(dim, start)..],
                columns: dim,
                depth: count,
            },
            start: 0,
            end: dim,
            c: self.out_at(out),
            c_step: self.out_step(),
            store: if start == 0 { Store::Set } else { Store::Add },
            next: std::ptr::null(),
        };
        // SAFETY: the table's first `rows` entries start rows of KEYS weights; the output rows of this block and head are
        // this task's alone.
        dispatch(self.isa, unsafe { Checked::new(tile) });
    }
}
