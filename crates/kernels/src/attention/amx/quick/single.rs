//! Products one by one, with other work between them: tiles stay in their registers from one call to the next.
//!
//! Register 0 holds sums, 1 a left side, and the others right sides that stay for many products, so that each product reads one
//! tile. Code compiled for anything but AMX has no use for the registers: what one call leaves there the next finds, as long as
//! [`Tiles`] lives. Sums are written tile by tile: four in a row, all of which wait for products, keep what follows from starting.

use std::arch::asm;

use crate::amx::{SUMS, TILE, Tiles};

/// Right sides that stay.
pub(super) const HELD: usize = 6;

/// Bytes of a row of sums.
const SUMS_ROW: usize = SUMS * size_of::<f32>();
/// Bytes of a row of a right side's tile.
const RIGHT_ROW: usize = TILE * size_of::<u32>();

#[expect(clippy::unused_self, reason = "who has one may use the registers")]
impl Tiles {
    /// Begins a tile of sums at 0.
    #[inline(always)]
    pub(super) fn begin(&self) {
        // SAFETY: `Tiles` exists only where AMX is ready.
        unsafe { asm!("tilezero tmm0", out("tmm0") _, options(nostack, nomem)) };
    }

    /// Begins it at what is there, 16 rows of 16, 32 apart.
    ///
    /// # Safety
    /// `from` is valid for reads of them.
    #[inline(always)]
    pub(super) unsafe fn resume(&self, from: *const f32) {
        // SAFETY: the caller's promise; `Tiles` exists only where AMX is ready.
        unsafe {
            asm!(
                "tileloadd tmm0, [{c} + {row}*1]",
                c = in(reg) from,
                row = in(reg) SUMS_ROW,
                out("tmm0") _,
                options(nostack, readonly),
            );
        }
    }

    /// Writes it there.
    ///
    /// # Safety
    /// `to` is valid for writes of 16 rows of 16 values, 32 apart.
    #[inline(always)]
    pub(super) unsafe fn end(&self, to: *mut f32) {
        // SAFETY: the caller's promise; `Tiles` exists only where AMX is ready.
        unsafe {
            asm!(
                "tilestored [{c} + {row}*1], tmm0",
                c = in(reg) to,
                row = in(reg) SUMS_ROW,
                options(nostack),
            );
        }
    }

    /// Reads the right side that stays at `place`, which is below [`HELD`].
    ///
    /// # Safety
    /// `b` is valid for reads of 1 KiB.
    #[inline(always)]
    pub(super) unsafe fn hold(&self, place: usize, b: *const u32) {
        debug_assert!(place < HELD);
        // SAFETY: the caller's promise; `Tiles` exists only where AMX is ready.
        unsafe {
            match place {
                0 => asm!(
                    "tileloadd tmm2, [{b} + {row}*1]",
                    b = in(reg) b,
                    row = in(reg) RIGHT_ROW,
                    out("tmm2") _,
                    options(nostack, readonly),
                ),
                1 => asm!(
                    "tileloadd tmm3, [{b} + {row}*1]",
                    b = in(reg) b,
                    row = in(reg) RIGHT_ROW,
                    out("tmm3") _,
                    options(nostack, readonly),
                ),
                2 => asm!(
                    "tileloadd tmm4, [{b} + {row}*1]",
                    b = in(reg) b,
                    row = in(reg) RIGHT_ROW,
                    out("tmm4") _,
                    options(nostack, readonly),
                ),
                3 => asm!(
                    "tileloadd tmm5, [{b} + {row}*1]",
                    b = in(reg) b,
                    row = in(reg) RIGHT_ROW,
                    out("tmm5") _,
                    options(nostack, readonly),
                ),
                4 => asm!(
                    "tileloadd tmm6, [{b} + {row}*1]",
                    b = in(reg) b,
                    row = in(reg) RIGHT_ROW,
                    out("tmm6") _,
                    options(nostack, readonly),
                ),
                _ => asm!(
                    "tileloadd tmm7, [{b} + {row}*1]",
                    b = in(reg) b,
                    row = in(reg) RIGHT_ROW,
                    out("tmm7") _,
                    options(nostack, readonly),
                ),
            }
        }
    }

    /// Adds the product of a left side, whose rows are `a_row` bytes apart, and the right side at `place`.
    ///
    /// # Safety
    /// `a` is valid for reads of 16 rows of 64 bytes.
    #[inline(always)]
    pub(super) unsafe fn multiply(&self, place: usize, a: *const u32, a_row: usize) {
        debug_assert!(place < HELD);
        // SAFETY: the caller's promise; `Tiles` exists only where AMX is ready.
        unsafe {
            match place {
                0 => asm!(
                    "tileloadd tmm1, [{a} + {row}*1]",
                    "tdpbf16ps tmm0, tmm1, tmm2",
                    a = in(reg) a,
                    row = in(reg) a_row,
                    out("tmm0") _, out("tmm1") _,
                    options(nostack, readonly),
                ),
                1 => asm!(
                    "tileloadd tmm1, [{a} + {row}*1]",
                    "tdpbf16ps tmm0, tmm1, tmm3",
                    a = in(reg) a,
                    row = in(reg) a_row,
                    out("tmm0") _, out("tmm1") _,
                    options(nostack, readonly),
                ),
                2 => asm!(
                    "tileloadd tmm1, [{a} + {row}*1]",
                    "tdpbf16ps tmm0, tmm1, tmm4",
                    a = in(reg) a,
                    row = in(reg) a_row,
                    out("tmm0") _, out("tmm1") _,
                    options(nostack, readonly),
                ),
                3 => asm!(
                    "tileloadd tmm1, [{a} + {row}*1]",
                    "tdpbf16ps tmm0, tmm1, tmm5",
                    a = in(reg) a,
                    row = in(reg) a_row,
                    out("tmm0") _, out("tmm1") _,
                    options(nostack, readonly),
                ),
                4 => asm!(
                    "tileloadd tmm1, [{a} + {row}*1]",
                    "tdpbf16ps tmm0, tmm1, tmm6",
                    a = in(reg) a,
                    row = in(reg) a_row,
                    out("tmm0") _, out("tmm1") _,
                    options(nostack, readonly),
                ),
                _ => asm!(
                    "tileloadd tmm1, [{a} + {row}*1]",
                    "tdpbf16ps tmm0, tmm1, tmm7",
                    a = in(reg) a,
                    row = in(reg) a_row,
                    out("tmm0") _, out("tmm1") _,
                    options(nostack, readonly),
                ),
            }
        }
    }
}
