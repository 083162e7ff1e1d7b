//! Rows of a matrix as a left side.

use std::ops::Range;

use super::blocks::{Blocks, TileRows, Values, plane_words};
use super::unit::Step;
use super::{SUMS, TILE};
use crate::half::BLOCK;
use crate::matmul::LeftSide;

/// Elements of a plane's position.
pub(super) const DEEP: usize = 2 * BLOCK;
/// Rows of a block at most: beyond, a weight's panels pass by often enough to cost nothing.
const ROWS: usize = 512;
/// Rows of a block where the whole weight stays in L2.
const FEW_ROWS: usize = 256;
/// Bytes of a block at most: of an L2 of 2 MiB, what two chunks of a weight leave.
pub(super) const BYTES: usize = 1344 * 1024;
/// Planes rounded at once, so that a long sum leaves room for rows.
const PLANES: usize = 80;

/// Rows of `len` values each.
#[derive(Clone, Copy)]
pub(crate) struct RowBlocks<'a, L> {
    left: &'a L,
    rows: usize,
    len: usize,
    values: Values,
    /// Planes rounded at once.
    at_once: usize,
    /// Rows of a block.
    high: usize,
}

impl<'a, L> RowBlocks<'a, L> {
    /// `rows` of `len` values, which meet `columns`.
    pub(crate) fn new(
        left: &'a L,
        rows: usize,
        (len, columns): (usize, usize),
        values: Values,
    ) -> Self {
        let planes = len.div_ceil(DEEP).clamp(1, PLANES / values.parts()) * values.parts();
        let few = len * columns * 2 <= BYTES * 2 / 3 && rows > 4 * ROWS;
        let limit = if few { FEW_ROWS } else { ROWS };
        let most = (BYTES / (planes * 2 * DEEP) / SUMS * SUMS).clamp(2 * SUMS, limit);
        let blocks = rows.div_ceil(most).max(1);
        Self {
            left,
            rows,
            len,
            values,
            at_once: PLANES / values.parts(),
            high: rows.div_ceil(blocks).next_multiple_of(SUMS),
        }
    }

    /// The same with all planes rounded at once, for results that are not sums of sums.
    pub(crate) fn whole(self) -> Self {
        let planes = self.len.div_ceil(DEEP).max(1);
        let bytes = planes * self.values.parts() * 2 * DEEP;
        let most = (BYTES / bytes / SUMS * SUMS).max(2 * SUMS);
        Self {
            at_once: planes,
            high: self.high.min(most),
            ..self
        }
    }

    fn of(&self, block: usize) -> Range<usize> {
        block * self.high..self.rows.min((block + 1) * self.high)
    }
}

impl<'x, L: LeftSide<'x>> Blocks for RowBlocks<'_, L> {
    fn count(&self) -> usize {
        self.rows.div_ceil(self.high)
    }

    fn values(&self) -> Values {
        self.values
    }

    fn plane(&self) -> usize {
        plane_words(self.high)
    }

    fn planes(&self) -> usize {
        self.len.div_ceil(DEEP)
    }

    fn planes_at_once(&self) -> usize {
        let (planes, most) = (self.planes(), self.at_once);
        planes.div_ceil(planes.div_ceil(most).max(1))
    }

    fn row_bytes(&self) -> usize {
        2 * DEEP
    }

    fn tiles(&self, block: usize) -> Vec<TileRows> {
        let rows = self.of(block);
        rows.clone()
            .step_by(TILE)
            .map(|first| {
                let at = (first - rows.start) * BLOCK;
                TileRows::consecutive(at, first, TILE.min(rows.end - first))
            })
            .collect()
    }

    fn fill(&self, block: usize, planes: Range<usize>, to: &mut [u32]) {
        if planes.is_empty() {
            return;
        }
        let step = self.plane();
        let part = planes.start * DEEP..self.len.min(planes.end * DEEP);
        for (i, row) in self.of(block).enumerate() {
            let from = &self.left.run(self.left.row(row), self.left.tap(0))[part.clone()];
            self.values.round(from, &mut to[i * BLOCK..], step);
        }
    }

    fn steps(&self, planes: Range<usize>) -> Vec<Step> {
        let parts = (self.plane() * size_of::<u32>(), self.planes() * BLOCK);
        planes
            .clone()
            .flat_map(|p| self.values.steps((p - planes.start, 0), p * BLOCK, parts))
            .collect()
    }
}
