//! What Tintype's tests share: tiny models whose weights are a formula, goldens, comparisons.
//!
//! Nothing here uses the library under test: tensor names of single-file checkpoints, pickles and shards are written
//! from tables of the reference scripts, so that a mistake in a reader cannot hide in its own writer. The files are
//! described in `tests/fixtures/README.md`. Everything panics with a message when a fixture is missing or broken:
//! this crate only ever runs inside tests.
#![deny(missing_docs)]

mod compare;
mod folder;
mod golden;
mod model;
mod original;
mod pickle;
#[cfg(test)]
mod tests;
mod values;

pub use compare::{Comparison, assert_close, compare, psnr_u8};
pub use folder::Form;
pub use golden::{Case, Golden, GoldenTensor};
pub use model::{DType, TensorSpec, TinyModel, fixtures};
pub use original::Single;
pub use pickle::{PickleTensor, write_archive, write_hostile};
pub use values::{fnv1a64, values};
