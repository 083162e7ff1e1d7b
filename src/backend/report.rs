//! What a checkpoint is, without loading it: the answer of `tintype inspect`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::model::{LoadOptions, text_to_image_obstacle};
use super::scheduler::SchedulerConfig;
use crate::error::{Error, Result};
use crate::events::Observer;
use crate::models::expected_tensors;
use crate::nn::{Engine, ExpectedTensor, same_matrix};
use crate::weights::{Card, Checkpoint, Component, ModelSource, TensorSource};

/// Everything `tintype inspect` says of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelReport {
    /// The model's name.
    pub title: String,
    /// Where it was opened.
    pub source: String,
    /// Stable identifier of the family ("sd1").
    pub family: String,
    /// The family's name for people.
    pub family_name: String,
    /// diffusers' class of the checkpoint's own scheduler, where it says so.
    pub scheduler: Option<String>,
    /// What the model predicts ("epsilon", "v_prediction", "sample"), where the scheduler says so.
    pub prediction_type: Option<String>,
    /// Width and height it was trained on, in pixels.
    pub default_size_px: (usize, usize),
    /// Its parts, in the order a picture needs them.
    pub components: Vec<ComponentReport>,
    /// Parameters of all components together.
    pub parameters: u64,
    /// Bytes of weights once loaded, the VAE's encoder included; activations come on top.
    pub weight_memory_bytes: u64,
    /// How products would be formed: "f32", "fast", "f16" or "bf16".
    pub arithmetic: String,
    /// Why no picture can be made from it, if so.
    pub obstacle: Option<String>,
    /// What the model's makers say of it, where its folder holds a `tintype.json`.
    pub card: Option<Card>,
}

/// One part of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComponentReport {
    /// Name as in `model_index.json`.
    pub name: String,
    /// File or folder.
    pub path: PathBuf,
    /// Tensors in the file.
    pub tensors: usize,
    /// Parameters that the configuration asks for.
    pub parameters: u64,
    /// Tensors by stored type.
    pub dtypes: BTreeMap<String, usize>,
    /// Bytes on disk of this component's tensors.
    pub stored_bytes: u64,
    /// Bytes of its weights once loaded.
    pub memory_bytes: u64,
    /// Tensors the configuration asks for and the file lacks.
    pub missing: Vec<String>,
    /// Tensors of another shape than the configuration says.
    pub wrong_shape: Vec<WrongShape>,
    /// Tensors of the file that nothing asks for.
    pub unused: Vec<String>,
    /// Why this part cannot be built, if so.
    pub obstacle: Option<String>,
}

/// A tensor whose shape is not what the configuration says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrongShape {
    /// The tensor.
    pub name: String,
    /// Its shape in the file.
    pub found: Vec<usize>,
    /// The shape the configuration asks for.
    pub expected: Vec<usize>,
}

/// Opens a model and says what it is; weights are not read.
///
/// # Errors
/// When the source cannot be found or its files cannot be understood. Missing tensors and unsupported
/// settings are no error here but part of the report.
pub fn inspect(
    source: &ModelSource,
    options: &LoadOptions,
    observer: &mut dyn Observer,
) -> Result<ModelReport> {
    let engine = options.open_engine()?;
    let checkpoint = Checkpoint::open(source, &options.open(), observer)?;
    let components: Vec<_> = checkpoint
        .components()
        .map(|component| component_report(component, &engine))
        .collect();
    let parameters = components
        .iter()
        .map(|component| component.parameters)
        .sum();
    let scheduler = SchedulerConfig::from_json(&checkpoint.scheduler);
    let text = |key: &str| {
        checkpoint
            .scheduler
            .get(key)
            .and_then(|v| v.as_str())
            .map(str::to_owned)
    };
    let obstacle = obstacle(&checkpoint, &components, scheduler.as_ref().err());
    Ok(ModelReport {
        title: checkpoint.title.clone(),
        source: checkpoint.source.to_string(),
        family: checkpoint.family.id.to_owned(),
        family_name: checkpoint.family.name.to_owned(),
        scheduler: text("_class_name"),
        prediction_type: text("prediction_type"),
        default_size_px: checkpoint.default_size_px(),
        parameters,
        weight_memory_bytes: components.iter().map(|part| part.memory_bytes).sum(),
        arithmetic: engine.arithmetic(),
        obstacle,
        components,
        card: checkpoint.card,
    })
}

/// The first thing that stands between this checkpoint and a picture.
fn obstacle(
    checkpoint: &Checkpoint,
    components: &[ComponentReport],
    scheduler: Option<&Error>,
) -> Option<String> {
    if let Some(obstacle) = text_to_image_obstacle(checkpoint) {
        return Some(obstacle);
    }
    components
        .iter()
        .find_map(|component| {
            component.obstacle.clone().or_else(|| {
                let faults = component.missing.len() + component.wrong_shape.len();
                (faults > 0).then(|| {
                    format!(
                        "{}: {faults} tensors are missing or of a wrong shape",
                        component.name
                    )
                })
            })
        })
        .or_else(|| scheduler.map(|error| error.message().to_owned()))
}

fn component_report(component: &Component, engine: &Engine) -> ComponentReport {
    let tensors = component.tensors.as_ref();
    let names = tensors.names();
    let mut dtypes = BTreeMap::new();
    let mut stored_bytes = 0;
    for (dtype, shape) in names.iter().filter_map(|name| tensors.info(name)) {
        *dtypes.entry(dtype.to_string()).or_insert(0) += 1;
        stored_bytes += shape.iter().product::<usize>() as u64 * dtype.size_bytes() as u64;
    }
    let mut report = ComponentReport {
        name: component.name.clone(),
        path: component.path.clone(),
        tensors: names.len(),
        parameters: 0,
        dtypes,
        stored_bytes,
        memory_bytes: 0,
        missing: Vec::new(),
        wrong_shape: Vec::new(),
        unused: Vec::new(),
        obstacle: None,
    };
    match expected_tensors(component) {
        Ok(manifest) => {
            let manifest = manifest.unwrap_or_default();
            report.memory_bytes = manifest
                .iter()
                .map(|expected| {
                    if expected.table {
                        return engine.table_bytes(&expected.shape);
                    }
                    let stored = tensors.info(&expected.name);
                    let bits =
                        stored.map_or(f32::MANTISSA_DIGITS, |(dtype, _)| dtype.significant_bits());
                    engine.weight_bytes(&expected.shape, bits)
                })
                .sum();
            compare(&mut report, &manifest, tensors, names);
        }
        Err(error) => report.obstacle = Some(error.message().to_owned()),
    }
    report
}

/// Sets what the configuration asks for beside what the file has.
fn compare(
    report: &mut ComponentReport,
    manifest: &[ExpectedTensor],
    tensors: &dyn TensorSource,
    names: Vec<String>,
) {
    for expected in manifest {
        report.parameters += expected.shape.iter().product::<usize>() as u64;
        match tensors.info(&expected.name) {
            None => report.missing.push(expected.name.clone()),
            Some((_, found)) if !same_matrix(&expected.shape, &found) => {
                report.wrong_shape.push(WrongShape {
                    name: expected.name.clone(),
                    found,
                    expected: expected.shape.clone(),
                });
            }
            Some(_) => {}
        }
    }
    report.unused = names
        .into_iter()
        .filter(|name| !manifest.iter().any(|expected| expected.name == *name))
        .collect();
}
