//! Layer normalisation (Ba et al., arXiv:1607.06450): mean, then variance about it, then the result, row by row in L1.

use rayon::prelude::*;

use crate::error::{Result, check, check_len};
use crate::isa::{Isa, Op, dispatch};
use crate::simd::Simd;

/// One call of [`layer_norm`].
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm<'a> {
    /// `(rows, dim)`, contiguous.
    pub x: &'a [f32],
    /// `(dim)`.
    pub weight: &'a [f32],
    /// `(dim)`.
    pub bias: &'a [f32],
    /// Added to the variance.
    pub eps: f32,
}

/// Normalises each row; `out: (rows, dim)`.
///
/// # Errors
/// A length does not fit the weight's.
pub fn layer_norm(call: &LayerNorm<'_>, out: &mut [f32]) -> Result<()> {
    const OP: &str = "layer_norm";
    let dim = call.weight.len();
    check_len(OP, "bias", call.bias.len(), dim)?;
    check_len(OP, "out", out.len(), call.x.len())?;
    if dim == 0 {
        return check_len(OP, "x", call.x.len(), 0);
    }
    check(
        OP,
        "x",
        call.x.len().is_multiple_of(dim),
        "a multiple of the weight's length",
        call.x.len(),
    )?;
    let isa = Isa::current();
    let step = (16 * 1024 / dim).max(1) * dim;
    out.par_chunks_mut(step)
        .zip(call.x.par_chunks(step))
        .for_each(|(out, x)| {
            dispatch(isa, LayerRows { call, x, out });
        });
    Ok(())
}

/// Some rows.
pub(crate) struct LayerRows<'a> {
    pub(crate) call: &'a LayerNorm<'a>,
    pub(crate) x: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl Op for LayerRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let LayerNorm {
            weight, bias, eps, ..
        } = *self.call;
        let dim = weight.len();
        let rows = self.x.len() / dim;
        assert!(
            self.out.len() == rows * dim && bias.len() == dim,
            "sizes disagree, this is a bug"
        );
        let mut row = 0;
        while row < rows {
            let x = &self.x[row * dim..(row + 1) * dim];
            let out = &mut self.out[row * dim..(row + 1) * dim];
            let mean = deviations(s, x, 0.0, false) / dim as f32;
            let variance = deviations(s, x, mean, true) / dim as f32;
            let rstd = 1.0 / (variance + eps).sqrt();
            let (mean, rstd) = (s.splat(mean), s.splat(rstd));
            let mut i = 0;
            while i < dim {
                let count = S::LANES.min(dim - i);
                // SAFETY: i + count <= dim, the length of all four.
                unsafe {
                    let (x, w, b) = (
                        x.as_ptr().add(i),
                        weight.as_ptr().add(i),
                        bias.as_ptr().add(i),
                    );
                    let to = out.as_mut_ptr().add(i);
                    if count == S::LANES {
                        let y = s.mul(s.sub(s.load(x), mean), rstd);
                        s.store(to, s.mul_add(y, s.load(w), s.load(b)));
                    } else {
                        let y = s.mul(s.sub(s.load_partial(x, count, 0.0), mean), rstd);
                        let (w, b) = (s.load_partial(w, count, 0.0), s.load_partial(b, count, 0.0));
                        s.store_partial(to, s.mul_add(y, w, b), count);
                    }
                }
                i += count;
            }
            row += 1;
        }
    }
}

/// Sum of `x - center`, or of its square.
#[inline(always)]
fn deviations<S: Simd>(s: S, x: &[f32], center: f32, squared: bool) -> f32 {
    let middle = s.splat(center);
    let mut sum = s.splat(0.0);
    let mut i = 0;
    while i < x.len() {
        let count = S::LANES.min(x.len() - i);
        // SAFETY: i + count <= len. The filling deviates by 0.
        let v = unsafe {
            if count == S::LANES {
                s.load(x.as_ptr().add(i))
            } else {
                s.load_partial(x.as_ptr().add(i), count, center)
            }
        };
        let d = s.sub(v, middle);
        sum = if squared {
            s.mul_add(d, d, sum)
        } else {
            s.add(sum, d)
        };
        i += count;
    }
    s.sum(sum)
}
