//! The UNet in the original dialect: its layout, read from the tensors, and its names.
//!
//! The original numbers its blocks in one row: `input_blocks.0` is the first convolution, then each level
//! has its residual blocks and, but for the last, a downsampling; `output_blocks` runs the same way upwards
//! with one residual block more a level, the upsampling riding on the last of them.

use serde_json::{Map, Value, json};

use super::rules::{Leaves, Rules};
use crate::error::{Error, Result};
use crate::weights::TensorSource;
use crate::weights::spec::Base;
use crate::weights::view::MappedSource;

/// Names inside a residual block.
const RESNET: Leaves = &[
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
];

/// Modules outside the blocks.
const OUTER: [(&str, &str); 9] = [
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("time_embed.cond_proj", "time_embedding.cond_proj"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("label_emb", "class_embedding"),
    ("input_blocks.0.0", "conv_in"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
];

/// More blocks than any UNet has; ends the search in files with endless numbering.
const MAX_BLOCKS: usize = 256;

/// A residual block and the transformer that may follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unit {
    channels: usize,
    /// Transformer layers; 0 without attention.
    depth: usize,
}

/// What lies between the way down and the way up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Middle {
    /// Nothing (BK-SDM).
    Absent,
    /// One residual block (SSD-1B, Segmind-Vega).
    Resnet,
    /// Two residual blocks around a transformer of this depth.
    Transformer(usize),
}

/// The blocks of a UNet, as its tensors show them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    down: Vec<Vec<Unit>>,
    middle: Middle,
    up: Vec<Vec<Unit>>,
}

impl Layout {
    /// Reads the layout from tensors whose names have no prefix before `input_blocks`.
    ///
    /// # Errors
    /// When the blocks do not form a UNet: the error says where the row breaks off.
    pub(crate) fn of(tensors: &dyn TensorSource) -> Result<Self> {
        let shape = |name: &str| tensors.info(name).map(|(_, shape)| shape);
        let unit = |prefix: &str| -> Option<Unit> {
            let channels = *shape(&format!("{prefix}.0.in_layers.2.weight"))?.first()?;
            let depth = depth(tensors, &format!("{prefix}.1"));
            Some(Unit { channels, depth })
        };
        let mut down = vec![Vec::new()];
        for block in 1..MAX_BLOCKS {
            let prefix = format!("input_blocks.{block}");
            if let (Some(unit), Some(level)) = (unit(&prefix), down.last_mut()) {
                level.push(unit);
            } else if shape(&format!("{prefix}.0.op.weight")).is_some() {
                down.push(Vec::new());
            } else {
                break;
            }
        }
        let mut up = vec![Vec::new()];
        for block in 0..MAX_BLOCKS {
            let prefix = format!("output_blocks.{block}");
            let (Some(unit), Some(level)) = (unit(&prefix), up.last_mut()) else {
                break;
            };
            level.push(unit);
            if upsampler(tensors, &prefix).is_some() {
                up.push(Vec::new());
            }
        }
        let middle = match (unit("middle_block"), depth(tensors, "middle_block.1")) {
            (None, _) => Middle::Absent,
            (Some(_), 0) => Middle::Resnet,
            (Some(_), depth) => Middle::Transformer(depth),
        };
        let layout = Self { down, middle, up };
        layout.check()?;
        Ok(layout)
    }

    /// Checks that both ways have the same levels, the way up with one block more in each.
    fn check(&self) -> Result<()> {
        let counts = |levels: &[Vec<Unit>]| levels.iter().map(Vec::len).collect::<Vec<_>>();
        let down = counts(&self.down);
        let mut up = counts(&self.up);
        up.reverse();
        let fits = down.len() == up.len()
            && down
                .iter()
                .zip(&up)
                .all(|(&down, &up)| down > 0 && up == down + 1);
        if fits {
            return Ok(());
        }
        Err(Error::malformed(format!(
            "the UNet has {down:?} residual blocks a level on the way down and {up:?} on the way up, expected one more of them on the way up"
        ))
        .with_hint("the file is incomplete or holds another kind of model"))
    }

    /// The names of every module in both dialects.
    pub(crate) fn rules(&self, tensors: &dyn TensorSource) -> Rules {
        let mut rules = Rules::default();
        for (ldm, diffusers) in OUTER {
            rules.same(ldm, diffusers);
        }
        // Some converters keep diffusers' name for the one module the original never had.
        rules.same("time_embedding.cond_proj", "time_embedding.cond_proj");
        let mut block = 1;
        for (level, units) in self.down.iter().enumerate() {
            for layer in 0..units.len() {
                let (here, there) = (
                    format!("input_blocks.{block}"),
                    format!("down_blocks.{level}"),
                );
                rules.with_leaves(
                    format!("{here}.0"),
                    format!("{there}.resnets.{layer}"),
                    RESNET,
                );
                rules.same(format!("{here}.1"), format!("{there}.attentions.{layer}"));
                block += 1;
            }
            rules.same(
                format!("input_blocks.{block}.0.op"),
                format!("down_blocks.{level}.downsamplers.0.conv"),
            );
            block += 1;
        }
        rules.with_leaves("middle_block.0", "mid_block.resnets.0", RESNET);
        rules.same("middle_block.1", "mid_block.attentions.0");
        rules.with_leaves("middle_block.2", "mid_block.resnets.1", RESNET);
        let mut block = 0;
        for (level, units) in self.up.iter().enumerate() {
            for layer in 0..units.len() {
                let (here, there) = (
                    format!("output_blocks.{block}"),
                    format!("up_blocks.{level}"),
                );
                rules.with_leaves(
                    format!("{here}.0"),
                    format!("{there}.resnets.{layer}"),
                    RESNET,
                );
                match upsampler(tensors, &here) {
                    Some(1) => {}
                    _ => rules.same(format!("{here}.1"), format!("{there}.attentions.{layer}")),
                }
                if let Some(index) = upsampler(tensors, &here) {
                    rules.same(
                        format!("{here}.{index}.conv"),
                        format!("{there}.upsamplers.0.conv"),
                    );
                }
                block += 1;
            }
        }
        rules
    }

    /// The configuration this layout and the tensors' shapes amount to, over the family's published one.
    ///
    /// What no tensor shows (normalisation groups, activation, the number of heads) stays as published;
    /// heads follow the family's rule, 8 a layer in Stable Diffusion 1.x and 64 channels a head after.
    ///
    /// # Errors
    /// When the blocks cannot be written as a diffusers configuration.
    pub(crate) fn config(
        &self,
        tensors: &dyn TensorSource,
        base: Base,
        published: &Value,
    ) -> Result<Value> {
        let mut config = published.as_object().cloned().unwrap_or_default();
        let shape = |name: &str| {
            tensors
                .info(name)
                .map(|(_, shape)| shape)
                .unwrap_or_default()
        };
        let mut set = |key: &str, value: Option<&usize>| {
            if let Some(&value) = value {
                config.insert(key.to_owned(), json!(value));
            }
        };
        set("in_channels", shape("input_blocks.0.0.weight").get(1));
        set("out_channels", shape("out.2.weight").first());
        set(
            "projection_class_embeddings_input_dim",
            shape("label_emb.0.0.weight").get(1),
        );
        set("num_class_embeds", shape("label_emb.weight").first());
        for name in [
            "time_embed.cond_proj.weight",
            "time_embedding.cond_proj.weight",
        ] {
            set("time_cond_proj_dim", shape(name).get(1));
        }
        if let Some((context, linear)) = cross_attention(tensors) {
            set("cross_attention_dim", Some(&context));
            // Stable Diffusion 1.x predates the key, whose absence means false.
            if linear || config.contains_key("use_linear_projection") {
                config.insert("use_linear_projection".to_owned(), json!(linear));
            }
        }
        self.put_blocks(&mut config, base)?;
        Ok(Value::Object(config))
    }

    /// Writes widths, block types, depths and heads.
    fn put_blocks(&self, config: &mut Map<String, Value>, base: Base) -> Result<()> {
        let mut put = |key: &str, value: Value| config.insert(key.to_owned(), value);
        let channels: Vec<_> = self
            .down
            .iter()
            .filter_map(|level| level.last())
            .map(|unit| unit.channels)
            .collect();
        if base != Base::Sd1 {
            let heads: Vec<_> = channels
                .iter()
                .map(|channels| (channels / 64).max(1))
                .collect();
            put("attention_head_dim", json!(heads));
        }
        put("block_out_channels", json!(channels));
        put(
            "layers_per_block",
            uniform(&self.down.iter().map(Vec::len).collect::<Vec<_>>()),
        );
        let kinds = |levels: &[Vec<Unit>], plain: &str, cross: &str| -> Value {
            levels
                .iter()
                .map(|level| {
                    if level.iter().any(|unit| unit.depth > 0) {
                        cross
                    } else {
                        plain
                    }
                })
                .collect()
        };
        put(
            "down_block_types",
            kinds(&self.down, "DownBlock2D", "CrossAttnDownBlock2D"),
        );
        put(
            "up_block_types",
            kinds(&self.up, "UpBlock2D", "CrossAttnUpBlock2D"),
        );
        match self.middle {
            Middle::Absent => put("mid_block_type", Value::Null),
            Middle::Resnet => put("mid_block_type", json!("UNetMidBlock2D")),
            Middle::Transformer(_) => None,
        };
        let (down, up) = self.depths()?;
        let plain = down
            .iter()
            .chain(up.iter().flatten())
            .all(|depth| *depth == json!(1));
        let published = config.contains_key("transformer_layers_per_block");
        if published || !plain {
            config.insert("transformer_layers_per_block".to_owned(), collapse(down));
            if let Some(up) = up {
                config.insert("reverse_transformer_layers_per_block".to_owned(), json!(up));
            }
        }
        Ok(())
    }

    /// Transformer layers of each level, down and, where they are not the mirror image, up.
    fn depths(&self) -> Result<(Vec<Value>, Option<Vec<Value>>)> {
        // A level without attention has no depth of its own. diffusers reads the middle's from the last; any
        // other gets the common depth where there is one, so that the list collapses to one number.
        let common = self.common_depth().unwrap_or(1);
        let idle = match self.middle {
            Middle::Transformer(depth) => depth,
            Middle::Absent | Middle::Resnet => common,
        };
        let last = self.down.len() - 1;
        let depth_of = |level: &[Unit], idle: usize| {
            let depths: Vec<_> = level.iter().map(|unit| unit.depth).collect();
            if depths.iter().all(|&depth| depth == 0) {
                json!(idle)
            } else {
                uniform(&depths)
            }
        };
        let down: Vec<_> = self
            .down
            .iter()
            .enumerate()
            .map(|(level, units)| depth_of(units, if level == last { idle } else { common }))
            .collect();
        if let Middle::Transformer(depth) = self.middle
            && down[last] != json!(depth)
        {
            return Err(Error::unsupported(format!(
                "the UNet's middle has {depth} transformer layers and its last level {}, expected the same number",
                down[last]
            )));
        }
        let up: Vec<_> = self
            .up
            .iter()
            .enumerate()
            .map(|(level, units)| {
                depth_of(
                    units,
                    down[last - level]
                        .as_u64()
                        .map_or(1, |depth| depth as usize),
                )
            })
            .collect();
        let mirrored = up.iter().eq(down.iter().rev());
        Ok((down, (!mirrored).then_some(up)))
    }

    /// The depth of every transformer outside the middle, if it is the same.
    fn common_depth(&self) -> Option<usize> {
        let mut depths = self
            .down
            .iter()
            .chain(&self.up)
            .flatten()
            .map(|unit| unit.depth)
            .filter(|&depth| depth > 0);
        let first = depths.next()?;
        depths.all(|depth| depth == first).then_some(first)
    }
}

/// One number for all levels when they agree, the list when they do not.
fn uniform(values: &[usize]) -> Value {
    match values.first() {
        Some(first) if values.iter().all(|value| value == first) => json!(first),
        _ => json!(values),
    }
}

/// One value for a list of equal numbers, as the refiner's configuration has it.
fn collapse(values: Vec<Value>) -> Value {
    match values.first() {
        Some(first) if values.iter().all(|value| value == first) => first.clone(),
        _ => Value::Array(values),
    }
}

/// How many transformer layers stand under `prefix`.
fn depth(tensors: &dyn TensorSource, prefix: &str) -> usize {
    (0..MAX_BLOCKS)
        .take_while(|layer| {
            tensors
                .info(&format!("{prefix}.transformer_blocks.{layer}.norm1.weight"))
                .is_some()
        })
        .count()
}

/// The place in a block of `output_blocks` at which its upsampling stands.
fn upsampler(tensors: &dyn TensorSource, block: &str) -> Option<usize> {
    (1..=2).find(|index| {
        tensors
            .info(&format!("{block}.{index}.conv.weight"))
            .is_some()
    })
}

/// Width of the text embedding, and whether linear layers surround the transformers.
pub(crate) fn cross_attention(tensors: &dyn TensorSource) -> Option<(usize, bool)> {
    const LEAF: &str = ".transformer_blocks.0.attn2.to_k.weight";
    let name = tensors
        .names()
        .into_iter()
        .find(|name| name.ends_with(LEAF))?;
    let context = *tensors.info(&name)?.1.get(1)?;
    let proj_in = name.replace(LEAF, ".proj_in.weight");
    let linear = tensors.info(&proj_in)?.1.len() == 2;
    Some((context, linear))
}

/// The UNet under diffusers' names; what no rule knows is left out.
pub(crate) fn mapped(tensors: std::sync::Arc<dyn TensorSource>, rules: &Rules) -> MappedSource {
    MappedSource::renamed(tensors, |name| rules.to_diffusers(name))
}

#[cfg(test)]
pub(crate) mod tests;
