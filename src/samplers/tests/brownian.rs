//! Brownian paths against torchsde's, and what makes them paths.

use serde_json::Value;

use crate::rng::{BrownianNoise, RngKind};

#[test]
fn noise_is_torchsdes_to_the_last_bit_but_one() {
    let record: Value = serde_json::from_str(include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/samplers/brownian.json"
    )))
    .unwrap();
    for case in record["cases"].as_array().unwrap() {
        let seed = case["seed"].as_u64().unwrap();
        let (min, max) = (case["min"].as_f64().unwrap(), case["max"].as_f64().unwrap());
        let mut path = BrownianNoise::new((RngKind::TorchCpu, &[seed]), &[1, 2, 2, 4], min, max);
        let sigmas: Vec<f32> = serde_json::from_value(case["sigmas"].clone()).unwrap();
        let rows: Vec<Vec<f32>> = serde_json::from_value(case["noise"].clone()).unwrap();
        for (pair, expected) in sigmas.windows(2).zip(rows) {
            let found = path.between(pair[0], pair[1]);
            for (found, expected) in found.data().iter().zip(expected) {
                assert!(
                    (found - expected).abs() <= 1e-6 * expected.abs().max(1.0),
                    "seed {seed}, {pair:?}: {found}, {expected}"
                );
            }
        }
    }
}

/// Increments of neighbouring pieces add up to that of the whole, whichever is asked first.
#[test]
fn a_path_does_not_depend_on_where_it_is_looked_at() {
    let path = || BrownianNoise::new((RngKind::TorchCpu, &[7, 8]), &[2, 1, 4, 4], 0.03, 14.6);
    let (top, middle, bottom) = (12.0_f32, 3.25_f32, 0.5_f32);
    let whole = path().between(top, bottom);
    let mut other = path();
    let (upper, lower) = (other.between(top, middle), other.between(middle, bottom));
    for ((whole, upper), lower) in whole.data().iter().zip(upper.data()).zip(lower.data()) {
        let sum = upper * (top - middle).sqrt() + lower * (middle - bottom).sqrt();
        let expected = whole * (top - bottom).sqrt();
        assert!((sum - expected).abs() < 1e-5, "{sum}, {expected}");
    }
    let again = other.between(top, bottom);
    for (again, whole) in again.data().iter().zip(whole.data()) {
        assert!((again - whole).abs() < 1e-5);
    }
}

#[test]
fn noise_outside_the_path_and_of_no_width_is_finite() {
    let mut path = BrownianNoise::new((RngKind::TorchCpu, &[1]), &[1, 1, 4, 4], 0.03, 14.6);
    for (from, to) in [(1.0, 1.0), (0.0, 5.0), (20.0, 15.0), (14.6, 0.0)] {
        assert_eq!(path.between(from, to).first_non_finite(), None);
    }
    let mut point = BrownianNoise::new((RngKind::TorchCpu, &[1]), &[1, 1, 4, 4], 2.0, 2.0);
    assert_eq!(point.between(2.0, 1.0).first_non_finite(), None);
}
