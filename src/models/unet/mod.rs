//! The denoiser: diffusers' `UNet2DConditionModel` for every Stable Diffusion family.
//!
//! Follows `diffusers/models/unets/unet_2d_condition.py`. What does not change over the steps (keys and values of
//! the text, the embedding of pooled text and sizes) is computed once by [`UNet2DCondition::prepare`].
//!
//! ControlNet will add its residuals where `forward` hands the skips from the way down to the way up, and to the
//! bottom's output; nothing else of the model has to change for it.

mod blocks;
mod changes;
mod config;
mod freeu;
mod per_block;

pub use changes::{Attended, Blocks, Changes};
pub use config::{AdditionConfig, AttentionConfig, BlockConfig, MidConfig, TimeConfig, UNetConfig};
use freeu::FreeUAt;
#[cfg(test)]
pub(crate) use freeu::by_the_mean;
pub use freeu::{FreeU, FreeUVersion};

use crate::error::{Error, ErrorKind, Result};
use crate::host::HostTensor;
use crate::models::attention::ContextCursor;
use crate::models::embeddings::{TimestepEmbedding, guidance_embedding, timestep_embedding};
use crate::nn::{
    Activation, Bias, ContextKv, Conv2d, Conv2dSpec, Engine, FeatureMap, GroupNorm, Linear,
    Padding, Scope, Tokens,
};
use blocks::{DownBlock2D, MidBlock2D, UpBlock2D};
use changes::Place;

/// What the prediction is conditioned on, besides the timestep.
#[derive(Debug, Clone, PartialEq)]
pub struct Conditioning {
    /// Text embeddings (B, tokens, [`UNetConfig::context_dim`]), one item for each picture of the batch.
    pub context: HostTensor,
    /// SDXL's micro-conditioning; there exactly when the configuration has [`UNetConfig::addition`].
    pub addition: Option<AddedConditioning>,
    /// Guidance scale told to a distilled model; only with [`TimeConfig::cond_proj_dim`], and even there `None`
    /// leaves it out.
    pub guidance_scale: Option<f64>,
}

/// SDXL's micro-conditioning.
#[derive(Debug, Clone, PartialEq)]
pub struct AddedConditioning {
    /// Pooled text (B, width).
    pub pooled: HostTensor,
    /// Original height and width, top and left of the crop, target height and width in pixels: (B, 6).
    pub time_ids: HostTensor,
}

/// Conditioning in the form [`UNet2DCondition::forward`] takes, good for all steps.
#[derive(Debug, Clone)]
pub struct PreparedConditioning {
    context_kvs: Vec<ContextKv>,
    /// (B, 1, embed).
    augmentation: Option<Tokens>,
    /// (1, 1, cond).
    guidance: Option<Tokens>,
    batch: usize,
}

impl PreparedConditioning {
    /// Items of the batch.
    pub fn batch(&self) -> usize {
        self.batch
    }
}

/// The denoising UNet.
#[derive(Debug)]
pub struct UNet2DCondition {
    config: UNetConfig,
    engine: Engine,
    conv_in: Conv2d,
    time_embedding: TimestepEmbedding,
    add_embedding: Option<TimestepEmbedding>,
    encoder_hid_proj: Option<Linear>,
    down_blocks: Vec<DownBlock2D>,
    mid_block: Option<MidBlock2D>,
    up_blocks: Vec<UpBlock2D>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl UNet2DCondition {
    /// Builds the model below `scope`, the root of its component.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape or cannot be read.
    pub fn load(scope: &Scope<'_>, config: &UNetConfig) -> Result<Self> {
        let time = &config.time;
        let width = time.sinusoid_dim;
        let add_embedding = config
            .addition
            .as_ref()
            .map(|addition| {
                let scope = scope.pp("add_embedding");
                TimestepEmbedding::load(&scope, addition.input_dim, time.embed_dim, None)
            })
            .transpose()?;
        let levels = config.down.len();
        let at_level = |level, name| scope.pp(name).seeing(config.pixels_at(level));
        let down_blocks = (0..levels)
            .map(|i| DownBlock2D::load(&at_level(i, "down_blocks").pp(i), config, i))
            .collect::<Result<_>>()?;
        let up_blocks = (0..levels)
            .map(|i| UpBlock2D::load(&at_level(levels - 1 - i, "up_blocks").pp(i), config, i))
            .collect::<Result<_>>()?;
        let mid_block = at_level(levels.saturating_sub(1), "mid_block");
        let conv_in = conv(config.in_channels, width, config.conv_in_kernel);
        let conv_out = conv(width, config.out_channels, config.conv_out_kernel);
        let (groups, eps) = (config.norm_num_groups, config.norm_eps);
        Ok(Self {
            conv_in: Conv2d::load(&scope.pp("conv_in"), conv_in)?,
            time_embedding: TimestepEmbedding::load(
                &scope.pp("time_embedding"),
                width,
                time.embed_dim,
                time.cond_proj_dim,
            )?,
            add_embedding,
            encoder_hid_proj: encoder_hid_proj(scope, config)?,
            down_blocks,
            mid_block: MidBlock2D::load(&mid_block, config)?,
            up_blocks,
            conv_norm_out: GroupNorm::load(&scope.pp("conv_norm_out"), groups, width, eps)?,
            conv_out: Conv2d::load(&scope.pp("conv_out"), conv_out)?,
            engine: scope.engine().clone(),
            config: config.clone(),
        })
    }

    /// The configuration it was built from.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// The engine its layers run on; input is made with it.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Computes everything that depends on the prompt but not on the step.
    ///
    /// # Errors
    /// When shapes do not fit the model, or the micro-conditioning is missing or not wanted.
    pub fn prepare(&self, conditioning: &Conditioning) -> Result<PreparedConditioning> {
        let mut context = Tokens::from_host(&self.engine, &conditioning.context)?;
        if let Some(encoder_hid_proj) = &self.encoder_hid_proj {
            context = encoder_hid_proj.forward(&context)?;
        }
        let mut context_kvs = Vec::new();
        for block in &self.down_blocks {
            block.prepare(&context, &mut context_kvs)?;
        }
        if let Some(block) = &self.mid_block {
            block.prepare(&context, &mut context_kvs)?;
        }
        for block in &self.up_blocks {
            block.prepare(&context, &mut context_kvs)?;
        }
        Ok(PreparedConditioning {
            context_kvs,
            augmentation: self.augmentation(conditioning)?,
            guidance: self.guidance(conditioning.guidance_scale)?,
            batch: context.batch(),
        })
    }

    /// Predicts from `sample` (B, in, H, W) at `timestep` (0 to the training steps, possibly between two): noise,
    /// velocity or clean latents (B, out, H, W), as the scheduler's configuration says.
    ///
    /// # Errors
    /// When shapes do not fit the model or each other, or the device fails.
    pub fn forward(
        &self,
        sample: &FeatureMap,
        timestep: f64,
        conditioning: &PreparedConditioning,
    ) -> Result<FeatureMap> {
        let nothing = Changes::default();
        let (output, _) = self.forward_changed(sample, timestep, conditioning, &nothing)?;
        Ok(output)
    }

    /// As [`forward`](Self::forward), changed on the way; with what the first item attends to in the bottom's first
    /// transformer block, where the changes ask for it and there is one.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_changed(
        &self,
        sample: &FeatureMap,
        timestep: f64,
        conditioning: &PreparedConditioning,
        changes: &Changes,
    ) -> Result<(FeatureMap, Option<Attended>)> {
        let is_identity = |place| {
            changes
                .identity
                .is_some_and(|blocks| blocks.contains(place))
        };
        let act_temb = self.time(timestep, conditioning)?.silu()?;
        let mut context = ContextCursor::new(&conditioning.context_kvs);
        let mut x = self.conv_in.forward(sample)?;
        let mut skips = vec![x.clone()];
        for (i, block) in self.down_blocks.iter().enumerate() {
            context.identity = is_identity(Place::Down(i));
            x = block.forward(x, &act_temb, &mut context, &mut skips)?;
        }
        if let Some(block) = &self.mid_block {
            context.identity = is_identity(Place::Mid);
            context.watch = changes.watch;
            x = block.forward(x, &act_temb, &mut context)?;
        }
        context.watch = false;
        let (height, width) = (x.height(), x.width());
        let attended = context.received.take().map(|received| Attended {
            received,
            height,
            width,
        });
        for (i, block) in self.up_blocks.iter().enumerate() {
            context.identity = is_identity(Place::Up(i));
            let freeu = changes.freeu.as_ref().map(|freeu| FreeUAt {
                freeu,
                block: i,
                outermost: self.config.down[0].out_channels,
                engine: &self.engine,
            });
            x = block.forward(x, &act_temb, &mut context, &mut skips, freeu)?;
        }
        let x = self.conv_norm_out.forward(&x, Activation::Silu)?;
        Ok((self.conv_out.forward(&x)?, attended))
    }

    /// The time embedding (B or 1, 1, embed), before SiLU.
    fn time(&self, timestep: f64, conditioning: &PreparedConditioning) -> Result<Tokens> {
        let dim = self.config.time.sinusoid_dim;
        let t_emb = timestep_embedding(timestep as f32, dim, &self.config.time);
        let t_emb = Tokens::from_host(&self.engine, &HostTensor::new([1, 1, dim], t_emb)?)?;
        let emb = self
            .time_embedding
            .forward(&t_emb, conditioning.guidance.as_ref())?;
        match &conditioning.augmentation {
            Some(augmentation) => augmentation.add(&emb),
            None => Ok(emb),
        }
    }

    /// The embedding of pooled text and sizes (B, 1, embed).
    fn augmentation(&self, conditioning: &Conditioning) -> Result<Option<Tokens>> {
        let (add_embedding, config, added) = match (
            &self.add_embedding,
            &self.config.addition,
            &conditioning.addition,
        ) {
            (Some(layers), Some(config), Some(added)) => (layers, config, added),
            (None, None, None) => return Ok(None),
            (_, Some(_), None) => return Err(internal("this UNet needs pooled text and sizes")),
            _ => return Err(internal("this UNet takes no pooled text and sizes")),
        };
        let (pooled, ids) = (added.pooled.shape(), added.time_ids.shape());
        let batch = conditioning.context.shape().first().copied().unwrap_or(0);
        if pooled.len() != 2
            || ids.len() != 2
            || pooled[0] != batch
            || ids[0] != batch
            || batch == 0
        {
            return Err(internal(&format!(
                "pooled text of shape {pooled:?} and sizes of shape {ids:?}, expected two dimensions and a batch of {batch}"
            )));
        }
        let width = config.time_embed_dim;
        let mut joined = Vec::with_capacity(batch * config.input_dim);
        for item in 0..batch {
            joined.extend_from_slice(&added.pooled.data()[item * pooled[1]..][..pooled[1]]);
            for &id in &added.time_ids.data()[item * ids[1]..][..ids[1]] {
                joined.extend(timestep_embedding(id, width, &self.config.time));
            }
        }
        let joined = HostTensor::new([batch, 1, pooled[1] + ids[1] * width], joined)?;
        let joined = Tokens::from_host(&self.engine, &joined)?;
        add_embedding.forward(&joined, None).map(Some)
    }

    fn guidance(&self, guidance_scale: Option<f64>) -> Result<Option<Tokens>> {
        let Some(guidance_scale) = guidance_scale else {
            return Ok(None);
        };
        let dim = self.config.time.cond_proj_dim;
        let dim =
            dim.ok_or_else(|| internal("this UNet was not distilled with a guidance scale"))?;
        let embedding = guidance_embedding(guidance_scale, dim);
        Tokens::from_host(&self.engine, &HostTensor::new([1, 1, dim], embedding)?).map(Some)
    }
}

fn conv(in_channels: usize, out_channels: usize, kernel: usize) -> Conv2dSpec {
    Conv2dSpec {
        kernel,
        padding: Padding::Symmetric(kernel / 2),
        ..Conv2dSpec::same3x3(in_channels, out_channels)
    }
}

fn encoder_hid_proj(scope: &Scope<'_>, config: &UNetConfig) -> Result<Option<Linear>> {
    let width = config
        .down
        .iter()
        .chain(&config.up)
        .find_map(|block| Some(block.attention.as_ref()?.cross_attention_dim));
    match (config.encoder_hid_dim, width) {
        (Some(dim), Some(width)) => {
            Linear::load(&scope.pp("encoder_hid_proj"), dim, width, Bias::With).map(Some)
        }
        _ => Ok(None),
    }
}

fn internal(message: &str) -> Error {
    Error::new(ErrorKind::Internal, message)
}
