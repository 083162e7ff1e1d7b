//! The UNet's blocks: down, bottom and up, with and without transformers.
//!
//! Follows `diffusers/models/unets/unet_2d_blocks.py`. A block without transformers is the same code with an empty
//! list of them: `DownBlock2D` and `CrossAttnDownBlock2D` differ in nothing else.

use crate::error::{Error, ErrorKind, Result};
use crate::models::attention::{ContextCursor, Transformer2D, TransformerSpec};
use crate::models::resnet::{Downsample2D, ResnetBlock2D, ResnetSpec, Upsample2D};
use crate::models::unet::config::{AttentionConfig, BlockConfig, MidConfig, UNetConfig};
use crate::models::unet::freeu::FreeUAt;
use crate::nn::{ContextKv, FeatureMap, Padding, Scope, Tokens};

/// `DownBlock2D` or `CrossAttnDownBlock2D`.
#[derive(Debug)]
pub(super) struct DownBlock2D {
    resnets: Vec<ResnetBlock2D>,
    /// One for each of `resnets`, or none at all.
    attentions: Vec<Transformer2D>,
    downsampler: Option<Downsample2D>,
}

impl DownBlock2D {
    /// Reads block `index` of the way down.
    pub(super) fn load(scope: &Scope<'_>, config: &UNetConfig, index: usize) -> Result<Self> {
        let block = &config.down[index];
        let out_channels = block.out_channels;
        let in_channels = match index {
            0 => out_channels,
            _ => config.down[index - 1].out_channels,
        };
        let resnets = scope.pp("resnets");
        let resnets = (0..block.layers)
            .map(|i| {
                let in_channels = if i == 0 { in_channels } else { out_channels };
                let spec = resnet_spec(config, in_channels, out_channels);
                ResnetBlock2D::load(&resnets.pp(i), &spec)
            })
            .collect::<Result<_>>()?;
        let padding = match config.downsample_padding {
            0 => Padding::BottomRight,
            size => Padding::Symmetric(size),
        };
        let downsampler = (index + 1 < config.down.len())
            .then(|| Downsample2D::load(&scope.pp("downsamplers.0"), out_channels, padding))
            .transpose()?;
        Ok(Self {
            resnets,
            attentions: load_attentions(&scope.pp("attentions"), config, block)?,
            downsampler,
        })
    }

    pub(super) fn prepare(&self, context: &Tokens, prepared: &mut Vec<ContextKv>) -> Result<()> {
        prepare(&self.attentions, context, prepared)
    }

    /// Runs the block and puts what the way up needs onto `skips`.
    pub(super) fn forward(
        &self,
        mut x: FeatureMap,
        act_temb: &Tokens,
        context: &mut ContextCursor<'_>,
        skips: &mut Vec<FeatureMap>,
    ) -> Result<FeatureMap> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward(x, Some(act_temb))?;
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(x, context)?;
            }
            skips.push(x.clone());
        }
        if let Some(downsampler) = &self.downsampler {
            x = downsampler.forward(&x)?;
            skips.push(x.clone());
        }
        Ok(x)
    }
}

/// `UNetMidBlock2DCrossAttn` or, without a transformer, `UNetMidBlock2D` as the UNet uses it.
#[derive(Debug)]
pub(super) struct MidBlock2D {
    resnets: Vec<ResnetBlock2D>,
    attentions: Vec<Transformer2D>,
}

impl MidBlock2D {
    /// Reads the bottom; `None` where the configuration has none.
    pub(super) fn load(scope: &Scope<'_>, config: &UNetConfig) -> Result<Option<Self>> {
        let (scale, attention) = match &config.mid {
            MidConfig::None => return Ok(None),
            MidConfig::Residual { scale } => (*scale, None),
            MidConfig::CrossAttention { scale, attention } => (*scale, Some(attention.clone())),
        };
        let channels = config.down.last().map_or(0, |block| block.out_channels);
        let spec = ResnetSpec {
            output_scale_factor: scale,
            ..resnet_spec(config, channels, channels)
        };
        // A transformer stands between two residual blocks.
        let count = 1 + usize::from(attention.is_some());
        let resnets = (0..count)
            .map(|i| ResnetBlock2D::load(&scope.pp("resnets").pp(i), &spec))
            .collect::<Result<_>>()?;
        let block = BlockConfig {
            out_channels: channels,
            layers: 1,
            attention,
        };
        let attentions = load_attentions(&scope.pp("attentions"), config, &block)?;
        Ok(Some(Self {
            resnets,
            attentions,
        }))
    }

    pub(super) fn prepare(&self, context: &Tokens, prepared: &mut Vec<ContextKv>) -> Result<()> {
        prepare(&self.attentions, context, prepared)
    }

    pub(super) fn forward(
        &self,
        mut x: FeatureMap,
        act_temb: &Tokens,
        context: &mut ContextCursor<'_>,
    ) -> Result<FeatureMap> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            if i > 0
                && let Some(attention) = self.attentions.get(i - 1)
            {
                x = attention.forward(x, context)?;
            }
            x = resnet.forward(x, Some(act_temb))?;
        }
        Ok(x)
    }
}

/// `UpBlock2D` or `CrossAttnUpBlock2D`.
#[derive(Debug)]
pub(super) struct UpBlock2D {
    resnets: Vec<ResnetBlock2D>,
    /// One for each of `resnets`, or none at all.
    attentions: Vec<Transformer2D>,
    upsampler: Option<Upsample2D>,
}

impl UpBlock2D {
    /// Reads block `index` of the way up.
    pub(super) fn load(scope: &Scope<'_>, config: &UNetConfig, index: usize) -> Result<Self> {
        let block = &config.up[index];
        let out_channels = block.out_channels;
        let prev_output_channel = config.up[index.saturating_sub(1)].out_channels;
        let last = config.up.len() - 1;
        let skip_of_outer_block = config.up[(index + 1).min(last)].out_channels;
        let resnets = scope.pp("resnets");
        let resnets = (0..block.layers)
            .map(|i| {
                let from_below = if i == 0 {
                    prev_output_channel
                } else {
                    out_channels
                };
                let is_last = i + 1 == block.layers;
                let skip = if is_last {
                    skip_of_outer_block
                } else {
                    out_channels
                };
                let spec = resnet_spec(config, from_below + skip, out_channels);
                ResnetBlock2D::load(&resnets.pp(i), &spec)
            })
            .collect::<Result<_>>()?;
        let upsampler = (index < last)
            .then(|| {
                // It writes pictures of the next level out.
                let scope = scope.seeing(config.pixels_at(last - 1 - index));
                Upsample2D::load(&scope.pp("upsamplers.0"), out_channels)
            })
            .transpose()?;
        Ok(Self {
            resnets,
            attentions: load_attentions(&scope.pp("attentions"), config, block)?,
            upsampler,
        })
    }

    pub(super) fn prepare(&self, context: &Tokens, prepared: &mut Vec<ContextKv>) -> Result<()> {
        prepare(&self.attentions, context, prepared)
    }

    /// Runs the block, taking one of `skips` from the end for each residual block.
    ///
    /// The result is brought to the size of the skip that the next block joins to it: twice its own, and one less
    /// where the way down halved an odd size.
    pub(super) fn forward(
        &self,
        mut x: FeatureMap,
        act_temb: &Tokens,
        context: &mut ContextCursor<'_>,
        skips: &mut Vec<FeatureMap>,
        freeu: Option<FreeUAt<'_>>,
    ) -> Result<FeatureMap> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            let mut skip = skips.pop().ok_or_else(|| {
                Error::new(
                    ErrorKind::Internal,
                    "the way up takes more skips than were left",
                )
            })?;
            if let Some(freeu) = freeu {
                (x, skip) = freeu.apply(x, skip)?;
            }
            x = FeatureMap::concat_channels(&[&x, &skip])?;
            drop(skip);
            x = resnet.forward(x, Some(act_temb))?;
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(x, context)?;
            }
        }
        match &self.upsampler {
            Some(upsampler) => {
                let size = skips.last().map(|skip| (skip.height(), skip.width()));
                upsampler.forward(&x, size)
            }
            None => Ok(x),
        }
    }
}

fn resnet_spec(config: &UNetConfig, in_channels: usize, out_channels: usize) -> ResnetSpec {
    ResnetSpec {
        in_channels,
        out_channels,
        temb_channels: Some(config.time.embed_dim),
        groups: config.norm_num_groups,
        eps: config.norm_eps,
        output_scale_factor: 1.0,
    }
}

fn load_attentions(
    scope: &Scope<'_>,
    config: &UNetConfig,
    block: &BlockConfig,
) -> Result<Vec<Transformer2D>> {
    let load = |attention: &AttentionConfig| -> Result<Vec<Transformer2D>> {
        let depths = attention.depths.iter().enumerate();
        depths
            .map(|(i, &depth)| {
                let spec = TransformerSpec {
                    channels: block.out_channels,
                    norm_num_groups: config.norm_num_groups,
                    depth,
                    attention,
                    upcast: config.upcast_attention,
                };
                Transformer2D::load(&scope.pp(i), &spec)
            })
            .collect()
    };
    block.attention.as_ref().map_or(Ok(Vec::new()), load)
}

fn prepare(
    attentions: &[Transformer2D],
    context: &Tokens,
    prepared: &mut Vec<ContextKv>,
) -> Result<()> {
    for attention in attentions {
        attention.prepare(context, prepared)?;
    }
    Ok(())
}
