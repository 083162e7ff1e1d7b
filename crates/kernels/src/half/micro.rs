//! The micro-kernel on words: a block of rows times one strip of a packed panel, sums in registers.
//!
//! 12 rows by two AVX-512 vectors keep 24 sums in flight, enough for the latency of 6 at one instruction a cycle (Zen 4)
//! or of 5 at two (Intel servers), and read two vectors of the right side for 24 products.

use super::kind::Kind;
use super::pack::BLOCK;
use crate::simd::Words;

/// Rows the micro-kernel is compiled for are multiples of this; left sides have their rows padded to it.
pub(crate) const ROW_STEP: usize = 4;

/// One piece of the sum: the left side in blocks of [`BLOCK`] words a row, the right side as a strip of a panel.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    /// First word of row 0; row i is `i * BLOCK` words on.
    pub(crate) a: *const u32,
    /// Words from a block to the next.
    pub(crate) a_step: usize,
    /// Words to multiply.
    pub(crate) words: usize,
    /// First word of the strip.
    pub(crate) b: *const u32,
    /// Words from one row of the panel to the next.
    pub(crate) b_step: usize,
    /// What is needed next: each call asks for its share, a cache line a word.
    pub(crate) next: *const u32,
}

/// What becomes of the sums.
pub(crate) trait Finish<K: Kind>: Copy {
    /// Takes the sums of rows `first..first + MR`, of which those the caller asked for count.
    ///
    /// # Safety
    /// The places the implementation writes for these rows are valid and its own.
    unsafe fn finish<S: Words, const MR: usize, const NV: usize>(
        self,
        s: S,
        first: usize,
        sums: &[[K::Sum<S>; NV]; MR],
    );
}

/// All of `rows` rows against one strip.
///
/// # Safety
/// The left side has `rows` rounded up to [`ROW_STEP`] rows of `words` readable words, the strip `words` rows of
/// `NV * LANES`; `finish` may be called for these rows.
#[inline(always)]
pub(crate) unsafe fn strip_rows<S: Words, K: Kind, F: Finish<K>, const NV: usize>(
    s: S,
    piece: Piece,
    rows: usize,
    finish: F,
) {
    let mut done = 0;
    while done < rows {
        let left = rows - done;
        let piece = Piece {
            a: piece.a.wrapping_add(done * BLOCK),
            // The first calls fetch the whole next panel; the others find their own, which costs nothing.
            next: if done < 2 * S::ROWS {
                piece
                    .next
                    .wrapping_add(done / S::ROWS * piece.words * BLOCK)
            } else {
                piece.b
            },
            ..piece
        };
        // SAFETY: each call covers rows done.., padded as the caller says.
        unsafe {
            if S::ROWS >= 12 && left >= 9 && left != 16 {
                let sums = sums::<S, K, 12, NV>(s, piece);
                finish.finish::<S, 12, NV>(s, done, &sums);
                done += 12;
            } else if S::ROWS >= 12 && left >= 5 {
                let sums = sums::<S, K, 8, NV>(s, piece);
                finish.finish::<S, 8, NV>(s, done, &sums);
                done += 8;
            } else {
                let sums = sums::<S, K, 4, NV>(s, piece);
                finish.finish::<S, 4, NV>(s, done, &sums);
                done += 4;
            }
        }
    }
}

/// The sums of `MR` rows; each is one chain of additions in the order of the words.
///
/// # Safety
/// As [`strip_rows`] for `MR` rows.
#[inline(always)]
unsafe fn sums<S: Words, K: Kind, const MR: usize, const NV: usize>(
    s: S,
    piece: Piece,
) -> [[K::Sum<S>; NV]; MR] {
    let mut acc = [[K::zero(s); NV]; MR];
    let Piece {
        mut a,
        mut b,
        mut next,
        ..
    } = piece;
    let mut left = piece.words;
    while left >= BLOCK {
        let mut word = 0;
        while word < BLOCK {
            s.prefetch(next.cast());
            // SAFETY: a block is left of each row and of the strip.
            unsafe { step::<S, K, MR, NV>(s, &mut acc, a.add(word), b) };
            b = b.wrapping_add(piece.b_step);
            next = next.wrapping_add(BLOCK);
            word += 1;
        }
        a = a.wrapping_add(piece.a_step);
        left -= BLOCK;
    }
    let mut word = 0;
    while word < left {
        // SAFETY: `left` words are left of each row and of the strip.
        unsafe { step::<S, K, MR, NV>(s, &mut acc, a.add(word), b) };
        b = b.wrapping_add(piece.b_step);
        word += 1;
    }
    acc
}

/// One word of each row times a row of the strip.
///
/// # Safety
/// `a + i * BLOCK` for i < MR and `NV * LANES` words from `b` are readable.
#[inline(always)]
unsafe fn step<S: Words, K: Kind, const MR: usize, const NV: usize>(
    s: S,
    acc: &mut [[K::Sum<S>; NV]; MR],
    a: *const u32,
    b: *const u32,
) {
    let mut row = [s.zero_words(); NV];
    let mut j = 0;
    while j < NV {
        // SAFETY: the caller's promise.
        row[j] = unsafe { s.load_words(b.add(j * S::LANES)) };
        j += 1;
    }
    let mut i = 0;
    while i < MR {
        // SAFETY: the caller's promise.
        let x = s.splat_word(unsafe { *a.add(i * BLOCK) });
        let mut j = 0;
        while j < NV {
            acc[i][j] = K::step(s, acc[i][j], x, row[j]);
            j += 1;
        }
        i += 1;
    }
}
