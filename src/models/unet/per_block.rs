//! The keys of `unet/config.json` that hold one value a block, and the blocks they make together.
//!
//! Follows the constructor of `diffusers/models/unets/unet_2d_condition.py`: the file lists blocks from the outermost
//! inwards, and the way up reads most lists backwards.

use serde_json::Value;

use crate::error::Result;
use crate::models::fields::{Fields, MAX_EXTENT, MAX_LAYERS};
use crate::models::unet::config::{AttentionConfig, BlockConfig, MidConfig};

const DEPTHS: &str = "transformer_layers_per_block";
const REVERSE_DEPTHS: &str = "reverse_transformer_layers_per_block";

/// The keys that hold one value a block, as in the file: outermost block first.
pub(super) struct PerBlock {
    down_types: Vec<String>,
    up_types: Vec<String>,
    layers: Vec<usize>,
    heads: Vec<usize>,
    /// Width of the text embeddings.
    pub(super) cross_attention_dim: Vec<usize>,
    only_cross_attention: Vec<bool>,
    down_depths: Vec<Depth>,
    up_depths: Vec<Depth>,
}

/// Transformer blocks behind the residual blocks of one block.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(untagged)]
enum Depth {
    Each(usize),
    List(Vec<usize>),
}

impl PerBlock {
    /// Reads them for `count` blocks.
    pub(super) fn read(fields: &Fields<'_>, count: usize) -> Result<Self> {
        let types = |key, default: [&str; 4]| -> Result<Vec<String>> {
            let default = default.map(str::to_owned).to_vec();
            let found = fields.or(key, default, "a list of block types")?;
            if found.len() != count {
                let expected = format!("{count} block types, one for each of `block_out_channels`");
                return Err(fields.wrong(key, &expected));
            }
            Ok(found)
        };
        let down_depths = fields.per_block(DEPTHS, Depth::Each(1), count)?;
        let nested = down_depths
            .iter()
            .any(|depth| matches!(depth, Depth::List(_)));
        let reversed = fields
            .present(REVERSE_DEPTHS)
            .is_some_and(|value| !value.is_null());
        let up_depths = if reversed {
            fields.per_block(REVERSE_DEPTHS, Depth::Each(1), count)?
        } else if nested {
            return Err(fields.wrong(
                REVERSE_DEPTHS,
                "a list, since `transformer_layers_per_block` is nested",
            ));
        } else {
            down_depths.iter().rev().cloned().collect()
        };
        let blocks = Self {
            down_types: types(
                "down_block_types",
                [
                    "CrossAttnDownBlock2D",
                    "CrossAttnDownBlock2D",
                    "CrossAttnDownBlock2D",
                    "DownBlock2D",
                ],
            )?,
            up_types: types(
                "up_block_types",
                [
                    "UpBlock2D",
                    "CrossAttnUpBlock2D",
                    "CrossAttnUpBlock2D",
                    "CrossAttnUpBlock2D",
                ],
            )?,
            layers: fields.per_block("layers_per_block", 2, count)?,
            // diffusers' historical misnomer: this key holds the number of heads, not their width.
            heads: fields.per_block("attention_head_dim", 8, count)?,
            cross_attention_dim: fields.per_block("cross_attention_dim", 1280, count)?,
            only_cross_attention: fields.per_block("only_cross_attention", false, count)?,
            down_depths,
            up_depths,
        };
        blocks.check(fields)?;
        Ok(blocks)
    }

    fn check(&self, fields: &Fields<'_>) -> Result<()> {
        let within =
            |values: &[usize], limit: usize| values.iter().all(|value| (1..=limit).contains(value));
        if !within(&self.layers, MAX_LAYERS) {
            return Err(fields.wrong("layers_per_block", "1 to 128 layers"));
        }
        if !within(&self.heads, 4096) {
            return Err(fields.wrong("attention_head_dim", "1 to 4096 heads"));
        }
        if !within(&self.cross_attention_dim, MAX_EXTENT) {
            return Err(fields.wrong("cross_attention_dim", "a width above 0"));
        }
        Ok(())
    }

    /// The way down over blocks of these `widths`, outermost first.
    pub(super) fn down(&self, fields: &Fields<'_>, widths: &[usize]) -> Result<Vec<BlockConfig>> {
        let key = "down_block_types";
        let mut blocks = Vec::with_capacity(widths.len());
        for (i, &out_channels) in widths.iter().enumerate() {
            let layers = self.layers[i];
            let attention = match self.down_types[i].trim_start_matches("UNetRes") {
                "DownBlock2D" => None,
                "CrossAttnDownBlock2D" => {
                    let depths = depths(fields, DEPTHS, &self.down_depths[i], layers)?;
                    Some(self.attention(i, depths))
                }
                _ => return Err(fields.refused(key, "DownBlock2D or CrossAttnDownBlock2D")),
            };
            blocks.push(BlockConfig {
                out_channels,
                layers,
                attention,
            });
        }
        Ok(blocks)
    }

    /// The way up, innermost first, over blocks of these `widths`, outermost first.
    pub(super) fn up(&self, fields: &Fields<'_>, widths: &[usize]) -> Result<Vec<BlockConfig>> {
        let key = "up_block_types";
        let mut blocks = Vec::with_capacity(widths.len());
        for (i, &out_channels) in widths.iter().rev().enumerate() {
            let mirrored = widths.len() - 1 - i;
            let layers = self.layers[mirrored] + 1;
            let attention = match self.up_types[i].trim_start_matches("UNetRes") {
                "UpBlock2D" => None,
                "CrossAttnUpBlock2D" => {
                    let depths = depths(fields, REVERSE_DEPTHS, &self.up_depths[i], layers)?;
                    Some(self.attention(mirrored, depths))
                }
                _ => return Err(fields.refused(key, "UpBlock2D or CrossAttnUpBlock2D")),
            };
            blocks.push(BlockConfig {
                out_channels,
                layers,
                attention,
            });
        }
        Ok(blocks)
    }

    /// The bottom.
    pub(super) fn mid(&self, fields: &Fields<'_>) -> Result<MidConfig> {
        let key = "mid_block_type";
        let kind = match fields.present(key) {
            None => "UNetMidBlock2DCrossAttn",
            Some(Value::Null) => return Ok(MidConfig::None),
            Some(kind) => kind.as_str().unwrap_or_default(),
        };
        let scale = fields.positive("mid_block_scale_factor", 1.0)?;
        match kind {
            "UNetMidBlock2D" => Ok(MidConfig::Residual { scale }),
            "UNetMidBlock2DCrossAttn" => {
                let last = self.down_depths.len() - 1;
                let depths = depths(fields, DEPTHS, &self.down_depths[last], 1)?;
                let attention = AttentionConfig {
                    only_cross_attention: false,
                    ..self.attention(last, depths)
                };
                Ok(MidConfig::CrossAttention { scale, attention })
            }
            _ => Err(fields.refused(key, "UNetMidBlock2DCrossAttn, UNetMidBlock2D or null")),
        }
    }

    /// The transformers of block `i`, counted from the outermost.
    fn attention(&self, i: usize, depths: Vec<usize>) -> AttentionConfig {
        AttentionConfig {
            heads: self.heads[i],
            cross_attention_dim: self.cross_attention_dim[i],
            depths,
            only_cross_attention: self.only_cross_attention[i],
        }
    }
}

/// One depth for each of `layers` residual blocks; a longer list is cut, as Python's indexing does.
fn depths(fields: &Fields<'_>, key: &str, depth: &Depth, layers: usize) -> Result<Vec<usize>> {
    let list = match depth {
        Depth::Each(depth) => vec![*depth; layers],
        Depth::List(list) if list.len() >= layers => list[..layers].to_vec(),
        Depth::List(_) => {
            let expected = format!("{layers} depths where a block has {layers} layers");
            return Err(fields.wrong(key, &expected));
        }
    };
    if list.iter().any(|&depth| depth > MAX_LAYERS) {
        return Err(fields.wrong(key, "at most 128 transformer blocks"));
    }
    Ok(list)
}
