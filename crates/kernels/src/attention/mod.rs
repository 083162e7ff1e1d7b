//! Scaled dot product attention over heads side by side in the channels.
//!
//! Blocked with a running softmax (Rabe and Staats, arXiv:2112.05682; Dao et al., arXiv:2205.14135): for each block of
//! queries the keys pass by in blocks, so no (queries, keys) matrix ever exists. Keys and values are packed once a call.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod bf16;
mod block;
mod fold;
mod pack;
mod softmax;
mod turn;

use crate::error::{Result, check, check_len, product};
use crate::isa::Isa;

/// Which keys a query may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Causality {
    /// All of them.
    #[default]
    Full,
    /// Keys up to the query's own position (text encoders).
    Causal,
}

/// One call of [`attention`]: `softmax(q . k^T * scale) . v` for each picture and head.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// `(batch, queries, heads * head_dim)`, rows `q_stride` apart, pictures `queries * q_stride` apart.
    pub q: &'a [f32],
    /// `(batch, keys, heads * head_dim)`, rows `k_stride` apart.
    pub k: &'a [f32],
    /// `(batch, keys, heads * head_dim)`, rows `v_stride` apart.
    pub v: &'a [f32],
    /// Elements from one row of q to the next (more than heads * head_dim when q, k, v lie in one buffer).
    pub q_stride: usize,
    /// The same for k.
    pub k_stride: usize,
    /// The same for v.
    pub v_stride: usize,
    /// Pictures.
    pub batch: usize,
    /// Rows of q a picture.
    pub queries: usize,
    /// Rows of k and v a picture.
    pub keys: usize,
    /// Heads.
    pub heads: usize,
    /// Channels a head.
    pub head_dim: usize,
    /// Factor of the scores, most often 1 / sqrt(head_dim).
    pub scale: f32,
    /// Whether later keys are hidden.
    pub causality: Causality,
}

/// Computes attention; `out: (batch, queries, heads * head_dim)`, contiguous.
///
/// # Errors
/// A length or stride does not fit the sizes, or there are queries but no keys.
pub fn attention(call: &Attention<'_>, out: &mut [f32]) -> Result<()> {
    if check_sizes(call, out)? {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if Isa::current() == Isa::Amx {
            amx::run(call, amx::Form::Split, out);
            return Ok(());
        }
        block::run(call, out);
    }
    Ok(())
}

/// What [`attention`] runs here, as reports name it.
pub fn attention_kernel() -> &'static str {
    if cfg!(target_os = "linux") && Isa::current() == Isa::Amx {
        "attention-3xbf16"
    } else {
        "attention-f32"
    }
}

/// Computes attention with queries, keys, values and weights rounded to bf16; sums and the softmax are f32.
///
/// # Errors
/// As [`attention`].
pub fn attention_bf16(call: &Attention<'_>, out: &mut [f32]) -> Result<()> {
    if check_sizes(call, out)? {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if Isa::current() == Isa::Amx && call.scale >= 0.0 {
            amx::run(call, amx::Form::Rounded, out);
            return Ok(());
        }
        bf16::run(call, out);
    }
    Ok(())
}

/// Whether [`attention_halves`] takes heads of `head_dim` channels here.
pub fn takes_halves(head_dim: usize) -> bool {
    cfg!(target_os = "linux") && Isa::current() == Isa::Amx && head_dim.is_multiple_of(2)
}

/// As [`attention_bf16`] where `q`, `k`, `v` and `out` hold bf16, two in each place; strides count values, an even number. Where
/// [`takes_halves`] says so only.
///
/// # Errors
/// As [`attention`], and where it does not.
pub fn attention_halves(call: &Attention<'_>, out: &mut [f32]) -> Result<()> {
    let takes = takes_halves(call.head_dim);
    check(OP, "head_dim", takes, "even heads and AMX", call.head_dim)?;
    check(
        OP,
        "scale",
        call.scale >= 0.0,
        "one of 0 or more for halves",
        0,
    )?;
    let strides = call.q_stride | call.k_stride | call.v_stride;
    check(
        OP,
        "stride",
        strides.is_multiple_of(2),
        "even ones for halves",
        strides,
    )?;
    if check_places(call, out, 2)? {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        amx::run(call, amx::Form::Halves, out);
    }
    Ok(())
}

const OP: &str = "attention";

/// Checks a call; whether there is anything to compute.
fn check_sizes(call: &Attention<'_>, out: &[f32]) -> Result<bool> {
    check_places(call, out, 1)
}

/// The same for so many values in a place.
fn check_places(call: &Attention<'_>, out: &[f32], in_place: usize) -> Result<bool> {
    let dim = product(OP, "heads", &[call.heads, call.head_dim])?;
    let len = product(OP, "out", &[call.batch, call.queries, dim])?;
    check_len(OP, "out", out.len(), len / in_place)?;
    if len == 0 {
        return Ok(false);
    }
    check(OP, "keys", call.keys > 0, "at least one key", call.keys)?;
    for (name, data, stride, rows) in [
        ("q", call.q, call.q_stride, call.queries),
        ("k", call.k, call.k_stride, call.keys),
        ("v", call.v, call.v_stride, call.keys),
    ] {
        check(
            OP,
            name,
            stride >= dim,
            "a stride of at least heads * head_dim",
            stride,
        )?;
        let rows = product(OP, name, &[call.batch, rows])?;
        let needed = product(OP, name, &[rows - 1, stride])?.saturating_add(dim);
        check(
            OP,
            name,
            data.len() >= needed / in_place,
            "batch * rows * stride elements (the last row may end early)",
            data.len(),
        )?;
    }
    Ok(true)
}
