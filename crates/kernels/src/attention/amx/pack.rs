//! Queries, keys and values as tiles.

use super::super::pack::head_row;
use super::halves::{Halves, copy_row};
use super::parts::{Layout, Role, split_all};
use super::{Form, Side};
use crate::amx::{PARTS, SUMS, TILE};
use crate::half::{BLOCK, Convert};
use crate::isa::WordOp;
use crate::simd::Words;

/// A bf16 one, and two.
const ONE: u32 = 0x3f80;
pub(super) const ONES: u32 = ONE | ONE << 16;

/// Keys, one a row of `deep` words; zeros to the end of the last group.
pub(super) struct PackKeys<'a>(pub(super) Side<'a>, pub(super) &'a mut [u32]);

impl WordOp for PackKeys<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Words>(self, s: S) {
        let Self(side, packed) = self;
        let Side { call, sizes, .. } = side;
        for (key, to) in packed.chunks_exact_mut(sizes.deep).enumerate() {
            if key < call.keys {
                side.words_of(s, Role::Key, key, to);
            } else {
                to.fill(0);
            }
        }
    }
}

impl Side<'_> {
    /// A key or query of the head as words with zeros behind them.
    #[inline(always)]
    fn words_of<S: Words>(self, s: S, role: Role, row: usize, to: &mut [u32]) {
        let call = self.call;
        let (data, stride, rows) = match role {
            Role::Key => (call.k, call.k_stride, call.keys),
            Role::Query => (call.q, call.q_stride, call.queries),
        };
        match self.form {
            Form::Halves => {
                let from = Halves::of(self, (data, stride), rows, row).row(0);
                copy_row(s, from, to);
            }
            Form::Rounded => {
                let convert = Convert {
                    from: head_row(call, data, stride, rows, self.head, row),
                    factor: 1.0,
                    to,
                    step: BLOCK,
                };
                convert.run(s);
            }
            Form::Split => {
                let from = head_row(call, data, stride, rows, self.head, row);
                // Scores become logarithms to base 2.
                let factor = match role {
                    Role::Key => 1.0,
                    Role::Query => (f64::from(call.scale) * std::f64::consts::LOG2_E) as f32,
                };
                Layout::of(call.head_dim).write(s, role, (from, factor), to);
            }
        }
    }
}

/// Values, for each group of 32 keys `[parts][tall][16]`: pairs of keys side by side in a channel's row, and in the one behind the
/// last channel ones. Channels of halves are in another order, the even ones first.
pub(super) struct PackValues<'a>(pub(super) Side<'a>, pub(super) &'a mut [u32]);

impl WordOp for PackValues<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Words>(self, s: S) {
        let Self(side, packed) = self;
        let Side {
            call, sizes, head, ..
        } = side;
        let (dim, tall) = (call.head_dim, sizes.tall);
        let mut pairs = vec![0; sizes.parts * BLOCK * tall];
        let row = |key| head_row(call, call.v, call.v_stride, call.keys, head, key);
        for (group, tiles) in packed
            .chunks_exact_mut(sizes.parts * tall * BLOCK)
            .enumerate()
        {
            let halves = Halves::of(side, (call.v, call.v_stride), call.keys, group * SUMS);
            let whole = (group + 1) * SUMS <= call.keys;
            if side.form == Form::Halves && whole && halves.are_long::<S>(SUMS) {
                halves.write_values(s, tiles);
                continue;
            }
            for pair in 0..BLOCK {
                let key = group * SUMS + 2 * pair;
                let to = &mut pairs[pair * tall..];
                if side.form == Form::Split {
                    let row = |key| (key < call.keys).then(|| row(key));
                    pairs_of_parts(s, (row(key), row(key + 1)), (to, BLOCK * tall), tall);
                    continue;
                }
                let to = &mut to[..tall];
                if side.form == Form::Halves && key < call.keys {
                    let odd = (key + 1 < call.keys).then(|| halves.row(2 * pair + 1));
                    join_halves(halves.row(2 * pair), odd, to);
                    to[dim] = if odd.is_some() { ONES } else { ONE };
                } else if key + 1 < call.keys {
                    round_pairs(s, row(key), row(key + 1), to);
                    to[dim] = ONES;
                } else if key < call.keys {
                    for (to, value) in to.iter_mut().zip(row(key)) {
                        *to = u32::from(crate::simd::bf16(*value));
                    }
                    to[dim] = ONE;
                } else {
                    to.fill(0);
                }
            }
            let parts = pairs.chunks_exact(BLOCK * tall);
            for (pairs, tile) in parts.zip(tiles.chunks_exact_mut(tall * BLOCK)) {
                transpose(s, pairs, tall, tile);
            }
        }
    }
}

/// Words of the parts of each channel of two rows, each part `apart` words behind the one before and the first with ones behind
/// the channels; rows that are not there are 0.
#[inline(always)]
fn pairs_of_parts<S: Words>(
    s: S,
    (even, odd): (Option<&[f32]>, Option<&[f32]>),
    (to, apart): (&mut [u32], usize),
    tall: usize,
) {
    let dim = even.map_or(0, <[f32]>::len);
    let mut start = 0;
    while start < dim {
        let end = dim.min(start + SUMS);
        let [even, odd] = [even, odd].map(|row| {
            let mut parts = [[0.0; SUMS]; PARTS];
            if let Some(row) = row {
                split_all(&row[start..end], 1.0, &mut parts);
            }
            parts
        });
        for (part, (even, odd)) in even.iter().zip(&odd).enumerate() {
            let there = ..end - start;
            let to = &mut to[part * apart + start..part * apart + end];
            round_pairs(s, &even[there], &odd[there], to);
        }
        start = end;
    }
    for part in 0..PARTS {
        to[part * apart + dim..part * apart + tall].fill(0);
    }
    if dim > 0 {
        to[dim] = if odd.is_some() { ONES } else { ONE };
    }
}

/// Words of each channel of two rows of halves, the even channels first; without the second row, its values are 0.
#[inline(always)]
fn join_halves(even: &[f32], odd: Option<&[f32]>, to: &mut [u32]) {
    let (evens, odds) = to.split_at_mut(even.len());
    let Some(odd) = odd else {
        for ((low, high), even) in evens.iter_mut().zip(odds).zip(even) {
            let word = even.to_bits();
            (*low, *high) = (word & 0xffff, word >> 16);
        }
        return;
    };
    for ((low, high), (even, odd)) in evens.iter_mut().zip(odds).zip(even.iter().zip(odd)) {
        let (even, odd) = (even.to_bits(), odd.to_bits());
        *low = even & 0xffff | odd << 16;
        *high = even >> 16 | odd & 0xffff_0000;
    }
}

/// `[rows][columns]` to `[columns][rows]`, 16 rows, columns a multiple of 16.
#[inline(always)]
fn transpose<S: Words>(s: S, from: &[u32], columns: usize, to: &mut [u32]) {
    assert!(
        from.len() >= TILE * columns && to.len() >= TILE * columns && columns.is_multiple_of(TILE),
        "sizes of a transposition disagree, this is a bug"
    );
    let mut column = 0;
    while column < columns {
        let mut row = 0;
        while row < TILE {
            // SAFETY: blocks of 16 x 16, which the lengths hold.
            unsafe {
                let from = from.as_ptr().add(row * columns + column);
                s.transpose(
                    from,
                    columns,
                    to.as_mut_ptr().add(column * TILE + row),
                    TILE,
                );
            }
            row += S::LANES;
        }
        column += S::LANES;
    }
}

/// Words of two rows of one length.
#[inline(always)]
fn round_pairs<S: Words>(s: S, even: &[f32], odd: &[f32], to: &mut [u32]) {
    assert!(
        even.len() == odd.len() && to.len() >= even.len(),
        "rows of a pair differ, this is a bug"
    );
    let mut i = 0;
    while i + S::LANES <= even.len() {
        // SAFETY: i + LANES is at most the length of all three.
        unsafe {
            let words = s.round_pairs(s.load(even.as_ptr().add(i)), s.load(odd.as_ptr().add(i)));
            s.store(to.as_mut_ptr().add(i).cast(), s.as_float(words));
        }
        i += S::LANES;
    }
    while i < even.len() {
        let [even, odd] = [even[i], odd[i]].map(crate::simd::bf16);
        to[i] = u32::from(even) | u32::from(odd) << 16;
        i += 1;
    }
}

/// Queries of a group as a right side in the order of tiles; zeros behind the last.
pub(super) struct PackQueries<'a> {
    pub(super) side: Side<'a>,
    pub(super) first: usize,
    pub(super) to: &'a mut [u32],
}

impl WordOp for PackQueries<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Words>(self, s: S) {
        let Side { call, sizes, .. } = self.side;
        let deep = sizes.deep;
        let there = SUMS.min(call.queries - self.first);
        let halves = Halves::of(self.side, (call.q, call.q_stride), call.queries, self.first);
        if self.side.form == Form::Halves && there == SUMS && halves.are_long::<S>(SUMS) {
            halves.write_right(s, self.to);
            return;
        }
        assert!(
            self.to.len() == deep * SUMS && deep.is_multiple_of(BLOCK),
            "sizes of queries disagree, this is a bug"
        );
        let mut rows = vec![0; deep * SUMS];
        for (lane, row) in rows.chunks_exact_mut(deep).take(there).enumerate() {
            let query = self.first + lane;
            self.side.words_of(s, Role::Query, query, row);
        }
        let mut lane = 0;
        while lane < SUMS {
            let mut word = 0;
            while word < deep {
                // SAFETY: blocks of LANES x LANES, which the lengths hold.
                unsafe {
                    let from = rows.as_ptr().add(lane * deep + word);
                    let to = self.to.as_mut_ptr();
                    s.transpose(from, deep, to.add(word * SUMS + lane * TILE), TILE);
                }
                word += S::LANES;
            }
            lane += S::LANES;
        }
    }
}
