//! Loops over the lanes of slices, on one thread: maps, the largest value, exponentials with their sum.

use crate::isa::Op;
use crate::math::exp;
use crate::simd::Simd;

/// A function of one or two lanes.
pub(crate) trait Lanewise: Copy + Sync {
    /// One vector of results. Functions of one operand ignore `b`.
    fn apply<S: Simd>(self, s: S, a: S::V, b: S::V) -> S::V;
}

/// Multiplies by a constant.
#[derive(Clone, Copy)]
pub(crate) struct Scale(pub(crate) f32);
impl Lanewise for Scale {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, a: S::V, _: S::V) -> S::V {
        s.mul(a, s.splat(self.0))
    }
}

/// `out = f(a, b)`; an operand that is `None` is the old `out`.
pub(crate) struct Zip<'a, F> {
    pub(crate) f: F,
    pub(crate) a: Option<&'a [f32]>,
    pub(crate) b: Option<&'a [f32]>,
    pub(crate) out: &'a mut [f32],
}

impl<F: Lanewise> Op for Zip<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Zip { f, a, b, out } = self;
        let len = out.len();
        assert!(
            a.is_none_or(|a| a.len() == len) && b.is_none_or(|b| b.len() == len),
            "operands differ, this is a bug"
        );
        let out = out.as_mut_ptr();
        let a = a.map_or(out.cast_const(), <[f32]>::as_ptr);
        let b = b.map_or(out.cast_const(), <[f32]>::as_ptr);
        let mut i = 0;
        while i + S::LANES <= len {
            // SAFETY: i + LANES <= len, the length of all three; each vector is read before its place is written.
            unsafe { s.store(out.add(i), f.apply(s, s.load(a.add(i)), s.load(b.add(i)))) };
            i += S::LANES;
        }
        if i < len {
            // SAFETY: len - i < LANES values are left of all three.
            unsafe {
                let (x, y) = (
                    s.load_partial(a.add(i), len - i, 0.0),
                    s.load_partial(b.add(i), len - i, 0.0),
                );
                s.store_partial(out.add(i), f.apply(s, x, y), len - i);
            }
        }
    }
}

/// Largest value of a row; -inf for an empty one.
pub(crate) struct Largest<'a>(pub(crate) &'a [f32]);

impl Op for Largest<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let row = self.0;
        let mut max = s.splat(f32::NEG_INFINITY);
        let mut i = 0;
        while i + S::LANES <= row.len() {
            // SAFETY: i + LANES <= len.
            max = s.max(max, unsafe { s.load(row.as_ptr().add(i)) });
            i += S::LANES;
        }
        // SAFETY: fewer than LANES values are left.
        let rest = unsafe { s.load_partial(row.as_ptr().add(i), row.len() - i, f32::NEG_INFINITY) };
        s.largest(s.max(max, rest))
    }
}

/// `row = exp(row - max)`; returns the sum.
pub(crate) struct ExpSum<'a> {
    pub(crate) row: &'a mut [f32],
    pub(crate) max: f32,
}

impl Op for ExpSum<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let len = self.row.len();
        let row = self.row.as_mut_ptr();
        let max = s.splat(self.max);
        let mut sum = s.splat(0.0);
        let mut i = 0;
        while i + S::LANES <= len {
            // SAFETY: i + LANES <= len.
            unsafe {
                let e = exp(s, s.sub(s.load(row.add(i)), max));
                s.store(row.add(i), e);
                sum = s.add(sum, e);
            }
            i += S::LANES;
        }
        if i < len {
            // SAFETY: len - i < LANES values are left. The filling becomes exp(-inf) = 0 in the sum.
            unsafe {
                let e = exp(
                    s,
                    s.sub(s.load_partial(row.add(i), len - i, f32::NEG_INFINITY), max),
                );
                s.store_partial(row.add(i), e, len - i);
                sum = s.add(sum, e);
            }
        }
        s.sum(sum)
    }
}
