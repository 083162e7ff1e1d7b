//! Rows of bf16, two in a word, whole vectors at a time: where a row ends between two vectors, the last one begins earlier.

use super::Side;
use super::pack::ONES;
use crate::amx::{SUMS, TILE};
use crate::half::BLOCK;
use crate::simd::Words;

/// Words of a tile.
const WORDS: usize = TILE * BLOCK;

/// Some columns of words, in whole lines of the cache.
#[repr(align(64))]
pub(super) struct Columns(pub(super) [u32; WORDS]);

/// Rows of a head in a tensor of halves, from one of them on.
#[derive(Clone, Copy)]
pub(super) struct Halves<'a> {
    /// From the first row's first word on.
    data: &'a [f32],
    /// Words from one row to the next.
    step: usize,
    /// Words of a row.
    len: usize,
}

impl<'a> Halves<'a> {
    /// The rows from `first` on of a tensor with `rows` rows a picture.
    #[inline(always)]
    pub(super) fn of(
        side: Side<'_>,
        (data, stride): (&'a [f32], usize),
        rows: usize,
        first: usize,
    ) -> Self {
        let call = side.call;
        let (picture, head) = (side.head / call.heads, side.head % call.heads);
        let start = (picture * rows + first) * stride + head * call.head_dim;
        Self {
            data: &data[start / 2..],
            step: stride / 2,
            len: call.head_dim / 2,
        }
    }

    /// A row.
    #[inline(always)]
    pub(super) fn row(self, row: usize) -> &'a [f32] {
        &self.data[row * self.step..][..self.len]
    }

    /// Whether whole vectors can be read of so many rows.
    #[inline(always)]
    pub(super) fn are_long<S: Words>(self, rows: usize) -> bool {
        self.len >= S::LANES && (rows - 1) * self.step + self.len <= self.data.len()
    }

    /// `columns[word][row]` for `S::LANES` words from `word` on of as many rows, `every` rows apart.
    ///
    /// # Safety
    /// The rows have the words.
    #[inline(always)]
    unsafe fn turn<S: Words>(
        self,
        s: S,
        (row, every): (usize, usize),
        word: usize,
        columns: &mut Columns,
    ) {
        let from = self
            .data
            .as_ptr()
            .wrapping_add(row * self.step + word)
            .cast();
        // SAFETY: the caller's promise; a tile has room for as many words of as many lanes.
        unsafe { s.transpose(from, every * self.step, columns.0.as_mut_ptr(), S::LANES) };
    }

    /// 32 rows that [`Self::are_long`] as a right side in the order of tiles, `[deep / 16][2][16][16]`, zeros behind the last word.
    #[inline(always)]
    pub(super) fn write_right<S: Words>(self, s: S, to: &mut [u32]) {
        assert!(
            self.are_long::<S>(SUMS) && to.len() >= self.len.next_multiple_of(BLOCK) * SUMS,
            "rows of halves are too short, this is a bug"
        );
        let place = |word: usize| word / BLOCK * BLOCK * SUMS + word % BLOCK * TILE;
        let mut columns = Columns([0; WORDS]);
        let mut lane = 0;
        while lane < SUMS {
            let start = lane / TILE * WORDS + lane % TILE;
            let mut word = 0;
            while word < self.len {
                let at = word.min(self.len - S::LANES);
                // SAFETY: the rows have LANES words from `at` on.
                unsafe { self.turn(s, (lane, 1), at, &mut columns) };
                for (i, column) in columns.0.chunks_exact(S::LANES).take(S::LANES).enumerate() {
                    to[start + place(at + i)..][..S::LANES].copy_from_slice(column);
                }
                word += S::LANES;
            }
            lane += S::LANES;
        }
        let end = to.len() / SUMS;
        for word in self.len..end {
            to[place(word)..][..TILE].fill(0);
            to[place(word) + WORDS..][..TILE].fill(0);
        }
    }

    /// 32 rows that [`Self::are_long`] as values `[tall][16]`: rows of even channels, then of odd ones, each of pairs of rows; then
    /// ones, and zeros behind them.
    #[inline(always)]
    pub(super) fn write_values<S: Words>(self, s: S, to: &mut [u32]) {
        assert!(
            self.are_long::<S>(SUMS) && to.len() > 2 * self.len * BLOCK,
            "rows of halves are too short, this is a bug"
        );
        let (channels, rest) = to.split_at_mut(2 * self.len * BLOCK);
        let (ones, zeros) = rest.split_at_mut(BLOCK);
        ones.fill(ONES);
        zeros.fill(0);
        let (evens, odds) = channels.split_at_mut(self.len * BLOCK);
        let mut columns = [Columns([0; WORDS]), Columns([0; WORDS])];
        let mut pair = 0;
        while pair < BLOCK {
            let mut word = 0;
            while word < self.len {
                let at = word.min(self.len - S::LANES);
                let [first, second] = &mut columns;
                // SAFETY: the rows have LANES words from `at` on.
                unsafe {
                    self.turn(s, (2 * pair, 2), at, first);
                    self.turn(s, (2 * pair + 1, 2), at, second);
                }
                let columns = first
                    .0
                    .chunks_exact(S::LANES)
                    .zip(second.0.chunks_exact(S::LANES));
                for (i, (first, second)) in columns.take(S::LANES).enumerate() {
                    let place = (at + i) * BLOCK + pair..(at + i) * BLOCK + pair + S::LANES;
                    join(
                        (first, second),
                        (&mut evens[place.clone()], &mut odds[place]),
                    );
                }
                word += S::LANES;
            }
            pair += S::LANES;
        }
    }
}

/// Words of the lower and of the upper halves of two rows of words.
#[inline(always)]
fn join((first, second): (&[u32], &[u32]), (low, high): (&mut [u32], &mut [u32])) {
    let to = low.iter_mut().zip(high);
    for ((low, high), (first, second)) in to.zip(first.iter().zip(second)) {
        *low = first & 0xffff | second << 16;
        *high = first >> 16 | second & 0xffff_0000;
    }
}

/// A row of words with zeros behind them.
#[inline(always)]
pub(super) fn copy_row<S: Words>(s: S, from: &[f32], to: &mut [u32]) {
    let (len, room) = (from.len(), to.len());
    if len < S::LANES || room < len || room - len > S::LANES {
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.to_bits();
        }
        to[len..].fill(0);
        return;
    }
    // SAFETY: all vectors lie within the rows: both are as long as one, and the last one of zeros begins at the last word at most.
    unsafe {
        let (from, to) = (from.as_ptr(), to.as_mut_ptr().cast::<f32>());
        s.store(to.add(room - S::LANES), s.splat(0.0));
        let mut i = 0;
        while i + S::LANES <= len {
            s.store(to.add(i), s.load(from.add(i)));
            i += S::LANES;
        }
        let last = len - S::LANES;
        s.store(to.add(last), s.load(from.add(last)));
    }
}
