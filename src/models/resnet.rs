//! Residual blocks and the convolutions that halve and double a picture, of UNet and autoencoder alike.
//!
//! Follows `diffusers/models/resnet.py`, `downsampling.py` and `upsampling.py`.

use crate::error::{Error, ErrorKind, Result};
use crate::nn::{
    Activation, Bias, Conv2d, Conv2dSpec, FeatureMap, Fused, GroupNorm, Linear, Padding, Scope,
    Tokens,
};

/// What differs between residual blocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ResnetSpec {
    pub(crate) in_channels: usize,
    pub(crate) out_channels: usize,
    /// Width of the time embedding; `None` in autoencoders.
    pub(crate) temb_channels: Option<usize>,
    pub(crate) groups: usize,
    pub(crate) eps: f64,
    /// The sum with the shortcut is divided by it.
    pub(crate) output_scale_factor: f64,
}

/// diffusers' `ResnetBlock2D`.
#[derive(Debug)]
pub(crate) struct ResnetBlock2D {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
    output_scale_factor: f64,
}

impl ResnetBlock2D {
    pub(crate) fn load(scope: &Scope<'_>, spec: &ResnetSpec) -> Result<Self> {
        let ResnetSpec {
            in_channels,
            out_channels,
            groups,
            eps,
            ..
        } = *spec;
        let time_emb_proj = spec
            .temb_channels
            .map(|dim| {
                Linear::load(
                    &scope.exact().pp("time_emb_proj"),
                    dim,
                    out_channels,
                    Bias::With,
                )
            })
            .transpose()?;
        let conv_shortcut = (in_channels != out_channels)
            .then(|| {
                let spec = Conv2dSpec::pointwise(in_channels, out_channels);
                Conv2d::load(&scope.pp("conv_shortcut"), spec)
            })
            .transpose()?;
        let conv1 = Conv2dSpec::same3x3(in_channels, out_channels);
        let conv2 = Conv2dSpec::same3x3(out_channels, out_channels);
        Ok(Self {
            norm1: GroupNorm::load(&scope.pp("norm1"), groups, in_channels, eps)?,
            conv1: Conv2d::load(&scope.pp("conv1"), conv1)?,
            time_emb_proj,
            norm2: GroupNorm::load(&scope.pp("norm2"), groups, out_channels, eps)?,
            conv2: Conv2d::load(&scope.pp("conv2"), conv2)?,
            conv_shortcut,
            output_scale_factor: spec.output_scale_factor,
        })
    }

    /// `x` (B, in, H, W) to (B, out, H, W). `act_temb` (B or 1, 1, temb) is the time embedding after SiLU, which
    /// the model applies once for all its blocks.
    ///
    /// Each map is given up as soon as it was read: at the end of a decoder one takes as much as all its weights.
    pub(crate) fn forward(&self, x: FeatureMap, act_temb: Option<&Tokens>) -> Result<FeatureMap> {
        let temb = match (&self.time_emb_proj, act_temb) {
            (Some(time_emb_proj), Some(temb)) => Some(time_emb_proj.forward(temb)?),
            (None, None) => None,
            _ => {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "a residual block has a time projection or gets a time embedding, not both",
                ));
            }
        };
        let normed = self.norm1.forward(&x, Activation::Silu)?;
        let fused = Fused {
            channel_bias: temb.as_ref(),
            residual: None,
        };
        let hidden = self.conv1.forward_fused(&normed, fused)?;
        drop(normed);
        let shortcut = match &self.conv_shortcut {
            Some(conv_shortcut) => conv_shortcut.forward(&x)?,
            None => x.clone(),
        };
        drop(x);
        let normed = self.norm2.forward(&hidden, Activation::Silu)?;
        drop(hidden);
        let fused = Fused {
            channel_bias: None,
            residual: Some(&shortcut),
        };
        let sum = self.conv2.forward_fused(&normed, fused)?;
        if self.output_scale_factor.total_cmp(&1.0).is_eq() {
            return Ok(sum);
        }
        sum.scale(self.output_scale_factor.recip())
    }
}

/// diffusers' `Downsample2D`: a 3x3 convolution of stride 2.
#[derive(Debug)]
pub(crate) struct Downsample2D {
    conv: Conv2d,
}

impl Downsample2D {
    pub(crate) fn load(scope: &Scope<'_>, channels: usize, padding: Padding) -> Result<Self> {
        let spec = Conv2dSpec {
            stride: 2,
            padding,
            ..Conv2dSpec::same3x3(channels, channels)
        };
        Ok(Self {
            conv: Conv2d::load(&scope.pp("conv"), spec)?,
        })
    }

    /// (B, C, H, W) to half the size.
    pub(crate) fn forward(&self, x: &FeatureMap) -> Result<FeatureMap> {
        self.conv.forward(x)
    }
}

/// diffusers' `Upsample2D`: nearest neighbours, then a 3x3 convolution.
#[derive(Debug)]
pub(crate) struct Upsample2D {
    conv: Conv2d,
}

impl Upsample2D {
    pub(crate) fn load(scope: &Scope<'_>, channels: usize) -> Result<Self> {
        let spec = Conv2dSpec::same3x3(channels, channels);
        Ok(Self {
            conv: Conv2d::load_upsampling(&scope.pp("conv"), spec)?,
        })
    }

    /// (B, C, H, W) to `size` = (height, width), or to twice the size.
    pub(crate) fn forward(
        &self,
        x: &FeatureMap,
        size: Option<(usize, usize)>,
    ) -> Result<FeatureMap> {
        let (height, width) = size.unwrap_or((x.height() * 2, x.width() * 2));
        self.conv.forward_upsampled(x, height, width)
    }
}
