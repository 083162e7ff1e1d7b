//! Group and layer normalisation, channels-last.

mod group;
mod group_lanes;
mod layer;
mod moments;
mod normed;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod rounded;

pub use group::{GroupAffine, GroupNorm, group_norm};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) use layer::LayerRows;
pub use layer::{LayerNorm, layer_norm};
pub use moments::Moments;
pub(crate) use moments::Recorder;
pub use normed::Normed;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) use rounded::RoundPixels;

/// What follows a normalisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// `y * sigmoid(y)`.
    Silu,
}
