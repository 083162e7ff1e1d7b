//! Products of 16-bit values with f32 sums: the machinery of the `fast` precision.
//!
//! Both sides are vectors of 32-bit words, each two neighbours of the sum as bf16 or i16 (or one f32, for the f32
//! Winograd convolution, which has the same shape of work). The left side is written once a tile into work memory in
//! blocks of 16 words, so that the AMX unit and the vector units read the same bytes.

mod convert;
mod geglu;
mod kind;
mod micro;
mod pack;
mod product;
mod tile;

pub(crate) use convert::Convert;
pub use geglu::{LinearGeglu, PackedGeglu, linear_geglu};
pub(crate) use kind::{F32, I16, Kind};
pub(crate) use micro::{Finish, Piece, strip_rows};
pub(crate) use pack::{BLOCK, HalfMatrix, HalfPanels, Order, half_len, padded_words};
pub(crate) use product::{HalfProduct, half_product};
pub(crate) use tile::{HalfTile, run_tile};

/// Whether AMX can be used: the CPU has it and the operating system has granted it to this process.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) fn amx_is_ready() -> bool {
    crate::amx::request()
}

/// Whether AMX can be used; the permission is asked for on Linux alone.
#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
pub(crate) fn amx_is_ready() -> bool {
    false
}
