//! Settings and checkpoints that cannot be served: each a named error with what was found and what was expected.

use std::fs;
use std::path::Path;

use tintype::prompt::{PromptOptions, PromptSyntax};
use tintype::samplers::schedule::CustomLevels;
use tintype::{CancelToken, EngineKind, ErrorKind, Event, LoadOptions, SDModel, SamplingConfig};
use tintype_testkit::{Form, TinyModel};

use crate::support::{load, quick};

/// A change to a good request, the kind of error it gives and words of its message.
type Case = (fn(&mut SamplingConfig), ErrorKind, &'static [&'static str]);

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn settings_out_of_range_are_named() {
    use ErrorKind::InvalidConfig;
    let (_folder, model) = load("sd15", EngineKind::Auto);
    let cases: [Case; 21] = [
        (
            |c| c.width = 100,
            InvalidConfig,
            &["width is 100", "multiple of 8", "use 96 or 104"],
        ),
        (|c| c.height = 0, InvalidConfig, &["height is 0"]),
        (
            |c| c.width = 65_536,
            InvalidConfig,
            &["width is 65536", "4096"],
        ),
        (|c| c.steps = 0, InvalidConfig, &["steps is 0", "1 to"]),
        (
            |c| c.steps = 1001,
            InvalidConfig,
            &["steps is 1001", "1000"],
        ),
        (|c| c.batch = 0, InvalidConfig, &["batch is 0"]),
        (
            |c| c.guidance_scale = f64::NAN,
            InvalidConfig,
            &["guidance_scale is NaN"],
        ),
        (
            |c| c.guidance_scale = -1.0,
            InvalidConfig,
            &["guidance_scale is -1"],
        ),
        (
            |c| c.guidance_scale = f64::INFINITY,
            InvalidConfig,
            &["guidance_scale is inf"],
        ),
        (
            |c| c.guidance_rescale = 1.5,
            InvalidConfig,
            &["guidance_rescale is 1.5", "0 to 1"],
        ),
        (
            |c| c.noise.eta = Some(-0.1),
            InvalidConfig,
            &["eta is -0.1"],
        ),
        (
            |c| c.clip_skip = Some(0),
            InvalidConfig,
            &["clip_skip is 0"],
        ),
        (
            |c| c.clip_skip_negative = true,
            InvalidConfig,
            &["clip_skip_negative is set without clip_skip"],
        ),
        (
            |c| c.clip_skip = Some(99),
            InvalidConfig,
            &["clip_skip is 99"],
        ),
        (
            |c| c.sampler = Some("eulr".into()),
            InvalidConfig,
            &["eulr", "did you mean", "euler"],
        ),
        (
            |c| c.schedule = Some("karas".into()),
            InvalidConfig,
            &["karas", "karras"],
        ),
        (
            |c| {
                c.sampler = Some("dpmpp_2m".into());
                c.noise.eta = Some(0.5);
            },
            InvalidConfig,
            &["eta", "dpmpp_2m"],
        ),
        (
            |c| c.levels = Some(CustomLevels::Sigmas(vec![1.0, 2.0])),
            InvalidConfig,
            &["sigmas do not fall", "2 follows 1"],
        ),
        (
            |c| c.levels = Some(CustomLevels::Sigmas(vec![2.0, f64::NAN])),
            InvalidConfig,
            &["NaN"],
        ),
        (
            |c| c.guidance.image_scale = Some(1.5),
            ErrorKind::Unsupported,
            &["image_scale is 1.5", "no picture to guide by"],
        ),
        (
            |c| c.levels = Some(CustomLevels::Sigmas(vec![1e-50])),
            InvalidConfig,
            &["too near"],
        ),
    ];
    let mut failures = Vec::new();
    for (change, kind, words) in cases {
        let mut config = quick();
        change(&mut config);
        let result = model.generate(&config, &mut |_: &Event| {}, &CancelToken::new());
        match result {
            Ok(_) => failures.push(format!("accepted: {config:?}")),
            Err(error) => {
                let text = error.to_string();
                if error.kind() != kind || words.iter().any(|word| !text.contains(word)) {
                    failures.push(format!(
                        "{words:?} expected, found {:?}: {text}",
                        error.kind()
                    ));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn words_beyond_the_text_encoder_are_named_in_a_warning() {
    let (_folder, model) = load("sd15", EngineKind::Auto);
    let mut warnings = Vec::new();
    let prompt = format!("{} zebra", "cat ".repeat(75));
    let config = SamplingConfig {
        prompt,
        text: PromptOptions {
            syntax: PromptSyntax::Plain,
            ..PromptOptions::default()
        },
        ..quick()
    };
    let mut observer = |event: &Event| {
        if let Event::Warning(text) = event {
            warnings.push(text.clone());
        }
    };
    model
        .generate(&config, &mut observer, &CancelToken::new())
        .unwrap();
    assert!(
        warnings.len() == 1 && warnings[0].contains("zebra"),
        "{warnings:?}"
    );
}

#[test]
fn broken_weights_give_an_error_that_names_the_step() {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::family("sd15").write_folder(folder.path(), &Form::default());
    poison(
        &folder
            .path()
            .join("unet/diffusion_pytorch_model.safetensors"),
        "conv_out.bias",
    );
    let model = SDModel::load(folder.path().to_str().unwrap(), &LoadOptions::default()).unwrap();
    let error = model
        .generate(&quick(), &mut |_: &Event| {}, &CancelToken::new())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NonFinite);
    assert!(
        error.message().contains("evaluation 1") && error.message().contains("NaN"),
        "{error}"
    );
}

#[test]
fn a_broken_vae_gives_an_error_and_no_black_picture() {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::family("sd15").write_folder(folder.path(), &Form::default());
    poison(
        &folder
            .path()
            .join("vae/diffusion_pytorch_model.safetensors"),
        "decoder.conv_out.bias",
    );
    let model = SDModel::load(folder.path().to_str().unwrap(), &LoadOptions::default()).unwrap();
    let error = model
        .generate(&quick(), &mut |_: &Event| {}, &CancelToken::new())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NonFinite);
}

/// Overwrites the first element of a tensor in a safetensors file with NaN.
fn poison(path: &Path, tensor: &str) {
    let mut bytes = fs::read(path).unwrap();
    let header_length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header_length]).unwrap();
    let start = 8 + header_length + header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(path, bytes).unwrap();
}

#[test]
fn checkpoints_for_other_work_load_for_inspection_and_refuse_to_generate() {
    for (family, word) in [("inpaint", "nine channels"), ("refiner", "base model")] {
        let folder = tempfile::tempdir().unwrap();
        TinyModel::family(family).write_folder(folder.path(), &Form::default());
        let error =
            SDModel::load(folder.path().to_str().unwrap(), &LoadOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{family}: {error}");
        assert!(error.message().contains(word), "{family}: {error}");

        let source = tintype::ModelSource::Folder(folder.path().to_path_buf());
        let report =
            tintype::inspect(&source, &LoadOptions::default(), &mut |_: &Event| {}).unwrap();
        assert!(
            report.obstacle.is_some_and(|text| text.contains(word)),
            "{family}"
        );
        assert!(report.parameters > 10_000, "{family}");
        for component in &report.components {
            assert!(
                component.missing.is_empty() && component.wrong_shape.is_empty(),
                "{component:?}"
            );
        }
    }
}

#[test]
fn every_missing_and_misshapen_tensor_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::family("sd15").write_folder(folder.path(), &Form::default());
    let config = folder.path().join("unet/config.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    let layers = json["layers_per_block"].as_u64().unwrap();
    json["layers_per_block"] = (layers + 1).into();
    fs::write(&config, json.to_string()).unwrap();
    let error =
        SDModel::load(folder.path().to_str().unwrap(), &LoadOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WeightMismatch);
    let text = error.to_string();
    let missing = text.matches("missing, expected").count();
    assert!(missing > 5, "only {missing} missing tensors listed: {text}");
    assert!(text.contains("unet"), "{text}");
}

#[test]
fn a_device_that_is_not_there_is_a_clear_error() {
    let options = LoadOptions {
        device: "cuda:9".parse().unwrap(),
        ..LoadOptions::default()
    };
    let (folder, _model) = load("sd15", EngineKind::Auto);
    let error = SDModel::load(folder.path().to_str().unwrap(), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Device);
    assert!(error.hint().is_some(), "{error}");
}
