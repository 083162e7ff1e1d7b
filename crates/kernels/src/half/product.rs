//! bf16 products over all rows of an output: each task rounds its rows to bf16, then runs tiles.

use rayon::prelude::*;

use super::convert::Convert;
use super::pack::{BLOCK, HalfMatrix, Order};
use super::tile::{HalfTile, ROW_PAD, run_tile};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use crate::amx;
use crate::isa::{Isa, dispatch_words};
use crate::matmul::{Epilogue, LeftSide, PANEL, Store};
use crate::scratch;
use crate::shared::SharedMut;

/// Rows of a task: a multiple of [`ROW_PAD`] and of 12. With [`CHUNK`] values each they are 240 KiB of bf16, which leaves
/// room for panels in an L2 of 512 KiB.
pub(super) const ROWS: usize = 96;
/// Longest run of the sum rounded at once.
const CHUNK: usize = 1280;

/// Columns of a task: more than for f32, because rows are rounded again in every task.
fn columns_of_task(rows: usize) -> usize {
    match rows {
        0..=24 => 2 * PANEL,
        25..=384 => 4 * PANEL,
        385..=1024 => 10 * PANEL,
        _ => 40 * PANEL,
    }
}

/// Values of the sum taken at once: equal pieces of whole blocks. A function of the shape, so the order of sums is fixed.
fn piece(len: usize) -> usize {
    let pieces = len.div_ceil(CHUNK).max(1);
    len.div_ceil(pieces).next_multiple_of(2 * BLOCK)
}

/// A product whose left-hand rows are `taps` runs of `len` values.
#[derive(Clone, Copy)]
pub(crate) struct HalfProduct<'a> {
    pub(crate) rows: usize,
    pub(crate) taps: usize,
    /// Values a tap.
    pub(crate) len: usize,
    pub(crate) weight: &'a HalfMatrix,
    pub(crate) epilogue: Epilogue<'a>,
}

/// Computes every tile of the product.
pub(crate) fn half_product<'x>(
    product: &HalfProduct<'_>,
    left: &impl LeftSide<'x>,
    out: &mut [f32],
) {
    let columns = product.weight.columns;
    assert!(
        out.len() == product.rows * columns && product.taps * product.len == product.weight.len,
        "sizes of a product disagree, this is a bug"
    );
    if out.is_empty() {
        return;
    }
    let isa = Isa::current();
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if product.weight.order == Order::Tiles {
        assert!(product.taps == 1, "tiles of a window, this is a bug");
        let rows = amx::Read(left);
        let work = amx::Work {
            left: &amx::RowBlocks::new(
                &rows,
                product.rows,
                (product.len, product.weight.columns),
                amx::Values::Bf16,
            ),
            weights: [product.weight.panels()],
        };
        return amx::run(&work, &amx::Plain::<false>(product.epilogue), out);
    }
    let wide = columns_of_task(product.rows);
    let across = columns.div_ceil(wide);
    let tasks = product.rows.div_ceil(ROWS) * across;
    let shared = SharedMut::new(out);
    (0..tasks).into_par_iter().for_each(|task| {
        let (first, start) = (task / across * ROWS, task % across * wide);
        let rows = ROWS.min(product.rows - first);
        let end = columns.min(start + wide);
        if !product.epilogue.is_empty() {
            for row in first..first + rows {
                // SAFETY: tasks cover disjoint rows and columns.
                let out = unsafe { shared.part(row * columns + start, end - start) };
                product.epilogue.write(row, columns, start, out);
            }
        }
        let place = Place {
            isa,
            rows: first..first + rows,
            columns: start..end,
            c: shared.at(first * columns + start),
            c_step: columns,
            store: if product.epilogue.is_empty() {
                Store::Set
            } else {
                Store::Add
            },
        };
        // SAFETY: this task alone writes these rows and columns.
        unsafe { multiply(product, left, &place) };
    });
}

/// Where the sums of a task go.
pub(super) struct Place {
    pub(super) isa: Isa,
    pub(super) rows: std::ops::Range<usize>,
    /// The start is a multiple of [`PANEL`].
    pub(super) columns: std::ops::Range<usize>,
    /// Output of the first row and column.
    pub(super) c: *mut f32,
    pub(super) c_step: usize,
    pub(super) store: Store,
}

/// Adds or sets the sums of some rows and columns.
///
/// # Safety
/// `place.c` has these rows and columns, writable, and no other task touches them.
pub(super) unsafe fn multiply<'x>(
    product: &HalfProduct<'_>,
    left: &impl LeftSide<'x>,
    place: &Place,
) {
    let depth = product.weight.len;
    let rows = place.rows.len();
    let rows_padded = rows.next_multiple_of(ROW_PAD);
    let at_once = piece(depth);
    scratch::with_words(at_once / 2 * rows_padded, |a| {
        let mut from = 0;
        loop {
            let to = depth.min(from + at_once);
            for (i, row) in place.rows.clone().enumerate() {
                let line = &mut a[(i * BLOCK).min(at_once / 2 * rows_padded)..];
                gather(
                    product,
                    left,
                    row,
                    from..to,
                    (line, rows_padded * BLOCK),
                    place.isa,
                );
            }
            let tile = HalfTile {
                a,
                rows,
                rows_padded,
                words: (to - from).div_ceil(2),
                b: product.weight.panels(),
                first: from / 2,
                start: place.columns.start,
                end: place.columns.end,
                c: place.c,
                c_step: place.c_step,
                store: if from == 0 { place.store } else { Store::Add },
            };
            // SAFETY: the caller's promise.
            unsafe { run_tile(place.isa, tile) };
            from = to;
            if from == depth {
                break;
            }
        }
    });
}

/// Rounds `part` of the row's values, a start at a whole block, into blocks `step` apart.
fn gather<'x>(
    product: &HalfProduct<'_>,
    left: &impl LeftSide<'x>,
    row: usize,
    part: std::ops::Range<usize>,
    (to, step): (&mut [u32], usize),
    isa: Isa,
) {
    let place = left.row(row);
    let convert = |from: &[f32], to: &mut [u32]| {
        dispatch_words(
            isa,
            Convert {
                from,
                factor: 1.0,
                to,
                step,
            },
        );
    };
    let len = product.len;
    let runs = |part: std::ops::Range<usize>| {
        let mut at = part.start;
        std::iter::from_fn(move || {
            (at < part.end).then(|| {
                let (tap, offset) = (at / len, at % len);
                let count = (len - offset).min(part.end - at);
                at += count;
                &left.run(place, left.tap(tap))[offset..offset + count]
            })
        })
    };
    if product.taps == 1 || len.is_multiple_of(2 * BLOCK) {
        let mut block = 0;
        for run in runs(part) {
            convert(run, &mut to[block * step..]);
            block += run.len() / (2 * BLOCK);
        }
    } else {
        // Runs that end inside a block are first joined.
        let mut joined = [0.0; CHUNK];
        let mut count = 0;
        for run in runs(part) {
            joined[count..count + run.len()].copy_from_slice(run);
            count += run.len();
        }
        convert(&joined[..count], to);
    }
}
