//! Rounding of f32 rows to bf16, into the block layout of a left side.

use super::pack::BLOCK;
use crate::isa::WordOp;
use crate::simd::Words;

/// Elements of a block of bf16.
const ELEMENTS: usize = 2 * BLOCK;

/// Writes `factor * from` as bf16 pairs, a block of 16 words at `to[i * step..]` for each 32 values; zeros fill the last one.
pub(crate) struct Convert<'a> {
    pub(crate) from: &'a [f32],
    pub(crate) factor: f32,
    pub(crate) to: &'a mut [u32],
    /// Words from a block to the next, at least [`BLOCK`].
    pub(crate) step: usize,
}

impl WordOp for Convert<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Words>(self, s: S) {
        let Convert {
            from,
            factor,
            to,
            step,
        } = self;
        let blocks = from.len().div_ceil(ELEMENTS);
        assert!(
            blocks == 0 || to.len() >= (blocks - 1) * step + BLOCK,
            "blocks leave the buffer, this is a bug"
        );
        let mut block = 0;
        while (block + 1) * ELEMENTS <= from.len() {
            let source = from[block * ELEMENTS..][..ELEMENTS].as_ptr();
            let place = to[block * step..][..BLOCK].as_mut_ptr();
            // SAFETY: `source` has a block of values, `place` a block of words.
            unsafe { convert_block(s, source, factor, place) };
            block += 1;
        }
        if block < blocks {
            let rest = &from[block * ELEMENTS..];
            let mut copy = [0.0; ELEMENTS];
            copy[..rest.len()].copy_from_slice(rest);
            let place = to[block * step..][..BLOCK].as_mut_ptr();
            // SAFETY: as above.
            unsafe { convert_block(s, copy.as_ptr(), factor, place) };
        }
    }
}

/// One block.
///
/// # Safety
/// `from` has 32 readable values, `to` 16 writable words.
#[inline(always)]
unsafe fn convert_block<S: Words>(s: S, from: *const f32, factor: f32, to: *mut u32) {
    let factor = s.splat(factor);
    let mut i = 0;
    while i < ELEMENTS {
        // SAFETY: i + 2 * LANES <= ELEMENTS, since both are powers of two.
        unsafe {
            let first = s.mul(s.load(from.add(i)), factor);
            let second = s.mul(s.load(from.add(i + S::LANES)), factor);
            s.store_bf16(to.cast::<u16>().add(i), first, second);
        }
        i += 2 * S::LANES;
    }
}
