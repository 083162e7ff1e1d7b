//! Keys and values of a head in the layout of a product's right-hand side.

use super::Attention;
use super::block::KEYS;
use crate::matmul::{PANEL, packed_len, panel_width};

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

/// Keys as the right-hand side of q . k^T: one column a key.
pub(super) fn pack_keys(call: &Attention<'_>, head: usize, packed: &mut [f32]) {
    let depth = call.head_dim;
    for start in (0..call.keys).step_by(PANEL) {
        let width = panel_width(call.keys, start);
        let panel = &mut packed[start * depth..][..width * depth];
        for column in 0..width {
            if start + column < call.keys {
                let key = head_row(call, call.k, call.k_stride, call.keys, head, start + column);
                key.iter()
                    .zip(panel[column..].iter_mut().step_by(width))
                    .for_each(|(k, p)| *p = *k);
            } else {
                panel[column..]
                    .iter_mut()
                    .step_by(width)
                    .for_each(|p| *p = 0.0);
            }
        }
    }
}

/// Values as the right-hand side of p . v: for each block of keys, one column a channel.
pub(super) fn pack_values(call: &Attention<'_>, head: usize, packed: &mut [f32]) {
    let columns = call.head_dim;
    for first in (0..call.keys).step_by(KEYS) {
        let depth = KEYS.min(call.keys - first);
        let block = &mut packed[packed_len(columns, first)..][..packed_len(columns, depth)];
        for i in 0..depth {
            let value = head_row(call, call.v, call.v_stride, call.keys, head, first + i);
            for start in (0..columns).step_by(PANEL) {
                let width = panel_width(columns, start);
                let count = width.min(columns - start);
                let row = &mut block[start * depth + i * width..][..width];
                row[..count].copy_from_slice(&value[start..start + count]);
                row[count..].fill(0.0);
            }
        }
    }
}
