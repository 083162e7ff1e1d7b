//! Runs of pixels, rounded to bf16 and normed on the way.

use crate::half::BLOCK;
use crate::isa::WordOp;
use crate::math::swish_rough;
use crate::simd::Words;

/// Channels of a plane.
const DEEP: usize = 2 * BLOCK;
/// Values ahead of those read that are fetched: where a map is large, its pixels lie in memory.
const AHEAD: usize = 1024;

/// What a group norm makes of some channels of a picture.
#[derive(Clone, Copy)]
pub(crate) struct PixelNorm<'a> {
    pub(crate) factor: &'a [f32],
    pub(crate) offset: &'a [f32],
    pub(crate) silu: bool,
}

/// Writes pixels as bf16, `[channels / 32][pixels][32]`.
pub(crate) struct RoundPixels<'a> {
    /// Pixels `width` values apart, from the first channel wanted of the first one to the last one's end.
    pub(crate) x: &'a [f32],
    pub(crate) width: usize,
    /// Channels wanted, whole planes.
    pub(crate) channels: usize,
    /// Of the channels wanted.
    pub(crate) norm: Option<PixelNorm<'a>>,
    pub(crate) to: &'a mut [u32],
    /// Words from a plane to the next.
    pub(crate) plane: usize,
}

impl WordOp for RoundPixels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Words>(self, s: S) {
        match self.norm {
            None => self.each::<S, false, false>(s),
            Some(norm) if norm.silu => self.each::<S, true, true>(s),
            Some(_) => self.each::<S, true, false>(s),
        }
    }
}

impl RoundPixels<'_> {
    #[inline(always)]
    fn each<S: Words, const NORMS: bool, const SILU: bool>(self, s: S) {
        let Self {
            x,
            width,
            channels,
            to,
            plane,
            ..
        } = self;
        let (factor, offset) = self
            .norm
            .map_or((&[][..], &[][..]), |n| (n.factor, n.offset));
        let (planes, pixels) = (channels / DEEP, x.len().div_ceil(width.max(1)));
        assert!(
            2 * S::LANES == DEEP && channels.is_multiple_of(DEEP) && channels <= width,
            "channels in other vectors, this is a bug"
        );
        assert!(
            !NORMS || (factor.len() == channels && offset.len() == channels),
            "a norm of other channels, this is a bug"
        );
        if pixels == 0 || planes == 0 {
            return;
        }
        assert!(
            x.len() >= (pixels - 1) * width + channels
                && to.len() >= (planes - 1) * plane + pixels * BLOCK,
            "pixels leave their buffer, this is a bug"
        );
        let mut pixel = 0;
        while pixel < pixels {
            let mut at = 0;
            while at < planes {
                let c = at * DEEP;
                // SAFETY: the vectors of a pixel and of the norm and the places of planes are inside by the assertions above.
                unsafe {
                    let from = x.as_ptr().add(pixel * width + c);
                    let mut v = [s.splat(0.0); 2];
                    let mut k = 0;
                    while k < 2 {
                        let i = k * S::LANES;
                        s.prefetch(from.wrapping_add(AHEAD + i));
                        v[k] = s.load(from.add(i));
                        if NORMS {
                            let factor = s.load(factor.as_ptr().add(c + i));
                            v[k] = s.mul_add(v[k], factor, s.load(offset.as_ptr().add(c + i)));
                        }
                        if SILU {
                            v[k] = swish_rough(s, v[k]);
                        }
                        k += 1;
                    }
                    let to = to.as_mut_ptr().add(at * plane + pixel * BLOCK);
                    s.store_bf16(to.cast(), v[0], v[1]);
                }
                at += 1;
            }
            pixel += 1;
        }
    }
}
