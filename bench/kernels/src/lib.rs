//! What the benches share: inputs, and the gemm crate behind slices.

#![deny(missing_docs)]

use gemm::Parallelism;

/// `n` values that neither vanish nor overflow.
pub fn values(n: usize) -> Vec<f32> {
    (0..n as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as f32 / 32768.0 - 1.0)
        .collect()
}

/// The gemm crate's `x (rows, inputs)` times the transpose of `weight (outputs, inputs)`, into `out (rows, outputs)`, on all of
/// rayon's threads.
///
/// # Panics
/// When a length does not fit.
pub fn gemm_crate([rows, inputs, outputs]: [usize; 3], x: &[f32], weight: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), rows * inputs, "x");
    assert_eq!(weight.len(), outputs * inputs, "weight");
    assert_eq!(out.len(), rows * outputs, "out");
    #[expect(unsafe_code, reason = "the crate takes pointers")]
    // SAFETY: all three are contiguous and of the lengths the call names, by the assertions.
    unsafe {
        gemm::gemm(
            rows,
            outputs,
            inputs,
            out.as_mut_ptr(),
            1,
            outputs as isize,
            false,
            x.as_ptr(),
            1,
            inputs as isize,
            weight.as_ptr(),
            inputs as isize,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
}
