//! Elementwise operations and copies.

use tintype_kernels as kernels;

use super::super::tokens::Pointwise;
use super::{Array, KernelResult};
use crate::error::Result;

/// `y` of the shape of `x`, or with one item or one token that is added to each.
pub(in crate::nn) fn add(x: &Array, y: &Array) -> Result<Array> {
    let [_, tokens, channels] = x.token_dims();
    let [y_batch, y_tokens, _] = y.token_dims();
    Array::build(x.pool(), x.bhwc(), |out| {
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
    Array::build(x.pool(), x.bhwc(), |out| {
        kernels::scale(x.data(), factor as f32, out).op("scale")
    })
}

pub(in crate::nn) fn pointwise(x: &Array, function: Pointwise) -> Result<Array> {
    Array::build(x.pool(), x.bhwc(), |out| match function {
        Pointwise::Silu => kernels::silu(x.data(), out).op("silu"),
        Pointwise::Gelu => kernels::gelu_erf(x.data(), out).op("gelu"),
        Pointwise::QuickGelu => kernels::quick_gelu(x.data(), out).op("quick_gelu"),
    })
}

/// Joins arrays of equal batch and size.
pub(in crate::nn) fn concat_channels(parts: &[&Array]) -> Result<Array> {
    let first = parts[0];
    let mut bhwc = first.bhwc();
    bhwc[3] = parts.iter().map(|part| part.channels()).sum();
    let sources: Vec<_> = parts
        .iter()
        .map(|part| (part.data(), part.channels()))
        .collect();
    Array::build(first.pool(), bhwc, |out| {
        kernels::concat_channels(&sources, first.rows(), out).op("concat_channels")
    })
}

/// Joins arrays of equal size and channels.
pub(in crate::nn) fn concat_batch(parts: &[&Array]) -> Result<Array> {
    let first = parts[0];
    let mut bhwc = first.bhwc();
    bhwc[0] = parts.iter().map(|part| part.bhwc()[0]).sum();
    Array::build(first.pool(), bhwc, |out| {
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
    Array::build(x.pool(), [batch, height, width, len], |out| {
        kernels::narrow_channels(x.data(), channels, start, len, out).op("narrow_channels")
    })
}

pub(in crate::nn) fn narrow_batch(x: &Array, start: usize, len: usize) -> Result<Array> {
    let [_, height, width, channels] = x.bhwc();
    let item = height * width * channels;
    Array::build(x.pool(), [len, height, width, channels], |out| {
        out.copy_from_slice(&x.data()[start * item..][..len * item]);
        Ok(())
    })
}

/// Of item `i` the token `positions[i]`.
pub(in crate::nn) fn select_tokens(x: &Array, positions: &[usize]) -> Result<Array> {
    let [_, tokens, channels] = x.token_dims();
    Array::build(x.pool(), [positions.len(), 1, 1, channels], |out| {
        for (item, position) in positions.iter().enumerate() {
            out[item * channels..][..channels]
                .copy_from_slice(&x.data()[(item * tokens + position) * channels..][..channels]);
        }
        Ok(())
    })
}

pub(in crate::nn) fn upsample_nearest(x: &Array, height: usize, width: usize) -> Result<Array> {
    let [batch, from_height, from_width, channels] = x.bhwc();
    Array::build(x.pool(), [batch, height, width, channels], |out| {
        let (from, to) = ((from_height, from_width), (height, width));
        kernels::upsample_nearest(x.data(), channels, from, to, out).op("upsample_nearest")
    })
}
