//! Held to torch's own numbers, recorded by `tools/reference/rng_cases.py`.

use super::*;
use crate::host::HostTensor;
use crate::samplers::NoiseSource;

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
    let mut batch = SeededNoise::new(RngKind::TorchCpu, [42, 43, 44]);
    let (first, second) = (batch.noise(&[3, 4, 8, 8]), batch.noise(&[3, 4, 8, 8]));
    for (index, seed) in [42, 43, 44].into_iter().enumerate() {
        let mut alone = SeededNoise::new(RngKind::TorchCpu, [seed]);
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

fn recorded() -> serde_json::Value {
    serde_json::from_str(include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/seeds/seeds.json"
    )))
    .unwrap()
}

/// Of numbers that `tools/reference/seed_cases.py` recorded, the largest difference in units of the last place.
fn worst_ulp(part: &str, kind: RngKind) -> u32 {
    let mut worst = 0;
    for case in recorded()[part].as_array().unwrap() {
        let mut generator = kind.generator(case["seed"].as_u64().unwrap());
        for draw in case["draws"].as_array().unwrap() {
            let expected: Vec<u32> = serde_json::from_value(draw.clone()).unwrap();
            let mut found = vec![0.0; expected.len()];
            generator.fill_normal(&mut found);
            let ulps = found.iter().zip(&expected);
            worst = ulps.fold(worst, |worst, (found, &bits)| {
                worst.max(found.to_bits().abs_diff(bits))
            });
        }
    }
    worst
}

#[test]
fn philox_gives_the_known_answers_of_its_makers() {
    // Random123's kat_vectors, philox4x32 10.
    let cases = [
        (
            [0; 4],
            [0; 2],
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
        ),
        (
            [u32::MAX; 4],
            [u32::MAX; 2],
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
        ),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ];
    for (counter, key, expected) in cases {
        assert_eq!(philox::philox(counter, key), expected);
    }
}

#[test]
fn the_gpus_numbers_are_those_the_webui_documents() {
    // The usage notes of stable-diffusion-webui's modules/rng_philox.py, seed 0, shape (3, 4).
    let expected = [
        -0.924_662_6,
        -0.425_344_15,
        -2.643_845_7,
        0.145_183_88,
        -0.120_866_47,
        -0.579_725_6,
        -0.622_851_2,
        -0.328_387_1,
        -1.074_542_3,
        -0.363_144_07,
        -1.671_050_7,
        2.265_505,
    ];
    let found = PhiloxGenerator::new(0).randn([3, 4]);
    for (found, expected) in found.data().iter().zip(expected) {
        assert!(
            (found - expected).abs() < 1e-6_f32,
            "{found}, expected {expected}"
        );
    }
}

#[test]
fn every_draw_is_numpys_and_philoxs() {
    // The logarithm and the sine are the platform's, so that a last bit may differ.
    assert!(worst_ulp("numpy", RngKind::Numpy) <= 1);
    assert!(worst_ulp("philox", RngKind::TorchCuda) <= 1);
}

#[test]
fn starts_and_what_follows_are_the_webuis() {
    for case in recorded()["starts"].as_array().unwrap() {
        let number = |key: &str| case[key].as_u64();
        let seeds = PictureSeeds {
            rng: case["rng"].as_str().unwrap().parse().unwrap(),
            seed: number("seed").unwrap(),
            variation: number("variation").map(|seed| Variation {
                seed,
                strength: case["strength"].as_f64().unwrap(),
            }),
            resize_from: serde_json::from_value(case["resize_from"].clone()).unwrap(),
            eta_delta: case["ensd"].as_i64().unwrap_or(0),
            fresh_rng: None,
        };
        let [channels, height, width]: [usize; 3] =
            serde_json::from_value(case["shape"].clone()).unwrap();
        let shape = [1, channels, height, width];
        let (start, mut source) = seeds.start(shape).unwrap();
        let found = [start, source.noise(&shape), source.noise(&shape)];
        for (found, expected) in found.iter().zip(case["draws"].as_array().unwrap()) {
            let expected: Vec<f32> = serde_json::from_value(expected.clone()).unwrap();
            assert_eq!(found.data().len(), expected.len());
            for (found, expected) in found.data().iter().zip(expected) {
                // The arc cosine magnifies f32's rounding where two columns are nearly opposite.
                assert!(
                    (found - expected).abs() < 1e-5,
                    "{seeds:?}: {found}, expected {expected}"
                );
            }
        }
    }
}

#[test]
fn noise_on_the_way_may_have_a_generator_of_its_own() {
    let seeds = PictureSeeds {
        rng: RngKind::TorchCpu,
        seed: 7,
        variation: None,
        resize_from: None,
        eta_delta: 0,
        fresh_rng: Some(RngKind::TorchCuda),
    };
    let shape = [1, 4, 8, 8];
    let (start, mut source) = seeds.start(shape).unwrap();
    let first = |kind, seed| SeededNoise::new(kind, [seed]).noise(&shape);
    assert_eq!(start, first(RngKind::TorchCpu, 7));
    assert_eq!(source.noise(&shape), first(RngKind::TorchCuda, 7));
    let mut path = source.brownian(&shape, 0.03, 14.6);
    let mut alone = SeededNoise::new(RngKind::TorchCuda, [7]).brownian(&shape, 0.03, 14.6);
    assert_eq!(path.between(10.0, 5.0), alone.between(10.0, 5.0));
    let moved = PictureSeeds {
        eta_delta: 3,
        ..seeds
    };
    let (_, mut source) = moved.start(shape).unwrap();
    assert_eq!(source.noise(&shape), first(RngKind::TorchCuda, 10));
}

#[test]
fn the_ends_of_the_arc_are_the_two_noises() {
    let noise = |seed| SeededNoise::new(RngKind::TorchCpu, [seed]).noise(&[1, 4, 8, 8]);
    let (low, high) = (noise(1), noise(2));
    assert_eq!(start::slerp(0.0, &low, &high).unwrap(), low);
    assert_eq!(start::slerp(1.0, &low, &high).unwrap(), high);
}

#[test]
fn a_single_row_is_mixed_without_dividing_by_zero() {
    let row = |values: [f32; 4]| HostTensor::new([1, 1, 1, 4], values.into()).unwrap();
    let mixed = start::slerp(
        0.25,
        &row([1.0, -1.0, 2.0, 3.0]),
        &row([5.0, 3.0, -2.0, 3.0]),
    )
    .unwrap();
    assert_eq!(mixed.data(), [2.0, 0.0, 1.0, 3.0]);
}

#[test]
fn paths_of_another_generator_are_other_paths_of_the_same_spread() {
    let shape = [1, 4, 32, 32];
    let path = |kind| SeededNoise::new(kind, [3]).brownian(&shape, 0.03, 14.6);
    let mut seen: Vec<HostTensor> = Vec::new();
    for kind in RngKind::ALL {
        let noise = path(kind).between(10.0, 5.0);
        assert_eq!(noise, path(kind).between(10.0, 5.0));
        let square: f32 = noise.data().iter().map(|value| value * value).sum();
        assert!(
            (square / noise.data().len() as f32 - 1.0).abs() < 0.1,
            "{kind}: {square}"
        );
        assert!(!seen.contains(&noise), "{kind}");
        seen.push(noise);
    }
}

#[test]
fn names_are_read_in_any_case_and_unknown_ones_refused() {
    for kind in RngKind::ALL {
        assert_eq!(kind.name().parse::<RngKind>().unwrap(), kind);
        assert_eq!(kind.label().parse::<RngKind>().unwrap(), kind);
    }
    assert_eq!("Cuda".parse::<RngKind>().unwrap(), RngKind::TorchCuda);
    let error = "dice".parse::<RngKind>().unwrap_err();
    assert!(error.message().contains("dice"), "{error}");
}
