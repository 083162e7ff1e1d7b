//! Sums as rows of the output.

use super::halves::Columns;
use super::{Form, Side};
use crate::amx::{SUMS, TILE};
use crate::half::BLOCK;
use crate::isa::WordOp;
use crate::scratch::as_words;
use crate::shared::SharedMut;
use crate::simd::Words;

/// Divides sums `[tall][32]` by the sum of weights behind the last channel and writes them as rows of the output.
pub(super) struct WriteRows<'a> {
    pub(super) side: Side<'a>,
    pub(super) first: usize,
    pub(super) sums: &'a [f32],
    pub(super) out: &'a SharedMut<'a>,
}

/// The promise that the rows are this task's.
pub(super) struct Vouched<'a>(WriteRows<'a>);

impl<'a> WriteRows<'a> {
    /// # Safety
    /// No other task touches the 32 rows, or as many as are left, from query `first` on in the head's channels.
    pub(super) unsafe fn vouched(self) -> Vouched<'a> {
        Vouched(self)
    }
}

impl WordOp for Vouched<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Words>(self, s: S) {
        let WriteRows {
            side:
                Side {
                    call,
                    form,
                    sizes,
                    head,
                },
            first,
            sums,
            out,
        } = self.0;
        let (dim, tall) = (call.head_dim, sizes.tall);
        assert!(
            sums.len() >= tall * SUMS && dim < tall,
            "sizes of sums disagree, this is a bug"
        );
        let (picture, head) = (head / call.heads, head % call.heads);
        let step = call.heads * dim;
        let start = (picture * call.queries + first) * step + head * dim;
        let halves = form == Form::Halves;
        let (start, step, len) = if halves {
            (start / 2, step / 2, dim / 2)
        } else {
            (start, step, dim)
        };
        let there = SUMS.min(call.queries - first);
        let block = S::LANES.min(len);
        let mut columns = Columns([0; TILE * BLOCK]);
        let mut rows = Columns([0; TILE * BLOCK]);
        let mut lane = 0;
        while lane < there {
            // SAFETY: rows of 32 lanes, of which a vector starts at `lane`; blocks of LANES x LANES; the output's rows and words are
            // there, and the promise of `vouched`.
            unsafe {
                let total = s.load(sums.as_ptr().add(dim * SUMS + lane));
                let factor = s.div(s.splat(1.0), total);
                let at = |row: usize| s.mul(s.load(sums.as_ptr().add(row * SUMS + lane)), factor);
                let whole = lane + S::LANES <= there && block == S::LANES;
                let mut word = 0;
                while word < len {
                    // Where a row ends between two vectors, the last one begins earlier.
                    let from = word.min(len - block);
                    let mut i = 0;
                    while i < block {
                        let value = if halves {
                            s.as_float(s.round_pairs(at(from + i), at(len + from + i)))
                        } else {
                            at(from + i)
                        };
                        s.store(columns.0.as_mut_ptr().add(i * S::LANES).cast(), value);
                        i += 1;
                    }
                    if whole {
                        let to = out.at(start + lane * step + from).cast();
                        s.transpose(columns.0.as_ptr(), S::LANES, to, step);
                    } else {
                        s.transpose(columns.0.as_ptr(), S::LANES, rows.0.as_mut_ptr(), S::LANES);
                        let rows = rows.0.chunks_exact(S::LANES).take(there - lane);
                        for (i, row) in rows.take(S::LANES).enumerate() {
                            let to = out.part(start + (lane + i) * step + from, block);
                            as_words(to).copy_from_slice(&row[..block]);
                        }
                    }
                    word += S::LANES;
                }
            }
            lane += S::LANES;
        }
    }
}
