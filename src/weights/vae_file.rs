//! A VAE on its own, to replace a model's: a folder in diffusers' form or a file in either dialect.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::ldm;
use super::view::MappedSource;
use super::{Component, TensorSource, component, json, tensor_file};
use crate::error::{Error, Result};

/// The class of autoencoder that can be run.
const CLASS: &str = "AutoencoderKL";

/// A tensor that only diffusers' dialect has, and one that only the original has.
const DIFFUSERS: &str = "decoder.up_blocks.0.resnets.0.conv1.weight";
const ORIGINAL: &str = "decoder.up.0.block.0.conv1.weight";

/// Tensors of TAESD, a different autoencoder under the same extension.
const TINY: [&str; 2] = ["decoder.layers.1.weight", "taesd_decoder.1.weight"];

/// Opens the VAE at `path`. `base` is the configuration of the VAE it replaces: a file says nothing of the
/// scaling factor, which a family's VAEs share.
///
/// # Errors
/// When there is no VAE at `path`, or one of another kind.
pub(crate) fn open(path: &Path, base: &Value) -> Result<Component> {
    let opened = if path.is_dir() {
        open_folder(path)
    } else {
        open_file(path, base)
    };
    opened.map_err(|error| error.context("the VAE to use instead"))
}

/// A VAE's own folder, or the one inside a model's folder.
fn open_folder(path: &Path) -> Result<Component> {
    let inner = path.join("vae");
    let folder = if !path.join("config.json").exists() && inner.is_dir() {
        inner
    } else {
        path.to_owned()
    };
    let vae = component::open(&folder, "vae", None)?;
    let class = vae.config.get("_class_name").and_then(Value::as_str);
    match class {
        None | Some(CLASS) => Ok(vae),
        Some(other) => Err(Error::unsupported(format!(
            "{}: found a {other}, expected an {CLASS}",
            folder.display()
        ))),
    }
}

/// A file with a VAE, alone or as part of a checkpoint.
fn open_file(path: &Path, base: &Value) -> Result<Component> {
    let tensors = tensor_file::open(path)?.tensors;
    let tensors = without_prefix(tensors);
    let (config, tensors) = if tensors.info(ORIGINAL).is_some() {
        let layout = ldm::vae::Layout::of(tensors.as_ref())?;
        let config = layout.config(tensors.as_ref(), base);
        let mapped = ldm::vae::mapped(tensors, &layout.rules());
        (config, Arc::new(mapped) as Arc<dyn TensorSource>)
    } else if tensors.info(DIFFUSERS).is_some() {
        (config_beside(path).unwrap_or_else(|| base.clone()), tensors)
    } else {
        return Err(unknown(path, tensors.as_ref()));
    };
    Ok(Component {
        name: "vae".to_owned(),
        config,
        tensors: component::normalised("vae", tensors),
        path: path.to_owned(),
    })
}

/// The tensors below whichever prefix a whole checkpoint puts before its VAE.
fn without_prefix(tensors: Arc<dyn TensorSource>) -> Arc<dyn TensorSource> {
    let names = tensors.names();
    let prefix = ldm::VAE_PREFIXES
        .iter()
        .find(|prefix| names.iter().any(|name| name.starts_with(*prefix)));
    match prefix {
        Some(prefix) => Arc::new(MappedSource::renamed(tensors, |name| {
            name.strip_prefix(prefix).map(str::to_owned)
        })),
        None => tensors,
    }
}

/// The VAE's own configuration, when the file was named inside its folder.
fn config_beside(path: &Path) -> Option<Value> {
    let config = json::read_object(&path.with_file_name("config.json")).ok()?;
    (config.get("_class_name").and_then(Value::as_str) == Some(CLASS)).then_some(config)
}

/// Says what the file holds instead.
fn unknown(path: &Path, tensors: &dyn TensorSource) -> Error {
    let names = tensors.names();
    if TINY.iter().any(|tiny| tensors.info(tiny).is_some()) {
        return Error::unsupported(format!(
            "{}: found a tiny autoencoder (TAESD), expected an {CLASS}",
            path.display()
        ));
    }
    let seen: Vec<_> = names.iter().take(5).map(String::as_str).collect();
    Error::malformed(format!(
        "{}: found {} tensors ({}, ..), expected a VAE with {ORIGINAL} or {DIFFUSERS}",
        path.display(),
        names.len(),
        seen.join(", ")
    ))
    .with_hint("name a VAE's file or folder, or a whole checkpoint to take the VAE from")
}
