//! Latents to picture: diffusers' `post_quant_conv` and `Decoder`.

use crate::error::Result;
use crate::models::resnet::{ResnetBlock2D, Upsample2D};
use crate::models::vae::mid_block::MidBlock2D;
use crate::models::vae::{NORM_EPS, VaeConfig, resnet_spec};
use crate::nn::{Activation, Conv2d, Conv2dSpec, FeatureMap, GroupNorm, Scope};

/// The half of the autoencoder that makes pictures.
#[derive(Debug)]
pub struct Decoder {
    post_quant_conv: Option<Conv2d>,
    conv_in: Conv2d,
    mid_block: MidBlock2D,
    up_blocks: Vec<UpDecoderBlock2D>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    /// Builds the decoder below `scope`, the root of the autoencoder.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape or cannot be read.
    pub fn load(scope: &Scope<'_>, config: &VaeConfig) -> Result<Self> {
        let latent = config.latent_channels;
        let post_quant_conv = config
            .use_post_quant_conv
            .then(|| {
                let spec = Conv2dSpec::pointwise(latent, latent);
                Conv2d::load(&scope.pp("post_quant_conv"), spec)
            })
            .transpose()?;
        let scope = scope.pp("decoder");
        let outermost = config.block_out_channels.first().copied().unwrap_or(0);
        let innermost = config.block_out_channels.last().copied().unwrap_or(0);
        let conv_in = Conv2dSpec::same3x3(latent, innermost);
        let conv_out = Conv2dSpec::same3x3(outermost, config.out_channels);
        let groups = config.norm_num_groups;
        let up_blocks = (0..config.block_out_channels.len())
            .map(|i| UpDecoderBlock2D::load(&scope.pp("up_blocks").pp(i), config, i))
            .collect::<Result<_>>()?;
        Ok(Self {
            post_quant_conv,
            conv_in: Conv2d::load(&scope.pp("conv_in"), conv_in)?,
            mid_block: MidBlock2D::load(&scope.pp("mid_block"), config)?,
            up_blocks,
            conv_norm_out: GroupNorm::load(
                &scope.pp("conv_norm_out"),
                groups,
                outermost,
                NORM_EPS,
            )?,
            conv_out: Conv2d::load(&scope.pp("conv_out"), conv_out)?,
        })
    }

    /// Unscaled latents (B, latent, h, w) to a picture (B, out, H, W), about -1 to 1.
    ///
    /// # Errors
    /// When the shape does not fit or the device fails.
    pub fn forward(&self, latents: FeatureMap) -> Result<FeatureMap> {
        let mut x = latents;
        if let Some(post_quant_conv) = &self.post_quant_conv {
            x = post_quant_conv.forward(&x)?;
        }
        x = self.conv_in.forward(&x)?;
        x = self.mid_block.forward(x)?;
        for block in &self.up_blocks {
            x = block.forward(x)?;
        }
        x = self.conv_norm_out.forward(&x, Activation::Silu)?;
        self.conv_out.forward(&x)
    }
}

/// diffusers' `UpDecoderBlock2D`.
#[derive(Debug)]
struct UpDecoderBlock2D {
    resnets: Vec<ResnetBlock2D>,
    upsampler: Option<Upsample2D>,
}

impl UpDecoderBlock2D {
    /// Reads block `index`, counted from the innermost.
    fn load(scope: &Scope<'_>, config: &VaeConfig, index: usize) -> Result<Self> {
        let widths = &config.block_out_channels;
        let last = widths.len() - 1;
        let out_channels = widths[last - index];
        let in_channels = widths[(last - index + 1).min(last)];
        let resnets = (0..=config.layers_per_block)
            .map(|i| {
                let in_channels = if i == 0 { in_channels } else { out_channels };
                let spec = resnet_spec(config, in_channels, out_channels);
                ResnetBlock2D::load(&scope.pp("resnets").pp(i), &spec)
            })
            .collect::<Result<_>>()?;
        let upsampler = (index < last)
            .then(|| Upsample2D::load(&scope.pp("upsamplers.0"), out_channels))
            .transpose()?;
        Ok(Self { resnets, upsampler })
    }

    fn forward(&self, mut x: FeatureMap) -> Result<FeatureMap> {
        for resnet in &self.resnets {
            x = resnet.forward(x, None)?;
        }
        match &self.upsampler {
            Some(upsampler) => upsampler.forward(&x, None),
            None => Ok(x),
        }
    }
}
