//! Walking a graph along its links, and naming what nothing was made of.

use std::collections::BTreeSet;

use serde_json::Value;

use super::graph::{Field, Graph, Node, NodeId};
use super::workflow::BYPASSED;
use crate::error::{Error, Result};
use crate::metadata::{NotHonoured, Parameters, Recording};

/// Most entries in the list of what is not honoured.
const MAX_NAMED: usize = 200;
/// Longest value that is shown.
const MAX_SHOWN: usize = 80;

/// Nodes that change no pixel of the picture they are given.
const HARMLESS: [&str; 7] = [
    "SaveImage",
    "PreviewImage",
    "VAEDecode",
    "Note",
    "MarkdownNote",
    "Reroute",
    "PrimitiveNode",
];

/// Walks a graph and keeps what it made of it.
pub(super) struct Reader<'a> {
    pub(super) graph: &'a Graph,
    /// Nodes on the way to the picture.
    pub(super) used: BTreeSet<&'a NodeId>,
    /// Their fields that were read.
    pub(super) taken: BTreeSet<(&'a NodeId, &'a str)>,
    pub(super) recording: Recording,
}

impl<'a> Reader<'a> {
    /// The node of `id` and its number as the graph holds it.
    pub(super) fn node(&self, id: &NodeId) -> Option<(&'a NodeId, &'a Node)> {
        self.graph.nodes.get_key_value(id)
    }

    pub(super) fn parameters(&mut self) -> &mut Parameters {
        &mut self.recording.parameters
    }

    /// The nodes from `start` on against the links, along the first of `fields` that each has.
    pub(super) fn way(&self, start: &NodeId, fields: &[&str]) -> Result<Vec<&'a NodeId>> {
        let mut way = Vec::new();
        let mut seen = BTreeSet::new();
        let mut next = self.node(start);
        while let Some((id, node)) = next {
            if !seen.insert(id) {
                return Err(Error::malformed(format!(
                    "node {id} ({}) is fed from its own output",
                    node.class
                )));
            }
            if !["Reroute", BYPASSED].contains(&node.class.as_str()) {
                way.push(id);
            }
            let link = fields
                .iter()
                .find_map(|field| match node.fields.get(*field) {
                    Some(Field::Link(source)) => Some(source),
                    _ => None,
                });
            next = link.and_then(|source| self.node(source));
        }
        Ok(way)
    }

    /// The nodes behind `field` of a node, and on along `fields`, which all count as used.
    pub(super) fn nodes_along(
        &mut self,
        (id, node): (&'a NodeId, &'a Node),
        field: &'static str,
        fields: &[&'static str],
    ) -> Result<Vec<(&'a NodeId, &'a Node)>> {
        self.taken.insert((id, field));
        let Some(Field::Link(source)) = node.fields.get(field) else {
            return Ok(Vec::new());
        };
        // Pass-through nodes of a graph on the screen have an input without a name, or any.
        let through = [fields, &["", "input", "any"]].concat();
        let way = self.way(source, &through)?;
        let nodes: Vec<_> = way.into_iter().filter_map(|id| self.node(id)).collect();
        for (id, _) in &nodes {
            self.used.insert(id);
            self.taken.extend(fields.iter().map(|field| (*id, *field)));
        }
        Ok(nodes)
    }

    /// The value of a field as text, also where a node that holds nothing but a value is linked.
    pub(super) fn scalar(
        &mut self,
        (id, node): (&'a NodeId, &'a Node),
        field: &'static str,
    ) -> Option<String> {
        let value = match node.fields.get(field)? {
            Field::Value(value) => value,
            Field::Link(source) => {
                let (source, holder) = self.node(source)?;
                let [(name, Field::Value(value))] = holder.fields.iter().collect::<Vec<_>>()[..]
                else {
                    return None;
                };
                self.used.insert(source);
                self.taken.insert((source, name));
                value
            }
        };
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        self.taken.insert((id, field));
        Some(text)
    }

    pub(super) fn refuse(
        &mut self,
        (id, node): (&NodeId, &Node),
        field: &str,
        value: &str,
        reason: &str,
    ) {
        let key = match field {
            "" => format!("node {id} ({})", shown(&node.class)),
            _ => format!("node {id} ({}) {}", shown(&node.class), shown(field)),
        };
        let named = &mut self.recording.unmapped;
        if named.len() < MAX_NAMED {
            named.push(NotHonoured {
                key,
                value: shown(value),
                reason: reason.to_owned(),
            });
        } else if named.len() == MAX_NAMED {
            named.push(NotHonoured {
                key: "graph".to_owned(),
                value: format!("{} nodes", self.graph.nodes.len()),
                reason: "more of its nodes and fields are not honoured than are named here"
                    .to_owned(),
            });
        }
    }

    /// Names every field and every node that nothing was made of.
    pub(super) fn name_the_rest(&mut self) {
        let graph = self.graph;
        for (id, node) in &graph.nodes {
            let class = node.class.as_str();
            if !self.used.contains(id) {
                if HARMLESS.contains(&class) || class == BYPASSED {
                    continue;
                }
                let reason = match class {
                    "KSampler" | "KSamplerAdvanced" => "there is one run of one sampler",
                    _ => "it has no part in a picture from text that is known here",
                };
                self.refuse((id, node), "", "", reason);
                continue;
            }
            let is_known = is_known(class);
            let is_lora = class.starts_with("LoraLoader");
            if !is_known
                && node
                    .fields
                    .values()
                    .all(|field| matches!(field, Field::Link(_)))
            {
                self.refuse((id, node), "", "", "what it does is not known here");
            }
            for (field, value) in &node.fields {
                let reason = match class {
                    _ if is_lora => "networks are not supported yet",
                    _ if is_known => "it is not read here",
                    _ => "what this node does is not known here",
                };
                match value {
                    Field::Value(value) if !self.taken.contains(&(id, field.as_str())) => {
                        self.refuse((id, node), field, &plain(value), reason);
                    }
                    Field::Link(source)
                        if !is_lora && !self.taken.contains(&(id, field.as_str())) =>
                    {
                        self.refuse((id, node), field, &format!("node {source}"), reason);
                    }
                    _ => {}
                }
            }
        }
    }
}

fn is_known(class: &str) -> bool {
    HARMLESS.contains(&class)
        || [
            "KSampler",
            "KSamplerAdvanced",
            "CLIPTextEncode",
            "EmptyLatentImage",
            "CheckpointLoaderSimple",
            "CLIPSetLastLayer",
            "LoraLoader",
            "LoraLoaderModelOnly",
            "VAELoader",
            "PerturbedAttentionGuidance",
            "SelfAttentionGuidance",
            "FreeU",
            "FreeU_V2",
        ]
        .contains(&class)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
