//! Every sampler on a tiny UNet against latents recorded by `tools/reference/unet_runs.py`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tintype::samplers::{NoiseOptions, SAMPLERS};
use tintype::{EngineKind, SamplingConfig};

use crate::support::{generate, load, quick};

/// The bar for final latents, whatever their size.
const TOLERANCE: f32 = 1e-4;

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
            noise: NoiseOptions {
                eta: case["eta"].as_f64(),
                ..NoiseOptions::default()
            },
            ..quick()
        };
        let model = match case["family"].as_str() {
            Some("sd15") => &sd15,
            _ => &sd21,
        };
        let found = generate(model, &config).remove(0).latents;
        let expected: Vec<f32> = serde_json::from_value(case["latents"].clone()).unwrap();
        assert_eq!(found.data().len(), expected.len());
        let (mut difference, mut largest) = (0.0_f32, 0.0_f32);
        for (found, expected) in found.data().iter().zip(&expected) {
            assert!(found.is_finite(), "{config:?}");
            difference = difference.max((found - expected).abs());
            largest = largest.max(expected.abs());
        }
        let name = case["sampler"].as_str().unwrap();
        let entry = worst.entry(name).or_insert((0.0, 0.0, 0));
        *entry = (entry.0.max(difference), entry.1.max(largest), entry.2 + 1);
        if difference > TOLERANCE {
            let case = json!({"family": case["family"], "sampler": name, "steps": case["steps"], "eta": case["eta"]});
            println!("{case}: {difference}");
        }
    }
    let mut above = Vec::new();
    println!("\n| sampler | runs | worst difference | largest latent |\n|---|---|---|---|");
    for row in SAMPLERS {
        let Some((difference, largest, runs)) = worst.get(row.name) else {
            // The same method with another B(h), which diffusers cannot end at sigma 0.
            assert_eq!(row.name, "uni_pc", "{} has no recorded run", row.name);
            continue;
        };
        println!(
            "| `{}` | {runs} | {difference:.1e} | {largest:.1} |",
            row.name
        );
        if *difference > TOLERANCE {
            above.push(row.name);
        }
    }
    assert!(above.is_empty(), "{above:?}");
}
