//! Layout of the right-hand matrix: panels of 32 columns, k-major inside, as the micro-kernel reads them.
//!
//! Panel p holds columns 32 p and on: `[k][width]`, width 32, or 16 for a last panel of at most 16 columns; missing columns
//! are 0. One layout serves all instruction sets: each reads a panel in strips of two of its vectors.

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::error::{Result, check_len, product};
use crate::half::{HalfMatrix, Order};
use crate::isa::Isa;

/// Columns of a full panel: two AVX-512 vectors.
pub(crate) const PANEL: usize = 32;
/// Columns of a narrow last panel.
const NARROW: usize = 16;

/// Values `columns` x `depth` take when packed.
pub(crate) fn packed_len(columns: usize, depth: usize) -> usize {
    columns.next_multiple_of(NARROW) * depth
}

/// Width of the panel that starts at column `start`.
pub(crate) fn panel_width(columns: usize, start: usize) -> usize {
    if columns - start > NARROW {
        PANEL
    } else {
        NARROW
    }
}

/// A packed matrix, borrowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panels<'a> {
    pub(crate) data: &'a [f32],
    /// Columns of the product.
    pub(crate) columns: usize,
    /// Length of the sums.
    pub(crate) depth: usize,
}

/// A weight matrix prepared once, at load.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    form: Packed,
    out_features: usize,
    in_features: usize,
}

/// What a matrix is packed as.
#[derive(Clone, Debug)]
enum Packed {
    F32(Buffer),
    Bf16(HalfMatrix),
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Split(HalfMatrix),
}

/// The same, borrowed.
pub(crate) enum Form<'a> {
    F32(Panels<'a>),
    Bf16(&'a HalfMatrix),
    /// In three parts.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Split(&'a HalfMatrix),
}

/// The order that the products of rows want here.
pub(crate) fn order_of_rows() -> Order {
    if cfg!(target_os = "linux") && Isa::current() == Isa::Amx {
        Order::Tiles
    } else {
        Order::Rows
    }
}

impl PackedMatrix {
    /// Packs a torch Linear weight: `weight: (out_features, in_features)`, contiguous.
    ///
    /// # Errors
    /// The length of `weight` is not `out_features * in_features`.
    pub fn from_out_in(weight: &[f32], out_features: usize, in_features: usize) -> Result<Self> {
        check_weight(weight, out_features, in_features)?;
        let columns = Contiguous(weight, in_features);
        Ok(Self::from_columns(out_features, in_features, &columns))
    }

    /// The same for products as precise as f32's by the quickest kernel there is: with AMX the sums of three bf16.
    ///
    /// # Errors
    /// The length of `weight` is not `out_features * in_features`.
    pub fn exact_from_out_in(
        weight: &[f32],
        out_features: usize,
        in_features: usize,
    ) -> Result<Self> {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if Isa::current() == Isa::Amx {
            check_weight(weight, out_features, in_features)?;
            let columns = Contiguous(weight, in_features);
            return Ok(Self::split_from_columns(
                out_features,
                in_features,
                &columns,
            ));
        }
        Self::from_out_in(weight, out_features, in_features)
    }

    /// As [`PackedMatrix::from_columns`], in as many parts as hold the values.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    pub(crate) fn split_from_columns(
        out_features: usize,
        in_features: usize,
        columns: &impl Columns,
    ) -> Self {
        Self {
            form: Packed::Split(crate::amx::split_matrix(
                out_features,
                in_features,
                columns,
                crate::amx::parts_of(out_features, in_features, columns),
            )),
            out_features,
            in_features,
        }
    }

    /// Bytes that `values` weights of `bits` significant bits (24 in f32, 11 in f16, 8 in bf16) take once packed by
    /// [`PackedMatrix::exact_from_out_in`], but for padding.
    pub fn exact_bytes(values: u64, bits: u32) -> u64 {
        let parts = u64::from(bits.clamp(1, f32::MANTISSA_DIGITS).div_ceil(8));
        let amx = Isa::current() == Isa::Amx;
        values * if amx { 2 * parts } else { 4 }
    }

    /// The same, rounded to bf16: products with it round their left side to bf16 too and sum in f32.
    ///
    /// # Errors
    /// The length of `weight` is not `out_features * in_features`.
    pub fn bf16_from_out_in(
        weight: &[f32],
        out_features: usize,
        in_features: usize,
    ) -> Result<Self> {
        check_weight(weight, out_features, in_features)?;
        let columns = Contiguous(weight, in_features);
        let order = order_of_rows();
        Ok(Self::bf16_from_columns(
            out_features,
            in_features,
            &columns,
            order,
        ))
    }

    /// As [`PackedMatrix::from_columns`], rounded to bf16; the order of tiles wants AMX.
    pub(crate) fn bf16_from_columns(
        out_features: usize,
        in_features: usize,
        columns: &impl Columns,
        order: Order,
    ) -> Self {
        let matrix = HalfMatrix::from_columns(out_features, in_features, columns, order);
        Self {
            form: Packed::Bf16(matrix),
            out_features,
            in_features,
        }
    }

    /// Packs the matrix of `out_features` columns of `in_features` values each; on all threads.
    pub(crate) fn from_columns(
        out_features: usize,
        in_features: usize,
        columns: &impl Columns,
    ) -> Self {
        let mut data = Buffer::zeroed(packed_len(out_features, in_features));
        if in_features > 0 {
            data.par_chunks_mut(PANEL * in_features)
                .enumerate()
                .for_each(|(panel, out)| {
                    let start = panel * PANEL;
                    let width = panel_width(out_features, start);
                    let count = width.min(out_features - start);
                    pieces(columns, start..start + count, in_features, |from, piece| {
                        let rows = out[from * width..].chunks_exact_mut(width);
                        for (k, row) in rows.take(piece.len).enumerate() {
                            for (column, value) in row[..count].iter_mut().enumerate() {
                                *value = piece.at(column, k);
                            }
                        }
                    });
                });
        }
        Self {
            form: Packed::F32(data),
            out_features,
            in_features,
        }
    }

    /// Columns of the product.
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    /// Length of each sum.
    pub fn in_features(&self) -> usize {
        self.in_features
    }

    /// Name of the kernel that multiplies with it, used by logs and benches.
    pub fn kernel(&self) -> &'static str {
        match &self.form {
            Packed::F32(_) => "product-f32",
            Packed::Bf16(_) => "product-bf16",
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Packed::Split(_) => "product-3xbf16",
        }
    }

    /// Bytes it takes in memory.
    pub fn bytes(&self) -> usize {
        match &self.form {
            Packed::F32(data) => data.len() * size_of::<f32>(),
            Packed::Bf16(matrix) => matrix.bytes(),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Packed::Split(matrix) => matrix.bytes(),
        }
    }

    /// Whether products are formed by AMX.
    pub(crate) fn on_amx(&self) -> bool {
        match &self.form {
            Packed::F32(_) => false,
            Packed::Bf16(matrix) => matrix.order == Order::Tiles,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Packed::Split(_) => true,
        }
    }

    /// Whether a product rounds its left side to bf16.
    pub(crate) fn rounds(&self) -> bool {
        matches!(self.form, Packed::Bf16(_))
    }

    /// Whether [`linear_halves`](crate::linear_halves) takes this weight.
    pub fn writes_halves(&self) -> bool {
        self.on_amx() && self.rounds() && self.out_features.is_multiple_of(PANEL)
    }

    /// The matrix, where it is of bf16, and what its values are.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    pub(crate) fn halves(&self) -> Option<(&HalfMatrix, crate::amx::Values)> {
        match &self.form {
            Packed::F32(_) => None,
            Packed::Bf16(matrix) => Some((matrix, crate::amx::Values::Bf16)),
            Packed::Split(matrix) => Some((matrix, crate::amx::Values::Split)),
        }
    }

    pub(crate) fn form(&self) -> Form<'_> {
        match &self.form {
            Packed::F32(data) => Form::F32(Panels {
                data,
                columns: self.out_features,
                depth: self.in_features,
            }),
            Packed::Bf16(matrix) => Form::Bf16(matrix),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Packed::Split(matrix) => Form::Split(matrix),
        }
    }
}

/// The columns of a right-hand side, read piece by piece in the order of the sum.
pub(crate) trait Columns: Sync {
    /// Writes the values from number `from` of `column` on.
    fn read(&self, column: usize, from: usize, out: &mut [f32]);
}

/// Columns one after the other, each of so many values.
pub(crate) struct Contiguous<'a>(pub(crate) &'a [f32], pub(crate) usize);

impl Columns for Contiguous<'_> {
    fn read(&self, column: usize, from: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.0[column * self.1 + from..][..out.len()]);
    }
}

/// Values of a column taken at once: 32 columns of them are 8 KiB, so that a panel is written row by row and read from the
/// first cache. Even, for rows of pairs.
const PIECE: usize = 64;

/// A few values of each column of a panel.
pub(crate) struct Piece<'a> {
    values: &'a [f32],
    /// Values of each column.
    pub(crate) len: usize,
}

impl Piece<'_> {
    /// Up to `len` values of a column from `k` on, fewer at the end of the piece.
    pub(crate) fn part(&self, column: usize, k: usize, len: usize) -> &[f32] {
        &self.values[column * PIECE..][..self.len][k.min(self.len)..self.len.min(k + len)]
    }

    /// Value `k` of a column; 0 past the end of the piece.
    #[inline]
    pub(crate) fn at(&self, column: usize, k: usize) -> f32 {
        if k < self.len {
            self.values[column * PIECE + k]
        } else {
            0.0
        }
    }
}

/// Calls `body(first value, piece)` for the pieces of a panel's columns, each of `len` values.
pub(crate) fn pieces(
    source: &impl Columns,
    columns: std::ops::Range<usize>,
    len: usize,
    mut body: impl FnMut(usize, Piece<'_>),
) {
    let mut values = [0.0; PANEL * PIECE];
    for from in (0..len).step_by(PIECE) {
        let count = PIECE.min(len - from);
        for (column, to) in columns.clone().zip(values.chunks_exact_mut(PIECE)) {
            source.read(column, from, &mut to[..count]);
        }
        body(
            from,
            Piece {
                values: &values,
                len: count,
            },
        );
    }
}

/// Checks a torch Linear weight, and that its packed form's length fits the address space.
fn check_weight(weight: &[f32], out_features: usize, in_features: usize) -> Result<()> {
    const OP: &str = "pack_matrix";
    let len = product(OP, "weight", &[out_features, in_features])?;
    check_len(OP, "weight", weight.len(), len)?;
    product(
        OP,
        "weight",
        &[
            out_features.saturating_add(PANEL),
            in_features.saturating_add(PANEL),
        ],
    )?;
    Ok(())
}
