//! Held to torch's own numbers, recorded by `tools/reference/rng_cases.py`.

use super::*;

#[test]
fn seed_0_gives_torchs_16_numbers() {
    let expected = [
        -1.1258, -1.1524, -0.2506, -0.4339, 0.8487, 0.6920, -0.3160, -2.1152, 0.3223, -1.2633,
        0.3500, 0.3081, 0.1198, 1.2377, 1.1168, -0.2473,
    ];
    let found = TorchGenerator::new(0).randn([16]);
    for (index, (found, expected)) in found.data().iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() < 6e-5,
            "{index}: {found}, expected {expected}"
        );
    }
}

#[test]
fn seed_42_gives_torchs_latents() {
    let latents = TorchGenerator::new(42).randn([1, 4, 64, 64]);
    let data = latents.data();
    let first = [
        1.9269, 1.4873, 0.9007, -2.1055, 0.6784, -1.2345, -0.0431, -1.6047,
    ];
    let last = [-0.6358, 0.9728, -0.2934];
    for (found, expected) in data
        .iter()
        .zip(first)
        .chain(data[data.len() - 3..].iter().zip(last))
    {
        assert!(
            (found - expected).abs() < 6e-5,
            "{found}, expected {expected}"
        );
    }
    let sum: f64 = data.iter().map(|&value| f64::from(value)).sum();
    assert!((sum - 149.7648).abs() < 1e-3, "{sum}");
}

#[test]
fn a_picture_does_not_depend_on_its_batch() {
    let shape = [1, 4, 8, 8];
    let mut batch = TorchNoise::new([42, 43, 44]);
    let (first, second) = (batch.noise(&[3, 4, 8, 8]), batch.noise(&[3, 4, 8, 8]));
    for (index, seed) in [42, 43, 44].into_iter().enumerate() {
        let mut alone = TorchNoise::new([seed]);
        assert_eq!(first.item(index).unwrap(), alone.noise(&shape));
        assert_eq!(second.item(index).unwrap(), alone.noise(&shape));
    }
}

#[test]
fn every_draw_is_torchs_to_the_last_bit() {
    let fixture: serde_json::Value = serde_json::from_str(include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/samplers/rng.json"
    )))
    .unwrap();
    let mut failures = Vec::new();
    for case in fixture["cases"].as_array().unwrap() {
        let seed = case["seed"].as_u64().unwrap();
        let mut generator = TorchGenerator::new(seed);
        for draw in case["draws"].as_array().unwrap() {
            let shape: Vec<usize> = serde_json::from_value(draw["shape"].clone()).unwrap();
            let found = generator.randn(shape.clone());
            let last = found.data()[found.data().len() - 1];
            let hash = fnv1a64(found.data());
            if u64::from(last.to_bits()) != draw["last"].as_u64().unwrap()
                || format!("{hash:016x}") != draw["hash"].as_str().unwrap()
            {
                failures.push(format!("seed {seed}, shape {shape:?}: last value {last}"));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

fn fnv1a64(values: &[f32]) -> u64 {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}
