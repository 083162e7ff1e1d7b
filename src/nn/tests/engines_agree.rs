//! Sizes beyond the fixtures: the engines against each other, f16 against f32, one thread against many.

use super::block::run;
use super::*;

/// Two f32 engines sum in different orders.
const F32: Tolerance = Tolerance {
    absolute: 2e-5,
    relative: 1e-5,
};
/// f16 keeps eleven bits; a block of four layers loses some more.
const F16: Tolerance = Tolerance {
    absolute: 2e-2,
    relative: 1e-2,
};

#[test]
fn both_engines_compute_the_same_block() {
    let [cpu, candle] = engines().map(|engine| run(&engine));
    assert_eq!(cpu.shape(), [2, 7, 33, 17]);
    assert_close("cpu against candle", &cpu, &candle, F32);
}

#[test]
fn f16_on_the_processor_computes_the_same_block() {
    let half = run(&Engine::new(EngineKind::Auto, Device::Cpu, Some(DType::F16)).unwrap());
    assert_close("f16 against f32", &half, &run(&Engine::cpu()), F16);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for engine in engines() {
        let [one, two, five] = [1, 2, 5].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| run(&engine))
        });
        assert_eq!(one, two, "{}", engine.kind());
        assert_eq!(one, five, "{}", engine.kind());
    }
}

#[test]
fn large_pictures_keep_their_group_statistics() {
    // 512 x 512 elements a channel with a mean far from zero, where a single f32 sum drifts.
    let host = noise(7, &[1, 2, 512, 512]).map(|v| v + 40.0);
    let expected: Vec<f32> = host
        .data()
        .chunks(512 * 512)
        .flat_map(|channel| {
            let count = channel.len() as f64;
            let mean = channel.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
            let square = |v: f32| (f64::from(v) - mean).powi(2);
            let deviation = (channel.iter().map(|&v| square(v)).sum::<f64>() / count + 1e-6).sqrt();
            channel
                .iter()
                .map(move |&v| ((f64::from(v) - mean) / deviation) as f32)
        })
        .collect();
    let expected = HostTensor::new(host.shape(), expected).unwrap();
    for engine in engines() {
        let tensors =
            Memory::default()
                .with("weight", &[2], &[1.0; 2])
                .with("bias", &[2], &[0.0; 2]);
        let scope = Scope::load(&engine, tensors.arc(), |_| Ok(()));
        let layer = GroupNorm::load(&scope, 2, 2, 1e-6).unwrap();
        let x = FeatureMap::from_host(&engine, &host).unwrap();
        let y = layer
            .forward(&x, Activation::None)
            .unwrap()
            .to_host()
            .unwrap();
        let tolerance = Tolerance {
            absolute: 2e-5,
            relative: 1e-5,
        };
        assert_close(&format!("{}", engine.kind()), &y, &expected, tolerance);
    }
}
