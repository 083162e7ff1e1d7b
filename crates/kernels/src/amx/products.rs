//! One block of sums of values in three parts: all six products of a place at once, so that most tiles are read for two of them.
//!
//! Products are formed in an order in which each shares a side with the one before, (2, 0), (1, 0), (1, 1), (0, 1), (0, 0) and
//! (0, 2): fourteen tiles are read for twenty-four products instead of twenty-four.

use std::arch::asm;

use super::unit::{HalfSums, Step, Sums, Tiles};
use super::{SUMS, TILE};

/// From a part to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Apart {
    /// Bytes on the left.
    pub(crate) a: usize,
    /// Bytes on the right.
    pub(crate) b: usize,
}

/// What the instructions read of a block, at offsets of eight bytes.
#[repr(C)]
struct Places {
    /// 0: first position of the first tile.
    a: *const u32,
    /// 8: bytes from there to the second tile.
    second: usize,
    /// 16: the right side.
    b: *const u32,
    /// 24: bytes a word of it takes.
    b_row: usize,
    /// 32: steps of single products after the others.
    steps: *const Step,
    /// 40: and how many.
    count: usize,
    /// 48: parts of the right side.
    parts: usize,
}

/// A block of sums, first of the places of `split`, which say where both sides' first parts lie, then of single products.
#[derive(Clone, Copy)]
pub(crate) struct SplitSums<'a> {
    pub(crate) sums: Sums<'a>,
    pub(crate) split: &'a [Step],
    pub(crate) apart: Apart,
    /// Parts of the right side: of one or two, what products of the others would add is nothing.
    pub(crate) parts: usize,
}

/// All four products of two tiles of each side.
macro_rules! multiply {
    () => {
        "tdpbf16ps tmm0, tmm4, tmm6
        tdpbf16ps tmm1, tmm4, tmm7
        tdpbf16ps tmm2, tmm5, tmm6
        tdpbf16ps tmm3, tmm5, tmm7"
    };
}

/// Two tiles of the right side.
macro_rules! read_right {
    () => {
        "tileloadd tmm6, [{u} + {line}*1]
        tileloadd tmm7, [{u} + {line}*1 + 1024]"
    };
}

/// Sets out the instructions: what starts the sums and what each of a right side's parts fetches.
macro_rules! products {
    ($self:ident, $c:ident, zero, $fetch:ident) => {
        products!(
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
        products!(
            $self,
            $c,
            [
                "tileloadd tmm0, [{c} + {u}*1]",
                "tileloadd tmm1, [{c} + {u}*1 + 64]",
                "tileloadd tmm2, [{c} + {u}*1 + 2048]",
                "tileloadd tmm3, [{c} + {u}*1 + 2112]"
            ],
            $fetch
        )
    };
    ($self:ident, $c:ident, $start:tt, two) => {
        products!(
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
        products!(
            $self,
            $c,
            $start,
            [
                "lea {t}, [{u} + {fetch}]",
                "prefetcht1 [{t}]",
                "prefetcht1 [{t} + 64]",
                "prefetcht1 [{t} + 128]",
                "prefetcht1 [{t} + 192]",
                "prefetcht1 [{t} + 256]",
                "prefetcht1 [{t} + 320]",
                "prefetcht1 [{t} + 384]",
                "prefetcht1 [{t} + 448]"
            ]
        )
    };
    ($self:ident, $c:ident, [$($start:literal),*], [$($fetch:literal),*]) => {{
        let places = Places::of(&$self.sums, $self.parts);
        asm!(
            "mov {u}, 128",
            $($start,)*
            "2:",
            "mov {v}, [{step}]",
            "mov {u}, [{step} + 8]",
            "add {v}, [{p}]",
            "imul {u}, [{p} + 24]",
            "add {u}, [{p} + 16]",
            // (2, 0)
            "lea {t}, [{v} + 2*{apart}]",
            read_right!(),
            "tileloadd tmm4, [{t} + {a_row}*1]",
            "add {t}, [{p} + 8]",
            "tileloadd tmm5, [{t} + {a_row}*1]",
            $($fetch,)*
            multiply!(),
            // (1, 0)
            "lea {t}, [{v} + {apart}]",
            "tileloadd tmm4, [{t} + {a_row}*1]",
            "add {t}, [{p} + 8]",
            "tileloadd tmm5, [{t} + {a_row}*1]",
            multiply!(),
            "cmp qword ptr [{p} + 48], 2",
            "jb 5f",
            // (1, 1)
            "add {u}, {apart_b}",
            read_right!(),
            $($fetch,)*
            multiply!(),
            // (0, 1)
            "tileloadd tmm4, [{v} + {a_row}*1]",
            "add {v}, [{p} + 8]",
            "tileloadd tmm5, [{v} + {a_row}*1]",
            multiply!(),
            // (0, 0)
            "sub {u}, {apart_b}",
            read_right!(),
            multiply!(),
            "cmp qword ptr [{p} + 48], 2",
            "je 6f",
            // (0, 2)
            "lea {u}, [{u} + 2*{apart_b}]",
            read_right!(),
            $($fetch,)*
            multiply!(),
            "jmp 6f",
            // (0, 0), where there is nothing else.
            "5:",
            "tileloadd tmm4, [{v} + {a_row}*1]",
            "add {v}, [{p} + 8]",
            "tileloadd tmm5, [{v} + {a_row}*1]",
            multiply!(),
            "6:",
            "add {step}, 16",
            "dec {steps}",
            "jnz 2b",
            "mov {step}, [{p} + 32]",
            "mov {steps}, [{p} + 40]",
            "test {steps}, {steps}",
            "jz 4f",
            "3:",
            "mov {v}, [{step}]",
            "mov {u}, [{step} + 8]",
            "add {v}, [{p}]",
            "imul {u}, [{p} + 24]",
            "add {u}, [{p} + 16]",
            read_right!(),
            "tileloadd tmm4, [{v} + {a_row}*1]",
            "add {v}, [{p} + 8]",
            "tileloadd tmm5, [{v} + {a_row}*1]",
            multiply!(),
            "add {step}, 16",
            "dec {steps}",
            "jnz 3b",
            "4:",
            "mov {u}, 128",
            "tilestored [{c} + {u}*1], tmm0",
            "tilestored [{c} + {u}*1 + 64], tmm1",
            "tilestored [{c} + {u}*1 + 2048], tmm2",
            "tilestored [{c} + {u}*1 + 2112], tmm3",
            t = out(reg) _,
            u = out(reg) _,
            v = out(reg) _,
            step = inout(reg) $self.split.as_ptr() => _,
            steps = inout(reg) $self.split.len() => _,
            p = in(reg) &raw const places,
            line = in(reg) 64_usize,
            a_row = in(reg) $self.sums.a_row,
            apart = in(reg) $self.apart.a,
            apart_b = in(reg) $self.apart.b,
            fetch = in(reg) $self.sums.fetch.ahead,
            c = in(reg) $c.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }};
}

impl Places {
    fn of(sums: &Sums<'_>, parts: usize) -> Self {
        Self {
            a: sums.a[0],
            second: sums.a[1].addr().wrapping_sub(sums.a[0].addr()),
            b: sums.b,
            b_row: sums.b_row,
            steps: sums.steps.as_ptr(),
            count: sums.steps.len(),
            parts,
        }
    }
}

impl SplitSums<'_> {
    /// Computes the block into `c`, row by row, or adds it.
    ///
    /// # Safety
    /// As for [`Sums::compute`], for the steps of `sums` and for all parts of each step of `split`.
    #[inline(always)]
    pub(crate) unsafe fn compute(self, tiles: &Tiles, c: &mut [f32; SUMS * SUMS]) {
        if self.split.is_empty() {
            // SAFETY: the caller's promise.
            unsafe { self.sums.compute(tiles, c) };
            return;
        }
        // SAFETY: the caller's promise covers each address: tiles of 16 rows of 64 bytes at the strides given; `c` has 32 rows
        // of 128 bytes; a prefetch of any address does no harm.
        unsafe {
            match (self.sums.adds, self.sums.fetch.many) {
                (true, true) => products!(self, c, load, eight),
                (true, false) => products!(self, c, load, two),
                (false, true) => products!(self, c, zero, eight),
                (false, false) => products!(self, c, zero, two),
            }
        }
    }
}

/// A block of sums of one tile of positions by 32 columns; all steps are places of three parts.
#[derive(Clone, Copy)]
pub(crate) struct SplitHalfSums<'a> {
    pub(crate) sums: HalfSums<'a>,
    pub(crate) apart: Apart,
}

/// The instructions after `start`: all six products read each tile once.
macro_rules! half_products {
    ($self:ident, $c:ident, $($start:literal),*) => {
        asm!(
            $($start,)*
            "2:",
            "mov {t}, [{step}]",
            "mov {u}, [{step} + 8]",
            "shl {u}, 7",
            "add {u}, {b}",
            "add {t}, {a}",
            "lea {v}, [{t} + 2*{apart}]",
            "tileloadd tmm6, [{u} + {b_line}*1]",
            "tileloadd tmm7, [{u} + {b_line}*1 + 1024]",
            "tileloadd tmm4, [{v} + {a_row}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "lea {v}, [{t} + {apart}]",
            "tileloadd tmm5, [{v} + {a_row}*1]",
            "tdpbf16ps tmm0, tmm5, tmm6",
            "tdpbf16ps tmm1, tmm5, tmm7",
            "add {u}, {apart_b}",
            "tileloadd tmm2, [{u} + {b_line}*1]",
            "tileloadd tmm3, [{u} + {b_line}*1 + 1024]",
            "tdpbf16ps tmm0, tmm5, tmm2",
            "tdpbf16ps tmm1, tmm5, tmm3",
            "tileloadd tmm4, [{t} + {a_row}*1]",
            "tdpbf16ps tmm0, tmm4, tmm2",
            "tdpbf16ps tmm1, tmm4, tmm3",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {u}, {apart_b}",
            "tileloadd tmm2, [{u} + {b_line}*1]",
            "tileloadd tmm3, [{u} + {b_line}*1 + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm2",
            "tdpbf16ps tmm1, tmm4, tmm3",
            "add {step}, 16",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{c} + {line}*1], tmm0",
            "tilestored [{c} + {line}*1 + 64], tmm1",
            t = out(reg) _,
            u = out(reg) _,
            v = out(reg) _,
            step = inout(reg) $self.sums.steps.as_ptr() => _,
            steps = inout(reg) $self.sums.steps.len() => _,
            a = in(reg) $self.sums.a,
            a_row = in(reg) $self.sums.a_row,
            b = in(reg) $self.sums.b,
            line = in(reg) 2 * size_of::<[u32; TILE]>(),
            b_line = in(reg) size_of::<[u32; TILE]>(),
            apart = in(reg) $self.apart.a,
            apart_b = in(reg) $self.apart.b,
            c = in(reg) $c.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

impl SplitHalfSums<'_> {
    /// Computes the block into `c`, row by row, or adds it.
    ///
    /// # Safety
    /// As for [`HalfSums::compute`], for all three parts of each step.
    #[inline(always)]
    pub(crate) unsafe fn compute(self, _tiles: &Tiles, c: &mut [f32; TILE * SUMS]) {
        debug_assert!(!self.sums.steps.is_empty());
        // SAFETY: the caller's promise covers each address, as in `SplitSums::compute`; `c` has 16 rows of 128 bytes.
        unsafe {
            if self.sums.adds {
                half_products!(
                    self,
                    c,
                    "tileloadd tmm0, [{c} + {line}*1]",
                    "tileloadd tmm1, [{c} + {line}*1 + 64]"
                );
            } else {
                half_products!(self, c, "tilezero tmm0", "tilezero tmm1");
            }
        }
    }
}
