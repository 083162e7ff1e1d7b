//! Elementwise operations and copies.

use tintype_kernels as kernels;

use super::super::tokens::Pointwise;
use super::pending::Pending;
use super::{Array, KernelResult};
use crate::error::Result;
use crate::nn::profile::Account;

/// `y` of the shape of `x`, or with one item or one token that is added to each.
pub(in crate::nn) fn add(x: &Array, y: &Array) -> Result<Array> {
    let [_, tokens, channels] = x.token_dims();
    let [y_batch, y_tokens, _] = y.token_dims();
    build(x, x.bhwc(), "add", |out| {
        if x.rows() == y.rows() {
            return kernels::add(x.data(), y.data(), out).op("add");
        }
        let row = channels.max(1);
        for (i, (out, x)) in out.chunks_mut(row).zip(x.data().chunks(row)).enumerate() {
            let (item, token) = (i / tokens, i % tokens);
            let from = (item % y_batch * y_tokens + token % y_tokens) * channels;
            kernels::add(x, &y.data()[from..][..channels], out).op("add")?;
        }
        Ok(())
    })
}

pub(in crate::nn) fn scale(x: &Array, factor: f64) -> Result<Array> {
    build(x, x.bhwc(), "scale", |out| {
        kernels::scale(x.data(), factor as f32, out).op("scale")
    })
}

pub(in crate::nn) fn pointwise(x: &Array, function: Pointwise) -> Result<Array> {
    build(x, x.bhwc(), "activation", |out| match function {
        Pointwise::Silu => kernels::silu(x.data(), out).op("silu"),
        Pointwise::Gelu => kernels::gelu_erf(x.data(), out).op("gelu"),
        Pointwise::QuickGelu => kernels::quick_gelu(x.data(), out).op("quick_gelu"),
    })
}

/// Joins arrays of equal batch and size.
pub(in crate::nn) fn concat_channels(parts: &[&Array]) -> Array {
    let first = parts[0];
    let mut bhwc = first.bhwc();
    bhwc[3] = parts.iter().map(|part| part.channels()).sum();
    // Whoever reads it may read the parts.
    let parts = parts.iter().copied().cloned().collect();
    Array::pending(first.pool(), bhwc, Pending::Joined(parts))
}

/// Joins arrays of equal size and channels.
pub(in crate::nn) fn concat_batch(parts: &[&Array]) -> Result<Array> {
    let first = parts[0];
    let mut bhwc = first.bhwc();
    bhwc[0] = parts.iter().map(|part| part.bhwc()[0]).sum();
    build(first, bhwc, "join", |out| {
        let mut rest = out;
        for part in parts {
            let (own, others) = rest.split_at_mut(part.data().len());
            own.copy_from_slice(part.data());
            rest = others;
        }
        Ok(())
    })
}

pub(in crate::nn) fn narrow_channels(x: &Array, start: usize, len: usize) -> Result<Array> {
    let [batch, height, width, channels] = x.bhwc();
    build(x, [batch, height, width, len], "part", |out| {
        kernels::narrow_channels(x.data(), channels, start, len, out).op("narrow_channels")
    })
}

pub(in crate::nn) fn narrow_batch(x: &Array, start: usize, len: usize) -> Result<Array> {
    let [_, height, width, channels] = x.bhwc();
    let item = height * width * channels;
    build(x, [len, height, width, channels], "part", |out| {
        out.copy_from_slice(&x.data()[start * item..][..len * item]);
        Ok(())
    })
}

/// Of item `i` the token `positions[i]`.
pub(in crate::nn) fn select_tokens(x: &Array, positions: &[usize]) -> Result<Array> {
    let [_, tokens, channels] = x.token_dims();
    build(x, [positions.len(), 1, 1, channels], "part", |out| {
        for (item, position) in positions.iter().enumerate() {
            out[item * channels..][..channels]
                .copy_from_slice(&x.data()[(item * tokens + position) * channels..][..channels]);
        }
        Ok(())
    })
}

pub(in crate::nn) fn upsample_nearest(x: &Array, height: usize, width: usize) -> Result<Array> {
    let [batch, from_height, from_width, channels] = x.bhwc();
    build(x, [batch, height, width, channels], "upsample", |out| {
        let (from, to) = ((from_height, from_width), (height, width));
        kernels::upsample_nearest(x.data(), channels, from, to, out).op("upsample_nearest")
    })
}

/// An array of `x`'s pool that `fill` writes in full.
fn build(
    x: &Array,
    bhwc: [usize; 4],
    kind: &'static str,
    fill: impl FnOnce(&mut [f32]) -> Result<()>,
) -> Result<Array> {
    Array::build(x.pool(), bhwc, || Account::moving(kind, bhwc), fill)
}
