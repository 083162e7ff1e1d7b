//! Activations that are sequences of vectors.

use super::engine::Backend;
use super::repr::{Repr, candle_from_host, candle_to_host, misfit};
use super::{Engine, FeatureMap, candle, cpu};
use crate::error::Result;
use crate::host::HostTensor;

/// Token activations `(batch, tokens, channels)`; one vector per picture is `(batch, 1, channels)`. Cheap
/// to clone.
#[derive(Debug, Clone)]
pub struct Tokens {
    pub(super) repr: Repr,
}

/// A function applied to each element.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pointwise {
    Silu,
    Gelu,
    QuickGelu,
}

impl Tokens {
    /// Takes a host array of `(batch, tokens, channels)` to the engine.
    ///
    /// # Errors
    /// When `host` has not three dimensions or the device fails.
    pub fn from_host(engine: &Engine, host: &HostTensor) -> Result<Self> {
        let [batch, tokens, channels] = *host.shape() else {
            return Err(misfit(
                "from_host",
                host.shape(),
                "(batch, tokens, channels)",
            ));
        };
        match engine.backend() {
            Backend::Candle(device) => {
                candle_from_host(device, engine.dtype(), host).map(Self::candle)
            }
            Backend::Cpu(context) => {
                cpu::Array::from_tokens(&context.pool, [batch, tokens, channels], host.data())
                    .map(Self::cpu)
            }
        }
    }

    /// Takes the values to the host as f32, `(batch, tokens, channels)`; waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn to_host(&self) -> Result<HostTensor> {
        match &self.repr {
            Repr::Candle(x) => candle_to_host(x),
            Repr::Cpu(x) => x.tokens_to_host(),
        }
    }

    /// Items of the batch.
    pub fn batch(&self) -> usize {
        self.dims()[0]
    }

    /// Tokens of each item.
    pub fn tokens(&self) -> usize {
        self.dims()[1]
    }

    /// Channels of each token.
    pub fn channels(&self) -> usize {
        self.dims()[2]
    }

    /// `[batch, tokens, channels]`.
    pub(super) fn dims(&self) -> [usize; 3] {
        match &self.repr {
            Repr::Candle(x) => candle::extents(x),
            Repr::Cpu(x) => x.token_dims(),
        }
    }

    /// The sum, element by element; an `other` of one item or one token is added to each.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn add(&self, other: &Self) -> Result<Self> {
        let (own, its) = (self.dims(), other.dims());
        let fits = its[2] == own[2] && (0..2).all(|dim| its[dim] == own[dim] || its[dim] == 1);
        if !fits {
            let expected = format!("{own:?}, or 1 for batch or tokens");
            return Err(misfit("add", &its, &expected));
        }
        match &self.repr {
            Repr::Candle(x) => candle::add(x, other.repr.as_candle("add")?).map(Self::candle),
            Repr::Cpu(x) => cpu::add(x, other.repr.as_cpu("add")?).map(Self::cpu),
        }
    }

    /// Each element times `factor`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn scale(&self, factor: f64) -> Result<Self> {
        match &self.repr {
            Repr::Candle(x) => candle::scale(x, factor).map(Self::candle),
            Repr::Cpu(x) => cpu::scale(x, factor).map(Self::cpu),
        }
    }

    /// `x * sigmoid(x)` of each element.
    ///
    /// # Errors
    /// When the device fails.
    pub fn silu(&self) -> Result<Self> {
        self.pointwise(Pointwise::Silu)
    }

    /// `x * Phi(x)` of each element, with the exact normal distribution Phi (erf, not its tanh
    /// approximation).
    ///
    /// # Errors
    /// When the device fails.
    pub fn gelu(&self) -> Result<Self> {
        self.pointwise(Pointwise::Gelu)
    }

    /// `x * sigmoid(1.702 x)` of each element, CLIP's approximation of gelu.
    ///
    /// # Errors
    /// When the device fails.
    pub fn quick_gelu(&self) -> Result<Self> {
        self.pointwise(Pointwise::QuickGelu)
    }

    fn pointwise(&self, function: Pointwise) -> Result<Self> {
        match &self.repr {
            Repr::Candle(x) => candle::pointwise(x, function).map(Self::candle),
            Repr::Cpu(x) => cpu::pointwise(x, function).map(Self::cpu),
        }
    }

    /// Joins along the channels, in order.
    ///
    /// # Errors
    /// When there is none, or batches or token counts differ.
    pub fn concat_channels(parts: &[&Self]) -> Result<Self> {
        Self::concat(parts, 2, "concat_channels")
    }

    /// Joins along the batch, in order.
    ///
    /// # Errors
    /// When there is none, or token counts or channels differ.
    pub fn concat_batch(parts: &[&Self]) -> Result<Self> {
        Self::concat(parts, 0, "concat_batch")
    }

    fn concat(parts: &[&Self], dim: usize, op: &str) -> Result<Self> {
        let Some(first) = parts.first() else {
            return Err(misfit(op, &[], "one array or more"));
        };
        let mut expected = first.dims();
        for part in parts {
            let found = part.dims();
            expected[dim] = found[dim];
            if found != expected {
                return Err(misfit(op, &found, &format!("{expected:?}")));
            }
        }
        match &first.repr {
            Repr::Candle(_) => {
                let parts = parts.iter().map(|part| part.repr.as_candle(op));
                candle::concat(&parts.collect::<Result<Vec<_>>>()?, dim, op).map(Self::candle)
            }
            Repr::Cpu(_) => {
                let parts = parts.iter().map(|part| part.repr.as_cpu(op));
                let parts = parts.collect::<Result<Vec<_>>>()?;
                let joined = if dim == 0 {
                    cpu::concat_batch(&parts)?
                } else {
                    cpu::concat_channels(&parts)
                };
                Ok(Self::cpu(joined))
            }
        }
    }

    /// `len` items of the batch from `start`.
    ///
    /// # Errors
    /// When the batch has fewer than `start + len`.
    pub fn narrow_batch(&self, start: usize, len: usize) -> Result<Self> {
        if start.checked_add(len).is_none_or(|end| end > self.batch()) {
            let expected = format!("{start} + {len} items or more");
            return Err(misfit("narrow_batch", &self.dims(), &expected));
        }
        match &self.repr {
            Repr::Candle(x) => candle::narrow(x, 0, start, len).map(Self::candle),
            Repr::Cpu(x) => cpu::narrow_batch(x, start, len).map(Self::cpu),
        }
    }

    /// The whole batch `times` times over: `[a, b]` becomes `[a, b, a, b]`.
    ///
    /// # Errors
    /// When `times` is zero.
    pub fn repeat_batch(&self, times: usize) -> Result<Self> {
        Self::concat(&vec![self; times], 0, "repeat_batch")
    }

    /// Of item `i` of the batch the token `positions[i]`: `(batch, 1, channels)`.
    ///
    /// # Errors
    /// When there is not one position per item, or one is beyond the last token.
    pub fn select(&self, positions: &[usize]) -> Result<Self> {
        let dims = self.dims();
        if positions.len() != dims[0] || positions.iter().any(|&position| position >= dims[1]) {
            let expected =
                format!("one item for each position of {positions:?} and that many tokens");
            return Err(misfit("select", &dims, &expected));
        }
        match &self.repr {
            Repr::Candle(x) => candle::select_tokens(x, positions).map(Self::candle),
            Repr::Cpu(x) => cpu::select_tokens(x, positions).map(Self::cpu),
        }
    }

    /// Lays the tokens out row by row: `(batch, channels, height, width)`.
    ///
    /// # Errors
    /// When there are not `height * width` tokens.
    pub fn into_feature_map(self, height: usize, width: usize) -> Result<FeatureMap> {
        if height.checked_mul(width) != Some(self.tokens()) {
            let expected = format!("{height} x {width} tokens");
            return Err(misfit("into_feature_map", &self.dims(), &expected));
        }
        match self.repr {
            Repr::Candle(x) => candle::tokens_to_map(&x, height, width).map(FeatureMap::candle),
            Repr::Cpu(x) => Ok(FeatureMap::cpu(x.into_map(height, width))),
        }
    }

    pub(super) fn cpu(array: cpu::Array) -> Self {
        Self {
            repr: Repr::Cpu(array),
        }
    }

    pub(super) fn candle(tensor: candle_core::Tensor) -> Self {
        Self {
            repr: Repr::Candle(tensor),
        }
    }
}
