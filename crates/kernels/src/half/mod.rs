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

use crate::error::{Result, check_len};

pub(crate) use convert::Convert;
pub use geglu::{LinearGeglu, PackedGeglu, linear_geglu, linear_geglu_halves};
pub(crate) use kind::{F32, I16, Kind};
pub(crate) use micro::{Finish, Piece, strip_rows};
pub(crate) use pack::{BLOCK, HalfMatrix, HalfPanels, Order, half_len, padded_words};
pub(crate) use product::{HalfProduct, half_product};
pub(crate) use tile::{HalfTile, run_tile};

/// bf16, two in each place, as f32: `out` has twice the length of `halves`.
///
/// # Errors
/// The lengths do not fit.
pub fn widen_halves(halves: &[f32], out: &mut [f32]) -> Result<()> {
    check_len("widen", "out", out.len(), 2 * halves.len())?;
    for (pair, word) in out.chunks_exact_mut(2).zip(halves) {
        let word = word.to_bits();
        pair[0] = f32::from_bits(word << 16);
        pair[1] = f32::from_bits(word & 0xffff_0000);
    }
    Ok(())
}

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
