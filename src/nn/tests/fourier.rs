//! FreeU's two changes of a map, against the transform written out.

use std::f64::consts::TAU;

use super::*;

/// The inverse transform's real part after frequencies 0 and -1 of both directions took `factor`, where there are more
/// than one along a direction.
fn filtered(channel: &[f32], (height, width): (usize, usize), factor: f64) -> Vec<f64> {
    let angle =
        |k: usize, position: usize, extent: usize| TAU * (k * position) as f64 / extent as f64;
    let low = |k: usize, extent: usize| k == 0 || k == extent - 1;
    let mut out = vec![0.0; height * width];
    for (ky, kx) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let phase = |at: usize| angle(ky, at / width, height) + angle(kx, at % width, width);
        let (mut real, mut imaginary) = (0.0, 0.0);
        for (at, &value) in channel.iter().enumerate() {
            real += f64::from(value) * phase(at).cos();
            imaginary -= f64::from(value) * phase(at).sin();
        }
        let gain = if low(ky, height) && low(kx, width) {
            factor
        } else {
            1.0
        };
        for (at, value) in out.iter_mut().enumerate() {
            let part = real * phase(at).cos() - imaginary * phase(at).sin();
            *value += gain * part / (height * width) as f64;
        }
    }
    out
}

#[test]
fn low_frequencies_are_those_of_the_transform() {
    for engine in engines() {
        for (seed, size) in [
            (1, (1, 1)),
            (2, (1, 5)),
            (3, (4, 1)),
            (4, (2, 2)),
            (5, (4, 6)),
            (6, (5, 3)),
        ] {
            let host = noise(seed, &[2, 3, size.0, size.1]);
            let map = FeatureMap::from_host(&engine, &host).unwrap();
            for factor in [0.0, 0.2, 1.7] {
                let found = map
                    .scale_low_frequencies(factor)
                    .unwrap()
                    .to_host()
                    .unwrap();
                let pixels = size.0 * size.1;
                let channels = host.data().chunks(pixels);
                let expected = channels.flat_map(|channel| filtered(channel, size, factor));
                for (own, expected) in found.data().iter().zip(expected) {
                    let distance = (f64::from(*own) - expected).abs();
                    assert!(
                        distance < 2e-6,
                        "{size:?} times {factor}: {own} and {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_first_channels_are_scaled_and_no_others() {
    for engine in engines() {
        let host = noise(9, &[2, 5, 2, 3]);
        let map = FeatureMap::from_host(&engine, &host).unwrap();
        let found = map.scale_first_channels(2, 1.5).unwrap().to_host().unwrap();
        for (at, (own, before)) in found.data().iter().zip(host.data()).enumerate() {
            let factor = if at / 6 % 5 < 2 { 1.5 } else { 1.0 };
            assert_eq!(own.to_bits(), (before * factor).to_bits());
        }
        assert!(map.scale_first_channels(6, 1.5).is_err());
    }
}
