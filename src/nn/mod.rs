//! Layers over two engines; the only files that know both Candle and the kernels.
//!
//! Models are written once, over the types here, and never see which engine runs them: weights live in
//! the layers and activations in [`FeatureMap`] and [`Tokens`], all opaque. The `cpu` engine keeps
//! f32 channels-last arrays, with weights packed at load for the kernel each layer gets ([`Precision`]); the `candle` engine computes in f32, f16 or
//! bf16 on NCHW tensors of the CPU, a CUDA or a Metal device. Norms and softmax run in f32 on both.
//!
//! A model is built three times from the same code: planned (which tensors, of which shapes?),
//! checked against the file ([`check`]: all faults in one error), then loaded:
//!
//! ```
//! use std::sync::Arc;
//! use tintype::nn::{Bias, Engine, Linear, Scope, check};
//! use tintype::weights::TensorSource;
//!
//! struct Model {
//!     linear_1: Linear,
//! }
//!
//! impl Model {
//!     fn load(scope: &Scope) -> tintype::Result<Self> {
//!         Ok(Self { linear_1: Linear::load(&scope.pp("linear_1"), 320, 1280, Bias::With)? })
//!     }
//! }
//!
//! fn load(engine: &Engine, tensors: Arc<dyn TensorSource>) -> tintype::Result<Model> {
//!     let plan = Scope::plan(engine);
//!     Model::load(&plan)?;
//!     check(&plan.manifest(), tensors.as_ref())?;
//!     Model::load(&Scope::load(engine, tensors, |_name| Ok(())))
//! }
//! # let plan = Scope::plan(&Engine::cpu());
//! # Model::load(&plan).unwrap();
//! # assert_eq!(plan.manifest()[0].name, "linear_1.weight");
//! ```
//!
//! Shapes written below are logical, `(batch, channels, height, width)` and `(batch, tokens, channels)`,
//! whatever the layout in memory. A wrong shape is an [`Internal`](crate::ErrorKind::Internal) error that
//! names the layer and both shapes.

mod attention;
mod candle;
mod conv2d;
mod cpu;
mod embedding;
mod engine;
mod feature_map;
mod fourier;
mod geglu;
mod linear;
mod norm;
mod profile;
mod repr;
mod scope;
#[cfg(test)]
mod tests;
mod tokens;
mod weight;

pub use attention::{Attention, AttentionNames, AttentionSpec, ContextKv};
pub use conv2d::{Conv2d, Conv2dSpec, Fused, Padding};
pub use embedding::Embedding;
pub use engine::{DType, Device, Engine, EngineKind, MemoryUse, Precision, instruction_set};
pub use feature_map::FeatureMap;
pub use geglu::Geglu;
pub use linear::{Bias, Linear};
pub use norm::{Activation, GroupNorm, LayerNorm};
pub use profile::{Profiler, Spent, Work};
pub(crate) use scope::same_matrix;
pub use scope::{ExpectedTensor, Scope, check};
pub use tokens::Tokens;

/// Source elements of a nearest-neighbour resize of `from` to `to` elements, by torch's formula:
/// the floor of the product with an f32 scale (aten/src/ATen/native/UpSample.h,
/// `nearest_neighbor_compute_source_index`).
pub(crate) fn nearest_sources(from: usize, to: usize) -> impl Iterator<Item = usize> {
    let scale = from as f32 / to as f32;
    (0..to).map(move |i| ((i as f32 * scale) as usize).min(from.saturating_sub(1)))
}
