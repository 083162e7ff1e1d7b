//! `vae/config.json` of diffusers' `AutoencoderKL`.
//!
//! Follows `diffusers/models/autoencoders/autoencoder_kl.py`; `sample_size` only sets the size of tiles there and
//! is passed over.

use serde_json::{Value, json};

use crate::error::Result;
use crate::models::fields::{Fields, MAX_LAYERS};

/// What an autoencoder is made of, and how its latents relate to those of the UNet.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one for each switch of the file"
)]
pub struct VaeConfig {
    /// Channels of the picture that is encoded.
    pub in_channels: usize,
    /// Channels of the picture that is decoded.
    pub out_channels: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Width of each block, outermost (widest picture) first.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of each encoder block; decoder blocks have one more.
    pub layers_per_block: usize,
    /// Groups of every group normalisation.
    pub norm_num_groups: usize,
    /// Whether the innermost blocks hold an attention.
    pub mid_block_add_attention: bool,
    /// Whether a 1x1 convolution follows the encoder.
    pub use_quant_conv: bool,
    /// Whether a 1x1 convolution precedes the decoder.
    pub use_post_quant_conv: bool,
    /// Whether it overflows in f16 and must run in f32.
    pub force_upcast: bool,
    /// Latents are multiplied by it before the UNet sees them.
    pub scaling_factor: f64,
    /// Subtracted from latents before scaling; 0 where the file has none.
    pub shift_factor: f64,
    /// Mean and standard deviation of each latent channel, where the file gives both (Playground 2.5).
    pub latents_mean_std: Option<(Vec<f64>, Vec<f64>)>,
}

impl VaeConfig {
    /// Reads the configuration of `component`.
    ///
    /// # Errors
    /// [`Malformed`](crate::ErrorKind::Malformed) for values that make no sense,
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for those this version cannot honour, each with the key's name.
    pub fn from_json(component: &str, config: &Value) -> Result<Self> {
        let fields = Fields::new(component, config)?;
        fields.only("_class_name", &[json!("AutoencoderKL")])?;
        fields.only("act_fn", &[json!("silu"), json!("swish")])?;
        let block_out_channels = fields.extents("block_out_channels", &[64])?;
        let norm_num_groups = fields.extent("norm_num_groups", 32)?;
        if block_out_channels
            .iter()
            .any(|width| !width.is_multiple_of(norm_num_groups))
        {
            let expected = format!("a divisor of every width in {block_out_channels:?}");
            return Err(fields.wrong("norm_num_groups", &expected));
        }
        let blocks = block_out_channels.len();
        block_types(&fields, "down_block_types", "DownEncoderBlock2D", blocks)?;
        block_types(&fields, "up_block_types", "UpDecoderBlock2D", blocks)?;
        let layers_per_block = fields.extent("layers_per_block", 1)?;
        if layers_per_block > MAX_LAYERS {
            return Err(fields.wrong("layers_per_block", "1 to 128"));
        }
        let latent_channels = fields.extent("latent_channels", 4)?;
        Ok(Self {
            in_channels: fields.extent("in_channels", 3)?,
            out_channels: fields.extent("out_channels", 3)?,
            latent_channels,
            block_out_channels,
            layers_per_block,
            norm_num_groups,
            mid_block_add_attention: fields.switch("mid_block_add_attention", true)?,
            use_quant_conv: fields.switch("use_quant_conv", true)?,
            use_post_quant_conv: fields.switch("use_post_quant_conv", true)?,
            force_upcast: fields.switch("force_upcast", true)?,
            scaling_factor: fields.positive("scaling_factor", 0.18215)?,
            shift_factor: fields.number("shift_factor", 0.0)?,
            latents_mean_std: latents_mean_std(&fields, latent_channels)?,
        })
    }

    /// Pixels, along one side, that one latent stands for: 2 to the number of halvings, 8 for Stable Diffusion.
    pub fn scale_factor(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }
}

fn block_types(fields: &Fields<'_>, key: &str, supported: &str, blocks: usize) -> Result<()> {
    let expected = format!("a list of {blocks} block types, as many as `block_out_channels`");
    // diffusers' own default is a single block, whatever `block_out_channels` says.
    let types = fields.or(key, vec![supported.to_owned()], &expected)?;
    if types.iter().any(|kind| kind != supported) {
        return Err(fields.refused(key, &format!("{supported} only")));
    }
    if types.len() != blocks {
        return Err(fields.wrong(key, &expected));
    }
    Ok(())
}

fn latents_mean_std(fields: &Fields<'_>, channels: usize) -> Result<Option<(Vec<f64>, Vec<f64>)>> {
    let expected = format!("a list of {channels} numbers, one for each latent channel");
    let list = |key| -> Result<Option<Vec<f64>>> {
        let values: Option<Vec<f64>> = fields.optional(key, &expected)?;
        match values {
            Some(values) if values.len() != channels => Err(fields.wrong(key, &expected)),
            values => Ok(values),
        }
    };
    match (list("latents_mean")?, list("latents_std")?) {
        (Some(mean), Some(std)) if std.iter().all(|std| *std > 0.0) => Ok(Some((mean, std))),
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(fields.wrong("latents_std", "numbers above 0")),
        (Some(_), None) => {
            Err(fields.wrong("latents_std", "a list, since `latents_mean` is given"))
        }
        (None, Some(_)) => {
            Err(fields.wrong("latents_mean", "a list, since `latents_std` is given"))
        }
    }
}
