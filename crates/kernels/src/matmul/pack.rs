//! Layout of the right-hand matrix: panels of 32 columns, k-major inside, as the micro-kernel reads them.
//!
//! Panel p holds columns 32 p and on: `[k][width]`, width 32, or 16 for a last panel of at most 16 columns; missing columns
//! are 0. One layout serves all instruction sets: each reads a panel in strips of two of its vectors.

use rayon::prelude::*;

use crate::error::{Result, check_len, product};
use crate::half::HalfMatrix;

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
    F32(Vec<f32>),
    Bf16(HalfMatrix),
}

/// The same, borrowed.
pub(crate) enum Form<'a> {
    F32(Panels<'a>),
    Bf16(&'a HalfMatrix),
}

impl PackedMatrix {
    /// Packs a torch Linear weight: `weight: (out_features, in_features)`, contiguous.
    ///
    /// # Errors
    /// The length of `weight` is not `out_features * in_features`.
    pub fn from_out_in(weight: &[f32], out_features: usize, in_features: usize) -> Result<Self> {
        check_weight(weight, out_features, in_features)?;
        Ok(Self::from_columns(out_features, in_features, |column| {
            weight[column * in_features..(column + 1) * in_features]
                .iter()
                .copied()
        }))
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
        Ok(Self::bf16_from_columns(
            out_features,
            in_features,
            |column| {
                weight[column * in_features..(column + 1) * in_features]
                    .iter()
                    .copied()
            },
        ))
    }

    /// As [`PackedMatrix::from_columns`], rounded to bf16.
    pub(crate) fn bf16_from_columns<I: Iterator<Item = f32>>(
        out_features: usize,
        in_features: usize,
        column_at: impl Fn(usize) -> I + Sync,
    ) -> Self {
        let matrix = HalfMatrix::from_columns(out_features, in_features, column_at);
        Self {
            form: Packed::Bf16(matrix),
            out_features,
            in_features,
        }
    }

    /// Packs the matrix whose output column is given as its `in_features` values in the order of the sum; on all threads.
    pub(crate) fn from_columns<I: Iterator<Item = f32>>(
        out_features: usize,
        in_features: usize,
        column_at: impl Fn(usize) -> I + Sync,
    ) -> Self {
        let mut data = vec![0.0; packed_len(out_features, in_features)];
        if in_features > 0 {
            data.par_chunks_mut(PANEL * in_features)
                .enumerate()
                .for_each(|(panel, out)| {
                    let start = panel * PANEL;
                    let width = panel_width(out_features, start);
                    for column in 0..width.min(out_features - start) {
                        let mut at = column;
                        column_at(start + column).for_each(|value| {
                            out[at] = value;
                            at += width;
                        });
                    }
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

    /// Bytes it takes in memory.
    pub fn bytes(&self) -> usize {
        match &self.form {
            Packed::F32(data) => data.len() * size_of::<f32>(),
            Packed::Bf16(matrix) => matrix.bytes(),
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
        }
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
