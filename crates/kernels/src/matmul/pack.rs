//! Layout of the right-hand matrix: panels of 32 columns, k-major inside, as the micro-kernel reads them.
//!
//! Panel p holds columns 32 p and on: `[k][width]`, width 32, or 16 for a last panel of at most 16 columns; missing columns
//! are 0. One layout serves all instruction sets: each reads a panel in strips of two of its vectors.

use crate::error::{Result, check_len, product};

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
    data: Vec<f32>,
    out_features: usize,
    in_features: usize,
}

impl PackedMatrix {
    /// Packs a torch Linear weight: `weight: (out_features, in_features)`, contiguous.
    ///
    /// # Errors
    /// The length of `weight` is not `out_features * in_features`.
    pub fn from_out_in(weight: &[f32], out_features: usize, in_features: usize) -> Result<Self> {
        let len = product("pack_matrix", "weight", &[out_features, in_features])?;
        check_len("pack_matrix", "weight", weight.len(), len)?;
        product(
            "pack_matrix",
            "weight",
            &[out_features.saturating_add(PANEL), in_features],
        )?;
        Ok(Self::from_fn(out_features, in_features, |column, k| {
            weight[column * in_features + k]
        }))
    }

    /// Packs the matrix whose element for output `column` and sum index `k` is `at(column, k)`.
    pub(crate) fn from_fn(
        out_features: usize,
        in_features: usize,
        at: impl Fn(usize, usize) -> f32,
    ) -> Self {
        let mut data = vec![0.0; packed_len(out_features, in_features)];
        for start in (0..out_features).step_by(PANEL) {
            let width = panel_width(out_features, start);
            let panel = &mut data[start * in_features..];
            for column in 0..width.min(out_features - start) {
                for k in 0..in_features {
                    panel[k * width + column] = at(start + column, k);
                }
            }
        }
        Self {
            data,
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

    pub(crate) fn panels(&self) -> Panels<'_> {
        Panels {
            data: &self.data,
            columns: self.out_features,
            depth: self.in_features,
        }
    }
}
