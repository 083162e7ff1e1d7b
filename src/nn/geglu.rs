//! Gated linear units (Shazeer 2020, arXiv 2002.05202), as in diffusers' `GEGLU`.

use super::engine::Backend;
use super::linear::{Bias, Linear};
use super::repr::{CandleResult, Repr};
use super::{Scope, Tokens, candle};
use crate::error::Result;

/// `a * gelu(g)`, where `(a, g) = proj(x)`; `proj` is a linear layer of 2 * inner.
#[derive(Debug, Clone)]
pub struct Geglu {
    label: Box<str>,
    inner: usize,
    weights: Weights,
}

#[derive(Debug, Clone)]
enum Weights {
    Candle(Linear),
}

impl Geglu {
    /// Reads `proj.weight` (2 * inner, dim) and `proj.bias` (2 * inner).
    ///
    /// # Errors
    /// When a tensor is missing, has another shape or cannot be read.
    pub fn load(scope: &Scope, dim: usize, inner: usize) -> Result<Self> {
        let weights = match scope.engine().backend() {
            Backend::Candle(_) => {
                Weights::Candle(Linear::load(&scope.pp("proj"), dim, 2 * inner, Bias::With)?)
            }
        };
        Ok(Self {
            label: scope.path().into(),
            inner,
            weights,
        })
    }

    /// (B, N, dim) to (B, N, inner).
    ///
    /// # Errors
    /// When `x` has not `dim` channels.
    pub fn forward(&self, x: &Tokens) -> Result<Tokens> {
        match &self.weights {
            Weights::Candle(proj) => {
                let Repr::Candle(projected) = &proj.forward(x)?.repr;
                candle::geglu(projected, self.inner)
                    .op(&format!("geglu {}", self.label))
                    .map(Tokens::candle)
            }
        }
    }
}
