//! The matrix micro-kernel: a block of rows times one strip of a packed panel, sums in registers.
//!
//! The left-hand rows are not packed: the kernel broadcasts from row pointers, which costs no more loads than a packed
//! block and lets a convolution hand in one pointer a pixel and tap instead of an im2col buffer.

use crate::simd::{MAX_LANES, Simd};

/// Values of a cache line.
const LINE: usize = 16;

/// What a call does with the old contents of the output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// Overwrites them.
    Set,
    /// Adds to them.
    Add,
}

/// A piece of the sum, for all rows of a tile: `taps` runs of `len` values.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    /// Where the rows' pointers of the first tap start in the table.
    pub(crate) first: usize,
    /// Table entries from one tap to the next.
    pub(crate) tap_step: usize,
    /// Runs to sum over.
    pub(crate) taps: usize,
    /// Where a run starts, from the row's pointer on.
    pub(crate) offset: usize,
    /// Values of a run.
    pub(crate) len: usize,
}

/// Right-hand and output side of a call.
#[derive(Clone, Copy)]
pub(crate) struct Strip {
    /// First value of the strip in its panel.
    pub(crate) b: *const f32,
    /// Width of the panel: values from one k to the next.
    pub(crate) b_step: usize,
    /// First output.
    pub(crate) c: *mut f32,
    /// Outputs from one row to the next.
    pub(crate) c_step: usize,
    /// Columns to write, at most the strip's `NV * LANES`.
    pub(crate) columns: usize,
    /// What happens to the old outputs.
    pub(crate) store: Store,
    /// The panel needed next: each call asks for its share, one cache line for 4 k.
    pub(crate) next: *const f32,
}

/// Runs the kernel for `rows <= S::ROWS` rows, in the fewest calls of the sizes compiled.
///
/// # Safety
/// As [`micro`], with `rows` pointers a tap.
#[inline(always)]
pub(crate) unsafe fn rows<S: Simd, const NV: usize>(
    s: S,
    table: *const *const f32,
    rows: usize,
    seg: Segment,
    strip: Strip,
) {
    let mut done = 0;
    while done < rows {
        let seg = Segment {
            first: seg.first + done,
            ..seg
        };
        let strip = Strip {
            c: strip.c.wrapping_add(done * strip.c_step),
            next: strip
                .next
                .wrapping_add(done / S::ROWS * seg.taps * (seg.len / 4) * LINE),
            ..strip
        };
        let left = rows - done;
        // SAFETY: each call covers rows done.., at most `left` of them.
        unsafe {
            if left >= 12 && S::ROWS >= 12 {
                micro::<S, 12, NV>(s, table, seg, strip);
                done += 12;
            } else if left >= 6 && S::ROWS >= 6 {
                micro::<S, 6, NV>(s, table, seg, strip);
                done += 6;
            } else if left >= 4 {
                micro::<S, 4, NV>(s, table, seg, strip);
                done += 4;
            } else if left >= 2 {
                micro::<S, 2, NV>(s, table, seg, strip);
                done += 2;
            } else {
                micro::<S, 1, NV>(s, table, seg, strip);
                done += 1;
            }
        }
    }
}

/// `c[i][..] (+)= sum over taps t and k of a[t][i][k] * b[t * len + k][..]` for `MR` rows and `NV` vectors of columns.
///
/// Each output is one chain of multiply-adds in the order of k, whatever `MR` and `NV`: tiling does not change results.
///
/// # Safety
/// `table[seg.first + t * seg.tap_step + i]` is a valid entry for t < taps, i < MR, and each points to at least
/// `offset + len` readable values; `strip.b` has `taps * len` rows of `b_step` values, of which `NV * LANES` from its start are
/// readable; `strip.c` has MR rows of `columns` writable values.
#[inline(always)]
unsafe fn micro<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    table: *const *const f32,
    seg: Segment,
    strip: Strip,
) {
    let mut acc = [[s.splat(0.0); NV]; MR];
    let mut b = strip.b;
    let mut next = strip.next;
    let mut tap = 0;
    while tap < seg.taps {
        let mut a = [std::ptr::null(); MR];
        let mut i = 0;
        while i < MR {
            // SAFETY: a valid entry, pointing to offset + len values.
            a[i] = unsafe { (*table.add(seg.first + tap * seg.tap_step + i)).add(seg.offset) };
            i += 1;
        }
        let mut k = 0;
        while k + 4 <= seg.len {
            s.prefetch(next);
            next = next.wrapping_add(LINE);
            // SAFETY: k + 3 < len; b has a row for each k.
            unsafe {
                step::<S, MR, NV>(s, &mut acc, &a, k, b);
                step::<S, MR, NV>(s, &mut acc, &a, k + 1, b.add(strip.b_step));
                step::<S, MR, NV>(s, &mut acc, &a, k + 2, b.add(2 * strip.b_step));
                step::<S, MR, NV>(s, &mut acc, &a, k + 3, b.add(3 * strip.b_step));
                b = b.add(4 * strip.b_step);
            }
            k += 4;
        }
        while k < seg.len {
            // SAFETY: k < len; b has a row for each k.
            unsafe {
                step::<S, MR, NV>(s, &mut acc, &a, k, b);
                b = b.add(strip.b_step);
            }
            k += 1;
        }
        tap += 1;
    }
    // SAFETY: the output's rows and columns are the caller's.
    unsafe { finish::<S, MR, NV>(s, &acc, strip) };
}

/// One k: a column of broadcasts times a row of the panel.
///
/// # Safety
/// `a[i] + k` and `NV * LANES` values from `b` are readable.
#[inline(always)]
unsafe fn step<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    acc: &mut [[S::V; NV]; MR],
    a: &[*const f32; MR],
    k: usize,
    b: *const f32,
) {
    let mut row = [s.splat(0.0); NV];
    let mut j = 0;
    while j < NV {
        // SAFETY: the caller's promise.
        row[j] = unsafe { s.load(b.add(j * S::LANES)) };
        j += 1;
    }
    let mut i = 0;
    while i < MR {
        // SAFETY: the caller's promise.
        let x = s.splat(unsafe { *a[i].add(k) });
        let mut j = 0;
        while j < NV {
            acc[i][j] = s.mul_add(x, row[j], acc[i][j]);
            j += 1;
        }
        i += 1;
    }
}

/// Writes the sums.
///
/// The loops that touch `acc` have constant bounds and short bodies, so that they unroll and the sums never leave the
/// registers before; ragged strips go through a copy for that reason.
///
/// # Safety
/// `strip.c` has MR rows of `columns` writable values.
#[inline(always)]
unsafe fn finish<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    acc: &[[S::V; NV]; MR],
    strip: Strip,
) {
    let full = strip.columns >= NV * S::LANES;
    if full && strip.store == Store::Set {
        let mut i = 0;
        while i < MR {
            let mut j = 0;
            while j < NV {
                // SAFETY: row i holds NV whole vectors.
                unsafe { s.store(strip.c.add(i * strip.c_step + j * S::LANES), acc[i][j]) };
                j += 1;
            }
            i += 1;
        }
    } else if full {
        let mut i = 0;
        while i < MR {
            let mut j = 0;
            while j < NV {
                // SAFETY: row i holds NV whole vectors.
                unsafe {
                    let c = strip.c.add(i * strip.c_step + j * S::LANES);
                    s.store(c, s.add(s.load(c), acc[i][j]));
                }
                j += 1;
            }
            i += 1;
        }
    } else {
        let mut copy = [[[0.0f32; MAX_LANES]; NV]; MR];
        let mut i = 0;
        while i < MR {
            let mut j = 0;
            while j < NV {
                // SAFETY: the copy's innermost array holds any vector.
                unsafe { s.store(copy[i][j].as_mut_ptr(), acc[i][j]) };
                j += 1;
            }
            i += 1;
        }
        // SAFETY: the caller's promise.
        unsafe { finish_ragged::<MR, NV>(S::LANES, &copy, strip) };
    }
}

/// Writes the first `strip.columns` sums of each row, one by one.
///
/// # Safety
/// `strip.c` has MR rows of `columns` writable values.
unsafe fn finish_ragged<const MR: usize, const NV: usize>(
    lanes: usize,
    sums: &[[[f32; MAX_LANES]; NV]; MR],
    strip: Strip,
) {
    for (i, row) in sums.iter().enumerate() {
        for column in 0..strip.columns.min(NV * lanes) {
            // SAFETY: row i, a column below `columns`.
            let c = unsafe { &mut *strip.c.add(i * strip.c_step + column) };
            let sum = row[column / lanes][column % lanes];
            *c = if strip.store == Store::Add {
                *c + sum
            } else {
                sum
            };
        }
    }
}
