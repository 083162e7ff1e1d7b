//! The two passes of group normalisation over the lanes of the channels.

use crate::isa::{Op, WordOp};
use crate::math::{swish, swish_rough};
use crate::simd::{MAX_LANES, Simd, Words};

/// Adds a run of pixels to `totals`: sum and sum of squares of `x - pivot`, in f32 within the run.
pub(super) struct Sums<'a> {
    /// `(pixels, width)`.
    pub(super) x: &'a [f32],
    /// `(width)`.
    pub(super) pivot: &'a [f32],
    /// `(width)`.
    pub(super) totals: &'a mut [[f64; 2]],
}

impl Op for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.pivot.len();
        assert!(
            self.x.len().is_multiple_of(width) && self.totals.len() == width,
            "sizes disagree, this is a bug"
        );
        let pixels = self.x.len() / width;
        let mut c = 0;
        while c < width {
            let count = S::LANES.min(width - c);
            let full = count == S::LANES;
            let (mut sum, mut square) = ([0.0f32; MAX_LANES], [0.0f32; MAX_LANES]);
            // SAFETY: channels c.. hold `count` values in the pivot and in each pixel; the buffers hold any vector.
            unsafe {
                let from = self.x.as_ptr().add(c);
                let pivot = load(s, self.pivot.as_ptr().add(c), count, full);
                let (mut sums, mut squares) = ([s.splat(0.0); 2], [s.splat(0.0); 2]);
                let mut pixel = 0;
                while pixel < pixels {
                    let d = s.sub(load(s, from.add(pixel * width), count, full), pivot);
                    // Two sums each, so that an addition need not wait for the one before.
                    if pixel % 2 == 0 {
                        sums[0] = s.add(sums[0], d);
                        squares[0] = s.mul_add(d, d, squares[0]);
                    } else {
                        sums[1] = s.add(sums[1], d);
                        squares[1] = s.mul_add(d, d, squares[1]);
                    }
                    pixel += 1;
                }
                s.store(sum.as_mut_ptr(), s.add(sums[0], sums[1]));
                s.store(square.as_mut_ptr(), s.add(squares[0], squares[1]));
            }
            let mut i = 0;
            while i < count {
                self.totals[c + i][0] += f64::from(sum[i]);
                self.totals[c + i][1] += f64::from(square[i]);
                i += 1;
            }
            c += count;
        }
    }
}

/// `out[pixel][start + c] = act(x[pixel][c] * factor[c] + offset[c])`.
pub(super) struct Affine<'a> {
    /// `(pixels, width)`.
    pub(super) x: &'a [f32],
    /// `(width)`.
    pub(super) factor: &'a [f32],
    /// `(width)`.
    pub(super) offset: &'a [f32],
    pub(super) silu: bool,
    /// Whether to write past the caches.
    pub(super) streams: bool,
    /// First channel of this part in the output.
    pub(super) start: usize,
    /// Channels of the output.
    pub(super) out_width: usize,
    /// `(pixels, out_width)`.
    pub(super) out: &'a mut [f32],
}

impl WordOp for Affine<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Words>(self, s: S) {
        let Affine {
            x,
            factor,
            offset,
            silu,
            streams,
            start,
            out_width,
            out,
        } = self;
        let width = factor.len();
        if width == 0 {
            return;
        }
        let pixels = x.len() / width;
        assert!(
            offset.len() == width && start + width <= out_width && out.len() == pixels * out_width,
            "sizes disagree, this is a bug"
        );
        let mut pixel = 0;
        while pixel < pixels {
            let mut c = 0;
            while c < width {
                let count = S::LANES.min(width - c);
                let full = count == S::LANES;
                // SAFETY: channels c.. hold `count` values in x, factor, offset and the output's part.
                unsafe {
                    let v = load(s, x.as_ptr().add(pixel * width + c), count, full);
                    let f = load(s, factor.as_ptr().add(c), count, full);
                    let o = load(s, offset.as_ptr().add(c), count, full);
                    let mut y = s.mul_add(v, f, o);
                    if silu {
                        y = swish(s, y, 1.0);
                    }
                    let to = out.as_mut_ptr().add(pixel * out_width + start + c);
                    if full && streams {
                        s.stream(to, y);
                    } else if full {
                        s.store(to, y);
                    } else {
                        s.store_partial(to, y, count);
                    }
                }
                c += count;
            }
            pixel += 1;
        }
        if streams {
            s.fence();
        }
    }
}

/// Values fetched ahead of those that are normed: 4 KiB, further than the processor looks itself while it is busy.
const AHEAD: usize = 1024;

/// `out = act(x * factor + offset)` of a pixel's channels.
pub(super) struct PixelAffine<'a> {
    pub(super) x: &'a [f32],
    pub(super) factor: &'a [f32],
    pub(super) offset: &'a [f32],
    pub(super) silu: bool,
    /// Whether the result is rounded to bf16 anyway.
    pub(super) rough: bool,
    pub(super) out: &'a mut [f32],
}

impl WordOp for PixelAffine<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Words>(self, s: S) {
        let len = self.out.len();
        assert!(
            self.x.len() == len && self.factor.len() == len && self.offset.len() == len,
            "sizes disagree, this is a bug"
        );
        let mut c = 0;
        while c < len {
            let count = S::LANES.min(len - c);
            let full = count == S::LANES;
            // SAFETY: `count` values are left of all four.
            unsafe {
                s.prefetch(self.x.as_ptr().wrapping_add(c + AHEAD));
                let v = load(s, self.x.as_ptr().add(c), count, full);
                let f = load(s, self.factor.as_ptr().add(c), count, full);
                let o = load(s, self.offset.as_ptr().add(c), count, full);
                let mut y = s.mul_add(v, f, o);
                if self.silu && self.rough {
                    y = swish_rough(s, y);
                } else if self.silu {
                    y = swish(s, y, 1.0);
                }
                let to = self.out.as_mut_ptr().add(c);
                if full {
                    s.store(to, y);
                } else {
                    s.store_partial(to, y, count);
                }
            }
            c += count;
        }
    }
}

/// A vector, or what is left of one.
///
/// # Safety
/// `from` is valid for reads of `count` values, and of `LANES` if `full`.
#[inline(always)]
unsafe fn load<S: Simd>(s: S, from: *const f32, count: usize, full: bool) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        if full {
            s.load(from)
        } else {
            s.load_partial(from, count, 0.0)
        }
    }
}
