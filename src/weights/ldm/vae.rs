//! The autoencoder in the original dialect.
//!
//! Two things differ beside names: the decoder numbers its levels from the finest, diffusers from the
//! coarsest; and the attention's projections are 1x1 convolutions here, linear layers there.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::rules::{Leaves, Rules};
use crate::error::{Error, Result};
use crate::weights::TensorSource;
use crate::weights::view::{MappedSource, View};

/// Names inside a residual block that differ.
const RESNET: Leaves = &[
    ("norm1", "norm1"),
    ("conv1", "conv1"),
    ("norm2", "norm2"),
    ("conv2", "conv2"),
    ("nin_shortcut", "conv_shortcut"),
];

/// Names inside the attention layer.
const ATTENTION: Leaves = &[
    ("norm", "group_norm"),
    ("q", "to_q"),
    ("k", "to_k"),
    ("v", "to_v"),
    ("proj_out", "to_out.0"),
];

/// More levels or blocks than any autoencoder has.
const MAX_BLOCKS: usize = 64;

/// The levels of an autoencoder, as its decoder shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Channels of each level, finest first.
    channels: Vec<usize>,
    /// Residual blocks a level of the decoder.
    blocks: usize,
}

impl Layout {
    /// Reads the layout from tensors whose names have no prefix before `decoder`.
    ///
    /// # Errors
    /// When there is no decoder in this dialect.
    pub(crate) fn of(tensors: &dyn TensorSource) -> Result<Self> {
        let channels = |level: usize, block: usize| -> Option<usize> {
            let name = format!("decoder.up.{level}.block.{block}.conv1.weight");
            tensors.info(&name)?.1.first().copied()
        };
        let levels: Vec<_> = (0..MAX_BLOCKS)
            .map_while(|level| channels(level, 0))
            .collect();
        let blocks = (0..MAX_BLOCKS)
            .take_while(|&block| channels(0, block).is_some())
            .count();
        if levels.is_empty() {
            return Err(Error::malformed(
                "found no decoder.up.0.block.0.conv1.weight, expected the decoder of an autoencoder",
            ));
        }
        Ok(Self {
            channels: levels,
            blocks,
        })
    }

    /// The names of every module in both dialects.
    pub(crate) fn rules(&self) -> Rules {
        let mut rules = Rules::default();
        rules.same("quant_conv", "quant_conv");
        rules.same("post_quant_conv", "post_quant_conv");
        for side in ["encoder", "decoder"] {
            for module in ["conv_in", "conv_out"] {
                rules.same(format!("{side}.{module}"), format!("{side}.{module}"));
            }
            rules.same(format!("{side}.norm_out"), format!("{side}.conv_norm_out"));
            for (block, resnet) in [("block_1", 0), ("block_2", 1)] {
                rules.with_leaves(
                    format!("{side}.mid.{block}"),
                    format!("{side}.mid_block.resnets.{resnet}"),
                    RESNET,
                );
            }
            rules.with_leaves(
                format!("{side}.mid.attn_1"),
                format!("{side}.mid_block.attentions.0"),
                ATTENTION,
            );
        }
        let levels = self.channels.len();
        for level in 0..levels {
            let (down, up) = (
                format!("encoder.down_blocks.{level}"),
                format!("decoder.up_blocks.{}", levels - 1 - level),
            );
            for block in 0..self.blocks {
                rules.with_leaves(
                    format!("encoder.down.{level}.block.{block}"),
                    format!("{down}.resnets.{block}"),
                    RESNET,
                );
                rules.with_leaves(
                    format!("decoder.up.{level}.block.{block}"),
                    format!("{up}.resnets.{block}"),
                    RESNET,
                );
            }
            rules.same(
                format!("encoder.down.{level}.downsample.conv"),
                format!("{down}.downsamplers.0.conv"),
            );
            rules.same(
                format!("decoder.up.{level}.upsample.conv"),
                format!("{up}.upsamplers.0.conv"),
            );
        }
        rules
    }

    /// The configuration this layout and the tensors' shapes amount to, over the family's published one,
    /// from which above all the scaling factor comes: no tensor shows it.
    pub(crate) fn config(&self, tensors: &dyn TensorSource, published: &Value) -> Value {
        let mut config = published.as_object().cloned().unwrap_or_default();
        let mut put = |key: &str, value: Value| config.insert(key.to_owned(), value);
        let levels = self.channels.len();
        put("block_out_channels", json!(self.channels));
        put(
            "layers_per_block",
            json!(self.blocks.saturating_sub(1).max(1)),
        );
        put(
            "down_block_types",
            json!(vec!["DownEncoderBlock2D"; levels]),
        );
        put("up_block_types", json!(vec!["UpDecoderBlock2D"; levels]));
        let mut put_extent = |key: &str, name: &str, dim: usize| {
            if let Some(extent) = tensors
                .info(name)
                .and_then(|(_, shape)| shape.get(dim).copied())
            {
                put(key, json!(extent));
            }
        };
        put_extent("latent_channels", "decoder.conv_in.weight", 1);
        put_extent("latent_channels", "post_quant_conv.weight", 0);
        put_extent("out_channels", "decoder.conv_out.weight", 0);
        put_extent("in_channels", "encoder.conv_in.weight", 1);
        Value::Object(config)
    }
}

/// The autoencoder under diffusers' names and with diffusers' shapes; what no rule knows is left out.
pub(crate) fn mapped(tensors: Arc<dyn TensorSource>, rules: &Rules) -> MappedSource {
    let views: BTreeMap<_, _> = tensors
        .names()
        .into_iter()
        .filter_map(|source| {
            let (_, shape) = tensors.info(&source)?;
            let name = rules.to_diffusers(&source)?;
            let view = if name.contains(".attentions.") {
                View::matrix(&source, &shape)
            } else {
                View::whole(&source, &shape)
            };
            Some((name, view))
        })
        .collect();
    MappedSource::new(tensors, views)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::weights::view::testing::MemorySource;

    /// An autoencoder of two levels in the original dialect.
    pub(crate) fn small() -> MemorySource {
        let mut source = MemorySource::default()
            .with("encoder.conv_in.weight", &[8, 3, 3, 3])
            .with("decoder.conv_in.weight", &[16, 4, 3, 3])
            .with("decoder.conv_out.weight", &[3, 8, 3, 3])
            .with("decoder.norm_out.weight", &[8])
            .with("post_quant_conv.weight", &[4, 4, 1, 1])
            .with("decoder.mid.attn_1.norm.weight", &[16])
            .with("decoder.mid.attn_1.q.weight", &[16, 16, 1, 1])
            .with("decoder.mid.attn_1.proj_out.bias", &[16])
            .with("encoder.down.0.downsample.conv.weight", &[8, 8, 3, 3])
            .with("decoder.up.1.upsample.conv.weight", &[16, 16, 3, 3])
            .with("decoder.up.0.block.0.nin_shortcut.weight", &[8, 16, 1, 1]);
        for block in 0..3 {
            for (level, channels) in [(0, 8), (1, 16)] {
                source = source.with(
                    &format!("decoder.up.{level}.block.{block}.conv1.weight"),
                    &[channels, channels, 3, 3],
                );
            }
        }
        source
    }

    #[test]
    fn levels_turn_around_and_attention_becomes_linear() {
        let source: Arc<dyn TensorSource> = Arc::new(small());
        let layout = Layout::of(source.as_ref()).unwrap();
        let mapped = mapped(source, &layout.rules());
        let shape = |name: &str| {
            mapped
                .info(name)
                .unwrap_or_else(|| panic!("{name}: {:?}", mapped.names()))
                .1
        };
        assert_eq!(
            shape("decoder.up_blocks.0.upsamplers.0.conv.weight"),
            [16, 16, 3, 3]
        );
        assert_eq!(
            shape("decoder.up_blocks.1.resnets.0.conv_shortcut.weight"),
            [8, 16, 1, 1]
        );
        assert_eq!(
            shape("decoder.up_blocks.1.resnets.2.conv1.weight"),
            [8, 8, 3, 3]
        );
        assert_eq!(
            shape("decoder.mid_block.attentions.0.to_q.weight"),
            [16, 16]
        );
        assert_eq!(shape("decoder.mid_block.attentions.0.to_out.0.bias"), [16]);
        assert_eq!(
            shape("decoder.mid_block.attentions.0.group_norm.weight"),
            [16]
        );
        assert_eq!(shape("decoder.conv_norm_out.weight"), [8]);
        assert_eq!(shape("post_quant_conv.weight"), [4, 4, 1, 1]);
    }

    #[test]
    fn rules_are_their_own_inverse() {
        let source = small();
        let rules = Layout::of(&source).unwrap().rules();
        for name in source.names() {
            let there = rules
                .to_diffusers(&name)
                .unwrap_or_else(|| panic!("{name}"));
            assert_eq!(rules.to_ldm(&there).as_ref(), Some(&name), "{there}");
        }
    }

    #[test]
    fn the_published_layout_gives_the_published_configuration() {
        let published =
            json!({"block_out_channels": [], "scaling_factor": 0.13025, "sample_size": 1024});
        let source = small();
        let config = Layout::of(&source).unwrap().config(&source, &published);
        assert_eq!(config["block_out_channels"], json!([8, 16]));
        assert_eq!(config["layers_per_block"], 2);
        assert_eq!(config["latent_channels"], 4);
        assert_eq!(config["scaling_factor"], 0.13025);
        assert_eq!(
            config["up_block_types"],
            json!(["UpDecoderBlock2D", "UpDecoderBlock2D"])
        );
    }
}
