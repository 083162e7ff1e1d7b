//! Choice of the instruction set at run time, and the trampolines that enter code compiled for it.
//!
//! One binary serves every CPU: a kernel is written once, generic over a [`Simd`] token, as an [`Op`]; [`dispatch`] runs
//! it inside a function that carries the token's `target_feature` list. Only [`detect`] makes tokens' instruction sets
//! reachable, after it has tested exactly the features listed at the trampolines.

use std::cell::Cell;
use std::sync::OnceLock;

use crate::simd::{Portable, Simd, Words};
#[cfg(target_arch = "x86_64")]
use crate::simd::{avx2::Avx2, avx512::Avx512};

/// Environment variable that forces an instruction set, for tests and bug reports.
const FORCE: &str = "TINTYPE_ISA";

/// An instruction set the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isa {
    /// What the compiler's target guarantees (SSE2 on x86-64, NEON on aarch64).
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, VL, DQ and BW.
    Avx512,
    /// The same with AVX-512 BF16 and VNNI: products of 16-bit values at twice the rate of f32 (AMD since Zen 4, Intel servers).
    Avx512Bf16,
    /// The same with AVX-512 VBMI and AMX tiles of bf16, which the operating system has let this process use (Intel servers).
    Amx,
}

impl Isa {
    /// Name used by `TINTYPE_ISA`, logs and benches.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
            Self::Amx => "amx",
        }
    }

    /// Whether 16-bit products are faster here than those of f32. They are correct on every instruction set.
    pub fn multiplies_16_bit(self) -> bool {
        matches!(self, Self::Avx512Bf16 | Self::Amx)
    }

    /// The instruction sets this machine can run, the best one last.
    pub fn available() -> &'static [Isa] {
        static FOUND: OnceLock<Vec<Isa>> = OnceLock::new();
        FOUND.get_or_init(detect)
    }

    /// The instruction set kernels called from this thread use: the best one, or what `TINTYPE_ISA` names.
    ///
    /// A name in `TINTYPE_ISA` that is unknown, or that this machine cannot run, falls back to the best one here;
    /// [`Isa::forced_but_unavailable`] lets the program say so.
    pub fn current() -> Isa {
        static CHOSEN: OnceLock<Isa> = OnceLock::new();
        OVERRIDE.get().unwrap_or_else(|| {
            *CHOSEN.get_or_init(|| {
                let forced = std::env::var(FORCE).ok();
                let found = Self::available();
                found
                    .iter()
                    .copied()
                    .find(|isa| forced.as_deref() == Some(isa.name()))
                    .unwrap_or(found[found.len() - 1])
            })
        })
    }

    /// The value of `TINTYPE_ISA` when it names nothing this machine can run.
    pub fn forced_but_unavailable() -> Option<String> {
        let forced = std::env::var(FORCE).ok().filter(|name| !name.is_empty())?;
        Self::available()
            .iter()
            .all(|isa| isa.name() != forced)
            .then_some(forced)
    }

    /// Runs `body` with kernels called from this thread on `self`; for tests and benches.
    /// An instruction set this machine cannot run is replaced by the current one.
    #[doc(hidden)]
    pub fn with<R>(self, body: impl FnOnce() -> R) -> R {
        struct Restore(Option<Isa>);
        impl Drop for Restore {
            fn drop(&mut self) {
                OVERRIDE.set(self.0);
            }
        }
        let chosen = if Self::available().contains(&self) {
            self
        } else {
            Self::current()
        };
        let _restore = Restore(OVERRIDE.replace(Some(chosen)));
        body()
    }
}

thread_local! {
    static OVERRIDE: Cell<Option<Isa>> = const { Cell::new(None) };
}

/// Tests the CPU; the lists equal those of the trampolines below.
fn detect() -> Vec<Isa> {
    let mut found = vec![Isa::Portable];
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        found.push(Isa::Avx2);
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
        {
            found.push(Isa::Avx512);
            if is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512vnni") {
                found.push(Isa::Avx512Bf16);
                if is_x86_feature_detected!("avx512vbmi") && crate::half::amx_is_ready() {
                    found.push(Isa::Amx);
                }
            }
        }
    }
    found
}

/// A piece of work written once for every instruction set.
pub(crate) trait Op {
    /// What it returns.
    type Output;
    /// Does the work. Implementations are `#[inline(always)]`, and so is all they call with a token, so that the code is
    /// compiled inside the trampoline; they use no closures on vectors, since closures would lose its features.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs `op` on `isa`, which must come from [`Isa::current`] or [`Isa::available`].
pub(crate) fn dispatch<O: Op>(isa: Isa, op: O) -> O::Output {
    debug_assert!(
        Isa::available().contains(&isa),
        "instruction set not available"
    );
    match isa {
        Isa::Portable => op.run(Portable),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: every `Isa` handed out lies in `Isa::available()`, so `detect` has found these features.
        Isa::Avx2 => unsafe { run_avx2(op) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => unsafe { run_avx512(op) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => op.run(Portable),
    }
}

/// A piece of work on 32-bit words that hold pairs of 16-bit values; the rules of [`Op`] hold.
pub(crate) trait WordOp {
    /// What it returns.
    type Output;
    /// Does the work.
    fn run<S: Words>(self, simd: S) -> Self::Output;
}

/// Runs `op` on `isa`, which must come from [`Isa::current`] or [`Isa::available`].
pub(crate) fn dispatch_words<O: WordOp>(isa: Isa, op: O) -> O::Output {
    debug_assert!(
        Isa::available().contains(&isa),
        "instruction set not available"
    );
    match isa {
        Isa::Portable => op.run(Portable),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: every `Isa` handed out lies in `Isa::available()`, so `detect` has found these features.
        Isa::Avx2 => unsafe { words_avx2(op) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 => unsafe { words_avx512(op) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512Bf16 | Isa::Amx => unsafe { words_avx512bf16(op) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => op.run(Portable),
    }
}

/// Runs `op` with all that [`Isa::Amx`] stands for; only where it is available.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) fn dispatch_amx<O: WordOp>(op: O) -> O::Output {
    assert!(
        Isa::available().contains(&Isa::Amx),
        "AMX is not available, this is a bug"
    );
    // SAFETY: `detect` has found these features.
    unsafe { words_amx(op) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<O: Op>(op: O) -> O::Output {
    // SAFETY: this function's features are those the token stands for.
    op.run(unsafe { Avx2::assume() })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512dq,avx512bw")]
fn run_avx512<O: Op>(op: O) -> O::Output {
    // SAFETY: this function's features are those the token stands for.
    op.run(unsafe { Avx512::<false>::assume() })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn words_avx2<O: WordOp>(op: O) -> O::Output {
    // SAFETY: this function's features are those the token stands for.
    op.run(unsafe { Avx2::assume() })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512dq,avx512bw")]
fn words_avx512<O: WordOp>(op: O) -> O::Output {
    // SAFETY: this function's features are those the token stands for.
    op.run(unsafe { Avx512::<false>::assume() })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512dq,avx512bw,avx512bf16,avx512vnni")]
fn words_avx512bf16<O: WordOp>(op: O) -> O::Output {
    // SAFETY: this function's features are those the token stands for.
    op.run(unsafe { Avx512::<true>::assume() })
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[target_feature(
    enable = "avx2,fma,avx512f,avx512vl,avx512dq,avx512bw,avx512bf16,avx512vnni,avx512vbmi"
)]
fn words_amx<O: WordOp>(op: O) -> O::Output {
    // SAFETY: this function's features are those the token stands for, and more.
    op.run(unsafe { Avx512::<true>::assume() })
}
