//! Every sampler on a tiny UNet against latents recorded by `tools/reference/unet_runs.py`.

use std::collections::BTreeMap;

use serde_json::Value;
use tintype::samplers::SAMPLERS;
use tintype::{EngineKind, SamplingConfig};

use crate::support::{generate, load, quick};

/// The bar for final latents, as a share of the largest where that is above 1.
const TOLERANCE: f32 = 1e-4;

/// The bar of one sampler.
fn bar(sampler: &str) -> f32 {
    match sampler {
        // It takes its steps by the size of an error, which rounding moves: 0.7e-4 to 1.0e-4 from one instruction set to another.
        "dpm_adaptive" => 3.0 * TOLERANCE,
        _ => TOLERANCE,
    }
}

/// Prints a table of `docs/samplers.md`: `cargo test --workspace --test it samplers_on_a_unet -- --nocapture`.
#[test]
fn samplers_on_a_unet_give_the_latents_of_the_reference() {
    let record: Value = serde_json::from_str(include_str!("../data/samplers/unet.json")).unwrap();
    let (_folder, sd15) = load("sd15", EngineKind::Auto);
    let (_other_folder, sd21) = load("sd21", EngineKind::Auto);
    let mut worst: BTreeMap<&str, (f32, f32, usize)> = BTreeMap::new();
    for case in record["cases"].as_array().unwrap() {
        let text = |key: &str| case[key].as_str().map(str::to_owned);
        let config = SamplingConfig {
            sampler: text("sampler"),
            schedule: text("schedule"),
            steps: usize::try_from(case["steps"].as_u64().unwrap()).unwrap(),
            guidance_scale: case["guidance"].as_f64().unwrap(),
            seed: record["seed"].as_u64(),
            ..quick()
        };
        let model = match case["family"].as_str() {
            Some("sd15") => &sd15,
            _ => &sd21,
        };
        let found = generate(model, &config).remove(0).latents;
        let expected: Vec<f32> = serde_json::from_value(case["latents"].clone()).unwrap();
        let size = expected
            .iter()
            .fold(1.0_f32, |size, value| size.max(value.abs()));
        assert_eq!(found.data().len(), expected.len());
        let mut difference = 0.0_f32;
        for (found, expected) in found.data().iter().zip(&expected) {
            assert!(found.is_finite(), "{config:?}");
            difference = difference.max((found - expected).abs() / size);
        }
        let name = case["sampler"].as_str().unwrap();
        let entry = worst.entry(name).or_insert((0.0, 0.0, 0));
        let as_it_stands = entry.1.max(difference * size);
        *entry = (entry.0.max(difference), as_it_stands, entry.2 + 1);
        if difference > bar(name) {
            println!(
                "{name} {} {:?}: {difference}",
                config.steps, config.schedule
            );
        }
    }
    let mut above = Vec::new();
    println!("\n| sampler | runs | worst share | as it stands |\n|---|---|---|---|");
    for row in SAMPLERS {
        let Some((difference, as_it_stands, runs)) = worst.get(row.name) else {
            // The same method with another B(h), which diffusers cannot end at sigma 0.
            assert_eq!(row.name, "uni_pc", "{} has no recorded run", row.name);
            continue;
        };
        println!(
            "| `{}` | {runs} | {difference:.1e} | {as_it_stands:.1e} |",
            row.name
        );
        if *difference > bar(row.name) {
            above.push(row.name);
        }
    }
    assert!(above.is_empty(), "{above:?}");
}
