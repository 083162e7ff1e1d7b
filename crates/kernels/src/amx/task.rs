//! Some columns of one block of the left side: what a thread computes at a time.

use std::ops::Range;

use super::blocks::{Blocks, NONE, TileRows, Values};
use super::finish::{Finish, Target};
use super::products::{Apart, SplitSums};
use super::recording::Recording;
use super::run::{Piece, Work};
use super::tall::TallSums;
use super::unit::{Fetch, Sums, Tiles};
use super::{SUMS, TALL, TILE};
use crate::isa::WordOp;
use crate::matmul::{PANEL, panel_width};
use crate::shared::SharedMut;
use crate::simd::Words;

/// Lines of 64 bytes of a step's part of a panel.
const LINES: usize = 32;

/// Panels that a group of tiles meets one after the other, and bytes of them at most.
const GROUP: usize = 8;
const GROUP_BYTES: usize = 192 * 1024;

/// What each group of tiles fetches of the weight, so that all of the next chunk is there when its turn comes.
#[derive(Clone, Copy)]
struct Ahead {
    groups: usize,
    /// Bytes from this chunk to the next one, of this panel or the next; 0 where there is none.
    bytes: usize,
}

impl Ahead {
    #[inline(always)]
    fn at(self, group: usize) -> Fetch {
        let many = self.groups * Fetch::lines(false) < LINES;
        let line = group * Fetch::lines(many);
        Fetch {
            ahead: if line < LINES {
                self.bytes + line * 64
            } else {
                0
            },
            many,
        }
    }
}

/// Some columns of one block.
pub(super) struct Task<'a, B, F, const W: usize> {
    pub(super) work: &'a Work<'a, B, W>,
    pub(super) finish: &'a F,
    pub(super) tiles: &'a [TileRows],
    /// The tiles of each block of sums.
    pub(super) groups: &'a [Range<usize>],
    /// Tiles of a block of sums at most.
    pub(super) high: usize,
    pub(super) columns: Range<usize>,
    pub(super) piece: &'a Piece,
    pub(super) a: &'a [u32],
    /// Room for blocks of sums.
    pub(super) sums: *mut f32,
    pub(super) room: usize,
    pub(super) out: &'a SharedMut<'a>,
    pub(super) streams: bool,
    /// Who is told the sums of what is written, and the block's number.
    pub(super) record: Option<(&'a Recording<'a, 'a>, usize)>,
}

/// What a block of sums is made of.
struct Spot {
    /// First positions of its tiles.
    a: [*const u32; TALL],
    /// Whether there are three.
    tall: bool,
    /// The panel.
    b: *const u32,
    /// Columns of the panel.
    width: usize,
    steps: Range<usize>,
    fetch: Fetch,
}

impl<B: Blocks, F: Finish<W>, const W: usize> Task<'_, B, F, W> {
    /// Checks what the computation relies on.
    pub(super) fn check(&self) {
        assert!(
            self.room >= self.groups.len() * W * self.high * TILE * SUMS,
            "no room for sums, this is a bug"
        );
        assert!(
            self.groups
                .iter()
                .all(|group| (1..=self.high).contains(&group.len())),
            "a group of too many tiles, this is a bug"
        );
        assert!(
            (2..=TALL).contains(&self.high),
            "blocks too high, this is a bug"
        );
        let left = self.work.left;
        let steps = &self.piece.steps;
        let others = left.values().parts() - 1;
        let reach = steps.iter().map(|step| step.a).max().unwrap_or(0) + others * self.plane();
        let last = self.tiles.iter().map(|tile| tile.at).max().unwrap_or(0) * size_of::<u32>();
        let read = last + reach + (TILE - 1) * left.row_bytes() + 64;
        assert!(
            steps.is_empty() || read <= size_of_val(self.a),
            "a tile leaves the left side, this is a bug"
        );
        let word = steps.iter().map(|step| step.b + TILE).max().unwrap_or(0);
        for weight in &self.work.weights {
            let last = word + (weight.parts - 1) * self.deep();
            assert!(
                last <= weight.depth && weight.is_whole() && weight.parts == self.parts(),
                "a step leaves the weight, this is a bug"
            );
        }
    }

    /// Bytes from a part of the left side to the next.
    fn plane(&self) -> usize {
        self.work.left.plane() * size_of::<u32>()
    }

    /// Parts of a weight's values.
    fn parts(&self) -> usize {
        self.work.weights[0].parts
    }

    /// Words from a part of a weight to the next.
    fn deep(&self) -> usize {
        self.work.weights[0].depth / self.parts()
    }
}

impl<B: Blocks, F: Finish<W>, const W: usize> WordOp for Task<'_, B, F, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Words>(self, s: S) {
        // SAFETY: this runs where `Isa::Amx` is, which is handed out only where AMX is ready; nothing below configures tiles.
        let tiles = unsafe { Tiles::configure() };
        let steps = self.piece.steps.len();
        if self.piece.chunk < steps {
            let mut column = self.columns.start;
            while column < self.columns.end {
                self.chunks(s, &tiles, column);
                column += PANEL;
            }
        } else {
            // Some panels for each group of tiles, so that a row of the output is written in long pieces.
            let bytes = steps.max(1) * self.parts() * LINES * 64;
            let group = (GROUP_BYTES / bytes).clamp(1, GROUP) * PANEL;
            let mut column = self.columns.start;
            while column < self.columns.end {
                let end = self.columns.end.min(column + group);
                self.group(s, &tiles, column..end);
                column = end;
            }
        }
        if self.streams {
            s.fence();
        }
    }
}

impl<B: Blocks, F: Finish<W>, const W: usize> Task<'_, B, F, W> {
    /// A panel of columns, chunk by chunk of the sum.
    #[inline(always)]
    fn chunks<S: Words>(&self, s: S, tiles: &Tiles, column: usize) {
        let steps = &self.piece.steps;
        let (columns, depth) = (self.work.weights[0].columns, self.work.weights[0].depth);
        let word = panel_width(columns, column) * size_of::<u32>();
        let groups = self.groups.len();
        let mut start = 0;
        while start < steps.len() {
            let end = steps.len().min(start + self.piece.chunk);
            let passed = |step: usize| steps.get(step).map_or(0, |at| at.b - steps[0].b) * word;
            let fetch = Ahead {
                groups,
                bytes: if end < steps.len() {
                    passed(end) - passed(start)
                } else if column + PANEL < columns {
                    depth * word - passed(start)
                } else {
                    0
                },
            };
            let mut group = 0;
            while group < groups {
                // SAFETY: `check` has found room for the sums of all groups.
                unsafe { self.block(s, tiles, (group, column), (start..end, group), fetch) };
                group += 1;
            }
            start = end;
        }
    }

    /// Some panels, whose sums are whole at once.
    #[inline(always)]
    fn group<S: Words>(&self, s: S, tiles: &Tiles, columns: Range<usize>) {
        let depth = self.work.weights[0].depth;
        let groups = self.groups.len();
        let ahead = columns.len() * depth * size_of::<u32>();
        let fetch = Ahead {
            groups,
            bytes: if columns.end < self.work.weights[0].columns {
                ahead
            } else {
                0
            },
        };
        let mut group = 0;
        while group < groups {
            let mut column = columns.start;
            while column < columns.end {
                let all = 0..self.piece.steps.len();
                // SAFETY: `check` has found room for the sums of a group or more.
                unsafe { self.block(s, tiles, (group, column), (all, 0), fetch) };
                column += PANEL;
            }
            group += 1;
        }
    }

    /// The block of a group of tiles and the panel at `column`: some steps of its sums, which lie at `place`, and with the last ones
    /// what becomes of them.
    ///
    /// # Safety
    /// There is room for `place + 1` blocks of sums.
    #[inline(always)]
    unsafe fn block<S: Words>(
        &self,
        s: S,
        tiles: &Tiles,
        (group, column): (usize, usize),
        (steps, place): (Range<usize>, usize),
        fetch: Ahead,
    ) {
        let (columns, depth) = (self.work.weights[0].columns, self.work.weights[0].depth);
        let width = panel_width(columns, column);
        let group_tiles = &self.tiles[self.groups[group].clone()];
        let mut rows = [[NONE; TILE]; TALL];
        let mut a = [self.a[group_tiles[0].at..].as_ptr(); TALL];
        let mut i = 0;
        while i < group_tiles.len() {
            rows[i] = group_tiles[i].rows;
            a[i] = self.a[group_tiles[i].at..].as_ptr();
            i += 1;
        }
        let tall = group_tiles.len() == TALL;
        let last = steps.end == self.piece.steps.len();
        let target = Target {
            out: self.out,
            rows,
            high: if tall { TALL * TILE } else { SUMS },
            columns,
            start: column,
            count: width.min(columns - column),
            adds: self.piece.planes.start > 0,
            streams: self.streams,
            slot: self
                .record
                .filter(|_| last)
                .and_then(|(to, block)| to.slot(block, rows.as_flattened())),
        };
        if last {
            target.fetch(s, self.finish);
        }
        // SAFETY: the caller's promise; the sums are this task's own.
        let sums: [&mut [f32]; W] = std::array::from_fn(|w| unsafe {
            let len = self.high * TILE * SUMS;
            std::slice::from_raw_parts_mut(self.sums.add((place * W + w) * len), len)
        });
        let mut w = 0;
        while w < W {
            let spot = Spot {
                a,
                tall,
                b: self.work.weights[w].data[column * depth..].as_ptr(),
                width,
                steps: steps.clone(),
                fetch: fetch.at(group),
            };
            // SAFETY: `check` has compared the places of all tiles and steps with both sides; a narrow panel's tiles are followed by
            // one more, as `HalfPanels::is_whole` says.
            unsafe { self.multiply(tiles, &spot, &mut *sums[w]) };
            w += 1;
        }
        if last {
            // SAFETY: this task alone writes the block's rows and these columns.
            unsafe { self.finish.write(s, &target, sums.map(|sums| &*sums)) };
        }
    }

    /// Some steps of a block of sums.
    ///
    /// # Safety
    /// All places that the steps reach of both sides are readable, 16 rows of 64 bytes each.
    #[inline(always)]
    unsafe fn multiply(&self, tiles: &Tiles, spot: &Spot, to: &mut [f32]) {
        let split = self.work.left.values() == Values::Split;
        let steps = &self.piece.steps[spot.steps.clone()];
        let sums = Sums {
            a: [spot.a[0], spot.a[1]],
            a_row: self.work.left.row_bytes(),
            b: spot.b,
            b_row: spot.width * size_of::<u32>(),
            steps: if split { &[] } else { steps },
            adds: spot.steps.start > 0,
            fetch: spot.fetch,
        };
        // SAFETY: the caller's promise.
        unsafe {
            if spot.tall {
                let to = to.first_chunk_mut().expect("room for three tiles");
                let third = spot.a[2];
                return TallSums { sums, third }.compute(tiles, to);
            }
            let to = to.first_chunk_mut().expect("room for two tiles");
            if split {
                let apart = Apart {
                    a: self.plane(),
                    b: self.deep() * spot.width * size_of::<u32>(),
                };
                let block = SplitSums {
                    sums,
                    split: steps,
                    apart,
                    parts: self.parts(),
                };
                block.compute(tiles, to);
            } else {
                sums.compute(tiles, to);
            }
        }
    }
}
