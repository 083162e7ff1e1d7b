//! Two-dimensional convolutions.

use super::engine::Backend;
use super::repr::{CandleResult, misfit, planned};
use super::weight::candle_weight;
use super::{FeatureMap, Scope, Tokens, candle, cpu};
use crate::error::{Error, ErrorKind, Result};

/// Zeros around the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Padding {
    /// That many on each side.
    Symmetric(usize),
    /// One at the bottom and one at the right, as the VAE encoder's downsampling pads.
    BottomRight,
}

/// Sizes of a [`Conv2d`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conv2dSpec {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the result.
    pub out_channels: usize,
    /// Height and width of the filter in elements.
    pub kernel: usize,
    /// Step between results in elements, 1 or more.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: Padding,
}

impl Conv2dSpec {
    /// 3x3, stride 1, the size kept.
    pub fn same3x3(in_channels: usize, out_channels: usize) -> Self {
        Self {
            in_channels,
            out_channels,
            kernel: 3,
            stride: 1,
            padding: Padding::Symmetric(1),
        }
    }

    /// 1x1, stride 1: a linear layer on each position.
    pub fn pointwise(in_channels: usize, out_channels: usize) -> Self {
        Self {
            in_channels,
            out_channels,
            kernel: 1,
            stride: 1,
            padding: Padding::Symmetric(0),
        }
    }

    /// Height or width of the result for an input of `extent`; `None` when the filter does not fit.
    pub(super) fn out_extent(&self, extent: usize) -> Option<usize> {
        let padded = match self.padding {
            Padding::Symmetric(padding) => extent + 2 * padding,
            Padding::BottomRight => extent + 1,
        };
        Some(padded.checked_sub(self.kernel)? / self.stride + 1)
    }
}

/// What is added to a convolution's result in the same pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fused<'a> {
    /// (B, 1, out) or (1, 1, out), added at each position: the time embedding.
    pub channel_bias: Option<&'a Tokens>,
    /// (B, out, H', W'), added element by element: the shortcut.
    pub residual: Option<&'a FeatureMap>,
}

/// A convolution with bias; `weight` is (out, in, kernel, kernel), `bias` (out).
#[derive(Debug, Clone)]
pub struct Conv2d {
    label: Box<str>,
    spec: Conv2dSpec,
    weights: Weights,
}

#[derive(Debug, Clone)]
enum Weights {
    Planned,
    Candle(candle::Conv),
    Cpu(cpu::Conv),
}

impl Conv2d {
    /// Reads `weight` (out, in, kernel, kernel), for 1x1 also (out, in), and `bias` (out).
    ///
    /// # Errors
    /// When a tensor is missing, has another shape or cannot be read, or kernel or stride is zero.
    pub fn load(scope: &Scope, spec: Conv2dSpec) -> Result<Self> {
        Self::load_for(scope, spec, false)
    }

    /// As [`load`](Self::load), for a layer that is called by [`forward_upsampled`](Self::forward_upsampled): an engine may
    /// prepare the weight for that.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_upsampling(scope: &Scope, spec: Conv2dSpec) -> Result<Self> {
        Self::load_for(scope, spec, true)
    }

    fn load_for(scope: &Scope, spec: Conv2dSpec, upsamples: bool) -> Result<Self> {
        let Conv2dSpec {
            in_channels,
            out_channels,
            kernel,
            stride,
            ..
        } = spec;
        if kernel == 0 || stride == 0 {
            return Err(Error::new(
                ErrorKind::Internal,
                format!(
                    "conv2d {}: kernel {kernel} and stride {stride} must be 1 or more",
                    scope.path()
                ),
            ));
        }
        let shape = [out_channels, in_channels, kernel, kernel];
        let weights = match scope.engine().backend() {
            Backend::Candle(device) => {
                let weight = candle_weight(scope, device, "weight", &shape)?;
                let bias = candle_weight(scope, device, "bias", &shape[..1])?;
                let loaded = weight.zip(bias);
                loaded.map(|(weight, bias)| Weights::Candle(candle::Conv { weight, bias }))
            }
            Backend::Cpu(context) => {
                cpu::Conv::load(context, scope, &spec, upsamples)?.map(Weights::Cpu)
            }
        };
        Ok(Self {
            label: format!("conv2d {}", scope.path()).into(),
            spec,
            weights: weights.unwrap_or(Weights::Planned),
        })
    }

    /// Sizes the layer was built with.
    pub fn spec(&self) -> &Conv2dSpec {
        &self.spec
    }

    /// (B, in, H, W) to (B, out, H', W').
    ///
    /// # Errors
    /// When `x` has not `in` channels or is smaller than the filter.
    pub fn forward(&self, x: &FeatureMap) -> Result<FeatureMap> {
        self.forward_fused(x, Fused::default())
    }

    /// As [`forward`](Self::forward), with additions.
    ///
    /// # Errors
    /// When `x` has not `in` channels or is smaller than the filter, or an addition has not the shape of
    /// the result.
    pub fn forward_fused(&self, x: &FeatureMap, fused: Fused<'_>) -> Result<FeatureMap> {
        self.run(x, None, fused)
    }

    /// Resizes to `height` x `width` as [`FeatureMap::upsample_nearest`], then convolves.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and when an extent is zero.
    pub fn forward_upsampled(
        &self,
        x: &FeatureMap,
        height: usize,
        width: usize,
    ) -> Result<FeatureMap> {
        self.run(x, Some((height, width)), Fused::default())
    }

    fn run(
        &self,
        x: &FeatureMap,
        upsample_to: Option<(usize, usize)>,
        fused: Fused<'_>,
    ) -> Result<FeatureMap> {
        let op = &self.label;
        self.check(x.dims(), upsample_to, fused)?;
        let channel_bias = fused.channel_bias.map(|tokens| &tokens.repr);
        let residual = fused.residual.map(|map| &map.repr);
        match &self.weights {
            Weights::Planned => Err(planned(op)),
            Weights::Candle(conv) => {
                let upsampled =
                    upsample_to.map(|(height, width)| x.upsample_nearest(height, width));
                let upsampled = upsampled.transpose()?;
                let x = upsampled.as_ref().unwrap_or(x).repr.as_candle(op)?;
                let channel_bias = channel_bias.map(|bias| bias.as_candle(op)).transpose()?;
                let residual = residual
                    .map(|residual| residual.as_candle(op))
                    .transpose()?;
                candle::conv2d(x, conv, &self.spec, (channel_bias, residual))
                    .op(op)
                    .map(FeatureMap::candle)
            }
            Weights::Cpu(conv) => {
                let extras = cpu::ConvExtras {
                    channel_bias: channel_bias.map(|bias| bias.as_cpu(op)).transpose()?,
                    residual: residual.map(|residual| residual.as_cpu(op)).transpose()?,
                    upsample_to,
                };
                conv.run(x.repr.as_cpu(op)?, &self.spec, extras, op)
                    .map(FeatureMap::cpu)
            }
        }
    }

    fn check(
        &self,
        dims: [usize; 4],
        upsample_to: Option<(usize, usize)>,
        fused: Fused<'_>,
    ) -> Result<()> {
        let op = &self.label;
        let [batch, channels, height, width] = dims;
        if channels != self.spec.in_channels {
            return Err(misfit(
                op,
                &dims,
                &format!("{} channels", self.spec.in_channels),
            ));
        }
        let (to_height, to_width) = upsample_to.unwrap_or((height, width));
        if upsample_to.is_some() && [height, width, to_height, to_width].contains(&0) {
            return Err(misfit(op, &dims, "no extent of zero"));
        }
        let out_extents = (
            self.spec.out_extent(to_height),
            self.spec.out_extent(to_width),
        );
        let (Some(out_height), Some(out_width)) = out_extents else {
            let expected = format!("room for a {0} x {0} filter", self.spec.kernel);
            return Err(misfit(op, &dims, &expected));
        };
        let out_channels = self.spec.out_channels;
        if let Some(found) = fused.channel_bias.map(Tokens::dims)
            && found != [batch, 1, out_channels]
            && found != [1, 1, out_channels]
        {
            let expected = format!("{:?}", [batch, 1, out_channels]);
            return Err(misfit(&format!("{op}, channel bias"), &found, &expected));
        }
        let expected = [batch, out_channels, out_height, out_width];
        match fused.residual.map(FeatureMap::dims) {
            Some(found) if found != expected => Err(misfit(
                &format!("{op}, residual"),
                &found,
                &format!("{expected:?}"),
            )),
            _ => Ok(()),
        }
    }
}
