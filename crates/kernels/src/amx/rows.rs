//! Rows of a matrix as a left side.

use std::ops::Range;

use super::blocks::{Blocks, TileRows, Values, plane_words};
use super::unit::Step;
use super::{SUMS, TILE};
use crate::half::BLOCK;
use crate::isa::{Isa, dispatch};
use crate::matmul::{Input, LeftSide, Strided};
use crate::norm::{LayerNorm, LayerRows, Normed};

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

/// Where rows come from.
pub(crate) trait Lines: Sync {
    /// Writes a part of a row into planes of `plane` words; `room` is the caller's, to work in.
    fn round(
        &self,
        place: (usize, Range<usize>),
        values: Values,
        planes: (&mut [u32], usize),
        room: &mut Vec<f32>,
    );

    /// The same of some rows, one position of the planes after the other.
    fn round_all(
        &self,
        (rows, part): (Range<usize>, Range<usize>),
        values: Values,
        (to, plane): (&mut [u32], usize),
        room: &mut Vec<f32>,
    ) {
        for (i, row) in rows.enumerate() {
            let to = &mut to[i * BLOCK..];
            self.round((row, part.clone()), values, (to, plane), room);
        }
    }
}

/// Rows of a left side that has one place.
#[derive(Debug)]
pub(crate) struct Read<'a, L>(pub(crate) &'a L);

impl<'x, L: LeftSide<'x>> Lines for Read<'_, L> {
    fn round(
        &self,
        (row, part): (usize, Range<usize>),
        values: Values,
        (to, plane): (&mut [u32], usize),
        _: &mut Vec<f32>,
    ) {
        let from = &self.0.run(self.0.row(row), self.0.tap(0))[part];
        values.round(from, to, plane);
    }
}

/// Rows to be normed: as each is read once, this costs no pass over memory.
impl Lines for LayerNorm<'_> {
    fn round(
        &self,
        (row, part): (usize, Range<usize>),
        values: Values,
        (to, plane): (&mut [u32], usize),
        room: &mut Vec<f32>,
    ) {
        let dim = self.weight.len();
        room.resize(dim, 0.0);
        let rows = LayerRows {
            call: self,
            x: &self.x[row * dim..][..dim],
            out: room,
        };
        dispatch(Isa::Amx, rows);
        values.round(&room[part], to, plane);
    }
}

/// Pixels to be normed, all those of a picture in one go where they come in whole planes.
impl Lines for Normed<'_> {
    fn round(
        &self,
        (row, part): (usize, Range<usize>),
        values: Values,
        (to, plane): (&mut [u32], usize),
        room: &mut Vec<f32>,
    ) {
        room.resize(part.len(), 0.0);
        self.pixel(self.place(row).0, part, (Isa::Amx, false), room);
        values.round(room, to, plane);
    }

    fn round_all(
        &self,
        (rows, part): (Range<usize>, Range<usize>),
        values: Values,
        (to, plane): (&mut [u32], usize),
        room: &mut Vec<f32>,
    ) {
        let together = values == Values::Bf16 && self.rounds_alike();
        let mut row = rows.start;
        while row < rows.end {
            let (place, left) = self.place(row);
            let count = left.min(rows.end - row);
            let to = &mut to[(row - rows.start) * BLOCK..];
            if !together || !self.round_run(place, count, &part, (to, plane)) {
                for i in 0..count {
                    let to = &mut to[i * BLOCK..];
                    self.round((row + i, part.clone()), values, (to, plane), room);
                }
            }
            row += count;
        }
    }
}

/// Rows of so many values that are bf16 already, two in each place.
struct HalfLines<'a>(&'a [f32], usize);

impl Lines for HalfLines<'_> {
    fn round(
        &self,
        (row, part): (usize, Range<usize>),
        _: Values,
        (to, plane): (&mut [u32], usize),
        _: &mut Vec<f32>,
    ) {
        let from = &self.0[row * self.1 / 2..][part.start / 2..part.end / 2];
        for (block, from) in from.chunks(BLOCK).enumerate() {
            let to = &mut to[block * plane..][..BLOCK];
            let (to, rest) = to.split_at_mut(from.len());
            to.iter_mut()
                .zip(from)
                .for_each(|(to, from)| *to = from.to_bits());
            if !rest.is_empty() {
                rest.fill(0);
            }
        }
    }
}

/// Rows side by side of several matrices, each with its columns, whole planes.
struct JoinedLines<'a>(&'a [(&'a [f32], usize)]);

impl Lines for JoinedLines<'_> {
    fn round(
        &self,
        (row, part): (usize, Range<usize>),
        values: Values,
        (to, plane): (&mut [u32], usize),
        _: &mut Vec<f32>,
    ) {
        let mut first = 0;
        for &(data, columns) in self.0 {
            let here = part.start.max(first)..part.end.min(first + columns);
            if !here.is_empty() {
                let from = &data[row * columns..][here.start - first..here.end - first];
                let planes = (here.start - part.start) / DEEP;
                let to = &mut to[planes * plane * values.parts()..];
                values.round(from, to, plane);
            }
            first += columns;
        }
    }
}

/// Hands `body` the rows of an input, plain values `stride` apart and `len` in number.
pub(crate) fn with_lines(
    input: &Input<'_>,
    (stride, len): (usize, usize),
    body: impl FnOnce(&dyn Lines),
) {
    match *input {
        Input::Values(x) => body(&Read(&Strided { x, stride, len })),
        Input::Normed(norm) => body(&norm),
        Input::GroupNormed(norm) => body(&norm),
        Input::Halves(x) => body(&HalfLines(x, len)),
        Input::Joined(parts) => body(&JoinedLines(parts)),
    }
}

/// Rows of `len` values each.
#[derive(Clone, Copy)]
pub(crate) struct RowBlocks<'a> {
    left: &'a dyn Lines,
    rows: usize,
    len: usize,
    values: Values,
    /// Planes rounded at once.
    at_once: usize,
    /// Rows of a block.
    high: usize,
}

impl<'a> RowBlocks<'a> {
    /// `rows` of `len` values, which meet `columns`.
    pub(crate) fn new(
        left: &'a dyn Lines,
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

impl Blocks for RowBlocks<'_> {
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

    fn pictures(&self, block: usize, pixels: usize) -> Range<usize> {
        let rows = self.of(block);
        rows.start / pixels..rows.end.div_ceil(pixels)
    }

    fn fill(&self, block: usize, planes: Range<usize>, to: &mut [u32]) {
        if planes.is_empty() {
            return;
        }
        let step = self.plane();
        let part = planes.start * DEEP..self.len.min(planes.end * DEEP);
        let rows = (self.of(block), part);
        self.left
            .round_all(rows, self.values, (to, step), &mut Vec::new());
    }

    fn steps(&self, planes: Range<usize>) -> Vec<Step> {
        let plane = self.plane() * size_of::<u32>();
        let step = |p| self.values.step((p - planes.start, 0), p * BLOCK, plane);
        planes.clone().map(step).collect()
    }
}
