//! Spatial activations.

use super::engine::Backend;
use super::repr::{Repr, candle_from_host, candle_to_host, misfit};
use super::tokens::Pointwise;
use super::{Engine, Tokens, candle, cpu};
use crate::error::Result;
use crate::host::HostTensor;

/// Spatial activations `(batch, channels, height, width)` in a layout of the engine's choice; cheap to
/// clone.
#[derive(Debug, Clone)]
pub struct FeatureMap {
    pub(super) repr: Repr,
}

impl FeatureMap {
    /// Takes a host array of `(batch, channels, height, width)` to the engine.
    ///
    /// # Errors
    /// When `host` has not four dimensions or the device fails.
    pub fn from_host(engine: &Engine, host: &HostTensor) -> Result<Self> {
        let (batch, channels, height, width) = host.dims4()?;
        match engine.backend() {
            Backend::Candle(device) => {
                candle_from_host(device, engine.dtype(), host).map(Self::candle)
            }
            Backend::Cpu(context) => {
                cpu::Array::from_map(&context.pool, [batch, channels, height, width], host.data())
                    .map(Self::cpu)
            }
        }
    }

    /// Takes the values to the host as f32, `(batch, channels, height, width)`; waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn to_host(&self) -> Result<HostTensor> {
        match &self.repr {
            Repr::Candle(x) => candle_to_host(x),
            Repr::Cpu(x) => x.map_to_host(),
        }
    }

    /// Items of the batch.
    pub fn batch(&self) -> usize {
        self.dims()[0]
    }

    /// Channels.
    pub fn channels(&self) -> usize {
        self.dims()[1]
    }

    /// Height in elements.
    pub fn height(&self) -> usize {
        self.dims()[2]
    }

    /// Width in elements.
    pub fn width(&self) -> usize {
        self.dims()[3]
    }

    /// `[batch, channels, height, width]`.
    pub(super) fn dims(&self) -> [usize; 4] {
        match &self.repr {
            Repr::Candle(x) => candle::extents(x),
            Repr::Cpu(x) => x.map_dims(),
        }
    }

    /// The sum, element by element, of two maps of one shape.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn add(&self, other: &Self) -> Result<Self> {
        if self.dims() != other.dims() {
            return Err(misfit("add", &other.dims(), &format!("{:?}", self.dims())));
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
        match &self.repr {
            Repr::Candle(x) => candle::pointwise(x, Pointwise::Silu).map(Self::candle),
            Repr::Cpu(x) => cpu::pointwise(x, Pointwise::Silu).map(Self::cpu),
        }
    }

    /// Joins maps along the channels, in order.
    ///
    /// # Errors
    /// When there is none, or batches or sizes differ.
    pub fn concat_channels(maps: &[&Self]) -> Result<Self> {
        Self::concat(maps, 1, "concat_channels")
    }

    /// Joins maps along the batch, in order.
    ///
    /// # Errors
    /// When there is none, or channels or sizes differ.
    pub fn concat_batch(maps: &[&Self]) -> Result<Self> {
        Self::concat(maps, 0, "concat_batch")
    }

    fn concat(maps: &[&Self], dim: usize, op: &str) -> Result<Self> {
        let [first, ..] = maps else {
            return Err(misfit(op, &[], "one map or more"));
        };
        Self::joined(maps, dim, op)?;
        match &first.repr {
            Repr::Candle(_) => {
                let parts = maps.iter().map(|map| map.repr.as_candle(op));
                candle::concat(&parts.collect::<Result<Vec<_>>>()?, dim, op).map(Self::candle)
            }
            Repr::Cpu(_) => {
                let parts = maps
                    .iter()
                    .map(|map| map.repr.as_cpu(op))
                    .collect::<Result<Vec<_>>>()?;
                let joined = if dim == 0 {
                    cpu::concat_batch(&parts)?
                } else {
                    cpu::concat_channels(&parts)
                };
                Ok(Self::cpu(joined))
            }
        }
    }

    /// Shape of maps joined along the channels.
    pub(super) fn joined_channels(maps: &[&Self], op: &str) -> Result<[usize; 4]> {
        Self::joined(maps, 1, op)
    }

    fn joined(maps: &[&Self], dim: usize, op: &str) -> Result<[usize; 4]> {
        let Some(first) = maps.first() else {
            return Err(misfit(op, &[], "one map or more"));
        };
        let (mut expected, mut total) = (first.dims(), 0);
        for map in maps {
            let found = map.dims();
            expected[dim] = found[dim];
            total += found[dim];
            if found != expected {
                return Err(misfit(op, &found, &format!("{expected:?}")));
            }
        }
        expected[dim] = total;
        Ok(expected)
    }

    /// `len` channels from `start`.
    ///
    /// # Errors
    /// When the map has fewer than `start + len`.
    pub fn narrow_channels(&self, start: usize, len: usize) -> Result<Self> {
        if start
            .checked_add(len)
            .is_none_or(|end| end > self.channels())
        {
            let expected = format!("{start} + {len} channels or more");
            return Err(misfit("narrow_channels", &self.dims(), &expected));
        }
        match &self.repr {
            Repr::Candle(x) => candle::narrow(x, 1, start, len).map(Self::candle),
            Repr::Cpu(x) => cpu::narrow_channels(x, start, len).map(Self::cpu),
        }
    }

    /// Resizes to `height` x `width` by repeating the nearest element, as
    /// `torch.nn.functional.interpolate(mode="nearest")`.
    ///
    /// # Errors
    /// When an extent is zero.
    pub fn upsample_nearest(&self, height: usize, width: usize) -> Result<Self> {
        let dims = self.dims();
        if [height, width, dims[2], dims[3]].contains(&0) {
            return Err(misfit("upsample_nearest", &dims, "no extent of zero"));
        }
        match &self.repr {
            Repr::Candle(x) => candle::upsample_nearest(x, height, width).map(Self::candle),
            Repr::Cpu(x) => cpu::upsample_nearest(x, height, width).map(Self::cpu),
        }
    }

    /// One token per position, row by row: `(batch, height * width, channels)`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn into_tokens(self) -> Result<Tokens> {
        match self.repr {
            Repr::Candle(x) => candle::map_to_tokens(&x).map(Tokens::candle),
            Repr::Cpu(x) => Ok(Tokens::cpu(x.into_tokens())),
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
