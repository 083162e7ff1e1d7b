//! Keys and values of a head as the left sides of products.

use std::ops::Range;

use super::Attention;
use super::turn::Turn;
use crate::isa::{Isa, dispatch_words};

/// Row `row` of head `head` (of all pictures) in a tensor with `rows` rows a picture.
pub(super) fn head_row<'a>(
    call: &Attention<'_>,
    data: &'a [f32],
    stride: usize,
    rows: usize,
    head: usize,
    row: usize,
) -> &'a [f32] {
    let (picture, head) = (head / call.heads, head % call.heads);
    &data[(picture * rows + row) * stride + head * call.head_dim..][..call.head_dim]
}

/// The same for some rows, as far apart as they lie.
pub(super) fn head_rows<'a>(
    call: &Attention<'_>,
    (data, stride): (&'a [f32], usize),
    rows: usize,
    head: usize,
    part: Range<usize>,
) -> &'a [f32] {
    let (picture, head) = (head / call.heads, head % call.heads);
    let start = (picture * rows + part.start) * stride + head * call.head_dim;
    &data[start..][..(part.len() - 1) * stride + call.head_dim]
}

/// Keys times the factor of the scores, `[keys][head_dim]`, then values a channel a row, `[head_dim][keys]` of each block of so many keys.
pub(super) fn pack_head(
    (call, isa): (&Attention<'_>, Isa),
    head: usize,
    block: usize,
    packed: &mut [f32],
) {
    let dim = call.head_dim;
    // Scores are logarithms to base 2.
    let factor = call.scale * std::f32::consts::LOG2_E;
    let (keys, values) = packed.split_at_mut(call.keys * dim);
    for (key, to) in keys.chunks_exact_mut(dim).enumerate() {
        let from = head_row(call, call.k, call.k_stride, call.keys, head, key);
        to.iter_mut().zip(from).for_each(|(to, k)| *to = k * factor);
    }
    for (i, to) in values.chunks_mut(block * dim).enumerate() {
        let count = to.len() / dim;
        let part = i * block..i * block + count;
        let from = head_rows(call, (call.v, call.v_stride), call.keys, head, part);
        // SAFETY: `to` has `dim` rows of `count` values.
        let turn = unsafe {
            Turn::new(
                (from, call.v_stride),
                (count, dim),
                (to.as_mut_ptr(), count),
            )
        };
        dispatch_words(isa, turn);
    }
}
