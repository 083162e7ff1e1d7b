//! The backend's view of the networks: prompts to embeddings, latents to pictures and back.

use std::sync::Arc;

use tintype::backend::clip::{AbsentNegative, ClipTextEncoder, TextLayer};
use tintype::backend::vae::{VaeDecoder, VaeEncoder};
use tintype::models::VaeConfig;
use tintype::nn::Engine;
use tintype::tokenizer::ClipTokenizer;
use tintype::weights::Component;
use tintype::{ErrorKind, HostTensor};
use tintype_testkit::{Golden, compare};

use super::tiny::{component, host};

fn sd15_text() -> ClipTextEncoder {
    let tower = component("sd15", "text_encoder");
    let towers = vec![(&tower, ClipTokenizer::embedded())];
    ClipTextEncoder::load(&Engine::cpu(), towers, TextLayer::LastNormed, |_, _, _| {
        Ok(())
    })
    .unwrap()
}

fn sdxl_text() -> ClipTextEncoder {
    let towers = [
        component("sdxl", "text_encoder"),
        component("sdxl", "text_encoder_2"),
    ];
    let padded = ClipTokenizer::embedded().with_pad("!").unwrap();
    let towers = vec![
        (&towers[0], ClipTokenizer::embedded()),
        (&towers[1], padded),
    ];
    let layer = TextLayer::PenultimatePooled;
    ClipTextEncoder::load(&Engine::cpu(), towers, layer, |_, _, _| Ok(())).unwrap()
}

fn assert_same(golden: &Golden, name: &str, found: &HostTensor) {
    let expected = golden.tensor(name);
    assert_eq!(expected.shape, found.shape(), "{name}");
    let comparison = compare(&expected.shape, &expected.data, found.data());
    assert!(comparison.max_abs < 2e-5, "{name}: {comparison}");
}

#[test]
fn prompts_become_what_diffusers_gives_the_unet() {
    let golden = Golden::of("sd15");
    let encoded = sd15_text().encode(&["a photo of a cat", ""], None).unwrap();
    assert_same(&golden, "text.cond", &encoded[0].context);
    assert_same(&golden, "text.uncond", &encoded[1].context);
    assert!(encoded[0].pooled.is_none() && encoded[0].lost.is_none());

    let golden = Golden::of("sdxl");
    let text = sdxl_text();
    let encoded = text.encode(&["a photo of a cat", ""], None).unwrap();
    for (embeddings, kind) in encoded.iter().zip(["cond", "uncond"]) {
        assert_same(&golden, &format!("text.{kind}"), &embeddings.context);
        let pooled = embeddings.pooled.as_ref().unwrap();
        assert_same(&golden, &format!("text.pooled_{kind}"), pooled);
    }
    let explicit = text
        .encode_negative(Some(""), AbsentNegative::Zeros, None)
        .unwrap();
    assert_eq!(explicit.context, encoded[1].context);
    let zeros = text
        .encode_negative(None, AbsentNegative::Zeros, None)
        .unwrap();
    assert_eq!(zeros.context, HostTensor::zeros(encoded[1].context.shape()));
    assert_eq!(zeros.pooled, Some(HostTensor::zeros([1, 40])));
    let empty = text
        .encode_negative(None, AbsentNegative::Empty, None)
        .unwrap();
    assert_eq!(empty.context, encoded[1].context);
}

#[test]
fn a_text_is_encoded_once_for_each_clip_skip() {
    let text = sd15_text();
    let first = text.encode(&["a cat"], None).unwrap();
    let again = text.encode(&["a cat", "a cat"], Some(1)).unwrap();
    assert!(Arc::ptr_eq(&first[0], &again[0]) && Arc::ptr_eq(&first[0], &again[1]));
    let skipped = text.encode(&["a cat"], Some(2)).unwrap();
    assert_ne!(first[0].context, skipped[0].context);
    for clip_skip in [0, 100] {
        let error = text.encode(&["a cat"], Some(clip_skip)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        let expected = format!("clip_skip is {clip_skip}, expected 1 to ");
        assert!(error.message().starts_with(&expected), "{error}");
    }
}

#[test]
fn words_beyond_the_tower_are_named() {
    let prompt = format!("{}and the end of it", "cat ".repeat(75));
    let encoded = sd15_text().encode(&[&prompt], None).unwrap();
    assert_eq!(encoded[0].context.shape()[1], 77);
    assert_eq!(encoded[0].lost.as_deref(), Some("and the end of it"));
}

#[test]
fn a_tower_without_projection_is_refused_where_pooled_text_is_needed() {
    let tower = component("sd15", "text_encoder");
    let towers = vec![(&tower, ClipTokenizer::embedded())];
    let layer = TextLayer::PenultimatePooled;
    let error = ClipTextEncoder::load(&Engine::cpu(), towers, layer, |_, _, _| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(
        error.message().contains("CLIPTextModelWithProjection"),
        "{error}"
    );
}

fn decoder(vae: &Component) -> VaeDecoder {
    VaeDecoder::load(&Engine::cpu(), vae, |_, _| Ok(())).unwrap()
}

#[test]
fn latents_are_brought_from_the_unets_scale() {
    let golden = Golden::of("sd15");
    let vae = component("sd15", "vae");
    let scaling = VaeConfig::from_json("vae", &vae.config)
        .unwrap()
        .scaling_factor as f32;
    let latents = host(&golden.tensor("vae.decode.in")).map(|x| x * scaling);
    let picture = decoder(&vae).decode(&latents).unwrap();
    assert_same(&golden, "vae.decode.out", &picture);

    let wrong = decoder(&vae)
        .decode(&HostTensor::zeros([1, 9, 4, 4]))
        .unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Internal);
}

/// Playground 2.5 gives each latent channel its own mean and deviation.
#[test]
fn latents_with_their_own_mean_and_deviation_are_brought_back() {
    let golden = Golden::of("sd15");
    let mut vae = component("sd15", "vae");
    let (mean, std) = ([-1.5, 2.0, -1.25, 2.5], [8.0, 6.0, 6.5, 5.0]);
    vae.config["latents_mean"] = mean.to_vec().into();
    vae.config["latents_std"] = std.to_vec().into();
    vae.config["scaling_factor"] = 0.5.into();
    let unscaled = host(&golden.tensor("vae.decode.in"));
    let encoder = VaeEncoder::load(&Engine::cpu(), &vae, |_, _| Ok(())).unwrap();
    let latents = encoder.scale(&unscaled).unwrap();
    let plane = 6 * 4;
    let expected = (unscaled.data()[plane] - mean[1] as f32) * 0.5 / std[1] as f32;
    assert!((latents.data()[plane] - expected).abs() < 1e-6);
    assert_same(
        &golden,
        "vae.decode.out",
        &decoder(&vae).decode(&latents).unwrap(),
    );
}

#[test]
fn pictures_become_a_distribution_of_latents() {
    let golden = Golden::of("sd15");
    let vae = component("sd15", "vae");
    let encoder = VaeEncoder::load(&Engine::cpu(), &vae, |_, _| Ok(())).unwrap();
    let distribution = encoder
        .encode(&host(&golden.tensor("vae.encode.in")))
        .unwrap();
    assert_same(&golden, "vae.encode.mean", &distribution.mean);
    assert_same(&golden, "vae.encode.logvar", &distribution.logvar);
    let noise = HostTensor::zeros([1, 4, 6, 4]).map(|_| 2.0);
    let sample = distribution.sample(&noise).unwrap();
    let (mean, logvar) = (distribution.mean.data()[5], distribution.logvar.data()[5]);
    assert!((sample.data()[5] - (mean + 2.0 * (logvar / 2.0).exp())).abs() < 1e-5);
    assert!(
        distribution
            .sample(&HostTensor::zeros([1, 4, 6, 5]))
            .is_err()
    );
}
