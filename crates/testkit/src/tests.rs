//! The written forms hold together: same tensors, whatever the form.

use std::fs;

use safetensors::SafeTensors;
use tempfile::tempdir;

use crate::{DType, Form, Single, TinyModel, fixtures};

#[test]
fn every_family_has_what_its_manifest_says() {
    let families = TinyModel::families();
    assert!(families.len() >= 14, "{families:?}");
    for family in families {
        let model = TinyModel::family(&family);
        for component in model.components() {
            assert!(!model.tensors(component).is_empty(), "{family} {component}");
            assert!(model.config(component).is_object());
        }
        assert!(model.golden().has("unet.out"), "{family}");
        let context = model.golden().tensor("unet.in.context");
        assert_eq!(context.data.len(), context.shape.iter().product::<usize>());
    }
}

#[test]
fn shards_together_hold_what_one_file_holds() {
    let model = TinyModel::family("sd15");
    let folder = tempdir().unwrap();
    let form = Form {
        shard_bytes: Some(1 << 20),
        variant: Some("fp16"),
        dtype: DType::F16,
        ..Form::default()
    };
    model.write_component("unet", folder.path(), &form);
    let index = folder
        .path()
        .join("diffusion_pytorch_model.safetensors.index.fp16.json");
    let index: serde_json::Value = serde_json::from_slice(&fs::read(index).unwrap()).unwrap();
    let map = index["weight_map"].as_object().unwrap();
    assert_eq!(map.len(), model.tensors("unet").len());
    for spec in model.tensors("unet") {
        let file = folder.path().join(map[&spec.name].as_str().unwrap());
        let bytes = fs::read(file).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(tensors.tensor(&spec.name).unwrap().shape(), spec.shape);
    }
}

#[test]
fn a_single_file_keeps_every_value() {
    for family in ["sd15", "sd21", "sdxl"] {
        let model = TinyModel::family(family);
        let folder = tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        model.write_single_file(&path, Single::default());
        let bytes = fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let written: usize = tensors
            .names()
            .into_iter()
            .filter(|name| !EXTRA.iter().any(|extra| name.contains(extra)))
            .map(|name| {
                tensors
                    .tensor(name)
                    .unwrap()
                    .shape()
                    .iter()
                    .product::<usize>()
            })
            .sum();
        let expected: usize = model
            .components()
            .flat_map(|component| model.tensors(component))
            .map(crate::TensorSpec::count)
            .sum();
        assert_eq!(written, expected, "{family}");
    }
}

/// What `ldm_names.json` adds for the three families.
const EXTRA: [&str; 4] = [
    "position_ids",
    "logit_scale",
    "cond_stage_model.model.transformer.resblocks.3.",
    "cond_stage_model.model.text_projection",
];

#[test]
fn torchs_own_archive_is_there() {
    for name in ["vae.ckpt", "vae.json"] {
        assert!(fixtures().join("pickle").join(name).is_file(), "{name}");
    }
}
