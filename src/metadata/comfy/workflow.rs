//! The graph on the screen: its nodes hold the values of their widgets by place, not by name.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::graph::{Field, Graph, Node, NodeId, check_count};
use crate::error::{Error, Result};

/// What says whether a seed shall change, beside each seed.
const CONTROL: &str = "";

/// The fields of a node's widgets, in their order (ComfyUI 0.3, `nodes.py`).
const WIDGETS: [(&str, &[&str]); 13] = [
    (
        "KSampler",
        &[
            "seed",
            CONTROL,
            "steps",
            "cfg",
            "sampler_name",
            "scheduler",
            "denoise",
        ],
    ),
    (
        "KSamplerAdvanced",
        &[
            "add_noise",
            "noise_seed",
            CONTROL,
            "steps",
            "cfg",
            "sampler_name",
            "scheduler",
            "start_at_step",
            "end_at_step",
            "return_with_leftover_noise",
        ],
    ),
    ("CLIPTextEncode", &["text"]),
    ("EmptyLatentImage", &["width", "height", "batch_size"]),
    ("CheckpointLoaderSimple", &["ckpt_name"]),
    ("CLIPSetLastLayer", &["stop_at_clip_layer"]),
    (
        "LoraLoader",
        &["lora_name", "strength_model", "strength_clip"],
    ),
    ("LoraLoaderModelOnly", &["lora_name", "strength_model"]),
    ("VAELoader", &["vae_name"]),
    ("PerturbedAttentionGuidance", &["scale"]),
    ("SelfAttentionGuidance", &["scale", "blur_sigma"]),
    ("FreeU_V2", &["b1", "b2", "s1", "s2"]),
    ("PrimitiveNode", &["value"]),
];

/// The class of nodes that are switched off and let through what they get.
pub(super) const BYPASSED: &str = "bypassed";

/// A node's mode when it does not run, and when it lets through what it gets.
const MUTED: u64 = 2;
const LETS_THROUGH: u64 = 4;

impl Graph {
    /// Reads the graph on the screen: `{"nodes": [{"id": 3, "type": "KSampler", ..}], "links": [[1, 4, 0, 3, 0, "MODEL"]]}`.
    pub(super) fn of_workflow(value: &Value) -> Result<Self> {
        let list = |key: &str| value.get(key).and_then(Value::as_array);
        let nodes = list("nodes").ok_or_else(|| Error::malformed("found no list of nodes"))?;
        check_count(nodes.len())?;
        let none = Vec::new();
        let links: HashMap<u64, NodeId> = list("links")
            .unwrap_or(&none)
            .iter()
            .filter_map(source_of)
            .collect();
        let mut graph = Self::default();
        for node in nodes {
            let id = node.get("id").and_then(NodeId::of);
            let (Some(id), Some(class)) = (id, node.get("type").and_then(Value::as_str)) else {
                return Err(Error::malformed("a node has no id or no type"));
            };
            let mode = node.get("mode").and_then(Value::as_u64);
            if mode == Some(MUTED) {
                continue;
            }
            let class = if mode == Some(LETS_THROUGH) {
                BYPASSED
            } else {
                class
            };
            let mut fields = widgets(class, node.get("widgets_values"));
            fields.extend(linked(node, &links));
            let class = class.to_owned();
            graph.nodes.insert(id, Node { class, fields });
        }
        Ok(graph)
    }
}

/// The number of a link and the node it comes from.
fn source_of(link: &Value) -> Option<(u64, NodeId)> {
    match link {
        Value::Array(parts) => Some((parts.first()?.as_u64()?, NodeId::of(parts.get(1)?)?)),
        Value::Object(parts) => Some((
            parts.get("id")?.as_u64()?,
            NodeId::of(parts.get("origin_id")?)?,
        )),
        _ => None,
    }
}

fn widgets(class: &str, values: Option<&Value>) -> BTreeMap<String, Field> {
    let values = values.and_then(Value::as_array);
    let Some(values) = values.filter(|_| class != BYPASSED) else {
        return BTreeMap::new();
    };
    let known = WIDGETS.iter().find(|(known, _)| *known == class);
    values
        .iter()
        .enumerate()
        .filter_map(|(index, value)| {
            let name = match known {
                Some((_, names)) => (*names.get(index)?).to_owned(),
                None => format!("widget {}", index + 1),
            };
            (name != CONTROL).then(|| (name, Field::Value(value.clone())))
        })
        .collect()
}

fn linked<'a>(
    node: &'a Value,
    links: &'a HashMap<u64, NodeId>,
) -> impl Iterator<Item = (String, Field)> + 'a {
    let inputs = node.get("inputs").and_then(Value::as_array);
    inputs.into_iter().flatten().filter_map(|input| {
        let name = input.get("name")?.as_str()?.to_owned();
        let source = links.get(&input.get("link")?.as_u64()?)?;
        Some((name, Field::Link(source.clone())))
    })
}
