//! The webui's UniPC on a tiny UNet against latents recorded by `tools/reference/webui_timesteps.py`; the other samplers
//! are in `samplers.rs`.

use serde_json::Value;
use tintype::{EngineKind, SamplingConfig};

use crate::support::{generate, load, quick};

/// The bar for final latents, whatever their size.
const TOLERANCE: f32 = 1e-4;

/// Prints a row of a table of `docs/samplers.md`: `cargo test --workspace --test it uni_pc_on_a_unet -- --nocapture`.
#[test]
fn uni_pc_on_a_unet_gives_the_latents_of_the_reference() {
    let record: Value =
        serde_json::from_str(include_str!("../data/samplers/webui_unet.json")).unwrap();
    let models = ["sd15", "sd21"].map(|family| (family, load(family, EngineKind::Auto)));
    let cases = record["cases"].as_array().unwrap();
    let (mut worst, mut largest) = (0.0_f32, 0.0_f32);
    for case in cases {
        let config = SamplingConfig {
            sampler: case["sampler"].as_str().map(str::to_owned),
            steps: usize::try_from(case["steps"].as_u64().unwrap()).unwrap(),
            guidance_scale: case["guidance"].as_f64().unwrap(),
            seed: record["seed"].as_u64(),
            ..quick()
        };
        let family = case["family"].as_str().unwrap();
        let (_, (_folder, model)) = models.iter().find(|(name, _)| *name == family).unwrap();
        let found = generate(model, &config).remove(0).latents;
        let expected: Vec<f32> = serde_json::from_value(case["latents"].clone()).unwrap();
        assert_eq!(found.data().len(), expected.len());
        for (found, expected) in found.data().iter().zip(&expected) {
            assert!(found.is_finite(), "{config:?}");
            worst = worst.max((found - expected).abs());
            largest = largest.max(expected.abs());
        }
    }
    println!(
        "| `uni_pc` | {} | {worst:.1e} | {largest:.1} |",
        cases.len()
    );
    assert!(worst <= TOLERANCE, "{worst}");
}
