//! The instructions: asking for the unit, configuring it, one block of sums.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;

use super::{SUMS, TILE};

/// Whether the CPU has AMX for bf16 and Linux grants it.
pub(crate) fn request() -> bool {
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

/// The tile registers of this thread, all 16 rows of 64 bytes, while it lives; never two on a thread at once.
pub(crate) struct Tiles {
    /// Bound to its thread.
    here: std::marker::PhantomData<*mut ()>,
}

impl Tiles {
    /// # Safety
    /// [`request`] has returned true, and no other `Tiles` lives on this thread.
    pub(crate) unsafe fn configure() -> Self {
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
        config.rows[..8].fill(TILE as u8);
        // SAFETY: AMX is ready by the caller's promise; the instruction reads the 64 bytes of `config`.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly)) };
        Self {
            here: std::marker::PhantomData,
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: a `Tiles` exists only where AMX is ready.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// 32 elements of the sum: where both sides lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Step {
    /// Bytes from a tile's first position to its values.
    pub(crate) a: usize,
    /// Word of the column.
    pub(crate) b: usize,
}

/// Lines of the weight fetched with each step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetch {
    /// Bytes from the lines a step reads to the first it fetches; nothing need be readable there.
    pub(crate) ahead: usize,
    /// Whether it is 8 lines instead of 2.
    pub(crate) many: bool,
}

impl Fetch {
    /// Nothing but what is read anyway.
    pub(crate) const NOTHING: Self = Self {
        ahead: 0,
        many: false,
    };

    /// Lines a step fetches.
    pub(crate) fn lines(many: bool) -> usize {
        if many { 8 } else { 2 }
    }
}

/// Runs the steps after `start`; `fetch` are instructions that may use the address of the panel's lines.
macro_rules! steps {
    ($self:ident, $c:ident, zero, $fetch:ident) => {
        steps!(
            $self,
            $c,
            [
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3"
            ],
            $fetch
        )
    };
    ($self:ident, $c:ident, load, $fetch:ident) => {
        steps!(
            $self,
            $c,
            [
                "tileloadd tmm0, [{c} + {t}*1]",
                "tileloadd tmm1, [{c} + {t}*1 + 64]",
                "tileloadd tmm2, [{c} + {t}*1 + 2048]",
                "tileloadd tmm3, [{c} + {t}*1 + 2112]"
            ],
            $fetch
        )
    };
    ($self:ident, $c:ident, $start:tt, two) => {
        steps!(
            $self,
            $c,
            $start,
            [
                "prefetcht1 [{u} + {fetch}]",
                "prefetcht1 [{u} + {fetch} + 64]"
            ]
        )
    };
    ($self:ident, $c:ident, $start:tt, eight) => {
        steps!(
            $self,
            $c,
            $start,
            [
                "add {u}, {fetch}",
                "prefetcht1 [{u}]",
                "prefetcht1 [{u} + 64]",
                "prefetcht1 [{u} + 128]",
                "prefetcht1 [{u} + 192]",
                "prefetcht1 [{u} + 256]",
                "prefetcht1 [{u} + 320]",
                "prefetcht1 [{u} + 384]",
                "prefetcht1 [{u} + 448]"
            ]
        )
    };
    ($self:ident, $c:ident, [$($start:literal),*], [$($fetch:literal),*]) => {
        asm!(
            "mov {t}, 128",
            $($start,)*
            "mov {line}, 64",
            "2:",
            "mov {t}, [{step}]",
            "mov {u}, [{step} + 8]",
            "imul {u}, {b_row}",
            "add {u}, {b}",
            "tileloadd tmm6, [{u} + {line}*1]",
            "tileloadd tmm7, [{u} + {line}*1 + 1024]",
            $($fetch,)*
            "lea {u}, [{a0} + {t}]",
            "add {t}, {a1}",
            "tileloadd tmm4, [{u} + {a_row}*1]",
            "tileloadd tmm5, [{t} + {a_row}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {step}, 16",
            "dec {steps}",
            "jnz 2b",
            "mov {t}, 128",
            "tilestored [{c} + {t}*1], tmm0",
            "tilestored [{c} + {t}*1 + 64], tmm1",
            "tilestored [{c} + {t}*1 + 2048], tmm2",
            "tilestored [{c} + {t}*1 + 2112], tmm3",
            t = out(reg) _,
            u = out(reg) _,
            line = out(reg) _,
            step = inout(reg) $self.steps.as_ptr() => _,
            steps = inout(reg) $self.steps.len() => _,
            a0 = in(reg) $self.a[0],
            a1 = in(reg) $self.a[1],
            a_row = in(reg) $self.a_row,
            b = in(reg) $self.b,
            b_row = in(reg) $self.b_row,
            fetch = in(reg) $self.fetch.ahead,
            c = in(reg) $c.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

/// One block of sums of two tiles of positions by 32 columns.
#[derive(Clone, Copy)]
pub(crate) struct Sums<'a> {
    /// First position of both tiles.
    pub(crate) a: [*const u32; 2],
    /// Bytes from a position to the next.
    pub(crate) a_row: usize,
    /// Word 0 of the panel, which is in the order of tiles.
    pub(crate) b: *const u32,
    /// Bytes a word of the panel takes.
    pub(crate) b_row: usize,
    pub(crate) steps: &'a [Step],
    /// Whether to add to what is there.
    pub(crate) adds: bool,
    /// What to fetch into L2 meanwhile.
    pub(crate) fetch: Fetch,
}

impl Sums<'_> {
    /// Computes the block into `c`, row by row, or adds it.
    ///
    /// # Safety
    /// `tiles` are this thread's. For each step, at `a + step.a` lie 16 rows of 64 readable bytes, and from word `step.b` of the
    /// panel on 2 KiB are readable.
    #[inline(always)]
    pub(crate) unsafe fn compute(self, _tiles: &Tiles, c: &mut [f32; SUMS * SUMS]) {
        if self.steps.is_empty() {
            if !self.adds {
                c.fill(0.0);
            }
            return;
        }
        // SAFETY: the caller's promise covers each address: tiles of 16 rows of 64 bytes at the strides given; `c` has 32 rows
        // of 128 bytes; a prefetch of any address does no harm.
        unsafe {
            match (self.adds, self.fetch.many) {
                (true, true) => steps!(self, c, load, eight),
                (true, false) => steps!(self, c, load, two),
                (false, true) => steps!(self, c, zero, eight),
                (false, false) => steps!(self, c, zero, two),
            }
        }
    }
}

/// One block of sums of one tile of positions by 32 columns.
#[derive(Clone, Copy)]
pub(crate) struct HalfSums<'a> {
    /// First position.
    pub(crate) a: *const u32,
    /// Bytes from a position to the next.
    pub(crate) a_row: usize,
    /// Word 0 of the panel, of two tiles side by side.
    pub(crate) b: *const u32,
    pub(crate) steps: &'a [Step],
    /// Whether to add to what is there.
    pub(crate) adds: bool,
}

/// Runs the steps of a [`HalfSums`] after `start`.
macro_rules! half_steps {
    ($self:ident, $c:ident, $($start:literal),*) => {
        asm!(
            $($start,)*
            "2:",
            "mov {t}, [{step}]",
            "mov {u}, [{step} + 8]",
            "shl {u}, 7",
            "add {u}, {b}",
            "add {t}, {a}",
            "tileloadd tmm4, [{t} + {a_row}*1]",
            "tileloadd tmm6, [{u} + {b_line}*1]",
            "tileloadd tmm7, [{u} + {b_line}*1 + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {step}, 16",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{c} + {line}*1], tmm0",
            "tilestored [{c} + {line}*1 + 64], tmm1",
            t = out(reg) _,
            u = out(reg) _,
            step = inout(reg) $self.steps.as_ptr() => _,
            steps = inout(reg) $self.steps.len() => _,
            a = in(reg) $self.a,
            a_row = in(reg) $self.a_row,
            b = in(reg) $self.b,
            line = in(reg) 2 * size_of::<[u32; TILE]>(),
            b_line = in(reg) size_of::<[u32; TILE]>(),
            c = in(reg) $c.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _,
            out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

impl HalfSums<'_> {
    /// Computes the block into `c`, row by row, or adds it.
    ///
    /// # Safety
    /// As for [`Sums::compute`]; there is at least one step.
    #[inline(always)]
    pub(crate) unsafe fn compute(self, _tiles: &Tiles, c: &mut [f32; TILE * SUMS]) {
        debug_assert!(!self.steps.is_empty());
        // SAFETY: the caller's promise covers each address, as in `Sums::compute`; `c` has 16 rows of 128 bytes.
        unsafe {
            if self.adds {
                half_steps!(
                    self,
                    c,
                    "tileloadd tmm0, [{c} + {line}*1]",
                    "tileloadd tmm1, [{c} + {line}*1 + 64]"
                );
            } else {
                half_steps!(self, c, "tilezero tmm0", "tilezero tmm1");
            }
        }
    }
}
