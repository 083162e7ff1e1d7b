//! Gated linear units (Shazeer 2020, arXiv 2002.05202), as in diffusers' `GEGLU`.

use super::engine::Backend;
use super::linear::{Bias, Linear};
use super::repr::{CandleResult, misfit, planned};
use super::{Scope, Tokens, candle, cpu};
use crate::error::Result;

/// `a * gelu(g)`, where `(a, g) = proj(x)`; `proj` is a linear layer of 2 * inner.
#[derive(Debug, Clone)]
pub struct Geglu {
    label: Box<str>,
    dim: usize,
    inner: usize,
    weights: Weights,
}

#[derive(Debug, Clone)]
enum Weights {
    Planned,
    Candle(Linear),
    Cpu(cpu::Gated),
}

impl Geglu {
    /// Reads `proj.weight` (2 * inner, dim) and `proj.bias` (2 * inner).
    ///
    /// # Errors
    /// When a tensor is missing, has another shape or cannot be read.
    pub fn load(scope: &Scope, dim: usize, inner: usize) -> Result<Self> {
        let proj = scope.pp("proj");
        let weights = match scope.engine().backend() {
            Backend::Candle(_) => Weights::Candle(Linear::load(&proj, dim, 2 * inner, Bias::With)?),
            Backend::Cpu(context) => {
                cpu::Gated::load(context, &proj, dim, inner)?.map_or(Weights::Planned, Weights::Cpu)
            }
        };
        Ok(Self {
            label: format!("geglu {}", scope.path()).into(),
            dim,
            inner,
            weights,
        })
    }

    /// (B, N, dim) to (B, N, inner).
    ///
    /// # Errors
    /// When `x` has not `dim` channels.
    pub fn forward(&self, x: &Tokens) -> Result<Tokens> {
        let op = &self.label;
        if x.channels() != self.dim {
            return Err(misfit(op, &x.dims(), &format!("{} channels", self.dim)));
        }
        match &self.weights {
            Weights::Planned => Err(planned(op)),
            Weights::Candle(proj) => {
                let projected = proj.forward(x)?;
                candle::geglu(projected.repr.as_candle(op)?, self.inner)
                    .op(op)
                    .map(Tokens::candle)
            }
            Weights::Cpu(gated) => gated.run(x.repr.as_cpu(op)?, op).map(Tokens::cpu),
        }
    }
}
