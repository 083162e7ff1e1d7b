//! What a checkpoint consists of, in numbers.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{Checkpoint, Component};

/// A checkpoint at a glance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Where it came from, as it can be named again.
    pub source: String,
    /// The model's name.
    pub title: String,
    /// Identifier of its family.
    pub family: &'static str,
    /// Name of its family.
    pub family_name: &'static str,
    /// Why no picture can be made from text alone; `None` when one can.
    pub text_to_image_obstacle: Option<&'static str>,
    /// Width and height of the pictures it was trained on, in pixels.
    pub default_size_px: (usize, usize),
    /// What the UNet predicts, as the scheduler's configuration has it.
    pub prediction_type: String,
    /// Its components with weights.
    pub components: Vec<ComponentSummary>,
    /// Parameters of all components.
    pub parameters: u64,
    /// Bytes that all tensors take as stored.
    pub bytes: u64,
}

/// A component at a glance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComponentSummary {
    /// Name as in `model_index.json`.
    pub name: String,
    /// File or folder it came from.
    pub path: String,
    /// Number of tensors.
    pub tensors: usize,
    /// Elements of all tensors.
    pub parameters: u64,
    /// Bytes as stored.
    pub bytes: u64,
    /// Parameters by element type ("F16", "F32", ..).
    pub dtypes: BTreeMap<&'static str, u64>,
}

impl ComponentSummary {
    fn of(component: &Component) -> Self {
        let mut summary = Self {
            name: component.name.clone(),
            path: component.path.display().to_string(),
            tensors: 0,
            parameters: 0,
            bytes: 0,
            dtypes: BTreeMap::new(),
        };
        for name in component.tensors.names() {
            let Some((dtype, shape)) = component.tensors.info(&name) else {
                continue;
            };
            let count = shape.iter().product::<usize>() as u64;
            summary.tensors += 1;
            summary.parameters += count;
            summary.bytes += count * dtype.size_bytes() as u64;
            *summary.dtypes.entry(dtype.name()).or_default() += count;
        }
        summary
    }
}

impl Checkpoint {
    /// What the checkpoint consists of; reads no weights.
    pub fn summary(&self) -> Summary {
        let components: Vec<_> = self.components().map(ComponentSummary::of).collect();
        Summary {
            source: self.source.to_string(),
            title: self.title.clone(),
            family: self.family.id,
            family_name: self.family.name,
            text_to_image_obstacle: self.family.text_to_image_obstacle,
            default_size_px: self.default_size_px(),
            prediction_type: self
                .scheduler
                .get("prediction_type")
                .and_then(Value::as_str)
                .unwrap_or("epsilon")
                .to_owned(),
            parameters: components
                .iter()
                .map(|component| component.parameters)
                .sum(),
            bytes: components.iter().map(|component| component.bytes).sum(),
            components,
        }
    }
}
