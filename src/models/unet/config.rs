//! `unet/config.json` of diffusers' `UNet2DConditionModel`, resolved to what each block is made of.
//!
//! Follows `diffusers/models/unets/unet_2d_condition.py`. Every key that changes the computation is honoured or
//! refused by name; keys that only matter in training (`dropout`) and keys unknown to diffusers are passed over.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::models::fields::Fields;
use crate::models::unet::per_block::PerBlock;

/// What a UNet is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct UNetConfig {
    /// Height and width of the latents it was trained on, where the file says so.
    pub sample_size: Option<(usize, usize)>,
    /// Channels of the input: 4 for plain models, 9 for inpainting ones.
    pub in_channels: usize,
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Kernel size of `conv_in`, odd.
    pub conv_in_kernel: usize,
    /// Kernel size of `conv_out`, odd.
    pub conv_out_kernel: usize,
    /// Groups of every group normalisation.
    pub norm_num_groups: usize,
    /// Epsilon of the residual blocks' normalisations and of `conv_norm_out`.
    pub norm_eps: f64,
    /// How the timestep enters.
    pub time: TimeConfig,
    /// The micro-conditioning of SDXL, where there is one.
    pub addition: Option<AdditionConfig>,
    /// Width of the text embeddings when `encoder_hid_proj` brings them to `cross_attention_dim`.
    pub encoder_hid_dim: Option<usize>,
    /// Whether attention scores are computed in f32 whatever the compute type.
    pub upcast_attention: bool,
    /// The way down, outermost (widest picture) first.
    pub down: Vec<BlockConfig>,
    /// The bottom.
    pub mid: MidConfig,
    /// The way up, innermost first; `layers` counts the extra one that takes the last skip.
    pub up: Vec<BlockConfig>,
    /// Padding of the downsampling convolutions, 0 (bottom and right only) or 1 (all round).
    pub downsample_padding: usize,
}

/// How the timestep becomes an embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeConfig {
    /// Width of the sinusoidal embedding.
    pub sinusoid_dim: usize,
    /// Width of the embedding handed to every residual block.
    pub embed_dim: usize,
    /// Whether cosines come before sines.
    pub flip_sin_to_cos: bool,
    /// Subtracted from the number of frequencies when they are spaced.
    pub freq_shift: f64,
    /// Width of the guidance embedding of LCM-distilled models, `None` for all others.
    pub cond_proj_dim: Option<usize>,
}

/// SDXL's `text_time` micro-conditioning: pooled text and picture sizes join the time embedding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdditionConfig {
    /// Sinusoidal width of each size.
    pub time_embed_dim: usize,
    /// Width of pooled text and all embedded sizes together.
    pub input_dim: usize,
}

impl AdditionConfig {
    /// How many sizes go in beside a pooled text of width `pooled`: 6 for SDXL, 5 for its refiner.
    ///
    /// `None` when the widths do not fit together.
    pub fn time_ids(&self, pooled: usize) -> Option<usize> {
        let rest = self.input_dim.checked_sub(pooled)?;
        rest.is_multiple_of(self.time_embed_dim)
            .then(|| rest / self.time_embed_dim)
    }
}

/// One block of the way down or up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockConfig {
    /// Width of its output.
    pub out_channels: usize,
    /// Residual blocks in it.
    pub layers: usize,
    /// The transformer behind each residual block; `None` for `DownBlock2D` and `UpBlock2D`.
    pub attention: Option<AttentionConfig>,
}

/// The transformers of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttentionConfig {
    /// Number of attention heads.
    pub heads: usize,
    /// Width of the text embeddings.
    pub cross_attention_dim: usize,
    /// Transformer blocks behind each residual block.
    pub depths: Vec<usize>,
    /// Whether the first attention of a transformer block looks at the text too, not at the picture.
    pub only_cross_attention: bool,
}

/// The bottom of the UNet.
#[derive(Debug, Clone, PartialEq)]
pub enum MidConfig {
    /// Nothing (`mid_block_type` is `null`, as in BK-SDM's small models).
    None,
    /// `UNetMidBlock2D`: one residual block whose sum is divided by `scale`.
    Residual {
        /// `mid_block_scale_factor`.
        scale: f64,
    },
    /// `UNetMidBlock2DCrossAttn`: a transformer between two residual blocks whose sums are divided by `scale`.
    CrossAttention {
        /// `mid_block_scale_factor`.
        scale: f64,
        /// The transformer.
        attention: AttentionConfig,
    },
}

impl UNetConfig {
    /// Positions of a picture at a level of the UNet, 0 the outermost, at the size the model was trained on; 0 where
    /// the file does not say.
    pub(crate) fn pixels_at(&self, level: usize) -> usize {
        let (height, width) = self.sample_size.unwrap_or((0, 0));
        let halved = |extent: usize| extent.checked_shr(level as u32).unwrap_or(0);
        halved(height) * halved(width)
    }

    /// Reads the configuration of `component`.
    ///
    /// # Errors
    /// [`Malformed`](crate::ErrorKind::Malformed) for values that make no sense,
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for those this version cannot honour, each with the key's name.
    pub fn from_json(component: &str, config: &Value) -> Result<Self> {
        let fields = Fields::new(component, config)?;
        refuse_unsupported(&fields)?;
        let widths = fields.extents("block_out_channels", &[320, 640, 1280, 1280])?;
        let norm_num_groups = norm_groups(&fields, &widths)?;
        let blocks = PerBlock::read(&fields, widths.len())?;
        let config = Self {
            sample_size: sample_size(&fields)?,
            in_channels: fields.extent("in_channels", 4)?,
            out_channels: fields.extent("out_channels", 4)?,
            conv_in_kernel: odd(&fields, "conv_in_kernel")?,
            conv_out_kernel: odd(&fields, "conv_out_kernel")?,
            norm_num_groups,
            norm_eps: fields.positive("norm_eps", 1e-5)?,
            time: time(&fields, widths[0])?,
            addition: addition(&fields)?,
            encoder_hid_dim: encoder_hid_dim(&fields, &blocks)?,
            upcast_attention: fields.switch("upcast_attention", false)?,
            down: blocks.down(&fields, &widths)?,
            mid: blocks.mid(&fields)?,
            up: blocks.up(&fields, &widths)?,
            downsample_padding: fields.or("downsample_padding", 1, "0 or 1")?,
        };
        if config.downsample_padding > 1 {
            return Err(fields.refused("downsample_padding", "0 or 1"));
        }
        let heads_fit = |(width, attention): &(usize, &AttentionConfig)| attention.heads <= *width;
        if !config.attentions().iter().all(heads_fit) {
            return Err(fields.wrong("attention_head_dim", "no more heads than channels"));
        }
        Ok(config)
    }

    /// Width of the text embeddings the model takes.
    pub fn context_dim(&self) -> Option<usize> {
        self.encoder_hid_dim.or_else(|| {
            let attentions = self.attentions();
            Some(attentions.first()?.1.cross_attention_dim)
        })
    }

    /// How many times the picture is halved on the way down.
    pub fn downsamplings(&self) -> usize {
        self.down.len() - 1
    }

    /// Every block with attention: its width and its transformers.
    fn attentions(&self) -> Vec<(usize, &AttentionConfig)> {
        let blocks = self.down.iter().chain(&self.up);
        let mut found: Vec<_> = blocks
            .filter_map(|block| Some((block.out_channels, block.attention.as_ref()?)))
            .collect();
        if let (MidConfig::CrossAttention { attention, .. }, Some(bottom)) =
            (&self.mid, self.down.last())
        {
            found.push((bottom.out_channels, attention));
        }
        found
    }
}

fn refuse_unsupported(fields: &Fields<'_>) -> Result<()> {
    fields.only("_class_name", &[json!("UNet2DConditionModel")])?;
    fields.only("act_fn", &[json!("silu"), json!("swish")])?;
    fields.only("time_embedding_type", &[json!("positional")])?;
    fields.only("resnet_time_scale_shift", &[json!("default")])?;
    fields.only("attention_type", &[json!("default")])?;
    fields.only("addition_embed_type", &[json!("text_time")])?;
    fields.only("resnet_out_scale_factor", &[json!(1.0)])?;
    for key in [
        "center_input_sample",
        "dual_cross_attention",
        "resnet_skip_time_act",
        "class_embeddings_concat",
        "mid_block_only_cross_attention",
    ] {
        fields.only(key, &[json!(false)])?;
    }
    for key in [
        "num_attention_heads",
        "class_embed_type",
        "num_class_embeds",
        "time_embedding_act_fn",
        "timestep_post_act",
        "cross_attention_norm",
    ] {
        fields.only(key, &[])?;
    }
    Ok(())
}

fn norm_groups(fields: &Fields<'_>, widths: &[usize]) -> Result<usize> {
    let key = "norm_num_groups";
    if fields.present(key).is_some_and(Value::is_null) {
        return Err(fields.refused(key, "a whole number above 0"));
    }
    let groups = fields.extent(key, 32)?;
    if widths.iter().any(|width| !width.is_multiple_of(groups)) {
        let expected = format!("a divisor of every width in {widths:?}");
        return Err(fields.wrong(key, &expected));
    }
    Ok(groups)
}

fn sample_size(fields: &Fields<'_>) -> Result<Option<(usize, usize)>> {
    let sizes = match fields.present("sample_size") {
        None | Some(Value::Null) => return Ok(None),
        Some(_) => fields.per_block("sample_size", 0_usize, 2)?,
    };
    Ok(Some((sizes[0], sizes[1])))
}

fn odd(fields: &Fields<'_>, key: &str) -> Result<usize> {
    let kernel = fields.extent(key, 3)?;
    if kernel.is_multiple_of(2) || kernel > 15 {
        return Err(fields.refused(key, "an odd number up to 15"));
    }
    Ok(kernel)
}

fn time(fields: &Fields<'_>, width: usize) -> Result<TimeConfig> {
    Ok(TimeConfig {
        sinusoid_dim: width,
        embed_dim: fields.extent("time_embedding_dim", width * 4)?,
        flip_sin_to_cos: fields.switch("flip_sin_to_cos", true)?,
        freq_shift: fields.number("freq_shift", 0.0)?,
        cond_proj_dim: fields.optional_extent("time_cond_proj_dim")?,
    })
}

fn addition(fields: &Fields<'_>) -> Result<Option<AdditionConfig>> {
    let kind: Option<String> = fields.optional("addition_embed_type", "a name")?;
    if kind.is_none() {
        return Ok(None);
    }
    let need = |key: &str| -> Result<usize> {
        fields.optional_extent(key)?.ok_or_else(|| {
            fields.wrong(key, "a width, since `addition_embed_type` is \"text_time\"")
        })
    };
    Ok(Some(AdditionConfig {
        time_embed_dim: need("addition_time_embed_dim")?,
        input_dim: need("projection_class_embeddings_input_dim")?,
    }))
}

fn encoder_hid_dim(fields: &Fields<'_>, blocks: &PerBlock) -> Result<Option<usize>> {
    fields.only("encoder_hid_dim_type", &[json!("text_proj")])?;
    let dim = fields.optional_extent("encoder_hid_dim")?;
    let kind: Option<String> = fields.optional("encoder_hid_dim_type", "a name")?;
    if dim.is_none() && kind.is_some() {
        return Err(fields.wrong(
            "encoder_hid_dim",
            "a width, since `encoder_hid_dim_type` is given",
        ));
    }
    let first = blocks.cross_attention_dim[0];
    if dim.is_some()
        && blocks
            .cross_attention_dim
            .iter()
            .any(|&width| width != first)
    {
        return Err(Error::unsupported(
            "unet/config.json: `cross_attention_dim` varies by block, expected one width beside `encoder_hid_dim`",
        ));
    }
    Ok(dim)
}
