//! bf16 products on Intel's AMX unit, which multiplies thirty times faster than memory can feed it.
//!
//! So everything here is about reading little. The left side of a block of rows or pixels is rounded to bf16 once, in
//! planes of 32 channels (`[plane][position][32]`), where it stays in L2; sixteen positions next to each other are a tile, and
//! a place of a convolution's window is an offset, so a 3x3 window reads each value from L1 nine times. Panels of the weight
//! pass by, each fetched while the one before is multiplied. Sums of a whole product stay in tiles until they are written.
//!
//! The intrinsics are not stable, hence assembly. Linux gives a process the tile registers only when asked
//! (Documentation/arch/x86/xstate.rst), which [`request`] does once, before any instruction set is chosen.

mod blocks;
mod finish;
mod map;
mod plain;
mod probe;
mod products;
mod recording;
mod rows;
mod run;
mod split;
mod tall;
mod task;
mod unit;

pub(crate) use blocks::Values;
pub(crate) use finish::Gates;
pub(crate) use map::{Map, Pixels};
pub(crate) use plain::Plain;
pub(crate) use probe::Probe;
pub(crate) use products::{Apart, SplitHalfSums, SplitSums};
pub(crate) use rows::{Read, RowBlocks, with_lines};
pub(crate) use run::{Work, run};
pub(crate) use split::{PARTS, parts_of, split, split_matrix};
pub(crate) use unit::{Fetch, HalfSums, Step, Sums, Tiles, request};

/// Rows and columns of a block of sums: two tiles each way, so that each tile read serves two products.
pub(crate) const SUMS: usize = 32;
/// Tiles of positions of a block of sums at most.
const TALL: usize = 3;
/// Rows of a tile.
pub(crate) const TILE: usize = 16;
