//! The vector operations kernels are written with, once for every instruction set.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod portable;
mod words;
#[cfg(target_arch = "x86_64")]
mod words_avx2;
#[cfg(target_arch = "x86_64")]
mod words_avx512;
mod words_portable;

pub(crate) use portable::Portable;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) use words::{POWERS_HIGH, POWERS_LOW, POWERS_RULER};
pub(crate) use words::{Words, bf16};

/// The widest vector of any instruction set, in f32 lanes; sizes tail buffers.
pub(crate) const MAX_LANES: usize = 16;

/// A token that proves the CPU runs an instruction set, with the f32 operations on its vectors.
///
/// Everything here is `#[inline(always)]`: it must be compiled inside the trampolines of [`crate::isa`].
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// A vector of `LANES` f32.
    type V: Copy;
    /// Lanes of a vector.
    const LANES: usize;
    /// Rows of the matrix micro-kernel: with two vectors a row, `2 * ROWS` sums, two columns and one broadcast fit the registers.
    const ROWS: usize;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;
    /// Reads `LANES` values.
    ///
    /// # Safety
    /// `from` is valid for reads of `LANES` f32.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// Writes `LANES` values.
    ///
    /// # Safety
    /// `to` is valid for writes of `LANES` f32.
    unsafe fn store(self, to: *mut f32, v: Self::V);
    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the instruction set has fused multiply-add.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `if a > b { a } else { b }`: b when either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a < b { a } else { b }`: b when either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if b < 0 { x } else { y }`: y when b is NaN.
    fn if_negative(self, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// `2^n * p`, where `shifted` is `n + 1.5 * 2^23`, -127 <= n <= 127; n = -127 gives exactly 0.
    fn scale_by_power(self, shifted: Self::V, p: Self::V) -> Self::V;

    /// Asks for the cache line at `from` to be brought near; any address will do.
    #[inline(always)]
    fn prefetch(self, from: *const f32) {
        let _ = from;
    }

    /// Sum of the lanes, in lane order halves (a fixed order).
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        let mut lanes = [0.0; MAX_LANES];
        // SAFETY: the buffer holds the widest vector.
        unsafe { self.store(lanes.as_mut_ptr(), v) };
        let mut width = Self::LANES;
        while width > 1 {
            width /= 2;
            let mut i = 0;
            while i < width {
                lanes[i] += lanes[i + width];
                i += 1;
            }
        }
        lanes[0]
    }

    /// Largest lane.
    #[inline(always)]
    fn largest(self, v: Self::V) -> f32 {
        let mut lanes = [0.0; MAX_LANES];
        // SAFETY: the buffer holds the widest vector.
        unsafe { self.store(lanes.as_mut_ptr(), v) };
        let mut largest = lanes[0];
        let mut i = 1;
        while i < Self::LANES {
            largest = if lanes[i] > largest {
                lanes[i]
            } else {
                largest
            };
            i += 1;
        }
        largest
    }

    /// Reads `count < LANES` values and fills the rest with `fill`.
    ///
    /// # Safety
    /// `from` is valid for reads of `count` f32, `count <= LANES`.
    #[inline(always)]
    unsafe fn load_partial(self, from: *const f32, count: usize, fill: f32) -> Self::V {
        let mut lanes = [fill; MAX_LANES];
        let mut i = 0;
        while i < count {
            // SAFETY: i < count, which the caller vouches for.
            lanes[i] = unsafe { *from.add(i) };
            i += 1;
        }
        // SAFETY: the buffer holds the widest vector.
        unsafe { self.load(lanes.as_ptr()) }
    }

    /// Writes the first `count` lanes.
    ///
    /// # Safety
    /// `to` is valid for writes of `count` f32, `count <= LANES`.
    #[inline(always)]
    unsafe fn store_partial(self, to: *mut f32, v: Self::V, count: usize) {
        let mut lanes = [0.0; MAX_LANES];
        // SAFETY: the buffer holds the widest vector.
        unsafe { self.store(lanes.as_mut_ptr(), v) };
        let mut i = 0;
        while i < count {
            // SAFETY: i < count, which the caller vouches for.
            unsafe { *to.add(i) = lanes[i] };
            i += 1;
        }
    }
}
