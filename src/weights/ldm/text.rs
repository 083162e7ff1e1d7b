//! The text towers in the original dialect.
//!
//! CLIP-L is embedded as transformers names it, older files without the `text_model` level. OpenCLIP
//! towers (`open_clip/transformer.py`) have names of their own, queries, keys and values in one matrix, and
//! a text projection that multiplies from the other side.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::weights::TensorSource;
use crate::weights::view::{MappedSource, View};

/// Which layers of a tower are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// All, and the projection.
    All,
    /// All but the last, and no projection: Stable Diffusion 2.x reads the penultimate layer, and its
    /// published configuration ends there.
    Penultimate,
}

/// Layers of the published text tower of Stable Diffusion 2.x, after the cut.
const SD2_LAYERS: usize = 23;

/// Names inside a layer, here and there; matrices that hold three in one are treated apart.
const LAYER: [(&str, &str); 5] = [
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
    ("attn.out_proj", "self_attn.out_proj"),
];

/// Names outside the layers.
const OUTER: [(&str, &str); 4] = [
    (
        "token_embedding.weight",
        "text_model.embeddings.token_embedding.weight",
    ),
    (
        "positional_embedding",
        "text_model.embeddings.position_embedding.weight",
    ),
    ("ln_final.weight", "text_model.final_layer_norm.weight"),
    ("ln_final.bias", "text_model.final_layer_norm.bias"),
];

/// CLIP-L under transformers' names, from tensors whose names have lost the checkpoint's own prefix.
pub(crate) fn clip(tensors: Arc<dyn TensorSource>) -> MappedSource {
    MappedSource::renamed(tensors, |name| {
        if name.ends_with("position_ids") {
            None
        } else if name.starts_with("text_model.") || name.starts_with("text_projection") {
            Some(name.to_owned())
        } else {
            Some(format!("text_model.{name}"))
        }
    })
}

/// An OpenCLIP tower under transformers' names.
///
/// # Errors
/// When a fused matrix cannot be cut into three, or there are no layers.
pub(crate) fn open_clip(tensors: Arc<dyn TensorSource>, keep: Keep) -> Result<MappedSource> {
    let found = layers(tensors.as_ref());
    if found == 0 {
        return Err(Error::malformed(
            "found no transformer.resblocks.0.ln_1.weight, expected the layers of an OpenCLIP text tower",
        ));
    }
    let kept = match keep {
        Keep::Penultimate if found != SD2_LAYERS => found - 1,
        Keep::All | Keep::Penultimate => found,
    };
    let mut views = BTreeMap::new();
    for source in tensors.names() {
        let Some((_, shape)) = tensors.info(&source) else {
            continue;
        };
        if let Some((_, name)) = OUTER.iter().find(|(here, _)| *here == source) {
            views.insert((*name).to_owned(), View::whole(&source, &shape));
        } else if source == "text_projection" && keep == Keep::All {
            views.insert(
                "text_projection.weight".to_owned(),
                View::transposed(&source, &shape),
            );
        } else if let Some((layer, leaf)) = split_layer(&source)
            && layer < kept
        {
            put_layer(&mut views, &source, (layer, leaf), &shape)?;
        }
    }
    Ok(MappedSource::new(tensors, views))
}

/// How many layers a tower has.
fn layers(tensors: &dyn TensorSource) -> usize {
    (0..tensors.names().len())
        .take_while(|layer| {
            tensors
                .info(&format!("transformer.resblocks.{layer}.ln_1.weight"))
                .is_some()
        })
        .count()
}

/// The number of a layer, and the name inside it.
fn split_layer(name: &str) -> Option<(usize, &str)> {
    let (layer, leaf) = name
        .strip_prefix("transformer.resblocks.")?
        .split_once('.')?;
    Some((layer.parse().ok()?, leaf))
}

/// Adds the views of one tensor of a layer.
fn put_layer(
    views: &mut BTreeMap<String, View>,
    source: &str,
    (layer, leaf): (usize, &str),
    shape: &[usize],
) -> Result<()> {
    let prefix = format!("text_model.encoder.layers.{layer}");
    let fused = match leaf {
        "attn.in_proj_weight" => Some("weight"),
        "attn.in_proj_bias" => Some("bias"),
        _ => None,
    };
    if let Some(kind) = fused {
        if shape.first().is_none_or(|rows| rows % 3 != 0) {
            return Err(Error::malformed(format!(
                "tensor {source} has shape {shape:?}, expected queries, keys and values in a multiple of three rows"
            )));
        }
        for (index, part) in ["q_proj", "k_proj", "v_proj"].iter().enumerate() {
            views.insert(
                format!("{prefix}.self_attn.{part}.{kind}"),
                View::part(source, shape, index, 3),
            );
        }
    } else if let Some((there, rest)) = LAYER.iter().find_map(|(here, there)| {
        let rest = leaf.strip_prefix(here)?;
        rest.starts_with('.').then_some((there, rest))
    }) {
        views.insert(
            format!("{prefix}.{there}{rest}"),
            View::whole(source, shape),
        );
    }
    Ok(())
}

/// The configuration that a tower's shapes amount to, over the family's published one: widths and depth
/// from the tensors, 64 channels a head as in every published tower.
pub(crate) fn config(tensors: &dyn TensorSource, published: &Value) -> Value {
    let mut config = published.as_object().cloned().unwrap_or_default();
    let shape = |name: &str| {
        tensors
            .info(name)
            .map(|(_, shape)| shape)
            .unwrap_or_default()
    };
    let mut put = |key: &str, value: Option<usize>| {
        if let Some(value) = value {
            config.insert(key.to_owned(), json!(value));
        }
    };
    let tokens = shape("text_model.embeddings.token_embedding.weight");
    put("vocab_size", tokens.first().copied());
    put("hidden_size", tokens.get(1).copied());
    put(
        "num_attention_heads",
        tokens.get(1).map(|width| (width / 64).max(1)),
    );
    put(
        "max_position_embeddings",
        shape("text_model.embeddings.position_embedding.weight")
            .first()
            .copied(),
    );
    put(
        "intermediate_size",
        shape("text_model.encoder.layers.0.mlp.fc1.weight")
            .first()
            .copied(),
    );
    put(
        "projection_dim",
        shape("text_projection.weight").first().copied(),
    );
    let layers = (0..tensors.names().len())
        .take_while(|layer| {
            tensors
                .info(&format!(
                    "text_model.encoder.layers.{layer}.layer_norm1.weight"
                ))
                .is_some()
        })
        .count();
    put("num_hidden_layers", (layers > 0).then_some(layers));
    Value::Object(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::view::testing::{MemorySource, f32s};

    fn tower(layers: usize) -> Arc<dyn TensorSource> {
        let mut source = MemorySource::default()
            .with("token_embedding.weight", &[10, 4])
            .with("positional_embedding", &[7, 4])
            .with("ln_final.weight", &[4])
            .with("ln_final.bias", &[4])
            .with("text_projection", &[4, 2])
            .with("logit_scale", &[]);
        for layer in 0..layers {
            let prefix = format!("transformer.resblocks.{layer}");
            source = source
                .with(&format!("{prefix}.ln_1.weight"), &[4])
                .with(&format!("{prefix}.attn.in_proj_weight"), &[12, 4])
                .with(&format!("{prefix}.attn.in_proj_bias"), &[12])
                .with(&format!("{prefix}.attn.out_proj.weight"), &[4, 4])
                .with(&format!("{prefix}.mlp.c_fc.weight"), &[16, 4])
                .with(&format!("{prefix}.mlp.c_proj.bias"), &[4]);
        }
        Arc::new(source)
    }

    #[test]
    fn fused_projections_are_cut_and_the_text_projection_turned() {
        let mapped = open_clip(tower(2), Keep::All).unwrap();
        let values = |name: &str| f32s(&mapped.read(name).unwrap());
        assert_eq!(
            values("text_model.encoder.layers.1.self_attn.k_proj.bias"),
            [4.0, 5.0, 6.0, 7.0]
        );
        let first = values("text_model.encoder.layers.0.self_attn.v_proj.weight")[0];
        assert!((first - 32.0).abs() < f32::EPSILON, "{first}");
        let projection = mapped.read("text_projection.weight").unwrap();
        assert_eq!(projection.shape, [2, 4]);
        assert_eq!(f32s(&projection), [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
        assert!(
            mapped
                .info("text_model.encoder.layers.1.mlp.fc2.bias")
                .is_some()
        );
        assert!(
            mapped
                .info("text_model.encoder.layers.1.self_attn.out_proj.weight")
                .is_some()
        );
        assert!(mapped.names().iter().all(|name| name.starts_with("text_")));
        let config = config(&mapped, &json!({"hidden_act": "gelu"}));
        assert_eq!(
            config,
            json!({"hidden_act": "gelu", "vocab_size": 10, "hidden_size": 4, "num_attention_heads": 1,
                   "max_position_embeddings": 7, "intermediate_size": 16, "projection_dim": 2, "num_hidden_layers": 2})
        );
    }

    #[test]
    fn the_last_layer_is_dropped_unless_it_already_was() {
        let last = |found: usize| {
            let mapped = open_clip(tower(found), Keep::Penultimate).unwrap();
            assert!(mapped.info("text_projection.weight").is_none());
            config(&mapped, &json!({}))["num_hidden_layers"]
                .as_u64()
                .unwrap()
        };
        assert_eq!(last(24), 23);
        assert_eq!(last(23), 23);
        assert_eq!(last(4), 3);
    }

    #[test]
    fn a_fused_matrix_of_another_shape_is_named() {
        let source = MemorySource::default()
            .with("transformer.resblocks.0.ln_1.weight", &[4])
            .with("transformer.resblocks.0.attn.in_proj_weight", &[13, 4]);
        let error = open_clip(Arc::new(source), Keep::All)
            .map(|_| ())
            .unwrap_err();
        assert!(
            error.message().contains("in_proj_weight has shape [13, 4]"),
            "{error}"
        );
        assert!(open_clip(Arc::new(MemorySource::default()), Keep::All).is_err());
    }

    #[test]
    fn older_clip_files_get_the_missing_level() {
        let source = MemorySource::default()
            .with("embeddings.token_embedding.weight", &[1])
            .with("embeddings.position_ids", &[1])
            .with("text_model.final_layer_norm.bias", &[1]);
        assert_eq!(
            clip(Arc::new(source)).names(),
            [
                "text_model.embeddings.token_embedding.weight",
                "text_model.final_layer_norm.bias"
            ]
        );
    }
}
