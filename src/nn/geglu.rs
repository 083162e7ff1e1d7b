//! Gated linear units (Shazeer 2020, arXiv 2002.05202), as in diffusers' `GEGLU`.

use super::linear::{Bias, Linear};
use super::repr::{CandleResult, Repr};
use super::{Scope, Tokens, candle, cpu};
use crate::error::Result;

/// `a * gelu(g)`, where `(a, g) = proj(x)`; `proj` is a linear layer of 2 * inner.
#[derive(Debug, Clone)]
pub struct Geglu {
    label: Box<str>,
    inner: usize,
    proj: Linear,
}

impl Geglu {
    /// Reads `proj.weight` (2 * inner, dim) and `proj.bias` (2 * inner).
    ///
    /// # Errors
    /// When a tensor is missing, has another shape or cannot be read.
    pub fn load(scope: &Scope, dim: usize, inner: usize) -> Result<Self> {
        Ok(Self {
            label: format!("geglu {}", scope.path()).into(),
            inner,
            proj: Linear::load(&scope.pp("proj"), dim, 2 * inner, Bias::With)?,
        })
    }

    /// (B, N, dim) to (B, N, inner).
    ///
    /// # Errors
    /// When `x` has not `dim` channels.
    pub fn forward(&self, x: &Tokens) -> Result<Tokens> {
        match self.proj.forward(x)?.repr {
            Repr::Candle(projected) => candle::geglu(&projected, self.inner)
                .op(&self.label)
                .map(Tokens::candle),
            Repr::Cpu(projected) => {
                cpu::geglu(&projected, self.inner, &self.label).map(Tokens::cpu)
            }
        }
    }
}
