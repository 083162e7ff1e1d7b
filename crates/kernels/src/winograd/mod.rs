//! 3x3 convolutions of step 1 by Winograd's minimal filtering (Lavin and Gray, arXiv:1509.09308).
//!
//! F(4x4,3x3) takes 36 products where the window takes 144, F(2x2,3x3) 16 where it takes 36. Inputs and weights are
//! transformed in f32 and multiplied as f32, or as i16 with i32 sums. For i16 each position of each tile, and of each
//! output channel, has a factor of its own for every block of at most 320 channels, chosen such that no sum can leave
//! i32: by Cauchy and Schwarz it is at most the product of the two norms, and both norms are kept below 2^15.5.

mod input;
mod pack;
mod panel;
mod run;
mod sums;
mod transform;

pub(crate) use pack::{Values, WinogradWeight};
pub(crate) use run::{Call, run};

/// Tiles that are multiplied together: the rows of the AVX-512 micro-kernel.
const CHUNK: usize = 12;

/// Largest factor between a vector and its i16 form: 2^15.5 less a margin for rounding, which adds at most sqrt(320) / 2 to
/// a norm and a few units in the last place to the f32 sum of squares.
const NORM_LIMIT: f64 = 46_340.95 / 1.0005;
/// Largest i16 used: the same both ways.
const VALUE_LIMIT: f64 = 32767.0;
/// Factors stay above this, below which squares vanish in f32; smaller inputs count as 0.
const SMALLEST_FACTOR: f64 = 1e-18;
