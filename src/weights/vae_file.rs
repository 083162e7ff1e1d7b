//! A VAE on its own, to replace a model's: a folder in diffusers' form or a file in either dialect.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::ldm;
use super::place::Place;
use super::view::MappedSource;
use super::{Component, TensorSource, component, json, tensor_file};
use crate::error::{Error, Result};

/// The class of autoencoder that can be run.
const CLASS: &str = "AutoencoderKL";

/// A tensor that only diffusers' dialect has, and one that only the original has.
const DIFFUSERS: &str = "decoder.up_blocks.0.resnets.0.conv1.weight";
const ORIGINAL: &str = "decoder.up.0.block.0.conv1.weight";

/// How a name ends that TAESD, a smaller autoencoder, has in every dialect and no other has.
const TINY: &str = "3.conv.0.weight";

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
    let vae = component::open(&Place::from(&folder), "vae", None)?;
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
    if names.iter().any(|name| name.ends_with(TINY)) {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::ErrorKind;
    use crate::weights::view::testing::{MemorySource, write_safetensors};

    fn open_tensors(tensors: &MemorySource, beside: Option<&Value>) -> Result<Component> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vae.safetensors");
        write_safetensors(tensors, &path);
        if let Some(config) = beside {
            std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        }
        open(
            &path,
            &json!({"scaling_factor": 0.5, "layers_per_block": 7}),
        )
    }

    #[test]
    fn the_original_dialect_is_read_with_and_without_prefix() {
        for prefix in ["", "first_stage_model.", "vae."] {
            let original = ldm::vae::tests::small();
            let mut tensors = MemorySource::default().with("loss.logvar", &[]);
            for (name, tensor) in original.tensors {
                tensors.tensors.insert(format!("{prefix}{name}"), tensor);
            }
            let vae = open_tensors(&tensors, None).unwrap();
            let name = "decoder.mid_block.attentions.0.to_q.weight";
            assert_eq!(vae.tensors.read(name).unwrap().shape, [16, 16], "{prefix}");
            assert_eq!(vae.config["scaling_factor"], 0.5);
            assert_eq!(vae.config["layers_per_block"], 2);
            assert_eq!(vae.tensors.names().len(), 17);
        }
    }

    #[test]
    fn a_configuration_beside_the_file_wins_over_the_replaced_ones() {
        let tensors = MemorySource::default().with(DIFFUSERS, &[1]);
        let own = json!({"_class_name": CLASS, "scaling_factor": 0.25});
        let vae = open_tensors(&tensors, Some(&own)).unwrap();
        assert_eq!(vae.config["scaling_factor"], 0.25);
        let other = json!({"_class_name": "UNet2DConditionModel"});
        let vae = open_tensors(&tensors, Some(&other)).unwrap();
        assert_eq!(vae.config["scaling_factor"], 0.5);
    }

    #[test]
    fn other_files_are_told_apart() {
        let tiny = MemorySource::default().with("3.conv.0.weight", &[1]);
        let error = open_tensors(&tiny, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("TAESD"), "{error}");
        let other = MemorySource::default().with("something", &[1]);
        let error = open_tensors(&other, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(
            error.message().contains("found 1 tensors (something, ..)"),
            "{error}"
        );
    }

    #[test]
    fn a_folder_of_another_autoencoder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let tensors = MemorySource::default().with("x", &[1]);
        write_safetensors(
            &tensors,
            &folder.path().join("diffusion_pytorch_model.safetensors"),
        );
        let config = json!({"_class_name": "AutoencoderTiny"}).to_string();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let error = open(folder.path(), &json!({})).unwrap_err();
        assert!(
            error.message().contains("found a AutoencoderTiny"),
            "{error}"
        );
    }
}
