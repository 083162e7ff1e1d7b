//! What a left side is to the unit: blocks of positions in planes of 32 channels.

use std::ops::Range;

use super::split::{PARTS, PRODUCTS, Split};
use super::unit::Step;
use super::{SUMS, TILE};
use crate::half::Convert;
use crate::isa::{Isa, dispatch_words};

/// Output row of a tile's row that has none.
pub(super) const NONE: u32 = u32::MAX;

/// Sixteen positions of a block next to each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TileRows {
    /// Word of the first position in a plane.
    pub(crate) at: usize,
    /// Output row of each, or [`NONE`].
    pub(crate) rows: [u32; TILE],
}

impl TileRows {
    /// Sixteen or fewer rows from `first` on, whose positions start at word `at`.
    pub(super) fn consecutive(at: usize, first: usize, count: usize) -> Self {
        let row = |i| {
            if i < count { (first + i) as u32 } else { NONE }
        };
        Self {
            at,
            rows: std::array::from_fn(row),
        }
    }
}

/// What the values of both sides are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    /// bf16.
    Bf16,
    /// f32 in three parts.
    Split,
}

impl Values {
    /// Parts of a value.
    pub(crate) fn parts(self) -> usize {
        match self {
            Self::Bf16 => 1,
            Self::Split => PARTS,
        }
    }

    /// Rounds values of some planes of `plane` words; parts of one plane lie one after the other.
    pub(crate) fn round(self, from: &[f32], to: &mut [u32], plane: usize) {
        match self {
            Self::Bf16 => dispatch_words(
                Isa::Amx,
                Convert {
                    from,
                    factor: 1.0,
                    to,
                    step: plane,
                },
            ),
            Self::Split => dispatch_words(
                Isa::Amx,
                Split {
                    from,
                    to,
                    step: PARTS * plane,
                    apart: plane,
                },
            ),
        }
    }

    /// Products of parts that a step takes.
    pub(super) fn products(self) -> usize {
        match self {
            Self::Bf16 => 1,
            Self::Split => PRODUCTS,
        }
    }

    /// The step of 32 elements whose first parts lie `a` bytes from where a plane of the left side starts, and at word `b` of the
    /// weight; the plane is the one at `index` of those rounded, each of whose parts has `plane` bytes.
    pub(super) fn step(self, (index, a): (usize, usize), b: usize, plane: usize) -> Step {
        Step {
            a: index * self.parts() * plane + a,
            b,
        }
    }
}

/// A left side cut into blocks that fit L2, each rounded to bf16 when its turn comes.
pub(crate) trait Blocks: Sync {
    /// How many there are.
    fn count(&self) -> usize;
    /// What is multiplied.
    fn values(&self) -> Values;
    /// Words of a plane of any block.
    fn plane(&self) -> usize;
    /// Planes there are: the sum's elements are 32 times as many, times the window's places.
    fn planes(&self) -> usize;
    /// Planes rounded at once.
    fn planes_at_once(&self) -> usize;
    /// Bytes from a tile's position to the next.
    fn row_bytes(&self) -> usize;
    /// The tiles of a block.
    fn tiles(&self, block: usize) -> Vec<TileRows>;
    /// Those of the pictures, of `pixels` output rows each, that a block has some rows of.
    fn pictures(&self, block: usize, pixels: usize) -> Range<usize>;
    /// Writes some planes of a block, the parts of each one after the other; what lies between positions that count does not matter.
    fn fill(&self, block: usize, planes: Range<usize>, to: &mut [u32]);
    /// The elements of the sum in these planes, in the order they are added: where the first parts of both sides lie.
    fn steps(&self, planes: Range<usize>) -> Vec<Step>;
}

/// Words of a plane of `positions`: an odd number of cache lines, so that planes do not fall on the same sets of a cache. Past
/// the last position a tile may be read that starts there.
pub(super) fn plane_words(positions: usize) -> usize {
    ((positions + SUMS) | 1) * TILE
}
