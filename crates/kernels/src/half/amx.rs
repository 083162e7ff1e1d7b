//! The bf16 tile on Intel's AMX unit: 16 x 16 sums of 32 products an instruction.
//!
//! The intrinsics are not stable, hence assembly. Linux gives a process the tile registers only when asked
//! (Documentation/arch/x86/xstate.rst), which `request` does once, before any instruction set is chosen.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;

use super::pack::BLOCK;
use super::tile::HalfTile;
use crate::matmul::Store;

/// Rows, and columns, of a block of sums: two tiles each way, so each tile read serves two products.
const SUMS: usize = 32;
/// Rows of a tile.
const TILE: usize = 16;

/// Whether the CPU has AMX for bf16 and Linux grants it.
pub(super) fn request() -> bool {
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    const SYS_ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    let features = __cpuid_count(7, 0).edx;
    if features & (AMX_BF16 | AMX_TILE) != AMX_BF16 | AMX_TILE {
        return false;
    }
    let mut result = SYS_ARCH_PRCTL;
    // SAFETY: this system call takes no pointers and only adds a permission; the kernel clobbers rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// The tile registers of this thread, all 16 rows of 64 bytes, while it lives.
struct Tiles;

impl Tiles {
    /// # Safety
    /// [`request`] has returned true.
    unsafe fn configure() -> Self {
        #[repr(C, align(64))]
        struct Config {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        let mut config = Config {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        config.row_bytes[..8].fill(64);
        config.rows[..8].fill(16);
        // SAFETY: AMX is ready by the caller's promise; the instruction reads the 64 bytes of `config`.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly)) };
        Self
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: a `Tiles` exists only where AMX is ready.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// One block of sums.
struct Sums {
    a: *const u32,
    /// Bytes from a block of the left side to the next.
    a_step: usize,
    b: *const u32,
    /// Bytes from a row of the panel to the next.
    b_row: usize,
    blocks: usize,
    c: *mut f32,
    /// Bytes from a row of the output to the next.
    c_row: usize,
    store: Store,
}

impl Sums {
    /// Computes the block.
    ///
    /// # Safety
    /// Tiles are configured; `a` has `blocks` blocks of 32 rows, `b` 16 rows a block of which 128 bytes are readable, `c` 32
    /// rows of 32 writable values, `blocks > 0`.
    unsafe fn compute(self) {
        let add = usize::from(self.store == Store::Add);
        // SAFETY: the caller's promise covers each address: tiles of 16 rows of 64 bytes at the strides given.
        unsafe {
            asm!(
                "test {add}, {add}",
                "jz 2f",
                "tileloadd tmm0, [{c} + {c_row}*1]",
                "tileloadd tmm1, [{c} + {c_row}*1 + 64]",
                "tileloadd tmm2, [{c2} + {c_row}*1]",
                "tileloadd tmm3, [{c2} + {c_row}*1 + 64]",
                "jmp 3f",
                "2:",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "3:",
                "tileloadd tmm4, [{a} + {line}*1]",
                "tileloadd tmm6, [{b} + {b_row}*1]",
                "tileloadd tmm7, [{b} + {b_row}*1 + 64]",
                "tileloadd tmm5, [{a} + {line}*1 + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, {a_step}",
                "add {b}, {b_step}",
                "dec {blocks}",
                "jnz 3b",
                "tilestored [{c} + {c_row}*1], tmm0",
                "tilestored [{c} + {c_row}*1 + 64], tmm1",
                "tilestored [{c2} + {c_row}*1], tmm2",
                "tilestored [{c2} + {c_row}*1 + 64], tmm3",
                add = in(reg) add,
                a = inout(reg) self.a => _,
                a_step = in(reg) self.a_step,
                b = inout(reg) self.b => _,
                b_row = in(reg) self.b_row,
                b_step = in(reg) self.b_row * BLOCK,
                blocks = inout(reg) self.blocks => _,
                c = in(reg) self.c,
                c2 = in(reg) self.c.wrapping_byte_add(TILE * self.c_row),
                c_row = in(reg) self.c_row,
                line = in(reg) size_of::<u32>() * BLOCK,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

/// Runs a tile whose sizes agree and whose `words` are not 0.
///
/// # Safety
/// AMX is ready; the tile's output is writable and its own.
pub(super) unsafe fn run(tile: &HalfTile<'_>) {
    // SAFETY: the caller's promise.
    let _tiles = unsafe { Tiles::configure() };
    let mut column = tile.start;
    while column < tile.end {
        let (width, panel) = tile.panel_at(column);
        let columns = width.min(tile.end - column);
        for row in (0..tile.rows).step_by(SUMS) {
            let rows = SUMS.min(tile.rows - row);
            let at = row * tile.c_step + column - tile.start;
            let c = tile.c.wrapping_add(at);
            let sums = Sums {
                a: tile.a[row * BLOCK..].as_ptr(),
                a_step: tile.rows_padded * BLOCK * size_of::<u32>(),
                b: panel,
                b_row: width * size_of::<u32>(),
                blocks: tile.blocks(),
                c,
                c_row: tile.c_step * size_of::<f32>(),
                store: tile.store,
            };
            if rows == SUMS && columns == SUMS {
                // SAFETY: the left side has 32 more rows (padded), the panel full rows, the output this block.
                unsafe { sums.compute() };
                continue;
            }
            let mut copy = [0.0f32; SUMS * SUMS];
            let sums = Sums {
                c: copy.as_mut_ptr(),
                c_row: SUMS * size_of::<f32>(),
                store: Store::Set,
                ..sums
            };
            // SAFETY: as above; of a narrow panel each read takes in the next row, after the last one the spare row.
            unsafe { sums.compute() };
            for (i, line) in copy.chunks_exact(SUMS).take(rows).enumerate() {
                // SAFETY: a row and columns of the tile's output, which is this call's own.
                let out = unsafe {
                    std::slice::from_raw_parts_mut(c.wrapping_add(i * tile.c_step), columns)
                };
                for (out, sum) in out.iter_mut().zip(line) {
                    *out = match tile.store {
                        Store::Add => *out + sum,
                        Store::Set => *sum,
                    };
                }
            }
        }
        column += width;
    }
}
