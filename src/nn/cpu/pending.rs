//! What stands for an array's values until somebody wants them.

use std::sync::Arc;

use tintype_kernels as kernels;

use super::pool::Buffer;
use super::{Array, KernelResult};
use crate::error::Result;

/// What stands for values.
pub(super) enum Pending {
    Group(PendingNorm),
    Layer(PendingLayerNorm),
    /// Arrays side by side along the channels.
    Joined(Vec<Array>),
    /// bf16, two in each place.
    Halves(Buffer),
}

/// A layer norm, which a product may carry out while it reads.
pub(super) struct PendingLayerNorm {
    pub(super) x: Array,
    pub(super) weight: Arc<[f32]>,
    pub(super) bias: Arc<[f32]>,
    pub(super) eps: f32,
}

impl PendingLayerNorm {
    pub(super) fn call(&self) -> kernels::LayerNorm<'_> {
        kernels::LayerNorm {
            x: self.x.data(),
            weight: &self.weight,
            bias: &self.bias,
            eps: self.eps,
        }
    }
}

impl Pending {
    /// What computing the values is called.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Group(_) => "group norm",
            Self::Layer(_) => "layer norm",
            Self::Joined(_) => "join",
            Self::Halves(_) => "widen",
        }
    }

    pub(super) fn write(&self, values: &mut [f32]) -> Result<()> {
        match self {
            Self::Group(norm) => norm.with(|normed| normed.write(values).op("group_norm")),
            Self::Layer(norm) => kernels::layer_norm(&norm.call(), values).op("layer_norm"),
            Self::Joined(parts) => {
                let rows = parts[0].rows();
                kernels::concat_channels(&sources(parts), rows, values).op("concat_channels")
            }
            Self::Halves(halves) => kernels::widen_halves(halves, values).op("widen"),
        }
    }
}

/// A group norm whose sums are known, and which a convolution or a product may carry out while it reads.
pub(super) struct PendingNorm {
    pub(super) parts: Vec<Array>,
    pub(super) affine: kernels::GroupAffine,
    pub(super) activation: kernels::Activation,
}

impl PendingNorm {
    /// Calls `body` with the norm.
    pub(super) fn with<T>(&self, body: impl FnOnce(kernels::Normed<'_>) -> Result<T>) -> Result<T> {
        body(self.call(&mut Vec::new())?)
    }

    /// The norm, whose sources are put into `room`.
    pub(super) fn call<'a>(&'a self, room: &'a mut Sources<'a>) -> Result<kernels::Normed<'a>> {
        *room = sources(&self.parts);
        self.affine.normed(room, self.activation).op("group_norm")
    }
}

/// Values and channels of arrays side by side.
pub(super) type Sources<'a> = Vec<(&'a [f32], usize)>;

/// Values and channels of each.
pub(super) fn sources(parts: &[Array]) -> Sources<'_> {
    parts
        .iter()
        .map(|part| (part.data(), part.channels()))
        .collect()
}
