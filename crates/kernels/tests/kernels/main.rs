//! Every kernel against naive f64 loops, on every instruction set of this machine, at sizes around the block sizes.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod arena;
mod attention;
mod fast;
mod fast_attention;
mod fast_conv;
mod guarded;
mod layout;
mod matmul;
mod moments;
mod norm;
mod pointwise;
mod prepared;
mod shifted;
mod threads;

use tintype_kernels::{Isa, guard::Guard};

/// The system's allocator, or guarded memory: see `guarded.rs`.
#[global_allocator]
static MEMORY: Guard = Guard;

/// Half a unit in the last place of 1.0 in f32: the rounding error of one operation.
pub(crate) const EPS: f64 = 1.0 / (1u64 << 24) as f64;

/// `n` values in -1..1, a pure function of `seed`.
pub(crate) fn values(n: usize, seed: u64) -> Vec<f32> {
    (0..n as u64)
        .map(|i| {
            let mut z = (seed << 32)
                .wrapping_add(i + 1)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// Bound for a sum of `terms` products of values below 1: a recursive sum is off by at most terms * EPS * sum |terms|, in practice by
/// about EPS * terms; a missing or doubled term shows as about 0.3.
pub(crate) fn sum_tolerance(terms: usize) -> f64 {
    EPS * (terms as f64 + 16.0)
}

/// Runs `body` once for each instruction set here.
pub(crate) fn on_each_isa(body: impl Fn(Isa)) {
    for &isa in Isa::available() {
        isa.with(|| {
            assert_eq!(Isa::current(), isa);
            body(isa);
        });
    }
}

/// Fails with the worst element unless |got - want| <= atol + rtol |want| everywhere.
#[track_caller]
pub(crate) fn assert_close(what: &str, got: &[f32], want: &[f64], atol: f64, rtol: f64) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    let excess = |i: usize| {
        let e = (f64::from(got[i]) - want[i]).abs() - atol - rtol * want[i].abs();
        if e.is_nan() { f64::INFINITY } else { e }
    };
    let worst = (0..got.len()).max_by(|&a, &b| excess(a).total_cmp(&excess(b)));
    if let Some(i) = worst.filter(|&i| excess(i) > 0.0) {
        panic!(
            "{what}: element {i} of {}: got {}, want {}, off by {:e}",
            got.len(),
            got[i],
            want[i],
            f64::from(got[i]) - want[i]
        );
    }
}
