//! The innermost blocks of encoder and decoder: two residual blocks around an attention over all positions.
//!
//! Follows `UNetMidBlock2D` of `diffusers/models/unets/unet_2d_blocks.py`.

use crate::error::Result;
use crate::models::resnet::ResnetBlock2D;
use crate::models::vae::{NORM_EPS, VaeConfig, resnet_spec};
use crate::nn::{Activation, Attention, AttentionSpec, Bias, FeatureMap, GroupNorm, Scope};

/// diffusers' `UNetMidBlock2D` as the autoencoder uses it.
#[derive(Debug)]
pub(super) struct MidBlock2D {
    resnet_in: ResnetBlock2D,
    attention: Option<SpatialAttention>,
    resnet_out: ResnetBlock2D,
}

impl MidBlock2D {
    pub(super) fn load(scope: &Scope<'_>, config: &VaeConfig) -> Result<Self> {
        let channels = config.block_out_channels.last().copied().unwrap_or(0);
        let spec = resnet_spec(config, channels, channels);
        let attention = config
            .mid_block_add_attention
            .then(|| SpatialAttention::load(&scope.pp("attentions.0"), channels, config))
            .transpose()?;
        Ok(Self {
            resnet_in: ResnetBlock2D::load(&scope.pp("resnets.0"), &spec)?,
            attention,
            resnet_out: ResnetBlock2D::load(&scope.pp("resnets.1"), &spec)?,
        })
    }

    /// (B, C, H, W) to the same shape.
    pub(super) fn forward(&self, x: FeatureMap) -> Result<FeatureMap> {
        let mut x = self.resnet_in.forward(x, None)?;
        if let Some(attention) = &self.attention {
            x = attention.forward(x)?;
        }
        self.resnet_out.forward(x, None)
    }
}

/// diffusers' `Attention` with a group norm before it, one head as wide as the map, and a residual.
#[derive(Debug)]
struct SpatialAttention {
    group_norm: GroupNorm,
    attention: Attention,
}

impl SpatialAttention {
    fn load(scope: &Scope<'_>, channels: usize, config: &VaeConfig) -> Result<Self> {
        let groups = config.norm_num_groups;
        let spec = AttentionSpec {
            qkv_bias: Bias::With,
            ..AttentionSpec::new(channels, 1, channels)
        };
        Ok(Self {
            group_norm: GroupNorm::load(&scope.pp("group_norm"), groups, channels, NORM_EPS)?,
            attention: Attention::load(scope, &spec)?,
        })
    }

    fn forward(&self, x: FeatureMap) -> Result<FeatureMap> {
        let (height, width) = (x.height(), x.width());
        let hidden = self
            .group_norm
            .forward(&x, Activation::None)?
            .into_tokens()?;
        let residual = x.into_tokens()?;
        let sum = self.attention.forward(&hidden, None, Some(&residual))?;
        sum.into_feature_map(height, width)
    }
}
