//! Runs a product: blocks of the left side by panels of the weight, on all threads.

use std::ops::Range;

use rayon::prelude::*;

use super::blocks::{Blocks, TileRows, Values};
use super::finish::Finish;
use super::recording::{Recording, Slots};
use super::task::Task;
use super::unit::Step;
use super::{SUMS, TALL, TILE};
use crate::half::HalfPanels;
use crate::isa::{Isa, dispatch_words};
use crate::matmul::PANEL;
use crate::scratch;
use crate::shared::SharedMut;

/// Tasks a thread should find, so that none waits long for the last one.
const TASKS_A_THREAD: usize = 4;
/// Values of an output that is written past the caches: more than they hold.
const STREAMED: usize = 1024 * 1024;
/// Steps of a chunk at most: a chunk of a panel and the next one, 192 KiB each, stay in L2 while all pairs of tiles pass by.
const STEPS: usize = 180;
/// Steps of a sum at most that three tiles share.
const TALL_STEPS: usize = 160;

/// A product of `W` weights of one shape with one left side.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a, B, const W: usize> {
    pub(crate) left: &'a B,
    pub(crate) weights: [HalfPanels<'a>; W],
}

/// Computes all sums and hands them to `finish`, which writes rows of as many columns as a weight has and may want sums of them.
///
/// The order of each sum depends on the left side's shape alone, so the number of threads changes no bit.
pub(crate) fn run<B: Blocks, F: Finish<W>, const W: usize>(
    work: &Work<'_, B, W>,
    finish: &F,
    out: &mut [f32],
) {
    let columns = work.weights[0].columns;
    let slots = finish
        .recorder()
        .and_then(|to| Slots::new(to, work.left, columns));
    let Some(slots) = slots else {
        return compute_blocks(work, finish, None, out);
    };
    let mut recorded = vec![0.0; slots.len()];
    let recording = Recording::new(slots, &mut recorded);
    compute_blocks(work, finish, Some(&recording), out);
    if let Some(slots) = recording.finish() {
        slots.tell(&recorded);
    }
}

fn compute_blocks<B: Blocks, F: Finish<W>, const W: usize>(
    work: &Work<'_, B, W>,
    finish: &F,
    recording: Option<&Recording<'_, '_>>,
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
    let most = tiles_of_sums(left.values(), &pieces);
    // A sum of nothing has no planes, but its tasks still take a part each.
    let words = left.plane() * left.planes_at_once().max(1) * left.values().parts();
    let compute = |block: usize, columns: Range<usize>, piece: &Piece, a: &[u32]| {
        let tiles = left.tiles(block);
        let groups = groups(&tiles, most, recording);
        let room = groups.len() * W * most * TILE * SUMS;
        scratch::with(room, |sums| {
            let task = Task {
                work,
                finish,
                tiles: &tiles,
                groups: &groups,
                high: most,
                columns,
                piece,
                a,
                sums: sums.as_mut_ptr(),
                room,
                out: &out,
                streams: piece.last && len > STREAMED,
                record: recording.filter(|_| piece.last).map(|to| (to, block)),
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
    } else {
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
}

/// Tiles of a block of sums. Three read the weight less often, which pays where the left side is in the first cache, as a window's
/// pixels are nine times out of ten; long sums wait for the second cache either way.
fn tiles_of_sums(values: Values, pieces: &[Piece]) -> usize {
    match pieces {
        [all]
            if values == Values::Bf16
                && all.steps.len() > all.planes.len()
                && all.steps.len() <= TALL_STEPS =>
        {
            TALL
        }
        _ => 2,
    }
}

/// Tiles of one block of sums each: `most`, two where no three are left, always of one picture if that matters.
fn groups(
    tiles: &[TileRows],
    most: usize,
    recording: Option<&Recording<'_, '_>>,
) -> Vec<Range<usize>> {
    let picture = |tile: &TileRows| recording.map(|to| to.picture(&tile.rows));
    let mut groups = Vec::with_capacity(tiles.len().div_ceil(2));
    let mut start = 0;
    for of_picture in tiles.chunk_by(|a, b| picture(a) == picture(b)) {
        let end = start + of_picture.len();
        while start < end {
            let left = end - start;
            // Four are twice two, so that one is left over only where there is no other.
            let count = if left == 4 { 2 } else { left.min(most) };
            groups.push(start..start + count);
            start += count;
        }
    }
    groups
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
pub(super) struct Piece {
    pub(super) planes: Range<usize>,
    pub(super) steps: Vec<Step>,
    /// Steps done for all tiles before the next ones.
    pub(super) chunk: usize,
    /// Whether the sums are whole after it.
    pub(super) last: bool,
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
