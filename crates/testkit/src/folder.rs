//! Tiny models as diffusers folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::TensorView;
use serde_json::json;

use crate::model::{DType, TinyModel};

/// How a folder is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Form {
    /// Element type of all tensors.
    pub dtype: DType,
    /// Begin a new file when one would exceed this many bytes, and write an index; none: one file a component.
    pub shard_bytes: Option<usize>,
    /// The variant in the files' names, such as "fp16".
    pub variant: Option<&'static str>,
    /// Name the VAE's attention query, key, value and proj_attn, as folders published before 2023 do.
    pub old_vae_names: bool,
}

/// A tensor ready to be written.
pub(crate) struct Encoded {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: safetensors::Dtype,
    pub(crate) bytes: Vec<u8>,
}

impl TinyModel {
    /// Writes the whole model into `folder`, which need not exist.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn write_folder(&self, folder: &Path, form: &Form) {
        copy_json(&self.path(), folder);
        for component in self.components() {
            self.write_component(component, &folder.join(component), form);
        }
    }

    /// Writes one component's config.json and weights into `folder`.
    ///
    /// # Panics
    /// When a file cannot be written.
    pub fn write_component(&self, component: &str, folder: &Path, form: &Form) {
        copy_json(&self.path().join(component), folder);
        let stem = if component.starts_with("text_encoder") {
            "model"
        } else {
            "diffusion_pytorch_model"
        };
        let tensors: Vec<Encoded> = self
            .tensors(component)
            .iter()
            .map(|spec| Encoded {
                name: disk_name(component, &spec.name, form),
                shape: spec.shape.clone(),
                dtype: form.dtype.safetensors(),
                bytes: form.dtype.encode(&spec.values(component)),
            })
            .collect();
        let variant = form.variant.map(|v| format!(".{v}")).unwrap_or_default();
        match form.shard_bytes {
            None => write_safetensors(
                &folder.join(format!("{stem}{variant}.safetensors")),
                &tensors,
            ),
            Some(limit) => write_shards(folder, stem, &variant, split(tensors, limit)),
        }
    }
}

/// A tensor's name in a folder of this form.
fn disk_name(component: &str, name: &str, form: &Form) -> String {
    if component != "vae" || !form.old_vae_names || !name.contains(".attentions.") {
        return name.to_owned();
    }
    name.replace(".to_q.", ".query.")
        .replace(".to_k.", ".key.")
        .replace(".to_v.", ".value.")
        .replace(".to_out.0.", ".proj_attn.")
}

/// Groups tensors so that each group has at most `limit` bytes, one tensor at least.
fn split(tensors: Vec<Encoded>, limit: usize) -> Vec<Vec<Encoded>> {
    let mut groups: Vec<Vec<Encoded>> = Vec::new();
    let mut size = 0;
    for tensor in tensors {
        if groups.is_empty() || size + tensor.bytes.len() > limit {
            groups.push(Vec::new());
            size = 0;
        }
        size += tensor.bytes.len();
        if let Some(group) = groups.last_mut() {
            group.push(tensor);
        }
    }
    groups
}

/// Writes numbered files and the index that says which tensor is where.
fn write_shards(folder: &Path, stem: &str, variant: &str, groups: Vec<Vec<Encoded>>) {
    let count = groups.len();
    let mut map = BTreeMap::new();
    let mut total = 0;
    for (number, group) in groups.into_iter().enumerate() {
        let file = format!(
            "{stem}{variant}-{:05}-of-{count:05}.safetensors",
            number + 1
        );
        for tensor in &group {
            total += tensor.bytes.len();
            map.insert(tensor.name.clone(), file.clone());
        }
        write_safetensors(&folder.join(file), &group);
    }
    let index = json!({"metadata": {"total_size": total}, "weight_map": map});
    let file = folder.join(format!("{stem}.safetensors.index{variant}.json"));
    fs::write(&file, index.to_string()).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
}

/// Writes one safetensors file.
pub(crate) fn write_safetensors(path: &Path, tensors: &[Encoded]) {
    let views: Vec<(String, TensorView<'_>)> = tensors
        .iter()
        .map(|tensor| {
            let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes)
                .unwrap_or_else(|e| panic!("{}: {e}", tensor.name));
            (tensor.name.clone(), view)
        })
        .collect();
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize_to_file(views, Some(metadata), path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// Copies the published JSON files, leaving the fixture's own (manifest, goldens) behind.
fn copy_json(from: &Path, to: &Path) {
    let fail = |e: std::io::Error| -> ! { panic!("{} to {}: {e}", from.display(), to.display()) };
    fs::create_dir_all(to).unwrap_or_else(|e| fail(e));
    for entry in fs::read_dir(from).unwrap_or_else(|e| fail(e)) {
        let path = entry.unwrap_or_else(|e| fail(e)).path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if path.is_dir() {
            copy_json(&path, &to.join(name));
        } else if path
            .extension()
            .is_some_and(|extension| extension == "json")
            && !["manifest.json", "golden.json", "ldm_names.json"].contains(&name)
        {
            fs::copy(&path, to.join(name)).unwrap_or_else(|e| fail(e));
        }
    }
}
