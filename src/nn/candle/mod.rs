//! The Candle engine: plain functions on NCHW and (batch, tokens, channels) tensors of any device.
//!
//! Shapes are checked by the layers above. Only Candle's basic operations are used, so that every
//! device computes the same formula; what needs range (norms, softmax, gelu) is computed in f32.

mod attention;
mod conv;
mod norm;
mod ops;
mod waves;

pub(super) use attention::attend;
pub(super) use conv::{Conv, conv2d};
pub(super) use norm::{group_norm, layer_norm};
pub(super) use ops::{
    add, concat, extents, geglu, linear, map_to_tokens, narrow, pointwise, scale, select_tokens,
    tokens_to_map, upsample_nearest,
};
pub(super) use waves::{add_waves, scale_first_channels};
