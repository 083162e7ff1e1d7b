//! Picture to latents: diffusers' `Encoder` and `quant_conv`.

use crate::error::Result;
use crate::models::resnet::{Downsample2D, ResnetBlock2D};
use crate::models::vae::mid_block::MidBlock2D;
use crate::models::vae::{NORM_EPS, VaeConfig, resnet_spec};
use crate::nn::{Activation, Conv2d, Conv2dSpec, FeatureMap, GroupNorm, Padding, Scope};

/// The half of the autoencoder that reads pictures.
#[derive(Debug)]
pub struct Encoder {
    conv_in: Conv2d,
    down_blocks: Vec<DownEncoderBlock2D>,
    mid_block: MidBlock2D,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    quant_conv: Option<Conv2d>,
}

impl Encoder {
    /// Builds the encoder below `scope`, the root of the autoencoder.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape or cannot be read.
    pub fn load(scope: &Scope<'_>, config: &VaeConfig) -> Result<Self> {
        // Mean and logarithm of the variance.
        let moments = 2 * config.latent_channels;
        let quant_conv = config
            .use_quant_conv
            .then(|| {
                let spec = Conv2dSpec::pointwise(moments, moments);
                Conv2d::load(&scope.pp("quant_conv"), spec)
            })
            .transpose()?;
        let scope = scope.pp("encoder");
        let outermost = config.block_out_channels.first().copied().unwrap_or(0);
        let innermost = config.block_out_channels.last().copied().unwrap_or(0);
        let conv_in = Conv2dSpec::same3x3(config.in_channels, outermost);
        let conv_out = Conv2dSpec::same3x3(innermost, moments);
        let groups = config.norm_num_groups;
        let down_blocks = (0..config.block_out_channels.len())
            .map(|i| DownEncoderBlock2D::load(&scope.pp("down_blocks").pp(i), config, i))
            .collect::<Result<_>>()?;
        Ok(Self {
            conv_in: Conv2d::load(&scope.pp("conv_in"), conv_in)?,
            down_blocks,
            mid_block: MidBlock2D::load(&scope.pp("mid_block"), config)?,
            conv_norm_out: GroupNorm::load(
                &scope.pp("conv_norm_out"),
                groups,
                innermost,
                NORM_EPS,
            )?,
            conv_out: Conv2d::load(&scope.pp("conv_out"), conv_out)?,
            quant_conv,
        })
    }

    /// A picture (B, in, H, W), -1 to 1, to the moments of its latents: means in the first half of the channels,
    /// logarithms of the variances in the second, (B, 2 * latent, h, w).
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn forward(&self, picture: &FeatureMap) -> Result<FeatureMap> {
        let mut x = self.conv_in.forward(picture)?;
        for block in &self.down_blocks {
            x = block.forward(x)?;
        }
        let x = self.mid_block.forward(x)?;
        let x = self.conv_norm_out.forward(&x, Activation::Silu)?;
        let x = self.conv_out.forward(&x)?;
        match &self.quant_conv {
            Some(quant_conv) => quant_conv.forward(&x),
            None => Ok(x),
        }
    }
}

/// diffusers' `DownEncoderBlock2D`.
#[derive(Debug)]
struct DownEncoderBlock2D {
    resnets: Vec<ResnetBlock2D>,
    downsampler: Option<Downsample2D>,
}

impl DownEncoderBlock2D {
    /// Reads block `index`, counted from the outermost.
    fn load(scope: &Scope<'_>, config: &VaeConfig, index: usize) -> Result<Self> {
        let widths = &config.block_out_channels;
        let out_channels = widths[index];
        let in_channels = widths[index.saturating_sub(1)];
        let resnets = (0..config.layers_per_block)
            .map(|i| {
                let in_channels = if i == 0 { in_channels } else { out_channels };
                let spec = resnet_spec(config, in_channels, out_channels);
                ResnetBlock2D::load(&scope.pp("resnets").pp(i), &spec)
            })
            .collect::<Result<_>>()?;
        let downsampler = (index + 1 < widths.len())
            .then(|| {
                let scope = scope.pp("downsamplers.0");
                Downsample2D::load(&scope, out_channels, Padding::BottomRight)
            })
            .transpose()?;
        Ok(Self {
            resnets,
            downsampler,
        })
    }

    fn forward(&self, mut x: FeatureMap) -> Result<FeatureMap> {
        for resnet in &self.resnets {
            x = resnet.forward(x, None)?;
        }
        match &self.downsampler {
            Some(downsampler) => downsampler.forward(&x),
            None => Ok(x),
        }
    }
}
