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
fn tiny_models_have_the_values_their_manifests_set() {
    // python -c "import make_full, weights; print([weights.values('unet', *row).reshape(-1)[[0, 4, 40, 431, 432]]
    //     for row in make_full.manifests('sd15', False)['unet'] if row[0] == 'conv_in.weight'])"
    let values = |family: &str, name: &str| TinyModel::family(family).values("unet", name);
    let found = values("sd15", "conv_in.weight");
    let expected = [0.0, 1.0, -1.0, 0.0, EXPECTED_FREE];
    let found: Vec<f32> = [0, 4, 40, 431, 432].map(|index| found[index]).to_vec();
    assert_eq!(found, expected);
    // One UNet predicts v, the other the noise; they differ in nothing else.
    let (v, noise) = (TinyModel::family("sd21"), TinyModel::family("sd21-base"));
    let differing: Vec<&str> = (v.tensors("unet").iter().zip(noise.tensors("unet")))
        .filter(|(v, noise)| v != noise)
        .map(|(_, noise)| noise.name.as_str())
        .collect();
    assert!(
        differing.contains(&"conv_in.weight") && differing.len() < 12,
        "{differing:?}"
    );
    let set: Vec<&str> = (v.tensors("unet").iter())
        .filter(|spec| !spec.given.is_empty())
        .map(|spec| spec.name.as_str())
        .collect();
    assert_eq!(set, ["conv_norm_out.weight"]);
    assert_eq!(values("sd21", "conv_norm_out.weight"), [0.2; 24]);
    assert_eq!(values("sd21-base", "conv_norm_out.weight")[12..], [0.2; 12]);
}

/// The first value of that tensor that is the formula's.
const EXPECTED_FREE: f32 = 0.049_883_023;

#[test]
fn torchs_own_archive_is_there() {
    for name in ["vae.ckpt", "vae.json"] {
        assert!(fixtures().join("pickle").join(name).is_file(), "{name}");
    }
}
