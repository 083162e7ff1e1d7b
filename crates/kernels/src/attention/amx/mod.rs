//! Attention on AMX: scores are formed with a key a row and a query a lane, so that the softmax needs nothing across lanes.
//!
//! A block of keys meets 32 queries at a time: scores = K Q^T, weights = 2^(scores - largest), values += V^T weights. Values have
//! one more channel, of ones, whose weighted sum is the sum of the weights as they were rounded: what rounding takes from them
//! all divides out, so they are cut off to bf16.

mod fold;
mod halves;
mod pack;
mod parts;
mod quick;
mod write;

use rayon::prelude::*;

use self::fold::Fold;
use self::pack::{PackKeys, PackQueries, PackValues};
use self::parts::{Layout, steps_of_values};
use self::quick::{Longest, Quick, Squares, fits, is_tame};
use self::write::WriteRows;
use super::Attention;
use crate::amx::{PARTS, SUMS, Step, TILE};
use crate::half::{BLOCK, padded_words};
use crate::isa::{Isa, dispatch_amx, dispatch_words};
use crate::scratch;
use crate::shared::SharedMut;

/// Queries of a task: keys and values pass by once for all of them.
const QUERIES: usize = 16 * SUMS;
/// Keys of a block: 32 queries' scores are 16 KiB.
const KEYS: usize = 4 * SUMS;
/// The same where scores and weights are as precise as f32.
const EXACT_KEYS: usize = 2 * SUMS;

/// Words of all heads' keys and values that leave room in L2 for a block's rows.
const FEW_WORDS: usize = 128 * 1024;

/// What the tensors of a call hold, and what is multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// f32, rounded to bf16.
    Rounded,
    /// bf16, two in each place.
    Halves,
    /// f32, each in three bf16.
    Split,
}

/// Sizes of a head.
#[derive(Clone, Copy)]
struct Sizes {
    /// bf16 for each value and weight.
    parts: usize,
    /// Keys of a block.
    block: usize,
    /// Words of a key or query.
    deep: usize,
    /// Channels of the values and the ones, in whole tiles.
    tall: usize,
    /// Groups of 32 keys.
    groups: usize,
}

impl Sizes {
    fn of(call: &Attention<'_>, form: Form) -> Self {
        let dim = call.head_dim;
        let (parts, block, deep) = match form {
            Form::Split => (PARTS, EXACT_KEYS, Layout::of(dim).words()),
            _ => (1, KEYS, padded_words(dim)),
        };
        Self {
            parts,
            block,
            deep,
            tall: (call.head_dim + 1).next_multiple_of(TILE),
            groups: call.keys.div_ceil(SUMS),
        }
    }

    /// Words of a head's keys, `[keys][deep]`.
    fn keys(self) -> usize {
        self.groups * SUMS * self.deep
    }

    /// Head and block of a task: all blocks of a head one after the other, or, where the keys of all heads stay in L2, all heads of
    /// a block, whose rows lie side by side.
    fn order(self, task: usize, of_picture: usize, blocks: usize) -> (usize, usize) {
        if of_picture * (self.keys() + self.values()) > FEW_WORDS {
            return (task / blocks, task % blocks);
        }
        let (picture, rest) = (task / (of_picture * blocks), task % (of_picture * blocks));
        (picture * of_picture + rest % of_picture, rest / of_picture)
    }

    /// Words of a head's values, `[groups][parts][tall][16]`.
    fn values(self) -> usize {
        self.groups * self.parts * self.tall * BLOCK
    }
}

/// A head of a call.
#[derive(Clone, Copy)]
struct Side<'a> {
    call: &'a Attention<'a>,
    form: Form,
    sizes: Sizes,
    /// Head, counted over all pictures.
    head: usize,
}

/// Rounds and packs keys and values of every head, then computes blocks of queries. Sizes are checked and not 0.
pub(super) fn run(call: &Attention<'_>, form: Form, out: &mut [f32]) {
    let sizes = Sizes::of(call, form);
    let heads = call.batch * call.heads;
    let head_len = sizes.keys() + sizes.values();
    let side = |head| Side {
        call,
        form,
        sizes,
        head,
    };
    let mut squares = vec![f32::NAN; heads];
    scratch::with_words(heads * head_len, |packed| {
        packed
            .par_chunks_mut(head_len)
            .zip(&mut squares)
            .enumerate()
            .for_each(|(head, (packed, squares))| {
                let (keys, values) = packed.split_at_mut(sizes.keys());
                let side = side(head);
                dispatch_words(Isa::Amx, PackKeys(side, keys));
                if form != Form::Split && fits(sizes.deep) {
                    *squares = dispatch_words(Isa::Amx, Squares(keys));
                }
                dispatch_words(Isa::Amx, PackValues(side, values));
            });
        let packed = &*packed;
        let blocks = call.queries.div_ceil(QUERIES);
        let shared = SharedMut::new(out);
        (0..heads * blocks).into_par_iter().for_each(|task| {
            let (head, block) = sizes.order(task, call.heads, blocks);
            let first = block * QUERIES;
            let (keys, values) =
                packed[head * head_len..(head + 1) * head_len].split_at(sizes.keys());
            let block = Block {
                side: side(head),
                first,
                rows: QUERIES.min(call.queries - first),
                keys,
                values,
                squares: squares[head],
            };
            block.compute(&shared);
        });
    });
}

/// The blocks of keys and queries of `deep` words.
fn whole_rows(deep: usize) -> Vec<Step> {
    let step = |i| Step {
        a: i * BLOCK * size_of::<u32>(),
        b: i * BLOCK,
    };
    (0..deep / BLOCK).map(step).collect()
}

/// One task: a block of queries of one head against all keys.
struct Block<'a> {
    side: Side<'a>,
    /// First query.
    first: usize,
    /// Queries.
    rows: usize,
    keys: &'a [u32],
    values: &'a [u32],
    /// Sum of the squares of all that keys hold, where weights are of 16 bits.
    squares: f32,
}

impl Block<'_> {
    /// Writes the block's rows of `out`, at its head's channels.
    fn compute(&self, out: &SharedMut<'_>) {
        let groups = self.rows.div_ceil(SUMS);
        let sizes = self.side.sizes;
        let q_len = sizes.deep * SUMS;
        let values_len = sizes.tall.next_multiple_of(SUMS) * SUMS;
        let work_len = sizes.block * SUMS + sizes.parts * sizes.block / 2 * SUMS;
        let work_len = work_len.max(quick::LEN) + groups * SUMS;
        scratch::with(groups * (q_len + values_len) + work_len, |buffer| {
            let (q, rest) = buffer.split_at_mut(groups * q_len);
            let (sums, work) = rest.split_at_mut(groups * values_len);
            let q = scratch::as_words(q);
            for (group, q) in q.chunks_exact_mut(q_len).enumerate() {
                let queries = PackQueries {
                    side: self.side,
                    first: self.first + group * SUMS,
                    to: q,
                };
                dispatch_words(Isa::Amx, queries);
            }
            let factor = self.side.call.scale * std::f32::consts::LOG2_E;
            let longest = Longest {
                q,
                deep: sizes.deep,
            };
            if self.side.form != Form::Split
                && fits(sizes.deep)
                && is_tame(self.squares, dispatch_words(Isa::Amx, longest), factor)
            {
                self.fold_quickly(q, (sums, values_len), work, factor);
            } else {
                self.fold(q, (sums, values_len), work, factor);
            }
            for (group, sums) in sums.chunks_exact(values_len).enumerate() {
                let rows = WriteRows {
                    side: self.side,
                    first: self.first + group * SUMS,
                    sums,
                    out,
                };
                // SAFETY: the output rows of this block and head are this task's alone.
                dispatch_words(Isa::Amx, unsafe { rows.vouched() });
            }
        });
    }

    /// The running softmax in f32, for scores that it takes and for whatever the others hold.
    fn fold(
        &self,
        q: &[u32],
        (sums, values_len): (&mut [f32], usize),
        work: &mut [f32],
        factor: f32,
    ) {
        let Side {
            call, form, sizes, ..
        } = self.side;
        let (scores, rest) = work.split_at_mut(sizes.block * SUMS);
        let (weights, largest) = rest.split_at_mut(sizes.parts * sizes.block / 2 * SUMS);
        largest.fill(f32::NEG_INFINITY);
        let (steps, factor) = match form {
            Form::Split => (Layout::of(call.head_dim).steps(), 1.0),
            _ => ([Vec::new(), whole_rows(sizes.deep)], factor),
        };
        let fold = Fold {
            block: self,
            q,
            steps: &steps,
            value_steps: &steps_of_values(sizes.parts, sizes.block / SUMS, sizes.tall),
            scores,
            weights: scratch::as_words(weights),
            largest,
            sums,
            values_len,
            factor,
        };
        dispatch_words(Isa::Amx, fold);
    }

    /// The same with weights of 16 bits.
    fn fold_quickly(
        &self,
        q: &[u32],
        (sums, values_len): (&mut [f32], usize),
        work: &mut [f32],
        factor: f32,
    ) {
        let (scores, rest) = work.split_at_mut(quick::SCORES);
        let (weights, rest) = rest.split_at_mut(quick::WEIGHTS);
        let (down, top) = rest.split_at_mut(quick::TURNS * SUMS);
        top.fill(f32::NEG_INFINITY);
        dispatch_amx(Quick {
            block: self,
            q,
            scores,
            weights: scratch::as_words(weights),
            down,
            top,
            sums,
            values_len,
            factor,
        });
    }
}

/// The block of sums at the start of `sums`.
fn block_of<const LEN: usize>(sums: &mut [f32]) -> &mut [f32; LEN] {
    sums.first_chunk_mut()
        .expect("no room for a block of sums, this is a bug")
}
