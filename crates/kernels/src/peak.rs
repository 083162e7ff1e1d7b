//! What the machine could do: products on operands that never leave registers or the first cache.

use std::time::{Duration, Instant};

use crate::conv::Precision;
use crate::half::{BLOCK, HalfPanels, HalfTile, half_len, run_tile};
use crate::isa::{Isa, Op, dispatch};
use crate::matmul::Store;
use crate::simd::Simd;

/// Sums that run side by side: enough to hide the latency of a fused multiply-add on two units.
const SUMS: usize = 12;
/// How long each probe runs; the best of several short ones is the least disturbed.
const PROBE: Duration = Duration::from_millis(30);
const PROBES: usize = 5;

/// Floating-point operations a second that all threads of the current pool reach together, on the instruction set kernels
/// called from this thread use.
///
/// f32 is measured in registers; 16-bit products by the innermost kernel on operands in the first cache.
pub fn peak_flops(precision: Precision) -> f64 {
    let isa = Isa::current();
    let of_thread = || match precision {
        Precision::F32 => best(|rounds| {
            dispatch(isa, MultiplyAdd(rounds));
            (rounds * SUMS * 2) as f64 * lanes(isa)
        }),
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Precision::Fast if isa == Isa::Amx => {
            let probe = crate::amx::Probe::new();
            // SAFETY: `Isa::Amx` is handed out only where AMX is ready.
            best(|rounds| unsafe { probe.multiply(rounds.div_ceil(100)) })
        }
        Precision::Fast => {
            let mut tile = L1Tile::new();
            best(|rounds| tile.multiply(isa, rounds))
        }
    };
    rayon::broadcast(|_| of_thread()).into_iter().sum()
}

/// The best rate of some probes; `work` does so many rounds and says how many operations they were.
fn best(mut work: impl FnMut(usize) -> f64) -> f64 {
    let mut best: f64 = 0.0;
    for _ in 0..PROBES {
        let start = Instant::now();
        let mut operations = 0.0;
        while start.elapsed() < PROBE {
            operations += work(1000);
        }
        best = best.max(operations / start.elapsed().as_secs_f64());
    }
    best
}

fn lanes(isa: Isa) -> f64 {
    struct Lanes;
    impl Op for Lanes {
        type Output = usize;
        #[inline(always)]
        fn run<S: Simd>(self, _: S) -> usize {
            S::LANES
        }
    }
    dispatch(isa, Lanes) as f64
}

/// Rounds of multiply-add on [`SUMS`] vectors.
struct MultiplyAdd(usize);

impl Op for MultiplyAdd {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (factor, addend) = (s.splat(0.999), s.splat(1e-3));
        let mut sums = [s.splat(1.0); SUMS];
        let mut i = 0;
        while i < SUMS {
            // Different, so that no compiler makes one sum of them.
            sums[i] = s.splat(std::hint::black_box(i as f32));
            i += 1;
        }
        let mut round = 0;
        while round < self.0 {
            let mut i = 0;
            while i < SUMS {
                sums[i] = s.mul_add(sums[i], factor, addend);
                i += 1;
            }
            round += 1;
        }
        let mut total = 0.0;
        let mut i = 0;
        while i < SUMS {
            total += s.sum(sums[i]);
            i += 1;
        }
        std::hint::black_box(total);
    }
}

/// A bf16 tile whose operands, 10 and 10 KiB, stay in the first cache, with sums as long as a real layer's.
struct L1Tile {
    left: Vec<u32>,
    right: Vec<u32>,
    out: Vec<f32>,
}

impl L1Tile {
    const ROWS: usize = 32;
    const COLUMNS: usize = 32;
    const WORDS: usize = 5 * BLOCK;

    fn new() -> Self {
        /// Two bf16 ones.
        const ONES: u32 = 0x3f80_3f80;
        Self {
            left: vec![ONES; Self::ROWS * Self::WORDS],
            right: vec![ONES; half_len(Self::COLUMNS, Self::WORDS)],
            out: vec![0.0; Self::ROWS * Self::COLUMNS],
        }
    }

    /// Multiplies once for a thousand rounds of the register loop; returns the operations.
    fn multiply(&mut self, isa: Isa, rounds: usize) -> f64 {
        let times = rounds.div_ceil(1000);
        for _ in 0..times {
            let tile = HalfTile {
                a: &self.left,
                rows: Self::ROWS,
                rows_padded: Self::ROWS,
                words: Self::WORDS,
                b: HalfPanels {
                    data: &self.right,
                    columns: Self::COLUMNS,
                    depth: Self::WORDS,
                    parts: 1,
                },
                first: 0,
                start: 0,
                end: Self::COLUMNS,
                c: self.out.as_mut_ptr(),
                c_step: Self::COLUMNS,
                store: Store::Set,
            };
            // SAFETY: `out` has all rows and columns of the tile and belongs to this call.
            unsafe { run_tile(isa, tile) };
        }
        std::hint::black_box(&mut self.out);
        (times * Self::ROWS * Self::COLUMNS * Self::WORDS * 4) as f64
    }
}
