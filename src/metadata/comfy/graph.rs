//! The graph itself: nodes by their numbers, each with fields that are values or links to other nodes.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Most nodes of a graph; those made by hand have a few hundred at most.
const MAX_NODES: usize = 4096;

/// A node's number, or its name inside a group (`57:3`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(u64, String);

impl NodeId {
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(text.as_str().into()),
            Value::Number(number) => Some(number.to_string().as_str().into()),
            _ => None,
        }
    }
}

impl From<&str> for NodeId {
    fn from(text: &str) -> Self {
        Self(text.parse().unwrap_or(u64::MAX), text.to_owned())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1)
    }
}

/// What a field of a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Field {
    Value(Value),
    Link(NodeId),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) class: String,
    pub(super) fields: BTreeMap<String, Field>,
}

#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: BTreeMap<NodeId, Node>,
}

impl Graph {
    /// Reads the graph that ran: `{"3": {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["4", 0]}}}`.
    pub(super) fn of_prompt(value: &Value) -> Result<Self> {
        let nodes = value
            .as_object()
            .ok_or_else(|| Error::malformed("found something else than nodes by their numbers"))?;
        check_count(nodes.len())?;
        let mut graph = Self::default();
        for (id, node) in nodes {
            let Some(class) = node.get("class_type").and_then(Value::as_str) else {
                return Err(Error::malformed(format!("node {id} has no class_type")));
            };
            let empty = Map::new();
            let inputs = node.get("inputs").and_then(Value::as_object);
            let fields = inputs.unwrap_or(&empty).iter();
            let fields = fields.map(|(name, value)| (name.clone(), field(value)));
            let node = Node {
                class: class.to_owned(),
                fields: fields.collect(),
            };
            graph.nodes.insert(id.as_str().into(), node);
        }
        Ok(graph)
    }
}

/// A link is the number of a node and that of its output.
fn field(value: &Value) -> Field {
    if let Some([node, Value::Number(_)]) = value.as_array().map(Vec::as_slice)
        && let Some(id) = NodeId::of(node)
    {
        return Field::Link(id);
    }
    Field::Value(value.clone())
}

pub(super) fn check_count(count: usize) -> Result<()> {
    if count <= MAX_NODES {
        return Ok(());
    }
    Err(Error::malformed(format!(
        "found {count} nodes, expected at most {MAX_NODES}"
    )))
}
