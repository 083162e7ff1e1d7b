//! Linear layers: `out[rows, n] = x[rows, k] . W^T (+ bias) (+ residual)`, W given as torch stores it, `[n, k]`.

mod input;
mod micro;
mod pack;
mod tile;

use rayon::prelude::*;

pub use input::Input;
pub(crate) use input::Strided;
pub(crate) use micro::Store;
pub use pack::PackedMatrix;
pub(crate) use pack::{
    Columns, Contiguous, Form, PANEL, Panels, Piece, order_of_rows, packed_len, panel_width, pieces,
};
pub(crate) use tile::{Checked, Rows, Tile};

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use crate::amx;
use crate::error::{Result, check, check_len, product};
use crate::half::{HalfProduct, half_product};
use crate::isa::{Isa, dispatch};
use crate::norm::{Moments, Recorder};
use crate::shared::SharedMut;

/// One call of [`linear`].
#[derive(Clone, Copy, Debug)]
pub struct Linear<'a> {
    /// `(rows, in_features)`, plain values in rows `x_stride` apart.
    pub x: Input<'a>,
    /// Number of rows.
    pub rows: usize,
    /// Elements from one row of `x` to the next; at least `in_features`.
    pub x_stride: usize,
    /// Packed `(out_features, in_features)`; the form it is packed in decides the precision of the products.
    pub weight: &'a PackedMatrix,
    /// `(out_features)`, added to every row.
    pub bias: Option<&'a [f32]>,
    /// `(rows, out_features)`, contiguous, added to the result.
    pub residual: Option<&'a [f32]>,
}

impl<'a> Linear<'a> {
    /// A plain product of contiguous `x: (rows, in_features)`, nothing added.
    pub fn new(x: &'a [f32], rows: usize, weight: &'a PackedMatrix) -> Self {
        Self {
            x: x.into(),
            rows,
            x_stride: weight.in_features(),
            weight,
            bias: None,
            residual: None,
        }
    }
}

/// Computes `out = x . W^T + bias + residual`; `out: (rows, out_features)`, contiguous.
///
/// # Errors
/// A length does not fit the sizes, or the weight does not [take](PackedMatrix::takes) the input.
pub fn linear(call: &Linear<'_>, out: &mut [f32]) -> Result<()> {
    call.run(None, out)
}

/// The same for rows that are pictures of `pixels` rows, whose channels' sums are taken on the way where the kernel can.
///
/// # Errors
/// As [`linear`], and `pixels` does not divide the rows.
pub fn linear_recorded(
    call: &Linear<'_>,
    pixels: usize,
    out: &mut [f32],
) -> Result<Option<Moments>> {
    let divides = pixels > 0 && call.rows.is_multiple_of(pixels);
    check(OP, "pixels", divides, "a divisor of the rows", pixels)?;
    let channels = call.weight.out_features();
    let recorder = Recorder::new([call.rows / pixels, pixels, channels]);
    call.run(Some(&recorder), out)?;
    Ok(recorder.finish())
}

/// The same with `out` as bf16, two values in each place, for a reader that would round them. Weights that
/// [write](PackedMatrix::writes_halves) them only.
///
/// # Errors
/// As [`linear`], and the weight does not write halves.
pub fn linear_halves(call: &Linear<'_>, out: &mut [f32]) -> Result<()> {
    let n = call.weight.out_features();
    let len = product(OP, "out", &[call.rows, n])?;
    let writes = call.weight.writes_halves();
    check(OP, "weight", writes, "one that writes halves", n)?;
    check_len(OP, "out", out.len(), len / 2)?;
    let epilogue = call.check(len)?;
    call.run_prepared::<true>(&call.x, epilogue, out);
    Ok(())
}

const OP: &str = "linear";

impl<'a> Linear<'a> {
    fn run(&self, recorder: Option<&Recorder>, out: &mut [f32]) -> Result<()> {
        let (n, k) = (self.weight.out_features(), self.weight.in_features());
        let len = product(OP, "out", &[self.rows, n])?;
        check_len(OP, "out", out.len(), len)?;
        let epilogue = Epilogue {
            recorder,
            ..self.check(len)?
        };
        match self.x {
            Input::Values(x) => {
                let left = Strided {
                    x,
                    stride: self.x_stride,
                    len: k,
                };
                product_with(self.weight, (self.rows, 1, k), epilogue, &left, out);
            }
            prepared => self.run_prepared::<false>(&prepared, epilogue, out),
        }
        Ok(())
    }

    /// Checks all but the output, which has `len` values, and tells what is added.
    fn check(&self, len: usize) -> Result<Epilogue<'a>> {
        let (n, k) = (self.weight.out_features(), self.weight.in_features());
        let stride = self.x_stride;
        check(OP, "x_stride", stride >= k, "at least in_features", stride)?;
        self.x.check(OP, (self.rows, k), stride)?;
        let takes = self.weight.takes(&self.x);
        check(OP, "x", takes, "plain values for this weight", k)?;
        let epilogue = Epilogue {
            bias: self.bias,
            residual: self.residual,
            row_bias: None,
            recorder: None,
        };
        epilogue.check(OP, n, len)?;
        Ok(epilogue)
    }

    /// The product on AMX, whatever the input.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    fn run_prepared<const HALVES: bool>(
        &self,
        input: &Input<'_>,
        epilogue: Epilogue<'_>,
        out: &mut [f32],
    ) {
        if out.is_empty() {
            return;
        }
        let Some((weight, values)) = self.weight.halves() else {
            unreachable!("a weight for other rows, this is a bug");
        };
        let len = self.weight.in_features();
        amx::with_lines(input, (self.x_stride, len), |lines| {
            let sizes = (len, weight.columns);
            let left = amx::RowBlocks::new(lines, self.rows, sizes, values);
            let work = amx::Work {
                left: &if HALVES { left.whole() } else { left },
                weights: [weight.panels()],
            };
            amx::run(&work, &amx::Plain::<HALVES>(epilogue), out);
        });
    }

    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    fn run_prepared<const HALVES: bool>(&self, _: &Input<'_>, _: Epilogue<'_>, _: &mut [f32]) {
        unreachable!("a weight for AMX without AMX, this is a bug");
    }
}

/// The left-hand side of a product: finds the run of values a row has at a tap.
pub(crate) trait LeftSide<'x>: Sync {
    /// What there is to know of a row, found once a tile.
    type Row: Copy;
    /// What there is to know of a tap.
    type Tap: Copy;

    fn row(&self, row: usize) -> Self::Row;
    fn tap(&self, tap: usize) -> Self::Tap;
    fn run(&self, row: Self::Row, tap: Self::Tap) -> &'x [f32];
}

/// What is added to a product's rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Epilogue<'a> {
    /// `(columns)`.
    pub(crate) bias: Option<&'a [f32]>,
    /// `(rows, columns)`.
    pub(crate) residual: Option<&'a [f32]>,
    /// `(groups, columns)`, and the number of consecutive rows each group has.
    pub(crate) row_bias: Option<(&'a [f32], usize)>,
    /// Who is told the sums of the result's channels, by kernels that can tell.
    pub(crate) recorder: Option<&'a Recorder>,
}

impl Epilogue<'_> {
    /// Checks bias and residual against the columns and the output's length.
    pub(crate) fn check(&self, op: &'static str, columns: usize, len: usize) -> Result<()> {
        if let Some(bias) = self.bias {
            check_len(op, "bias", bias.len(), columns)?;
        }
        if let Some(residual) = self.residual {
            check_len(op, "residual", residual.len(), len)?;
        }
        Ok(())
    }

    /// Writes what is added to columns `start..start + out.len()` of `row`; `columns` is the width of the matrix.
    pub(crate) fn write(&self, row: usize, columns: usize, start: usize, out: &mut [f32]) {
        let count = out.len();
        match self.residual {
            Some(residual) => out.copy_from_slice(&residual[row * columns + start..][..count]),
            None => out.fill(0.0),
        }
        let row_bias = self
            .row_bias
            .map(|(bias, group)| &bias[row / group * columns..]);
        for bias in [self.bias, row_bias].into_iter().flatten() {
            out.iter_mut()
                .zip(&bias[start..start + count])
                .for_each(|(out, bias)| *out += bias);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bias.is_none() && self.residual.is_none() && self.row_bias.is_none()
    }
}

/// A product over all rows of an output, whose left-hand rows are given as pointers.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub(crate) rows: usize,
    pub(crate) taps: usize,
    /// Values a tap.
    pub(crate) len: usize,
    pub(crate) weight: Panels<'a>,
    pub(crate) epilogue: Epilogue<'a>,
}

/// The product of `rows` rows of `taps` runs of `len` values in the precision `weight` is packed for.
pub(crate) fn product_with<'x>(
    weight: &PackedMatrix,
    (rows, taps, len): (usize, usize, usize),
    epilogue: Epilogue<'_>,
    left: &impl LeftSide<'x>,
    out: &mut [f32],
) {
    match weight.form() {
        Form::F32(weight) => {
            let product = Product {
                rows,
                taps,
                len,
                weight,
                epilogue,
            };
            product_of_rows(&product, left, out);
        }
        Form::Bf16(weight) => {
            let product = HalfProduct {
                rows,
                taps,
                len,
                weight,
                epilogue,
            };
            half_product(&product, left, out);
        }
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Form::Split(weight) => {
            // A window of more than one place goes by `conv2d`'s own way.
            assert!(taps == 1, "three parts of a window, this is a bug");
            if out.is_empty() {
                return;
            }
            let lines = amx::Read(left);
            let work = amx::Work {
                left: &amx::RowBlocks::new(&lines, rows, (len, weight.columns), amx::Values::Split),
                weights: [weight.panels()],
            };
            amx::run(&work, &amx::Plain::<false>(epilogue), out);
        }
    }
}

/// Rows of a tile: a multiple of every instruction set's micro-kernel rows; 96 x 256 f32 of the left side are 96 KiB and 96 x 320
/// outputs 120 KiB, which an L2 of 512 KiB holds beside a stream of panels.
const TILE_ROWS: usize = 96;

/// Columns of a tile: enough to reuse the rows, few enough that small products still make tasks for many threads.
fn tile_columns(rows: usize) -> usize {
    match rows {
        0..=24 => 2 * PANEL,
        25..=192 => 4 * PANEL,
        _ => 10 * PANEL,
    }
}

/// Computes every tile of the product.
pub(crate) fn product_of_rows<'x>(
    product: &Product<'_>,
    left: &impl LeftSide<'x>,
    out: &mut [f32],
) {
    assert_eq!(
        out.len(),
        product.rows * product.weight.columns,
        "output size disagrees, this is a bug"
    );
    let columns = product.weight.columns;
    if product.rows == 0 || columns == 0 {
        return;
    }
    let isa = Isa::current();
    let wide = tile_columns(product.rows);
    let across = columns.div_ceil(wide);
    let tasks = product.rows.div_ceil(TILE_ROWS) * across;
    let shared = SharedMut::new(out);
    let task = |task: usize| {
        let (first, start) = (task / across * TILE_ROWS, task % across * wide);
        let rows = TILE_ROWS.min(product.rows - first);
        let end = columns.min(start + wide);
        let mut table = Vec::with_capacity(product.taps * rows);
        let places: Vec<_> = (first..first + rows).map(|row| left.row(row)).collect();
        for tap in 0..product.taps {
            let tap = left.tap(tap);
            for &place in &places {
                let run = left.run(place, tap);
                assert!(
                    run.len() >= product.len,
                    "short left-hand run, this is a bug"
                );
                table.push(run.as_ptr());
            }
        }
        if !product.epilogue.is_empty() {
            for row in first..first + rows {
                // SAFETY: tasks cover disjoint rows and columns.
                let out = unsafe { shared.part(row * columns + start, end - start) };
                product.epilogue.write(row, columns, start, out);
            }
        }
        let tile = Tile {
            a: Rows {
                table: &table,
                count: rows,
                taps: product.taps,
                len: product.len,
            },
            b: product.weight,
            start,
            end,
            c: shared.at(first * columns + start),
            c_step: columns,
            store: if product.epilogue.is_empty() {
                Store::Set
            } else {
                Store::Add
            },
            next: std::ptr::null(),
        };
        // SAFETY: each table entry starts a borrowed run of at least `len` values; this task alone writes these rows and columns.
        dispatch(isa, unsafe { Checked::new(tile) });
    };
    if tasks == 1 {
        task(0);
    } else {
        (0..tasks).into_par_iter().for_each(task);
    }
}
