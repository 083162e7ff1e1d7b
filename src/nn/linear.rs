//! Linear layers.

use candle_core::Tensor;

use super::engine::Backend;
use super::repr::{CandleResult, misfit, planned};
use super::weight::candle_weight;
use super::{Scope, Tokens, candle, cpu};
use crate::error::Result;

/// Whether a layer adds a learned constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Bias {
    /// It has a tensor `bias`.
    #[default]
    With,
    /// It has none.
    Without,
}

/// `x W^T + b` on each token; `weight` is (out, in), `bias` (out).
#[derive(Debug, Clone)]
pub struct Linear {
    label: Box<str>,
    in_features: usize,
    out_features: usize,
    weights: Weights,
}

#[derive(Debug, Clone)]
enum Weights {
    Planned,
    Candle {
        weight: Tensor,
        bias: Option<Tensor>,
    },
    Cpu(cpu::Product),
}

impl Linear {
    /// Reads `weight` (out, in) and, with a bias, `bias` (out).
    ///
    /// # Errors
    /// When a tensor is missing, has another shape or cannot be read.
    pub fn load(
        scope: &Scope,
        in_features: usize,
        out_features: usize,
        bias: Bias,
    ) -> Result<Self> {
        let shape = [out_features, in_features];
        let weights = match scope.engine().backend() {
            Backend::Candle(device) => {
                let weight = candle_weight(scope, device, "weight", &shape)?;
                let bias = match bias {
                    Bias::With => candle_weight(scope, device, "bias", &shape[..1])?,
                    Bias::Without => None,
                };
                weight.map(|weight| Weights::Candle { weight, bias })
            }
            Backend::Cpu(context) => {
                let scopes = std::slice::from_ref(scope);
                cpu::Product::load(context, scopes, (in_features, out_features), bias)?
                    .map(Weights::Cpu)
            }
        };
        Ok(Self {
            label: format!("linear {}", scope.path()).into(),
            in_features,
            out_features,
            weights: weights.unwrap_or(Weights::Planned),
        })
    }

    /// The same layer where a group norm reads the result: an engine may take the norm's sums while it writes.
    #[must_use]
    pub fn before_group_norm(self) -> Self {
        let weights = match self.weights {
            Weights::Cpu(product) => Weights::Cpu(product.before_group_norm()),
            others => others,
        };
        Self { weights, ..self }
    }

    /// Channels of the result.
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    /// (B, N, in) to (B, N, out).
    ///
    /// # Errors
    /// When `x` has not `in` channels.
    pub fn forward(&self, x: &Tokens) -> Result<Tokens> {
        self.run(x, None)
    }

    /// As [`forward`](Self::forward), plus `residual` (B, N, out).
    ///
    /// # Errors
    /// When `x` has not `in` channels or `residual` not the shape of the result.
    pub fn forward_add(&self, x: &Tokens, residual: &Tokens) -> Result<Tokens> {
        self.run(x, Some(residual))
    }

    pub(super) fn run(&self, x: &Tokens, residual: Option<&Tokens>) -> Result<Tokens> {
        let op = &self.label;
        let [batch, tokens, channels] = x.dims();
        if channels != self.in_features {
            let expected = format!("{} channels", self.in_features);
            return Err(misfit(op, &x.dims(), &expected));
        }
        let dims = [batch, tokens, self.out_features];
        if let Some(residual) = residual.filter(|residual| residual.dims() != dims) {
            let expected = format!("{dims:?}");
            return Err(misfit(
                &format!("{op}, residual"),
                &residual.dims(),
                &expected,
            ));
        }
        let residual = residual.map(|residual| &residual.repr);
        match &self.weights {
            Weights::Planned => Err(planned(op)),
            Weights::Candle { weight, bias } => {
                let residual = residual
                    .map(|residual| residual.as_candle(op))
                    .transpose()?;
                candle::linear(x.repr.as_candle(op)?, weight, bias.as_ref())
                    .and_then(|y| residual.map_or_else(|| Ok(y.clone()), |residual| &y + residual))
                    .op(op)
                    .map(Tokens::candle)
            }
            Weights::Cpu(product) => {
                let residual = residual.map(|residual| residual.as_cpu(op)).transpose()?;
                product
                    .run(x.repr.as_cpu(op)?, residual, op)
                    .map(Tokens::cpu)
            }
        }
    }
}
