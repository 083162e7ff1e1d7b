//! Blocks of sums of three tiles of positions.

use std::arch::asm;

use super::unit::{Sums, Tiles};
use super::{SUMS, TILE};

/// Runs the steps of a [`TallSums`] after `start`: a tile of the left side at a time, as six tiles hold sums.
macro_rules! tall_steps {
    ($self:ident, $third:ident, $c:ident, zero, $fetch:tt) => {
        tall_steps!(
            $self,
            $third,
            $c,
            [
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "tilezero tmm4",
                "tilezero tmm5"
            ],
            $fetch
        )
    };
    ($self:ident, $third:ident, $c:ident, load, $fetch:tt) => {
        tall_steps!(
            $self,
            $third,
            $c,
            [
                "tileloadd tmm0, [{c} + {t}*1]",
                "tileloadd tmm1, [{c} + {t}*1 + 64]",
                "tileloadd tmm2, [{c} + {t}*1 + 2048]",
                "tileloadd tmm3, [{c} + {t}*1 + 2112]",
                "tileloadd tmm4, [{c} + {t}*1 + 4096]",
                "tileloadd tmm5, [{c} + {t}*1 + 4160]"
            ],
            $fetch
        )
    };
    ($self:ident, $third:ident, $c:ident, $start:tt, two) => {
        tall_steps!(
            $self,
            $third,
            $c,
            $start,
            [
                "prefetcht1 [{u} + {fetch}]",
                "prefetcht1 [{u} + {fetch} + 64]"
            ]
        )
    };
    ($self:ident, $third:ident, $c:ident, $start:tt, eight) => {
        tall_steps!(
            $self,
            $third,
            $c,
            $start,
            [
                "prefetcht1 [{u} + {fetch}]",
                "prefetcht1 [{u} + {fetch} + 64]",
                "prefetcht1 [{u} + {fetch} + 128]",
                "prefetcht1 [{u} + {fetch} + 192]",
                "prefetcht1 [{u} + {fetch} + 256]",
                "prefetcht1 [{u} + {fetch} + 320]",
                "prefetcht1 [{u} + {fetch} + 384]",
                "prefetcht1 [{u} + {fetch} + 448]"
            ]
        )
    };
    ($self:ident, $third:ident, $c:ident, [$($start:literal),*], [$($fetch:literal),*]) => {
        asm!(
            "mov {t}, 128",
            $($start,)*
            "mov {line}, 64",
            "2:",
            "mov {t}, [{step}]",
            "mov {u}, [{step} + 8]",
            "imul {u}, {b_row}",
            "add {u}, {b}",
            "tileloadd tmm7, [{u} + {line}*1]",
            "add {t}, {a0}",
            "tileloadd tmm6, [{t} + {a_row}*1]",
            "tdpbf16ps tmm0, tmm6, tmm7",
            "add {t}, {a1}",
            "tileloadd tmm6, [{t} + {a_row}*1]",
            "tdpbf16ps tmm2, tmm6, tmm7",
            "add {t}, {a2}",
            "tileloadd tmm6, [{t} + {a_row}*1]",
            "tdpbf16ps tmm4, tmm6, tmm7",
            "tileloadd tmm7, [{u} + {line}*1 + 1024]",
            $($fetch,)*
            "tdpbf16ps tmm5, tmm6, tmm7",
            "sub {t}, {a2}",
            "tileloadd tmm6, [{t} + {a_row}*1]",
            "tdpbf16ps tmm3, tmm6, tmm7",
            "sub {t}, {a1}",
            "tileloadd tmm6, [{t} + {a_row}*1]",
            "tdpbf16ps tmm1, tmm6, tmm7",
            "add {step}, 16",
            "dec {steps}",
            "jnz 2b",
            "mov {t}, 128",
            "tilestored [{c} + {t}*1], tmm0",
            "tilestored [{c} + {t}*1 + 64], tmm1",
            "tilestored [{c} + {t}*1 + 2048], tmm2",
            "tilestored [{c} + {t}*1 + 2112], tmm3",
            "tilestored [{c} + {t}*1 + 4096], tmm4",
            "tilestored [{c} + {t}*1 + 4160], tmm5",
            t = out(reg) _,
            u = out(reg) _,
            line = out(reg) _,
            step = inout(reg) $self.steps.as_ptr() => _,
            steps = inout(reg) $self.steps.len() => _,
            a0 = in(reg) $self.a[0],
            a1 = in(reg) $self.a[1].byte_offset_from($self.a[0]),
            a2 = in(reg) $third.byte_offset_from($self.a[1]),
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

/// One block of sums of three tiles of positions by 32 columns, which reads a third less of the weight for each product than two do.
#[derive(Clone, Copy)]
pub(crate) struct TallSums<'a> {
    /// Those of the first two tiles.
    pub(crate) sums: Sums<'a>,
    /// First position of the third tile, of the same buffer.
    pub(crate) third: *const u32,
}

impl TallSums<'_> {
    /// Computes the block into `c`, row by row, or adds it.
    ///
    /// # Safety
    /// As for [`Sums::compute`].
    #[inline(always)]
    pub(crate) unsafe fn compute(self, _tiles: &Tiles, c: &mut [f32; 3 * TILE * SUMS]) {
        let (sums, third) = (self.sums, self.third);
        if sums.steps.is_empty() {
            if !sums.adds {
                c.fill(0.0);
            }
            return;
        }
        // SAFETY: the caller's promise covers each address, as in `Sums::compute`; `c` has 48 rows of 128 bytes.
        unsafe {
            match (sums.adds, sums.fetch.many) {
                (true, true) => tall_steps!(sums, third, c, load, eight),
                (true, false) => tall_steps!(sums, third, c, load, two),
                (false, true) => tall_steps!(sums, third, c, zero, eight),
                (false, false) => tall_steps!(sums, third, c, zero, two),
            }
        }
    }
}
