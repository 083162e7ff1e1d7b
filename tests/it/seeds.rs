//! Whole runs under every source of noise.

use tintype::backend::Recorded;
use tintype::metadata::Parameters;
use tintype::rng::RngKind;
use tintype::{EngineKind, ErrorKind, GeneratedImage, SDModel, SamplingConfig, SeedOptions};

use crate::support::{generate, load, quick};

fn one(model: &SDModel, seed: u64, seeds: SeedOptions, sampler: &str) -> GeneratedImage {
    let config = SamplingConfig {
        seed: Some(seed),
        seeds,
        sampler: Some(sampler.into()),
        ..quick()
    };
    generate(model, &config).remove(0)
}

fn varied(rng: RngKind, strength: f64) -> SeedOptions {
    SeedOptions {
        rng,
        variation_seed: Some(7),
        variation_strength: strength,
        ..SeedOptions::default()
    }
}

#[test]
fn every_generator_repeats_and_a_variation_lies_between_its_seeds() {
    let (_folder, model) = load("sd15", EngineKind::Auto);
    let mut seen = Vec::new();
    for rng in RngKind::ALL {
        let plain = SeedOptions {
            rng,
            ..SeedOptions::default()
        };
        let latents = |seed, seeds| one(&model, seed, seeds, "euler").latents;
        let first = latents(42, plain);
        assert_eq!(latents(42, plain), first, "{rng}: the same seed repeats");
        assert_eq!(latents(42, varied(rng, 0.0)), first, "{rng}: strength 0");
        assert_eq!(
            latents(42, varied(rng, 1.0)),
            latents(7, plain),
            "{rng}: strength 1"
        );
        let between = latents(42, varied(rng, 0.4));
        assert!(between != first && between != latents(7, plain), "{rng}");
        assert!(!seen.contains(&first), "{rng} has numbers of its own");
        seen.push(first);
        for sampler in ["euler_a", "dpmpp_sde"] {
            let picture = |seeds| one(&model, 42, seeds, sampler).latents;
            assert_eq!(picture(plain), picture(plain), "{rng}, {sampler}");
        }
    }
}

#[test]
fn a_batch_of_variations_shares_its_seed_and_equals_single_runs() {
    let (_folder, model) = load("sd15", EngineKind::Auto);
    let config = SamplingConfig {
        batch: 2,
        seeds: varied(RngKind::TorchCuda, 0.3),
        sampler: Some("euler_a".into()),
        ..quick()
    };
    for (index, picture) in (0..).zip(generate(&model, &config)) {
        assert_eq!(picture.seed, 42);
        let mut seeds = config.seeds;
        seeds.variation_seed = Some(7 + index);
        assert_eq!(one(&model, 42, seeds, "euler_a").latents, picture.latents);
    }
}

#[test]
fn the_settings_of_a_picture_make_it_again() {
    let (_folder, model) = load("sd15", EngineKind::Auto);
    let asked = SeedOptions {
        rng: RngKind::TorchCuda,
        variation_seed: None,
        variation_strength: 0.25,
        resize_from: Some((32, 48)),
        eta_delta: 31337,
        fresh_rng: Some(RngKind::TorchCuda),
    };
    let picture = one(&model, 42, asked, "euler_a");
    let text = picture.parameters.to_text();
    for part in [
        "Variation seed: ",
        "Variation seed strength: 0.25, Seed resize from: 32x48, ENSD: 31337, RNG: NV",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    let read = Recorded::read(&Parameters::parse(&text), quick()).unwrap();
    let seeds = read.config.seeds;
    assert!(seeds.variation_seed.is_some(), "the drawn seed is reported");
    assert_eq!(generate(&model, &read.config)[0].latents, picture.latents);
    let plain = one(&model, 42, SeedOptions::default(), "euler_a").parameters;
    assert!(plain.to_text().contains("RNG: CPU"));
    let read = Recorded::read(&plain, quick()).unwrap();
    assert_eq!(read.config.seeds, SeedOptions::default());
}

#[test]
fn resize_and_delta_change_what_they_should() {
    let (_folder, model) = load("sd15", EngineKind::Auto);
    let latents = |seeds, sampler| one(&model, 42, seeds, sampler).latents;
    let plain = SeedOptions::default();
    let resized = |size| SeedOptions {
        resize_from: Some(size),
        ..plain
    };
    let delta = SeedOptions {
        eta_delta: 31337,
        ..plain
    };
    assert_eq!(latents(resized((64, 64)), "euler"), latents(plain, "euler"));
    assert_ne!(latents(resized((32, 64)), "euler"), latents(plain, "euler"));
    assert_eq!(latents(delta, "euler"), latents(plain, "euler"));
    assert_ne!(latents(delta, "euler_a"), latents(plain, "euler_a"));
    assert_eq!(latents(delta, "dpmpp_sde"), latents(plain, "dpmpp_sde"));
}

#[test]
fn bad_seed_options_are_named() {
    let (_folder, model) = load("sd15", EngineKind::Auto);
    let plain = SeedOptions::default();
    let numpy = SeedOptions {
        rng: RngKind::Numpy,
        ..plain
    };
    let from = |size| SeedOptions {
        resize_from: Some(size),
        ..plain
    };
    let cases = [
        (
            varied(RngKind::TorchCpu, 1.5),
            1,
            "variation_strength is 1.5",
        ),
        (
            varied(RngKind::TorchCpu, f64::NAN),
            1,
            "variation_strength is NaN",
        ),
        (from((0, 64)), 1, "seed_resize_from's width is 0"),
        (
            from((64, 60)),
            1,
            "seed_resize_from's height is 60, expected a multiple of 8",
        ),
        (
            numpy,
            1 << 32,
            "seed is 4294967296, expected at most 4294967295",
        ),
    ];
    for (seeds, seed, message) in cases {
        let config = SamplingConfig {
            seed: Some(seed),
            seeds,
            ..quick()
        };
        let error = model
            .generate(
                &config,
                &mut |_: &tintype::Event| {},
                &tintype::CancelToken::new(),
            )
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.message().contains(message), "{error}");
    }
}
