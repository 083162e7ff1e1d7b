//! What the unit could do: a block of sums on operands that stay in the first cache.

use super::unit::{Fetch, Step, Sums, Tiles};
use super::{SUMS, TILE};
use crate::buffer::Buffer;

/// Steps of the block, which go round [`PLANES`] planes of both sides.
const STEPS: usize = 80;
const PLANES: usize = 4;
/// Words of 32 positions, or columns, in a plane.
const PLANE: usize = SUMS * TILE;

/// Both sides and the sums.
pub(crate) struct Probe {
    left: Buffer,
    right: Buffer,
    steps: Vec<Step>,
}

impl Probe {
    pub(crate) fn new() -> Self {
        let values = |seed: u32| {
            let mut values = Buffer::zeroed(PLANES * PLANE);
            let mut state = seed;
            for word in values.words_mut() {
                // Pairs of bf16 of either sign around 1, since equal values would cost less power and time than real ones.
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *word = 0x3f00_3f00 | state >> 8 & 0x807f_807f;
            }
            values
        };
        let step = |i: usize| Step {
            a: i % PLANES * PLANE * size_of::<u32>(),
            b: i % PLANES * TILE,
        };
        Self {
            left: values(1),
            right: values(2),
            steps: (0..STEPS).map(step).collect(),
        }
    }

    /// Computes blocks; returns the operations.
    ///
    /// # Safety
    /// [`super::request`] has returned true.
    pub(crate) unsafe fn multiply(&self, blocks: usize) -> f64 {
        // SAFETY: the caller's promise.
        let tiles = unsafe { Tiles::configure() };
        let left = self.left.words();
        let mut sums = Buffer::zeroed(SUMS * SUMS);
        for _ in 0..blocks {
            let block = Sums {
                a: [left.as_ptr(), left[TILE * TILE..].as_ptr()],
                a_row: TILE * size_of::<u32>(),
                b: self.right.words().as_ptr(),
                b_row: SUMS * size_of::<u32>(),
                steps: &self.steps,
                adds: false,
                fetch: Fetch::NOTHING,
            };
            if let Some(to) = sums.first_chunk_mut() {
                // SAFETY: each step is a plane of both sides.
                unsafe { block.compute(&tiles, to) };
            }
            std::hint::black_box(&mut sums);
        }
        (2 * blocks * SUMS * SUMS * STEPS * 2 * TILE) as f64
    }
}
