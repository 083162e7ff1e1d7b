//! What a product reads.

use super::LeftSide;
use super::{PANEL, PackedMatrix};
use crate::error::{Result, check, check_len, product};
use crate::norm::{LayerNorm, Normed};

/// Rows of a product's left side.
///
/// All but the first spare a pass over memory. [`PackedMatrix::takes`] and [`PackedGeglu::takes`](crate::PackedGeglu::takes) say which
/// weights read them; they are contiguous.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// As they are.
    Values(&'a [f32]),
    /// A layer norm of them that is not carried out yet.
    Normed(LayerNorm<'a>),
    /// A group norm, not carried out yet either, of the pictures whose pixels they are.
    GroupNormed(Normed<'a>),
    /// bf16, two values in each place.
    Halves(&'a [f32]),
    /// Rows side by side of several matrices, each with its columns, a multiple of 32.
    Joined(&'a [(&'a [f32], usize)]),
}

impl<'a> From<&'a [f32]> for Input<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self::Values(values)
    }
}

impl Input<'_> {
    /// Checks the rows' length against the sizes, rows of plain values being `stride` apart.
    pub(crate) fn check(
        &self,
        op: &'static str,
        (rows, len): (usize, usize),
        stride: usize,
    ) -> Result<()> {
        let all = product(op, "x", &[rows, len])?;
        match self {
            Self::Values(x) => {
                let needed = match rows {
                    0 => 0,
                    rows => product(op, "x", &[rows - 1, stride])?.saturating_add(len),
                };
                check(
                    op,
                    "x",
                    x.len() >= needed,
                    "at least (rows - 1) * x_stride + in_features elements",
                    x.len(),
                )
            }
            Self::Normed(norm) => {
                check_len(op, "x", norm.x.len(), all)?;
                check_len(op, "norm", norm.weight.len(), len)?;
                check_len(op, "norm", norm.bias.len(), len)
            }
            Self::GroupNormed(norm) => {
                check_len(op, "norm", norm.channels(), len)?;
                check_len(op, "x", norm.len(), all)
            }
            Self::Joined(parts) => {
                check_len(op, "x", parts.iter().map(|part| part.1).sum(), len)?;
                parts.iter().try_for_each(|&(data, columns)| {
                    check_len(op, "x", data.len(), product(op, "x", &[rows, columns])?)
                })
            }
            Self::Halves(x) => {
                check(
                    op,
                    "in_features",
                    len.is_multiple_of(2),
                    "an even number for halves",
                    len,
                )?;
                check_len(op, "x", x.len(), all / 2)
            }
        }
    }
}

/// Rows of plain values, some distance apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strided<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) len: usize,
}

impl<'a> LeftSide<'a> for Strided<'a> {
    type Row = usize;
    type Tap = ();

    fn row(&self, row: usize) -> usize {
        row * self.stride
    }

    fn tap(&self, _: usize) {}

    fn run(&self, start: usize, (): ()) -> &'a [f32] {
        &self.x[start..][..self.len]
    }
}

impl PackedMatrix {
    /// Whether a product with this weight reads such rows.
    pub fn takes(&self, input: &Input<'_>) -> bool {
        match input {
            Input::Values(_) => true,
            Input::Normed(_) | Input::GroupNormed(_) => self.on_amx(),
            Input::Halves(_) => self.on_amx() && self.rounds(),
            Input::Joined(parts) => {
                self.on_amx() && parts.iter().all(|part| part.1.is_multiple_of(PANEL))
            }
        }
    }
}
