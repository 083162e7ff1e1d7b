//! Elementwise kernels and row softmax.

use crate::error::{Result, check, check_len};

fn map(op: &'static str, x: &[f32], out: &mut [f32], f: impl Fn(f32) -> f32) -> Result<()> {
    check_len(op, "out", out.len(), x.len())?;
    out.iter_mut().zip(x).for_each(|(o, &x)| *o = f(x));
    Ok(())
}

fn silu1(x: f32) -> f32 {
    x / (1.0 + (-x).exp())
}

fn quick_gelu1(x: f32) -> f32 {
    x / (1.0 + (-1.702 * x).exp())
}

fn gelu1(x: f32) -> f32 {
    0.5 * x * (1.0 + crate::reference::erf(f64::from(x) * std::f64::consts::FRAC_1_SQRT_2) as f32)
}

/// `out = x * sigmoid(x)`.
///
/// # Errors
/// The lengths differ.
pub fn silu(x: &[f32], out: &mut [f32]) -> Result<()> {
    map("silu", x, out, silu1)
}

/// `x = x * sigmoid(x)`.
pub fn silu_inplace(x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x = silu1(*x));
}

/// `out = x * Phi(x)` with the exact normal distribution function (torch's default `gelu`).
///
/// # Errors
/// The lengths differ.
pub fn gelu_erf(x: &[f32], out: &mut [f32]) -> Result<()> {
    map("gelu_erf", x, out, gelu1)
}

/// In place form of [`gelu_erf`].
pub fn gelu_erf_inplace(x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x = gelu1(*x));
}

/// `out = x * sigmoid(1.702 x)` (CLIP's `quick_gelu`).
///
/// # Errors
/// The lengths differ.
pub fn quick_gelu(x: &[f32], out: &mut [f32]) -> Result<()> {
    map("quick_gelu", x, out, quick_gelu1)
}

/// In place form of [`quick_gelu`].
pub fn quick_gelu_inplace(x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x = quick_gelu1(*x));
}

/// `out = a + b`.
///
/// # Errors
/// The lengths differ.
pub fn add(a: &[f32], b: &[f32], out: &mut [f32]) -> Result<()> {
    check_len("add", "b", b.len(), a.len())?;
    check_len("add", "out", out.len(), a.len())?;
    out.iter_mut()
        .zip(a)
        .zip(b)
        .for_each(|((o, a), b)| *o = a + b);
    Ok(())
}

/// `a += b`.
///
/// # Errors
/// The lengths differ.
pub fn add_assign(a: &mut [f32], b: &[f32]) -> Result<()> {
    check_len("add_assign", "b", b.len(), a.len())?;
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
    Ok(())
}

/// `out = x * factor`.
///
/// # Errors
/// The lengths differ.
pub fn scale(x: &[f32], factor: f32, out: &mut [f32]) -> Result<()> {
    map("scale", x, out, |x| x * factor)
}

/// `x *= factor`.
pub fn scale_inplace(x: &mut [f32], factor: f32) {
    x.iter_mut().for_each(|x| *x *= factor);
}

/// GEGLU: `x: (rows, 2 * n)`, `out: (rows, n)`, `out = x[.., ..n] * gelu_erf(x[.., n..])`.
///
/// # Errors
/// The lengths do not fit `n`.
pub fn geglu(x: &[f32], n: usize, out: &mut [f32]) -> Result<()> {
    check_len("geglu", "out", out.len().saturating_mul(2), x.len())?;
    if n == 0 {
        return check_len("geglu", "x", x.len(), 0);
    }
    check(
        "geglu",
        "x",
        x.len().is_multiple_of(2 * n),
        "a multiple of 2 n",
        x.len(),
    )?;
    for (x, out) in x.chunks_exact(2 * n).zip(out.chunks_exact_mut(n)) {
        let (value, gate) = x.split_at(n);
        for ((o, v), g) in out.iter_mut().zip(value).zip(gate) {
            *o = v * gelu1(*g);
        }
    }
    Ok(())
}

/// Softmax of each row of `x: (rows, cols)`, in place.
///
/// # Errors
/// The length is not a multiple of `cols`.
pub fn softmax_rows(x: &mut [f32], cols: usize) -> Result<()> {
    if cols == 0 {
        return check_len("softmax_rows", "x", x.len(), 0);
    }
    check(
        "softmax_rows",
        "x",
        x.len().is_multiple_of(cols),
        "a multiple of cols",
        x.len(),
    )?;
    for row in x.chunks_exact_mut(cols) {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for x in row.iter_mut() {
            *x = (*x - max).exp();
            sum += *x;
        }
        row.iter_mut().for_each(|x| *x /= sum);
    }
    Ok(())
}
