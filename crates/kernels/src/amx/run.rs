//! Runs a product: blocks of the left side by panels of the weight, on all threads.

use std::ops::Range;

use rayon::prelude::*;

use super::blocks::{Blocks, NONE, TileRows, Values};
use super::finish::{Finish, Target};
use super::products::{Apart, SplitSums};
use super::unit::{Fetch, Step, Sums, Tiles};
use super::{SUMS, TILE};
use crate::half::HalfPanels;
use crate::isa::{Isa, WordOp, dispatch_words};
use crate::matmul::{PANEL, panel_width};
use crate::scratch;
use crate::shared::SharedMut;
use crate::simd::Words;

/// Tasks a thread should find, so that none waits long for the last one.
const TASKS_A_THREAD: usize = 4;
/// Values of an output that is written past the caches: more than they hold.
const STREAMED: usize = 1024 * 1024;
/// Lines of 64 bytes of a step's part of a panel.
const LINES: usize = 32;

/// Steps of a chunk at most: a chunk of a panel and the next one, 192 KiB each, stay in L2 while all pairs of tiles pass by.
const STEPS: usize = 180;

/// Panels that a pair of tiles meets one after the other, and bytes of them at most.
const GROUP: usize = 8;
const GROUP_BYTES: usize = 192 * 1024;

/// Sums of two tiles of positions by 32 columns.
type Block = [f32; SUMS * SUMS];

/// A product of `W` weights of one shape with one left side.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a, B, const W: usize> {
    pub(crate) left: &'a B,
    pub(crate) weights: [HalfPanels<'a>; W],
}

/// Computes all sums and hands them to `finish`, which writes rows of as many columns as a weight has.
///
/// The order of each sum depends on the left side's shape alone, so the number of threads changes no bit.
pub(crate) fn run<B: Blocks, F: Finish<W>, const W: usize>(
    work: &Work<'_, B, W>,
    finish: &F,
    out: &mut [f32],
) {
    let left = work.left;
    let columns = work.weights[0].columns;
    assert!(
        work.weights.iter().all(|w| w.columns == columns) && left.count() > 0,
        "sizes of a product disagree, this is a bug"
    );
    let panels = columns.div_ceil(PANEL);
    let wanted = TASKS_A_THREAD * rayon::current_num_threads();
    let splits = if rayon::current_num_threads() == 1 {
        1
    } else {
        wanted.div_ceil(left.count()).min(panels)
    };
    let split =
        |i: usize| (i * panels / splits * PANEL)..((i + 1) * panels / splits * PANEL).min(columns);
    let len = out.len();
    let out = SharedMut::new(out);
    let pieces = pieces(left);
    assert!(
        F::ADDS || pieces.len() == 1,
        "a result of part of its sums, this is a bug"
    );
    // A sum of nothing has no planes, but its tasks still take a part each.
    let words = left.plane() * left.planes_at_once().max(1) * left.values().parts();
    let compute = |block: usize, columns: Range<usize>, piece: &Piece, a: &[u32]| {
        let tiles = left.tiles(block);
        let room = tiles.len().div_ceil(2) * W * SUMS * SUMS;
        scratch::with(room, |sums| {
            let task = Task {
                work,
                finish,
                tiles: &tiles,
                columns,
                piece,
                a,
                sums: sums.as_mut_ptr(),
                room,
                out: &out,
                streams: piece.last && len > STREAMED,
            };
            task.check();
            dispatch_words(Isa::Amx, task);
        });
    };
    if splits == 1 {
        (0..left.count()).into_par_iter().for_each(|block| {
            scratch::with_words(words, |a| {
                for piece in &pieces {
                    left.fill(block, piece.planes.clone(), a);
                    compute(block, 0..columns, piece, a);
                }
            });
        });
        return;
    }
    scratch::with_words(words * left.count(), |a| {
        for piece in &pieces {
            fill(left, piece.planes.clone(), a);
            let a = &*a;
            (0..left.count() * splits).into_par_iter().for_each(|task| {
                let block = task % left.count();
                compute(
                    block,
                    split(task / left.count()),
                    piece,
                    &a[block * words..][..words],
                );
            });
        }
    });
}

/// Fills blocks that lie one after the other: some planes a task, where there are fewer blocks than threads have use for.
fn fill(left: &impl Blocks, planes: Range<usize>, to: &mut [u32]) {
    let plane = left.plane() * left.values().parts();
    let block = plane * left.planes_at_once().max(1);
    let tasks = rayon::current_num_threads().div_ceil(left.count()).max(1);
    let together = planes.len().div_ceil(tasks).max(1);
    to.par_chunks_mut(block).enumerate().for_each(|(i, to)| {
        let to = &mut to[..planes.len() * plane];
        to.par_chunks_mut(together * plane)
            .enumerate()
            .for_each(|(j, to)| {
                let first = planes.start + j * together;
                left.fill(i, first..planes.end.min(first + together), to);
            });
    });
}

/// Planes rounded at once, and their part of the sum.
struct Piece {
    planes: Range<usize>,
    steps: Vec<Step>,
    /// Steps done for all tiles before the next ones.
    chunk: usize,
    /// Whether the sums are whole after it.
    last: bool,
}

fn pieces(left: &impl Blocks) -> Vec<Piece> {
    let (planes, at_once) = (left.planes(), left.planes_at_once());
    (0..planes.max(1))
        .step_by(at_once.max(1))
        .map(|start| {
            let planes = start..planes.min(start + at_once);
            let steps = left.steps(planes.clone());
            // Whole planes, so that one chunk's steps are as far apart in a panel as another's.
            let places = (steps.len() / planes.len().max(1)).max(1);
            let most = STEPS / left.values().products() / places;
            let chunks = steps.len().div_ceil(most.max(1) * places).max(1);
            Piece {
                chunk: planes.len().div_ceil(chunks) * places,
                steps,
                last: planes.end == left.planes(),
                planes,
            }
        })
        .collect()
}

/// What each pair of tiles fetches of the weight, so that all of the next chunk is there when its turn comes.
#[derive(Clone, Copy)]
struct Ahead {
    pairs: usize,
    /// Bytes from this chunk to the next one, of this panel or the next; 0 where there is none.
    bytes: usize,
}

impl Ahead {
    #[inline(always)]
    fn at(self, pair: usize) -> Fetch {
        let many = self.pairs * Fetch::lines(false) < LINES;
        let line = pair * Fetch::lines(many);
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
struct Task<'a, B, F, const W: usize> {
    work: &'a Work<'a, B, W>,
    finish: &'a F,
    tiles: &'a [TileRows],
    columns: Range<usize>,
    piece: &'a Piece,
    a: &'a [u32],
    /// Room for blocks of sums.
    sums: *mut f32,
    room: usize,
    out: &'a SharedMut<'a>,
    streams: bool,
}

impl<B: Blocks, F: Finish<W>, const W: usize> Task<'_, B, F, W> {
    /// Checks what the computation relies on.
    fn check(&self) {
        let pairs = self.tiles.len().div_ceil(2);
        assert!(
            self.room >= pairs * W * SUMS * SUMS,
            "no room for sums, this is a bug"
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
            // Some panels for each pair of tiles, so that a row of the output is written in long pieces.
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
        let pairs = self.tiles.len().div_ceil(2);
        let mut start = 0;
        while start < steps.len() {
            let end = steps.len().min(start + self.piece.chunk);
            let passed = |step: usize| steps.get(step).map_or(0, |at| at.b - steps[0].b) * word;
            let fetch = Ahead {
                pairs,
                bytes: if end < steps.len() {
                    passed(end) - passed(start)
                } else if column + PANEL < self.columns.end {
                    depth * word - passed(start)
                } else {
                    0
                },
            };
            let mut pair = 0;
            while pair < pairs {
                // SAFETY: `check` has found room for the sums of all pairs.
                unsafe { self.block(s, tiles, (pair, column), (start..end, pair), fetch) };
                pair += 1;
            }
            start = end;
        }
    }

    /// Some panels, whose sums are whole at once.
    #[inline(always)]
    fn group<S: Words>(&self, s: S, tiles: &Tiles, columns: Range<usize>) {
        let depth = self.work.weights[0].depth;
        let pairs = self.tiles.len().div_ceil(2);
        let ahead = columns.len() * depth * size_of::<u32>();
        let fetch = Ahead {
            pairs,
            bytes: if columns.end < self.columns.end {
                ahead
            } else {
                0
            },
        };
        let mut pair = 0;
        while pair < pairs {
            let mut column = columns.start;
            while column < columns.end {
                let all = 0..self.piece.steps.len();
                // SAFETY: `check` has found room for the sums of a pair or more.
                unsafe { self.block(s, tiles, (pair, column), (all, 0), fetch) };
                column += PANEL;
            }
            pair += 1;
        }
    }

    /// The block of a pair of tiles and the panel at `column`: some steps of its sums, which lie at `place`, and with the last ones
    /// what becomes of them.
    ///
    /// # Safety
    /// There is room for `place + 1` blocks of sums.
    #[inline(always)]
    unsafe fn block<S: Words>(
        &self,
        s: S,
        tiles: &Tiles,
        (pair, column): (usize, usize),
        (steps, place): (Range<usize>, usize),
        fetch: Ahead,
    ) {
        let (columns, depth) = (self.work.weights[0].columns, self.work.weights[0].depth);
        let width = panel_width(columns, column);
        let first = &self.tiles[2 * pair];
        let second = self.tiles.get(2 * pair + 1);
        let target = Target {
            out: self.out,
            rows: [first.rows, second.map_or([NONE; TILE], |tile| tile.rows)],
            columns,
            start: column,
            count: width.min(columns - column),
            adds: self.piece.planes.start > 0,
            streams: self.streams,
        };
        let last = steps.end == self.piece.steps.len();
        if last {
            target.fetch(s, self.finish);
        }
        // SAFETY: the caller's promise; the sums are this task's own.
        let sums = unsafe { &mut *self.sums.cast::<[Block; W]>().add(place) };
        let (adds, split) = (steps.start > 0, self.work.left.values() == Values::Split);
        let apart = Apart {
            a: self.plane(),
            b: self.deep() * width * size_of::<u32>(),
        };
        let mut w = 0;
        while w < W {
            let steps = &self.piece.steps[steps.clone()];
            let block = Sums {
                a: [
                    self.a[first.at..].as_ptr(),
                    self.a[second.unwrap_or(first).at..].as_ptr(),
                ],
                a_row: self.work.left.row_bytes(),
                b: self.work.weights[w].data[column * depth..].as_ptr(),
                b_row: width * size_of::<u32>(),
                steps: if split { &[] } else { steps },
                adds,
                fetch: fetch.at(pair),
            };
            // SAFETY: `check` has compared the places of all tiles and steps with both sides; a narrow panel's tiles are followed by
            // one more, as `HalfPanels::is_whole` says.
            unsafe {
                if split {
                    let block = SplitSums {
                        sums: block,
                        split: steps,
                        apart,
                        parts: self.parts(),
                    };
                    block.compute(tiles, &mut sums[w]);
                } else {
                    block.compute(tiles, &mut sums[w]);
                }
            }
            w += 1;
        }
        if last {
            // SAFETY: this task alone writes the block's rows and these columns.
            unsafe { self.finish.write(s, &target, sums) };
        }
    }
}
