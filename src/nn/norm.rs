//! Group norm (Wu and He 2018, arXiv 1803.08494) and layer norm (Ba et al. 2016, arXiv 1607.06450).

use candle_core::Tensor;

use super::engine::{Backend, DType};
use super::repr::{CandleResult, misfit, planned};
use super::weight::candle_weight_as;
use super::{FeatureMap, Scope, Tokens, candle, cpu};
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
    Cpu(cpu::Gain),
}

impl Weights {
    fn load(scope: &Scope, channels: usize) -> Result<Self> {
        let weights = match scope.engine().backend() {
            Backend::Candle(device) => {
                let read = |name| candle_weight_as(scope, device, name, &[channels], DType::F32);
                let loaded = read("weight")?.zip(read("bias")?);
                loaded.map(|(weight, bias)| Self::Candle { weight, bias })
            }
            Backend::Cpu(_) => cpu::Gain::load(scope, channels)?.map(Self::Cpu),
        };
        Ok(weights.unwrap_or(Self::Planned))
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
            label: format!("group norm {}", scope.path()).into(),
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
        self.run(&[x], activation)
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
        self.run(maps, activation)
    }

    fn run(&self, maps: &[&FeatureMap], activation: Activation) -> Result<FeatureMap> {
        let op = &self.label;
        let [batch, channels, height, width] = FeatureMap::joined_channels(maps, op)?;
        if channels != self.channels {
            let found = [batch, channels, height, width];
            return Err(misfit(op, &found, &format!("{} channels", self.channels)));
        }
        match &self.weights {
            Weights::Planned => Err(planned(op)),
            Weights::Candle { weight, bias } => {
                let parts = maps.iter().map(|map| map.repr.as_candle(op));
                let x = candle::concat(&parts.collect::<Result<Vec<_>>>()?, 1, op)?;
                candle::group_norm(&x, self.groups, (weight, bias, self.eps), activation)
                    .op(op)
                    .map(FeatureMap::candle)
            }
            Weights::Cpu(gain) => {
                let parts = maps.iter().map(|map| map.repr.as_cpu(op));
                let parts = parts.collect::<Result<Vec<_>>>()?;
                gain.group_norm(&parts, (self.groups, self.eps), activation, op)
                    .map(FeatureMap::cpu)
            }
        }
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
            label: format!("layer norm {}", scope.path()).into(),
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
        let op = &self.label;
        if x.channels() != self.dim {
            return Err(misfit(op, &x.dims(), &format!("{} channels", self.dim)));
        }
        match &self.weights {
            Weights::Planned => Err(planned(op)),
            Weights::Candle { weight, bias } => {
                candle::layer_norm(x.repr.as_candle(op)?, (weight, bias, self.eps))
                    .op(op)
                    .map(Tokens::candle)
            }
            Weights::Cpu(gain) => gain
                .layer_norm(x.repr.as_cpu(op)?, self.eps, op)
                .map(Tokens::cpu),
        }
    }
}
