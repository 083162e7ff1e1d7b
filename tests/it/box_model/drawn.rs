//! What is drawn follows the prompt, the seed, the negative prompt and guidance, with every sampler.

use tintype::backend::vae::VaeEncoder;
use tintype::events::Silent;
use tintype::image_io::{image_to_tensor, tensor_to_images};
use tintype::nn::Engine;
use tintype::samplers::SAMPLERS;
use tintype::weights::{Checkpoint, OpenOptions};
use tintype::{EngineKind, HostTensor, ModelSource, SamplingConfig, VaeDecoder};

use super::thumbs::Thumbs;
use super::{asked, border, load, picture, psnr};
use crate::support::{generate, load_path};

#[test]
fn each_prompt_draws_its_motif_and_a_seed_repeats_it() {
    let (model, thumbs) = (load(EngineKind::Cpu), Thumbs::read());
    let mut pictures = Vec::new();
    let mut wrong = Vec::new();
    for motif in ["cat", "rocket", "octopus", "pizza"] {
        let made = picture(&model, &asked(&model, &format!("a photo of a {motif}"), 1));
        let nearest = thumbs.nearest(&made);
        // "pizza" is taught as "slice of pizza".
        if !nearest.motif.contains(motif) || nearest.style != "3d" {
            wrong.push(format!("{motif}: {} in {}", nearest.motif, nearest.style));
        }
        pictures.push(made);
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    let again = picture(&model, &asked(&model, "a photo of a cat", 1));
    assert_eq!(again, pictures[0]);
    let other = picture(&model, &asked(&model, "a photo of a cat", 2));
    assert_ne!(other, pictures[0]);
    assert_eq!(thumbs.nearest(&other).motif, "cat");
}

#[test]
fn every_sampler_draws_the_motif() {
    let (model, thumbs) = (load(EngineKind::Cpu), Thumbs::read());
    let mut wrong = Vec::new();
    for sampler in SAMPLERS {
        // The model starts at a sigma of 4,096 (zero terminal SNR), and its own schedule goes down to 100 in one step, over
        // which a mean of two slopes means nothing: those samplers want a schedule that takes it in small ones.
        let (steps, schedule) = match sampler.name {
            "heun" => (20, Some("karras")),
            "dpm_2_a" => (40, Some("karras")),
            _ => (20, None),
        };
        let config = SamplingConfig {
            sampler: Some(sampler.name.to_owned()),
            schedule: schedule.map(str::to_owned),
            steps,
            ..asked(&model, "a photo of a cat", 1)
        };
        let nearest = thumbs.nearest(&picture(&model, &config));
        if nearest.motif != "cat" {
            wrong.push(format!("{}: {}", sampler.name, nearest.motif));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// How pink a border is: pink is more red than green.
fn pinkness(picture: &image::DynamicImage) -> f64 {
    let [red, green, _] = border(picture);
    red - green
}

#[test]
fn guidance_goes_towards_the_prompt_and_away_from_the_negative_prompt() {
    let model = load(EngineKind::Cpu);
    // One step shows the estimate from pure noise, in which the background is decided and little else.
    let made = |prompt: &str, negative: Option<&str>, guidance_scale| {
        pinkness(&picture(
            &model,
            &SamplingConfig {
                negative_prompt: negative.map(str::to_owned),
                guidance_scale,
                steps: 1,
                ..asked(&model, prompt, 1)
            },
        ))
    };
    let pink = "a photo of a cat on a pink background";
    let (none, some, more) = (
        made(pink, None, 1.0),
        made(pink, None, 2.0),
        made(pink, None, 3.0),
    );
    assert!(none < some && some < more, "{none} {some} {more}");
    let plain = made("a photo of a cat", None, 3.0);
    let away = made("a photo of a cat", Some(pink), 3.0);
    assert!(away < plain && plain < none, "{away} {plain} {none}");
}

#[test]
fn a_negative_prompt_that_is_the_prompt_takes_guidance_away() {
    let model = load(EngineKind::Cpu);
    let prompt = "a photo of a dog on a blue background";
    let made = |negative: Option<&str>, guidance_scale| {
        let config = SamplingConfig {
            negative_prompt: negative.map(str::to_owned),
            guidance_scale,
            steps: 3,
            ..asked(&model, prompt, 3)
        };
        generate(&model, &config).remove(0).latents
    };
    let unguided = made(None, 1.0);
    let cancelled = made(Some(prompt), 7.5);
    let largest = |a: &HostTensor, b: &HostTensor| {
        let pairs = a.data().iter().zip(b.data());
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert!(largest(&unguided, &cancelled) < 1e-3);
    assert!(largest(&unguided, &made(None, 7.5)) > 0.1);
}

#[test]
fn a_picture_survives_the_autoencoder() {
    /// The latents are a 96th of the picture's numbers.
    const LEAST_DB: f64 = 26.0;
    let source = ModelSource::in_the_box();
    let checkpoint = Checkpoint::open(&source, &OpenOptions::default(), &mut Silent).unwrap();
    let engine = Engine::cpu();
    let encoder = VaeEncoder::load(&engine, &checkpoint.vae, |_, _| Ok(())).unwrap();
    let decoder = VaeDecoder::load(&engine, &checkpoint.vae, |_, _| Ok(())).unwrap();
    let thumbs = Thumbs::read();
    for (motif, style) in [("cat", "3d"), ("red apple", "flat"), ("rocket", "3d")] {
        let picture = thumbs.enlarged(motif, style);
        let encoded = encoder.encode(&image_to_tensor(&picture)).unwrap();
        assert_eq!(encoded.mean.shape(), [1, 16, 16, 16]);
        let latents = encoder.scale(&encoded.mean).unwrap();
        let decoded = tensor_to_images(&decoder.decode(&latents).unwrap()).unwrap();
        let found = psnr(&picture.to_rgb8(), &decoded[0].to_rgb8());
        assert!(found > LEAST_DB, "{motif}, {style}: {found:.1} dB");
        assert_eq!(thumbs.nearest(&decoded[0]).motif, motif);
    }
}

#[test]
fn the_embedded_model_is_the_one_in_the_repository() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tintype-box");
    let (embedded, disk) = (load(EngineKind::Cpu), load_path(&folder, EngineKind::Cpu));
    assert_eq!(embedded.default_config(), disk.default_config());
    let config = SamplingConfig {
        steps: 2,
        ..asked(&disk, "a photo of a cat", 1)
    };
    let latents = |model| generate(model, &config).remove(0).latents;
    assert_eq!(latents(&embedded), latents(&disk));
}
