//! Which tensors a model asks for, and what it says when a file has others.

use std::collections::BTreeMap;

use tintype::ErrorKind;
use tintype::models::{self, UNet2DCondition, UNetConfig};
use tintype::nn::Engine;
use tintype_testkit::TinyModel;

use super::tiny::{Formula, component};

/// Shapes without the trailing ones that tell a 1x1 convolution from a matrix.
fn matrix(shape: &[usize]) -> Vec<usize> {
    match shape {
        [o, i, 1, 1] => vec![*o, *i],
        _ => shape.to_vec(),
    }
}

#[test]
fn every_family_asks_for_exactly_the_tensors_that_diffusers_saves() {
    let mut failures = Vec::new();
    for family in TinyModel::families() {
        let model = TinyModel::family(&family);
        for name in model.components() {
            let expected: BTreeMap<String, Vec<usize>> = model
                .tensors(name)
                .iter()
                .map(|spec| (spec.name.clone(), matrix(&spec.shape)))
                .collect();
            let found: BTreeMap<String, Vec<usize>> =
                models::expected_tensors(&component(&family, name))
                    .unwrap_or_else(|error| panic!("{family}/{name}: {error}"))
                    .unwrap_or_else(|| panic!("{family}/{name} holds no network"))
                    .into_iter()
                    .map(|tensor| (tensor.name, matrix(&tensor.shape)))
                    .collect();
            let differs = |(key, shape): &(&String, &Vec<usize>)| found.get(*key) != Some(*shape);
            let missing: Vec<_> = expected.iter().filter(differs).collect();
            let extra: Vec<_> = found
                .keys()
                .filter(|key| !expected.contains_key(*key))
                .collect();
            if !missing.is_empty() || !extra.is_empty() {
                failures.push(format!(
                    "{family}/{name}: lacks {missing:?}, adds {extra:?}"
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn all_missing_and_misshapen_tensors_are_listed_at_once() {
    let mut source = Formula::of("sd15", "unet");
    source
        .specs
        .retain(|spec| !spec.name.starts_with("mid_block.resnets.0.norm"));
    for spec in &mut source.specs {
        if spec.name == "conv_in.weight" {
            spec.shape[1] = 9;
        }
    }
    let unet = source.into_component("sd15");
    let config = UNetConfig::from_json("unet", &unet.config).unwrap();
    let build = |scope: &tintype::nn::Scope<'_>| UNet2DCondition::load(scope, &config);
    let error = models::load(&Engine::cpu(), &unet, |_, _| Ok(()), build).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WeightMismatch);
    let message = error.message();
    for part in [
        "of 686 tensors 4 are missing and 1 have another shape",
        "mid_block.resnets.0.norm1.weight: missing, expected shape [48]",
        "mid_block.resnets.0.norm1.bias: missing, expected shape [48]",
        "mid_block.resnets.0.norm2.weight: missing, expected shape [48]",
        "mid_block.resnets.0.norm2.bias: missing, expected shape [48]",
        "conv_in.weight: found shape [24, 9, 3, 3], expected [24, 4, 3, 3]",
    ] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
}

#[test]
fn loading_reports_every_tensor_and_can_be_ended() {
    let unet = component("bk-sdm-tiny", "unet");
    let config = UNetConfig::from_json("unet", &unet.config).unwrap();
    let build = |scope: &tintype::nn::Scope<'_>| UNet2DCondition::load(scope, &config);
    let mut seen = Vec::new();
    let model = models::load(
        &Engine::cpu(),
        &unet,
        |done, total| {
            seen.push((done, total));
            Ok(())
        },
        build,
    );
    assert!(model.is_ok());
    let expected: Vec<(usize, usize)> = (0..=358).map(|done| (done, 358)).collect();
    assert_eq!(seen, expected);
    let cancel = |done, _total| match done {
        3 => Err(tintype::Error::new(ErrorKind::Cancelled, "stop")),
        _ => Ok(()),
    };
    let error = models::load(&Engine::cpu(), &unet, cancel, build).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[test]
fn text_towers_load_with_and_without_their_prefix() {
    let mut source = Formula::of("sd15", "text_encoder");
    for spec in &mut source.specs {
        spec.name = spec.name.replace("text_model.", "");
    }
    let plain = source.into_component("sd15");
    let names = |component| -> Vec<String> {
        let tensors = models::expected_tensors(component).unwrap().unwrap();
        tensors.into_iter().map(|tensor| tensor.name).collect()
    };
    assert!(names(&plain).contains(&"final_layer_norm.weight".to_owned()));
    let prefixed = component("sd15", "text_encoder");
    assert!(names(&prefixed).contains(&"text_model.final_layer_norm.weight".to_owned()));
}

/// Published sizes: SD 1.5's UNet has 859,520,964 parameters, 686 tensors.
#[test]
fn the_full_size_unet_of_sd15_has_its_published_number_of_parameters() {
    let mut source = Formula::of("sd15", "unet");
    source.specs.clear();
    let mut unet = source.into_component("sd15");
    unet.config["block_out_channels"] = vec![320, 640, 1280, 1280].into();
    unet.config["attention_head_dim"] = 8.into();
    unet.config["cross_attention_dim"] = 768.into();
    unet.config["norm_num_groups"] = 32.into();
    let tensors = models::expected_tensors(&unet).unwrap().unwrap();
    let parameters: usize = tensors
        .iter()
        .map(|tensor| tensor.shape.iter().product::<usize>())
        .sum();
    assert_eq!((tensors.len(), parameters), (686, 859_520_964));
}
