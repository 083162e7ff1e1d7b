//! Tintype's CPU kernels: f32 slices in, f32 slices out.
//!
//! * Layout: spatial tensors are channels-last, `(B, H, W, C)`; tokens are `(B, N, C)`; both contiguous unless a
//!   call struct has a stride. Weights are packed once, at load ([`PackedMatrix`], [`ConvWeight`]).
//! * Every public kernel is safe: it checks its lengths once and returns a [`ShapeError`] that names the argument.
//! * Threads: work runs on the rayon pool the caller is in. Work is split over outputs in tiles whose size depends on the
//!   shape alone and never over a sum, so results are the same bits whatever the number of threads.
//! * Precision: weights say it. What is packed as f32 is multiplied as f32; what is packed as bf16 ([`PackedMatrix`],
//!   [`PackedGeglu`]) or for a 16-bit [`ConvKernel`] rounds its input to 16 bits too; sums are f32, or exact integers.
//! * Instruction set: found when first needed ([`Isa::current`]); `TINTYPE_ISA=portable|avx2|avx512|avx512bf16|amx`
//!   forces one.
//!   Results may differ between instruction sets in the last bits (fused multiply-add, width of partial sums).

#![deny(missing_docs)]
#![expect(
    clippy::inline_always,
    reason = "vector code must be compiled inside the function that enables its features"
)]

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod arena;
mod attention;
mod buffer;
mod conv;
mod elementwise;
mod error;
#[doc(hidden)]
pub mod guard;
mod half;
mod isa;
mod lanes;
mod layout;
mod math;
mod matmul;
mod norm;
mod peak;
#[doc(hidden)]
pub mod reference;
mod scratch;
mod shared;
mod simd;
mod winograd;

pub use arena::{Arena, Lease};
pub use attention::{
    Attention, Causality, attention, attention_bf16, attention_halves, attention_kernel,
    takes_halves,
};
pub use buffer::Buffer;
pub use conv::{
    Conv2d, ConvKernel, ConvShape, ConvUse, ConvWeight, Padding, Precision, WinogradTile, conv2d,
    conv2d_recorded,
};
pub use elementwise::{
    add, add_assign, geglu, gelu_erf, gelu_erf_inplace, quick_gelu, quick_gelu_inplace, scale,
    scale_inplace, silu, silu_inplace, softmax_rows,
};
pub use error::ShapeError;
pub use half::{LinearGeglu, PackedGeglu, linear_geglu, linear_geglu_halves, widen_halves};
pub use isa::Isa;
pub use layout::{
    concat_channels, embedding, narrow_channels, nchw_to_nhwc, nhwc_to_nchw, upsample_nearest,
};
pub use matmul::{Input, Linear, PackedMatrix, linear, linear_halves, linear_recorded};
pub use norm::{
    Activation, GroupAffine, GroupNorm, LayerNorm, Moments, Normed, group_norm, layer_norm,
};
pub use peak::peak_flops;
