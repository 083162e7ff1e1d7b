//! Elementwise kernels and row softmax.

use rayon::prelude::*;

use crate::error::{Result, check, check_len};
use crate::isa::{Isa, dispatch};
use crate::lanes::{ExpSum, Lanewise, Largest, Scale, Zip};
use crate::math::{gelu, swish};
use crate::simd::Simd;

/// Elements a task takes: 64 KiB, enough to hide the cost of handing it out, few enough for L2.
const CHUNK: usize = 16 * 1024;

/// `out = x * sigmoid(x)`.
///
/// # Errors
/// The lengths differ.
pub fn silu(x: &[f32], out: &mut [f32]) -> Result<()> {
    map("silu", Swish(1.0), x, out)
}

/// `x = x * sigmoid(x)`.
pub fn silu_inplace(x: &mut [f32]) {
    run(Swish(1.0), None, None, x);
}

/// `out = x * Phi(x)` with the exact normal distribution function (torch's default `gelu`).
///
/// # Errors
/// The lengths differ.
pub fn gelu_erf(x: &[f32], out: &mut [f32]) -> Result<()> {
    map("gelu_erf", Gelu, x, out)
}

/// In place form of [`gelu_erf`].
pub fn gelu_erf_inplace(x: &mut [f32]) {
    run(Gelu, None, None, x);
}

/// `out = x * sigmoid(1.702 x)` (CLIP's `quick_gelu`).
///
/// # Errors
/// The lengths differ.
pub fn quick_gelu(x: &[f32], out: &mut [f32]) -> Result<()> {
    map("quick_gelu", Swish(1.702), x, out)
}

/// In place form of [`quick_gelu`].
pub fn quick_gelu_inplace(x: &mut [f32]) {
    run(Swish(1.702), None, None, x);
}

/// `out = a + b`.
///
/// # Errors
/// The lengths differ.
pub fn add(a: &[f32], b: &[f32], out: &mut [f32]) -> Result<()> {
    check_len("add", "b", b.len(), a.len())?;
    check_len("add", "out", out.len(), a.len())?;
    run(Add, Some(a), Some(b), out);
    Ok(())
}

/// `a += b`.
///
/// # Errors
/// The lengths differ.
pub fn add_assign(a: &mut [f32], b: &[f32]) -> Result<()> {
    check_len("add_assign", "b", b.len(), a.len())?;
    run(Add, None, Some(b), a);
    Ok(())
}

/// `out = x * factor`.
///
/// # Errors
/// The lengths differ.
pub fn scale(x: &[f32], factor: f32, out: &mut [f32]) -> Result<()> {
    map("scale", Scale(factor), x, out)
}

/// `x *= factor`.
pub fn scale_inplace(x: &mut [f32], factor: f32) {
    run(Scale(factor), None, None, x);
}

/// GEGLU: `x: (rows, 2 * n)`, `out: (rows, n)`, `out = x[.., ..n] * gelu_erf(x[.., n..])`.
///
/// # Errors
/// The lengths do not fit `n`.
pub fn geglu(x: &[f32], n: usize, out: &mut [f32]) -> Result<()> {
    const OP: &str = "geglu";
    if n == 0 {
        check_len(OP, "x", x.len(), 0)?;
        return check_len(OP, "out", out.len(), 0);
    }
    check(
        OP,
        "x",
        x.len().is_multiple_of(2) && (x.len() / 2).is_multiple_of(n),
        "a multiple of 2 n",
        x.len(),
    )?;
    check_len(OP, "out", out.len(), x.len() / 2)?;
    let isa = Isa::current();
    let rows = (CHUNK / n).max(1);
    out.par_chunks_mut(rows * n)
        .zip(x.par_chunks(rows * 2 * n))
        .for_each(|(out, x)| {
            for (out, x) in out.chunks_exact_mut(n).zip(x.chunks_exact(2 * n)) {
                let (value, gate) = x.split_at(n);
                dispatch(
                    isa,
                    Zip {
                        f: Geglu,
                        a: Some(value),
                        b: Some(gate),
                        out,
                    },
                );
            }
        });
    Ok(())
}

/// Softmax of each row of `x: (rows, cols)`, in place.
///
/// # Errors
/// The length is not a multiple of `cols`.
pub fn softmax_rows(x: &mut [f32], cols: usize) -> Result<()> {
    const OP: &str = "softmax_rows";
    if cols == 0 {
        return check_len(OP, "x", x.len(), 0);
    }
    check(
        OP,
        "x",
        x.len().is_multiple_of(cols),
        "a multiple of cols",
        x.len(),
    )?;
    let isa = Isa::current();
    x.par_chunks_mut((CHUNK / cols).max(1) * cols)
        .for_each(|rows| {
            for row in rows.chunks_exact_mut(cols) {
                let max = dispatch(isa, Largest(row));
                let sum = dispatch(isa, ExpSum { row, max });
                dispatch(
                    isa,
                    Zip {
                        f: Scale(1.0 / sum),
                        a: None,
                        b: None,
                        out: row,
                    },
                );
            }
        });
    Ok(())
}

#[derive(Clone, Copy)]
struct Swish(f32);
impl Lanewise for Swish {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, a: S::V, _: S::V) -> S::V {
        swish(s, a, self.0)
    }
}

#[derive(Clone, Copy)]
struct Gelu;
impl Lanewise for Gelu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, a: S::V, _: S::V) -> S::V {
        gelu(s, a)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Geglu;
impl Lanewise for Geglu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, a: S::V, b: S::V) -> S::V {
        s.mul(a, gelu(s, b))
    }
}

#[derive(Clone, Copy)]
struct Add;
impl Lanewise for Add {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, a: S::V, b: S::V) -> S::V {
        s.add(a, b)
    }
}

fn map(op: &'static str, f: impl Lanewise + Send, x: &[f32], out: &mut [f32]) -> Result<()> {
    check_len(op, "out", out.len(), x.len())?;
    run(f, Some(x), None, out);
    Ok(())
}

/// Applies `f` in chunks, on all threads when there is more than one chunk.
fn run(f: impl Lanewise + Send, a: Option<&[f32]>, b: Option<&[f32]>, out: &mut [f32]) {
    let isa = Isa::current();
    let task = |(i, out): (usize, &mut [f32])| {
        let part = i * CHUNK..i * CHUNK + out.len();
        dispatch(
            isa,
            Zip {
                f,
                a: a.map(|a| &a[part.clone()]),
                b: b.map(|b| &b[part]),
                out,
            },
        );
    };
    if out.len() <= CHUNK {
        task((0, out));
    } else {
        out.par_chunks_mut(CHUNK).enumerate().for_each(task);
    }
}
