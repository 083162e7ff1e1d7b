//! Group norm (Wu and He 2018, arXiv 1803.08494) and layer norm (Ba et al. 2016, arXiv 1607.06450).

use candle_core::Tensor;

use super::engine::{Backend, DType};
use super::repr::{CandleResult, Repr, misfit, planned};
use super::weight::candle_weight_as;
use super::{FeatureMap, Scope, Tokens, candle};
use crate::error::{Error, Result};

/// A function applied to a norm's result in the same pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// `x * sigmoid(x)`.
    Silu,
}

/// Factor and constant per channel, in f32.
#[derive(Debug, Clone)]
enum Weights {
    Planned,
    Candle { weight: Tensor, bias: Tensor },
}

impl Weights {
    fn load(scope: &Scope, channels: usize) -> Result<Self> {
        match scope.engine().backend() {
            Backend::Candle(device) => {
                let read = |name| candle_weight_as(scope, device, name, &[channels], DType::F32);
                Ok(match (read("weight")?, read("bias")?) {
                    (Some(weight), Some(bias)) => Self::Candle { weight, bias },
                    _ => Self::Planned,
                })
            }
        }
    }
}

/// Normalises groups of channels over all positions; `weight` and `bias` are (C).
#[derive(Debug, Clone)]
pub struct GroupNorm {
    label: Box<str>,
    groups: usize,
    channels: usize,
    eps: f64,
    weights: Weights,
}

impl GroupNorm {
    /// Reads `weight` and `bias`, both (channels).
    ///
    /// # Errors
    /// When a tensor is missing, has another shape or cannot be read, or the channels do not fall into
    /// `groups` equal groups.
    pub fn load(scope: &Scope, groups: usize, channels: usize, eps: f64) -> Result<Self> {
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(Error::invalid(format!(
                "group norm {}: {channels} channels do not fall into {groups} equal groups",
                scope.path()
            )));
        }
        let weights = Weights::load(scope, channels)?;
        Ok(Self {
            label: scope.path().into(),
            groups,
            channels,
            eps,
            weights,
        })
    }

    /// (B, C, H, W) to the same shape.
    ///
    /// # Errors
    /// When `x` has not C channels.
    pub fn forward(&self, x: &FeatureMap, activation: Activation) -> Result<FeatureMap> {
        let op = || format!("group norm {}", self.label);
        if x.channels() != self.channels {
            return Err(misfit(
                &op(),
                &x.dims(),
                &format!("{} channels", self.channels),
            ));
        }
        match (&self.weights, &x.repr) {
            (Weights::Planned, _) => Err(planned("group norm", &self.label)),
            (Weights::Candle { weight, bias }, Repr::Candle(x)) => {
                candle::group_norm(x, self.groups, (weight, bias, self.eps), activation)
                    .op(&op())
                    .map(FeatureMap::candle)
            }
        }
    }

    /// As [`forward`](Self::forward), of `maps` joined along the channels.
    ///
    /// # Errors
    /// When the joined channels are not C, or batches or sizes differ.
    pub fn forward_concat(
        &self,
        maps: &[&FeatureMap],
        activation: Activation,
    ) -> Result<FeatureMap> {
        self.forward(&FeatureMap::concat_channels(maps)?, activation)
    }
}

/// Normalises each token over its channels; `weight` and `bias` are (C).
#[derive(Debug, Clone)]
pub struct LayerNorm {
    label: Box<str>,
    dim: usize,
    eps: f64,
    weights: Weights,
}

impl LayerNorm {
    /// Reads `weight` and `bias`, both (dim).
    ///
    /// # Errors
    /// When a tensor is missing, has another shape or cannot be read.
    pub fn load(scope: &Scope, dim: usize, eps: f64) -> Result<Self> {
        let weights = Weights::load(scope, dim)?;
        Ok(Self {
            label: scope.path().into(),
            dim,
            eps,
            weights,
        })
    }

    /// (B, N, C) to the same shape.
    ///
    /// # Errors
    /// When `x` has not C channels.
    pub fn forward(&self, x: &Tokens) -> Result<Tokens> {
        let op = || format!("layer norm {}", self.label);
        if x.channels() != self.dim {
            return Err(misfit(&op(), &x.dims(), &format!("{} channels", self.dim)));
        }
        match (&self.weights, &x.repr) {
            (Weights::Planned, _) => Err(planned("layer norm", &self.label)),
            (Weights::Candle { weight, bias }, Repr::Candle(x)) => {
                candle::layer_norm(x, (weight, bias, self.eps))
                    .op(&op())
                    .map(Tokens::candle)
            }
        }
    }
}
