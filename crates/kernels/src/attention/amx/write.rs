//! Sums as rows of the output.

use super::pack::round_pairs;
use super::{Form, Side};
use crate::amx::SUMS;
use crate::isa::WordOp;
use crate::scratch::as_words;
use crate::shared::SharedMut;
use crate::simd::Words;

/// Divides sums `[tall][32]` by the sum of weights behind the last channel and writes them as rows of the output.
pub(super) struct WriteRows<'a> {
    pub(super) side: Side<'a>,
    pub(super) first: usize,
    pub(super) sums: &'a mut [f32],
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
        let mut rows = vec![0.0f32; SUMS * tall];
        let mut lane = 0;
        while lane < SUMS {
            // SAFETY: rows of 32 lanes, of which a vector starts at `lane`; blocks of LANES x LANES of both buffers.
            unsafe {
                let total = s.load(sums.as_ptr().add(dim * SUMS + lane));
                let factor = s.div(s.splat(1.0), total);
                let mut channel = 0;
                while channel < dim {
                    let at = sums.as_mut_ptr().add(channel * SUMS + lane);
                    s.store(at, s.mul(s.load(at), factor));
                    channel += 1;
                }
                let mut channel = 0;
                while channel < tall {
                    let from = sums.as_ptr().add(channel * SUMS + lane);
                    let to = rows.as_mut_ptr().add(lane * tall + channel);
                    s.transpose(from.cast(), SUMS, to.cast(), tall);
                    channel += S::LANES;
                }
            }
            lane += S::LANES;
        }
        let (picture, head) = (head / call.heads, head % call.heads);
        let step = call.heads * dim;
        let start = (picture * call.queries + first) * step + head * dim;
        let there = SUMS.min(call.queries - first);
        for (lane, row) in rows.chunks_exact(tall).take(there).enumerate() {
            // SAFETY: the promise of `vouched`.
            unsafe {
                if form == Form::Halves {
                    let to = out.part(start / 2 + lane * step / 2, dim / 2);
                    round_pairs(s, &row[..dim / 2], &row[dim / 2..dim], as_words(to));
                } else {
                    let to = out.part(start + lane * step, dim);
                    to.copy_from_slice(&row[..dim]);
                }
            }
        }
    }
}
