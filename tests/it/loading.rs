//! Every form in which checkpoints come gives the same tensors under the same names.

use std::fs;
use std::path::Path;

use tintype::weights::{Checkpoint, Component, ModelSource, OpenOptions, StoredDType};
use tintype::{Error, Event, LoadOptions};
use tintype_testkit::{DType, Form, PickleTensor, Single, TinyModel, write_archive};

/// The families that are shipped as single files.
const SINGLE: [&str; 5] = ["sd15", "sd21", "sdxl", "inpaint", "refiner"];

pub(crate) fn open(path: &Path, options: &OpenOptions) -> Result<Checkpoint, Error> {
    let source = ModelSource::parse(path.to_str().unwrap())?;
    Checkpoint::open(&source, options, &mut |_: &Event| {})
}

/// Opens a single file with the configurations of its family's tiny model, which has no published shape.
fn open_single(path: &Path, model: &TinyModel) -> Checkpoint {
    let options = OpenOptions {
        config: Some(model.path()),
        ..OpenOptions::default()
    };
    open(path, &options).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn component<'a>(checkpoint: &'a Checkpoint, name: &str) -> &'a Component {
    checkpoint
        .components()
        .find(|component| component.name == name)
        .unwrap_or_else(|| panic!("no {name}"))
}

/// Holds a component to the formula: names, shapes and, at full precision, every element.
fn assert_is(component: &Component, model: &TinyModel, dtype: StoredDType) {
    let expected = model.tensors(&component.name);
    let mut names: Vec<_> = expected.iter().map(|spec| spec.name.clone()).collect();
    names.sort();
    assert_eq!(component.tensors.names(), names, "{}", component.name);
    for spec in expected {
        let tensor = component.tensors.read(&spec.name).unwrap();
        assert_eq!(tensor.shape, spec.shape, "{}", spec.name);
        assert_eq!(tensor.dtype, dtype, "{}", spec.name);
        assert_eq!(
            tensor.bytes.len(),
            spec.count() * dtype.size_bytes(),
            "{}",
            spec.name
        );
        if dtype == StoredDType::F32 {
            let values: Vec<f32> = tensor
                .bytes
                .chunks_exact(4)
                .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
                .collect();
            assert_eq!(values, spec.values(&component.name), "{}", spec.name);
        }
    }
}

fn assert_all(checkpoint: &Checkpoint, model: &TinyModel, dtype: StoredDType) {
    let mut found: Vec<_> = checkpoint.components().map(|c| c.name.as_str()).collect();
    let mut expected: Vec<_> = model.components().collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    for component in checkpoint.components() {
        assert_is(component, model, dtype);
        assert_eq!(
            component.config,
            model.config(&component.name),
            "{}",
            component.name
        );
    }
}

#[test]
fn every_family_opens_as_a_folder() {
    let expected = [
        ("bk-sdm-small", "sd1"),
        ("bk-sdm-tiny", "sd1"),
        ("inpaint", "sd1-inpaint"),
        ("latent16", "other"),
        ("lcm", "sd1-lcm"),
        ("refiner", "sdxl-refiner"),
        ("sd-turbo", "sd-turbo"),
        ("sd15", "sd1"),
        ("sd21", "sd2"),
        ("sd21-base", "sd2"),
        ("sd21-zsnr", "sd2"),
        ("sdxl", "sdxl"),
        ("sdxl-turbo", "sdxl-turbo"),
        ("ssd-1b", "sdxl"),
        ("vega", "sdxl"),
    ];
    assert_eq!(TinyModel::families(), expected.map(|(family, _)| family));
    for (family, id) in expected {
        let model = TinyModel::family(family);
        let folder = tempfile::tempdir().unwrap();
        model.write_folder(folder.path(), &Form::default());
        let checkpoint = open(folder.path(), &OpenOptions::default()).unwrap();
        assert_eq!(checkpoint.family.id, id, "{family}");
        assert_eq!(
            checkpoint.family.text_to_image_obstacle.is_some(),
            matches!(family, "inpaint" | "refiner"),
            "{family}"
        );
        let latent = model.config("unet")["sample_size"].as_u64().unwrap() as usize;
        let reduction = if family == "latent16" { 32 } else { 8 };
        let side = reduction * latent;
        assert_eq!(checkpoint.default_size_px(), (side, side), "{family}");
        assert_all(&checkpoint, &model, StoredDType::F32);
    }
}

#[test]
fn a_single_file_holds_the_folders_tensors() {
    for family in SINGLE {
        let model = TinyModel::family(family);
        let folder = tempfile::tempdir().unwrap();
        for file in ["tiny.safetensors", "tiny.ckpt"] {
            let path = folder.path().join(file);
            if path.extension().unwrap() == "ckpt" {
                model.write_ckpt(&path, Single::default());
            } else {
                model.write_single_file(&path, Single::default());
            }
            let checkpoint = open_single(&path, &model);
            assert_all(&checkpoint, &model, StoredDType::F32);
            assert_eq!(checkpoint.title, "tiny");
            let id = match family {
                "sd15" => "sd1",
                "sd21" => "sd2",
                "inpaint" => "sd1-inpaint",
                "refiner" => "sdxl-refiner",
                other => other,
            };
            assert_eq!(checkpoint.family.id, id);
            let hash = checkpoint.file_hash().unwrap().unwrap();
            assert_eq!(hash.len(), 10);
            assert!(hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
        }
    }
}

#[test]
fn markers_of_a_single_file_reach_the_schedule() {
    let model = TinyModel::family("sdxl");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.safetensors");
    for (v_pred, ztsnr) in [(false, false), (true, false), (true, true)] {
        let single = Single {
            v_pred,
            ztsnr,
            ..Single::default()
        };
        model.write_single_file(&path, single);
        let scheduler = open(&path, &OpenOptions::default()).unwrap().scheduler;
        let kind = if v_pred { "v_prediction" } else { "epsilon" };
        assert_eq!(scheduler["prediction_type"], kind);
        assert_eq!(scheduler.get("rescale_betas_zero_snr").is_some(), ztsnr);
    }
}

#[test]
fn what_tensors_show_corrects_the_published_configurations() {
    for family in SINGLE {
        let model = TinyModel::family(family);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.safetensors");
        model.write_single_file(&path, Single::default());
        let checkpoint = open(&path, &OpenOptions::default()).unwrap();
        let config = |name: &str| (&component(&checkpoint, name).config, model.config(name));
        let mut keys = vec![
            ("unet", "block_out_channels"),
            ("unet", "cross_attention_dim"),
            ("unet", "in_channels"),
            ("unet", "layers_per_block"),
            ("unet", "down_block_types"),
            ("unet", "up_block_types"),
            ("vae", "block_out_channels"),
            ("vae", "latent_channels"),
            ("vae", "layers_per_block"),
        ];
        if family == "sdxl" || family == "refiner" {
            keys.extend([
                ("unet", "transformer_layers_per_block"),
                ("unet", "projection_class_embeddings_input_dim"),
                ("text_encoder_2", "num_hidden_layers"),
                ("text_encoder_2", "hidden_size"),
                ("text_encoder_2", "projection_dim"),
            ]);
        } else {
            keys.extend([
                ("text_encoder", "num_hidden_layers"),
                ("text_encoder", "hidden_size"),
                ("text_encoder", "intermediate_size"),
            ]);
        }
        for (name, key) in keys {
            let (found, expected) = config(name);
            assert_eq!(found.get(key), expected.get(key), "{family} {name} {key}");
        }
    }
}

#[test]
fn folders_open_in_every_form() {
    let model = TinyModel::family("sd15");
    let plain = Form::default();
    let forms = [
        (
            Form {
                dtype: DType::F16,
                ..plain
            },
            StoredDType::F16,
        ),
        (
            Form {
                dtype: DType::Bf16,
                ..plain
            },
            StoredDType::Bf16,
        ),
        (
            Form {
                shard_bytes: Some(100_000),
                ..plain
            },
            StoredDType::F32,
        ),
        (
            Form {
                variant: Some("fp16"),
                dtype: DType::F16,
                ..plain
            },
            StoredDType::F16,
        ),
        (
            Form {
                variant: Some("fp16"),
                shard_bytes: Some(100_000),
                ..plain
            },
            StoredDType::F32,
        ),
        (
            Form {
                old_vae_names: true,
                ..plain
            },
            StoredDType::F32,
        ),
    ];
    for (form, dtype) in forms {
        let folder = tempfile::tempdir().unwrap();
        model.write_folder(folder.path(), &form);
        // A variant is found without being asked for when there is nothing else.
        for variant in [None, form.variant.map(str::to_owned)] {
            let options = OpenOptions {
                variant,
                ..OpenOptions::default()
            };
            assert_all(&open(folder.path(), &options).unwrap(), &model, dtype);
        }
    }
}

#[test]
fn a_variant_is_taken_only_when_asked_for() {
    let model = TinyModel::family("sd15");
    let folder = tempfile::tempdir().unwrap();
    model.write_folder(folder.path(), &Form::default());
    let half = Form {
        dtype: DType::F16,
        variant: Some("fp16"),
        ..Form::default()
    };
    model.write_folder(folder.path(), &half);
    assert_all(
        &open(folder.path(), &OpenOptions::default()).unwrap(),
        &model,
        StoredDType::F32,
    );
    let options = OpenOptions {
        variant: Some("fp16".into()),
        ..OpenOptions::default()
    };
    assert_all(
        &open(folder.path(), &options).unwrap(),
        &model,
        StoredDType::F16,
    );
}

/// A component as `torch.save` writes it.
fn write_bin(model: &TinyModel, component: &str, path: &Path) {
    let tensors: Vec<_> = model
        .tensors(component)
        .iter()
        .map(|spec| PickleTensor {
            name: spec.name.clone(),
            storage: "FloatStorage",
            shape: spec.shape.clone(),
            bytes: spec
                .values(component)
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        })
        .collect();
    write_archive(path, &tensors);
}

#[test]
fn folders_of_pickles_open_too() {
    let model = TinyModel::family("sd15");
    let folder = tempfile::tempdir().unwrap();
    model.write_folder(folder.path(), &Form::default());
    for (component, stem, pickle) in [
        (
            "unet",
            "diffusion_pytorch_model",
            "diffusion_pytorch_model.bin",
        ),
        ("text_encoder", "model", "pytorch_model.bin"),
    ] {
        let folder = folder.path().join(component);
        fs::remove_file(folder.join(format!("{stem}.safetensors"))).unwrap();
        write_bin(&model, component, &folder.join(pickle));
    }
    assert_all(
        &open(folder.path(), &OpenOptions::default()).unwrap(),
        &model,
        StoredDType::F32,
    );
}

#[test]
fn a_vae_of_ones_own_may_have_any_form() {
    let model = TinyModel::family("sd15");
    let half = Form {
        dtype: DType::F16,
        ..Form::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let (base, other) = (folder.path().join("model"), folder.path().join("other"));
    model.write_folder(&base, &half);
    model.write_folder(&other, &Form::default());
    let single = folder.path().join("single.safetensors");
    model.write_single_file(&single, Single::default());
    let pickled = folder.path().join("vae.pt");
    write_bin(&model, "vae", &pickled);
    // A file on its own, away from any configuration.
    let alone = folder.path().join("alone.safetensors");
    fs::copy(
        other.join("vae/diffusion_pytorch_model.safetensors"),
        &alone,
    )
    .unwrap();
    let old = folder.path().join("old");
    model.write_component(
        "vae",
        &old,
        &Form {
            old_vae_names: true,
            ..Form::default()
        },
    );
    let file = other.join("vae/diffusion_pytorch_model.safetensors");
    for vae in [
        other.clone(),
        other.join("vae"),
        file,
        single,
        pickled,
        alone,
        old,
    ] {
        let options = OpenOptions {
            vae: Some(vae.clone()),
            ..OpenOptions::default()
        };
        let checkpoint =
            open(&base, &options).unwrap_or_else(|error| panic!("{}: {error}", vae.display()));
        assert_is(&checkpoint.vae, &model, StoredDType::F32);
        assert_is(&checkpoint.unet, &model, StoredDType::F16);
        let (found, expected) = (&checkpoint.vae.config, model.config("vae"));
        for key in ["block_out_channels", "norm_num_groups", "scaling_factor"] {
            assert_eq!(
                found.get(key),
                expected.get(key),
                "{}: {key}",
                vae.display()
            );
        }
    }
}

#[test]
fn a_missing_vae_can_be_replaced() {
    let model = TinyModel::family("sd15");
    let folder = tempfile::tempdir().unwrap();
    model.write_folder(folder.path(), &Form::default());
    let vae = folder.path().join("elsewhere");
    fs::rename(folder.path().join("vae"), &vae).unwrap();
    let index = folder.path().join("model_index.json");
    let text = fs::read_to_string(&index).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["vae"] = serde_json::json!([null, null]);
    fs::write(&index, value.to_string()).unwrap();
    let error = open(folder.path(), &OpenOptions::default()).unwrap_err();
    assert!(
        error.message().contains("component vae is missing"),
        "{error}"
    );
    let options = OpenOptions {
        vae: Some(vae),
        ..OpenOptions::default()
    };
    assert_is(
        &open(folder.path(), &options).unwrap().vae,
        &model,
        StoredDType::F32,
    );
}

#[test]
fn the_report_counts_every_component() {
    let model = TinyModel::family("sdxl");
    let folder = tempfile::tempdir().unwrap();
    let half = Form {
        dtype: DType::F16,
        ..Form::default()
    };
    model.write_folder(folder.path(), &half);
    let source = ModelSource::Folder(folder.path().to_path_buf());
    let report = tintype::inspect(&source, &LoadOptions::default(), &mut |_: &Event| {}).unwrap();
    assert_eq!(
        (report.family.as_str(), report.prediction_type.as_deref()),
        ("sdxl", Some("epsilon"))
    );
    let names: Vec<_> = report
        .components
        .iter()
        .map(|part| part.name.as_str())
        .collect();
    assert_eq!(names, ["text_encoder", "text_encoder_2", "unet", "vae"]);
    for part in &report.components {
        let expected = model.tensors(&part.name);
        let parameters: usize = expected
            .iter()
            .map(tintype_testkit::TensorSpec::count)
            .sum();
        assert_eq!(part.tensors, expected.len());
        assert_eq!(part.parameters, parameters as u64);
        assert_eq!(part.stored_bytes, 2 * parameters as u64);
        assert_eq!(part.dtypes.get("F16"), Some(&expected.len()));
        assert!(
            part.missing.is_empty() && part.unused.is_empty(),
            "{part:?}"
        );
    }
    let stored: u64 = report.components.iter().map(|part| part.stored_bytes).sum();
    assert_eq!(stored, 2 * report.parameters);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["components"][2]["name"], "unet");
}
