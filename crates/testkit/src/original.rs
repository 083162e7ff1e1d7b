//! Tiny models as original single-file checkpoints, `.safetensors` and `.ckpt`.
//!
//! The names come from `ldm_names.json`, which tools/reference/ldm.py wrote and diffusers' own converter confirmed.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;
use serde_json::Value;

use crate::folder::{Encoded, write_safetensors};
use crate::model::{DType, TensorSpec, TinyModel, json};
use crate::pickle::{PickleTensor, write_archive};

/// Shape and values.
type Layout = (Vec<usize>, Vec<f32>);

/// How a single file is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Single {
    /// Element type of all floating-point tensors.
    pub dtype: DType,
    /// Add the empty tensor `v_pred`, with which fine-tunes mark v-prediction.
    pub v_pred: bool,
    /// Add the empty tensor `ztsnr`, which marks zero terminal SNR.
    pub ztsnr: bool,
}

impl TinyModel {
    /// Writes the model as one safetensors file under the original names.
    ///
    /// # Panics
    /// When the family is not shipped as a single file, or the file cannot be written.
    pub fn write_single_file(&self, path: &Path, single: Single) {
        write_safetensors(path, &self.originals(single));
    }

    /// Writes the model as `torch.save({"state_dict": ..})` would: a zip with a pickle in it.
    ///
    /// # Panics
    /// When the family is not shipped as a single file, or the file cannot be written.
    pub fn write_ckpt(&self, path: &Path, single: Single) {
        let tensors: Vec<PickleTensor> = self
            .originals(single)
            .into_iter()
            .map(|tensor| PickleTensor {
                name: tensor.name,
                storage: match tensor.dtype {
                    Dtype::F16 => "HalfStorage",
                    Dtype::BF16 => "BFloat16Storage",
                    Dtype::I64 => "LongStorage",
                    _ => "FloatStorage",
                },
                shape: tensor.shape,
                bytes: tensor.bytes,
            })
            .collect();
        write_archive(path, &tensors);
    }

    /// Every tensor under its original name, sorted.
    fn originals(&self, single: Single) -> Vec<Encoded> {
        let names = json(&self.path().join("ldm_names.json"));
        let mut whole = BTreeMap::new();
        let mut parts: BTreeMap<String, BTreeMap<usize, Layout>> = BTreeMap::new();
        for (component, specs) in &self.components {
            let table = prefixes(&names["prefixes"][component]);
            for spec in specs {
                let original = rename(&spec.name, &table);
                let values = spec.values(component);
                if let Some((fused, part)) = original.split_once('#') {
                    let part = part.parse().expect("a row number follows the mark");
                    parts
                        .entry(fused.to_owned())
                        .or_default()
                        .insert(part, (spec.shape.clone(), values));
                } else {
                    let (shape, values) = original_layout(&original, spec, values);
                    whole.insert(original, (shape, values));
                }
            }
        }
        for (name, rows) in parts {
            let mut shape = rows[&0].0.clone();
            shape[0] *= 3;
            whole.insert(
                name,
                (shape, rows.into_values().flat_map(|row| row.1).collect()),
            );
        }
        let mut out = extras(&names["extras"], single.dtype);
        out.extend(whole.into_iter().map(|(name, (shape, values))| Encoded {
            name,
            shape,
            dtype: single.dtype.safetensors(),
            bytes: single.dtype.encode(&values),
        }));
        for (wanted, name) in [(single.v_pred, "v_pred"), (single.ztsnr, "ztsnr")] {
            if wanted {
                out.push(Encoded {
                    name: name.to_owned(),
                    shape: vec![0],
                    dtype: Dtype::F32,
                    bytes: Vec::new(),
                });
            }
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        out
    }
}

/// OpenCLIP keeps its projection transposed, and the old VAE its attention as 1x1 convolutions.
fn original_layout(name: &str, spec: &TensorSpec, values: Vec<f32>) -> Layout {
    let shape = spec.shape.clone();
    if name.ends_with(".text_projection") {
        let (rows, columns) = (shape[0], shape[1]);
        let transposed = (0..rows * columns)
            .map(|i| values[(i % rows) * columns + i / rows])
            .collect();
        return (vec![columns, rows], transposed);
    }
    if name.contains(".mid.attn_1.") && shape.len() == 2 {
        return (vec![shape[0], shape[1], 1, 1], values);
    }
    (shape, values)
}

/// What single files carry beside the pipeline's tensors: `[name, shape, bound, offset]` or `[name, "arange", count]`.
fn extras(rows: &Value, dtype: DType) -> Vec<Encoded> {
    let rows = rows.as_array().expect("ldm_names.json has extras");
    rows.iter()
        .map(|row| {
            if row[1] == "arange" {
                let count = row[2].as_i64().expect("a count");
                return Encoded {
                    name: row[0].as_str().expect("a name").to_owned(),
                    shape: vec![1, count as usize],
                    dtype: Dtype::I64,
                    bytes: (0..count).flat_map(i64::to_le_bytes).collect(),
                };
            }
            let spec = TensorSpec::from_row(row);
            let bytes = dtype.encode(&spec.values("extra"));
            Encoded {
                name: spec.name,
                shape: spec.shape,
                dtype: dtype.safetensors(),
                bytes,
            }
        })
        .collect()
}

/// Rows (diffusers prefix, original prefix).
fn prefixes(rows: &Value) -> Vec<(String, String)> {
    serde_json::from_value(rows.clone()).expect("ldm_names.json holds pairs of prefixes")
}

/// `name` with the longest prefix that fits replaced.
fn rename(name: &str, table: &[(String, String)]) -> String {
    let fits = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let (ours, theirs) = table
        .iter()
        .filter(|(ours, _)| fits(ours))
        .max_by_key(|(ours, _)| ours.len())
        .unwrap_or_else(|| panic!("no original name for {name}"));
    format!("{theirs}{}", &name[ours.len()..])
}
