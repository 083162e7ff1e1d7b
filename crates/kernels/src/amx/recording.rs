//! Sums of a result's channels, taken while it is written, for the group norm that follows.

use std::sync::atomic::{AtomicBool, Ordering};

use super::SUMS;
use super::blocks::{Blocks, NONE};
use crate::norm::Recorder;
use crate::shared::SharedMut;
use crate::simd::Words;

/// What is kept of each column: how many values, their pivot, the sum of the values less the pivot, and of their squares.
const KEPT: usize = 4;

/// Room for the sums of each picture that a block has a part of.
pub(super) struct Slots<'a> {
    recorder: &'a Recorder,
    columns: usize,
    /// The first slot of each block.
    first: Vec<usize>,
    /// The picture of each slot.
    pictures: Vec<usize>,
}

impl<'a> Slots<'a> {
    /// `None` where panels are not whole.
    pub(super) fn new(recorder: &'a Recorder, left: &impl Blocks, columns: usize) -> Option<Self> {
        let (mut first, mut pictures) = (Vec::with_capacity(left.count()), Vec::new());
        for block in 0..left.count() {
            first.push(pictures.len());
            pictures.extend(left.pictures(block, recorder.pixels()));
        }
        columns.is_multiple_of(SUMS).then_some(Self {
            recorder,
            columns,
            first,
            pictures,
        })
    }

    /// Values of all.
    pub(super) fn len(&self) -> usize {
        self.pictures.len() * KEPT * self.columns
    }

    /// Tells the recorder what the slots hold.
    pub(super) fn tell(&self, values: &[f32]) {
        let slots = values.chunks_exact(KEPT * self.columns);
        for (&picture, slot) in self.pictures.iter().zip(slots) {
            let [count, pivot, sum, square] =
                std::array::from_fn(|k| &slot[k * self.columns..][..self.columns]);
            let count = count[0] as usize;
            self.recorder.add(picture, count, [pivot, sum, square]);
        }
    }
}

/// Slots and their values, which start at 0.
pub(super) struct Recording<'r, 'v> {
    slots: Slots<'r>,
    values: SharedMut<'v>,
    /// Whether two pictures met in one tile, whose sums nobody took.
    met: AtomicBool,
}

impl<'r, 'v> Recording<'r, 'v> {
    pub(super) fn new(slots: Slots<'r>, values: &'v mut [f32]) -> Self {
        assert_eq!(
            slots.len(),
            values.len(),
            "room for other slots, this is a bug"
        );
        Self {
            slots,
            values: SharedMut::new(values),
            met: AtomicBool::new(false),
        }
    }

    /// The picture of a tile's first row that counts.
    pub(super) fn picture(&self, rows: &[u32]) -> Option<usize> {
        let first = rows.iter().find(|row| **row != NONE)?;
        Some(*first as usize / self.slots.recorder.pixels())
    }

    /// Where the sums of some tiles go, whose output rows are given in rising order; `None` if nothing counts or pictures meet.
    pub(super) fn slot(&self, block: usize, rows: &[u32]) -> Option<Slot<'v>> {
        let pixels = self.slots.recorder.pixels();
        let counts = |row: &&u32| **row != NONE;
        let first = *rows.iter().find(counts)? as usize / pixels;
        let last = *rows.iter().rfind(counts)? as usize / pixels;
        if first != last {
            self.met.store(true, Ordering::Relaxed);
            return None;
        }
        let start = self.slots.first[block];
        let slot = start + first - self.slots.pictures[start];
        Some(Slot {
            values: self.values,
            at: slot * KEPT * self.slots.columns,
            columns: self.slots.columns,
        })
    }

    /// The slots, once all is written, unless pictures met.
    pub(super) fn finish(self) -> Option<Slots<'r>> {
        (!self.met.into_inner()).then_some(self.slots)
    }
}

/// Where the sums of some rows are kept.
pub(super) struct Slot<'a> {
    values: SharedMut<'a>,
    at: usize,
    columns: usize,
}

impl<'a> Slot<'a> {
    /// Each kind of sums of the 32 columns from `column` on.
    ///
    /// # Safety
    /// No other task touches these columns of the slot while the result lives.
    unsafe fn columns(&self, column: usize) -> [&'a mut [f32]; KEPT] {
        // SAFETY: the caller's promise.
        let part = |k| unsafe { self.values.part(self.at + k * self.columns + column, SUMS) };
        std::array::from_fn(part)
    }
}

/// The sums of a block of rows and 32 columns, in two vectors.
pub(super) struct Tally<'a, S: Words> {
    slot: [&'a mut [f32]; KEPT],
    rows: u16,
    pivot: [S::V; 2],
    sum: [S::V; 2],
    square: [S::V; 2],
}

impl<'a, S: Words> Tally<'a, S> {
    /// To be added to what `slot` holds of the 32 columns from `column` on.
    ///
    /// # Safety
    /// No other task touches these columns of the slot while the result lives.
    #[inline(always)]
    pub(super) unsafe fn new(s: S, slot: &Slot<'a>, column: usize) -> Self {
        assert_eq!(2 * S::LANES, SUMS, "sums in other vectors, this is a bug");
        // SAFETY: the caller's promise; each part holds two vectors.
        unsafe {
            let slot = slot.columns(column);
            let pivot = slot[1].as_ptr();
            Self {
                rows: 0,
                pivot: [s.load(pivot), s.load(pivot.add(S::LANES))],
                sum: [s.splat(0.0); 2],
                square: [s.splat(0.0); 2],
                slot,
            }
        }
    }

    /// Counts a row. The first one of a slot is its pivot.
    #[inline(always)]
    pub(super) fn add(&mut self, s: S, v: [S::V; 2]) {
        if self.rows == 0 && self.slot[0][0] == 0.0 {
            self.pivot = v;
        }
        self.rows += 1;
        let mut k = 0;
        while k < 2 {
            let d = s.sub(v[k], self.pivot[k]);
            self.sum[k] = s.add(self.sum[k], d);
            self.square[k] = s.mul_add(d, d, self.square[k]);
            k += 1;
        }
    }

    /// Adds what was counted to the slot.
    #[inline(always)]
    pub(super) fn finish(mut self, s: S) {
        let mut k = 0;
        while k < 2 {
            let at = k * S::LANES;
            let [count, pivot, sum, square] =
                self.slot.each_mut().map(|kept| kept[at..].as_mut_ptr());
            // SAFETY: each part holds two vectors.
            unsafe {
                s.store(count, s.add(s.load(count), s.splat(f32::from(self.rows))));
                s.store(pivot, self.pivot[k]);
                s.store(sum, s.add(s.load(sum), self.sum[k]));
                s.store(square, s.add(s.load(square), self.square[k]));
            }
            k += 1;
        }
    }
}
