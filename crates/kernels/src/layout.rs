//! Data movement: layout changes, channel concatenation, nearest upsampling, embedding rows.

use rayon::prelude::*;

use crate::error::{Result, check, check_len, product};

/// Side of the squares a transposition moves: 32 x 32 f32 are 4 KiB.
const BLOCK: usize = 32;
/// Pixels a task copies.
const PIXELS: usize = 256;

/// Source index of nearest-neighbour index `i` of `target` over `source` pixels, as torch's `upsample_nearest2d` finds it:
/// the floor of `i * (source / target)` in f32.
pub(crate) fn nearest(i: usize, source: usize, target: usize) -> usize {
    if source == target {
        return i;
    }
    let scale = source as f32 / target as f32;
    ((i as f32 * scale) as usize).min(source - 1)
}

/// Turns `x: (batch, channels, pixels)` into `out: (batch, pixels, channels)`.
///
/// # Errors
/// A length is not `batch * channels * pixels`.
pub fn nchw_to_nhwc(
    x: &[f32],
    batch: usize,
    channels: usize,
    pixels: usize,
    out: &mut [f32],
) -> Result<()> {
    transpose("nchw_to_nhwc", x, [batch, channels, pixels], out)
}

/// Turns `x: (batch, pixels, channels)` into `out: (batch, channels, pixels)`.
///
/// # Errors
/// A length is not `batch * channels * pixels`.
pub fn nhwc_to_nchw(
    x: &[f32],
    batch: usize,
    channels: usize,
    pixels: usize,
    out: &mut [f32],
) -> Result<()> {
    transpose("nhwc_to_nchw", x, [batch, pixels, channels], out)
}

/// Transposes the last two axes.
fn transpose(
    op: &'static str,
    x: &[f32],
    [batch, rows, cols]: [usize; 3],
    out: &mut [f32],
) -> Result<()> {
    let len = product(op, "x", &[batch, rows, cols])?;
    check_len(op, "x", x.len(), len)?;
    check_len(op, "out", out.len(), len)?;
    if len == 0 {
        return Ok(());
    }
    // A task writes BLOCK rows of the result, in squares: both sides of a square stay in L1.
    let matrices = x
        .chunks_exact(rows * cols)
        .zip(out.chunks_exact_mut(rows * cols));
    for (x, out) in matrices {
        out.par_chunks_mut(BLOCK * rows)
            .enumerate()
            .for_each(|(block, out)| {
                let first = block * BLOCK;
                for from in (0..rows).step_by(BLOCK) {
                    let to = rows.min(from + BLOCK);
                    for (c, out) in out.chunks_exact_mut(rows).enumerate() {
                        for r in from..to {
                            out[r] = x[r * cols + first + c];
                        }
                    }
                }
            });
    }
    Ok(())
}

/// Joins channels: each part is `(pixels, channels)`; `out: (pixels, sum of channels)`.
///
/// # Errors
/// A part's length is not `pixels * channels`, or `out` does not hold them all.
pub fn concat_channels(parts: &[(&[f32], usize)], pixels: usize, out: &mut [f32]) -> Result<()> {
    const OP: &str = "concat_channels";
    let total: usize = parts.iter().map(|&(_, channels)| channels).sum();
    for &(part, channels) in parts {
        check_len(
            OP,
            "part",
            part.len(),
            product(OP, "part", &[pixels, channels])?,
        )?;
    }
    check_len(OP, "out", out.len(), product(OP, "out", &[pixels, total])?)?;
    if total == 0 {
        return Ok(());
    }
    out.par_chunks_mut(PIXELS * total)
        .enumerate()
        .for_each(|(block, out)| {
            let mut start = 0;
            for &(part, channels) in parts {
                if channels > 0 {
                    let from = part[block * PIXELS * channels..].chunks_exact(channels);
                    for (row, from) in out.chunks_exact_mut(total).zip(from) {
                        row[start..start + channels].copy_from_slice(from);
                    }
                }
                start += channels;
            }
        });
    Ok(())
}

/// Copies channels `start..start + len` of `x: (pixels, channels)` to `out: (pixels, len)`.
///
/// # Errors
/// The range leaves the channels, or a length does not fit.
pub fn narrow_channels(
    x: &[f32],
    channels: usize,
    start: usize,
    len: usize,
    out: &mut [f32],
) -> Result<()> {
    const OP: &str = "narrow_channels";
    check(
        OP,
        "start",
        start.checked_add(len).is_some_and(|end| end <= channels),
        "start + len within the channels",
        start,
    )?;
    if channels == 0 || len == 0 {
        return check_len(OP, "out", out.len(), 0);
    }
    check(
        OP,
        "x",
        x.len().is_multiple_of(channels),
        "a multiple of the channels",
        x.len(),
    )?;
    check_len(OP, "out", out.len(), x.len() / channels * len)?;
    for (from, row) in x.chunks_exact(channels).zip(out.chunks_exact_mut(len)) {
        row.copy_from_slice(&from[start..start + len]);
    }
    Ok(())
}

/// Nearest-neighbour resize of `x: (batch, h, w, channels)` to `out: (batch, out_h, out_w, channels)`;
/// `from` is (h, w), `to` is (out_h, out_w). Same source pixels as torch's `interpolate(size=..., mode="nearest")`.
///
/// # Errors
/// A length does not fit, or `from` is empty while `to` is not.
pub fn upsample_nearest(
    x: &[f32],
    channels: usize,
    from: (usize, usize),
    to: (usize, usize),
    out: &mut [f32],
) -> Result<()> {
    const OP: &str = "upsample_nearest";
    let image = product(OP, "from", &[from.0, from.1, channels])?;
    let target = product(OP, "to", &[to.0, to.1, channels])?;
    if target == 0 {
        return check_len(OP, "out", out.len(), 0);
    }
    check(OP, "from", image > 0, "at least one pixel", image)?;
    check(
        OP,
        "x",
        x.len().is_multiple_of(image),
        "a whole number of pictures",
        x.len(),
    )?;
    check_len(OP, "out", out.len(), x.len() / image * target)?;
    let row_len = to.1 * channels;
    out.par_chunks_mut(row_len)
        .enumerate()
        .for_each(|(row, out)| {
            let (picture, y) = (row / to.0, row % to.0);
            let source = picture * from.0 + nearest(y, from.0, to.0);
            let source = &x[source * from.1 * channels..][..from.1 * channels];
            for (column, pixel) in out.chunks_exact_mut(channels).enumerate() {
                pixel.copy_from_slice(
                    &source[nearest(column, from.1, to.1) * channels..][..channels],
                );
            }
        });
    Ok(())
}

/// Gathers rows: `table: (count, dim)`, `out: (ids.len(), dim)`.
///
/// # Errors
/// An id is not below `count`, or a length does not fit.
pub fn embedding(table: &[f32], dim: usize, ids: &[u32], out: &mut [f32]) -> Result<()> {
    const OP: &str = "embedding";
    check_len(OP, "out", out.len(), product(OP, "out", &[ids.len(), dim])?)?;
    if dim == 0 {
        return Ok(());
    }
    check(
        OP,
        "table",
        table.len().is_multiple_of(dim),
        "a multiple of dim",
        table.len(),
    )?;
    let count = table.len() / dim;
    for (&id, row) in ids.iter().zip(out.chunks_exact_mut(dim)) {
        let id = id as usize;
        check(OP, "ids", id < count, "an id below the table's rows", id)?;
        row.copy_from_slice(&table[id * dim..(id + 1) * dim]);
    }
    Ok(())
}
