//! 16-bit products on trained weights and the activations of a real picture.

use tintype::backend::clip::AbsentNegative;
use tintype::events::Silent;
use tintype::models::{self, Conditioning, UNet2DCondition, UNetConfig};
use tintype::nn::{Engine, FeatureMap};
use tintype::rng::TorchGenerator;
use tintype::weights::{Checkpoint, OpenOptions};
use tintype::{HostTensor, ModelSource, Precision, SamplingConfig};
use tintype_kernels::Isa;

use super::{asked, load_as, psnr};
use crate::support::generate;

/// Signal to noise of `found` in dB.
fn snr(found: &HostTensor, expected: &HostTensor) -> f64 {
    let square = |v: f32| f64::from(v).powi(2);
    let signal: f64 = expected.data().iter().map(|&v| square(v)).sum();
    let pairs = found.data().iter().zip(expected.data());
    let noise: f64 = pairs.map(|(a, b)| square(a - b)).sum();
    10.0 * (signal / noise).log10()
}

#[test]
fn a_fast_pass_of_the_unet_is_within_40_db() {
    const LEAST_DB: f64 = 40.0;
    let model = load_as(Precision::F32);
    let config = asked(&model, "a photo of a cat", 1);
    let latents = generate(&model, &config).remove(0).latents;
    let text = model.text_encoder();
    let encoded = text.encode(&[&config.prompt], None).unwrap().remove(0);
    let empty = text
        .encode_negative(None, AbsentNegative::Empty, None)
        .unwrap();
    let context = HostTensor::concat(&[encoded.context.clone(), empty.context.clone()]).unwrap();
    let checkpoint = Checkpoint::open(
        &ModelSource::in_the_box(),
        &OpenOptions::default(),
        &mut Silent,
    )
    .unwrap();
    let parts = &checkpoint.unet;
    let unet_config = UNetConfig::from_json(&parts.name, &parts.config).unwrap();
    // The picture under noise of the same strength, as in the middle of a run.
    let noise = TorchGenerator::new(7).randn(latents.shape());
    let noisy = latents
        .zip_map(&noise, |x, noise| 0.7 * x + 0.7 * noise)
        .unwrap();
    let sample = HostTensor::concat(&[noisy.clone(), noisy]).unwrap();
    let forward = |precision| {
        let engine = Engine::cpu().with_precision(Some(precision)).unwrap();
        let unet = models::load(
            &engine,
            parts,
            |_, _| Ok(()),
            |scope| UNet2DCondition::load(scope, &unet_config),
        )
        .unwrap();
        let conditioning = Conditioning {
            context: context.clone(),
            addition: None,
            guidance_scale: None,
        };
        let prepared = unet.prepare(&conditioning).unwrap();
        let sample = FeatureMap::from_host(&engine, &sample).unwrap();
        unet.forward(&sample, 500.0, &prepared)
            .unwrap()
            .to_host()
            .unwrap()
    };
    for isa in Isa::available() {
        isa.with(|| {
            let found = snr(&forward(Precision::Fast), &forward(Precision::F32));
            println!("{}: {found:.1} dB", isa.name());
            assert!(found >= LEAST_DB, "{}: {found:.1} dB", isa.name());
        });
    }
}

#[test]
fn a_fast_picture_is_the_f32_picture() {
    const LEAST_DB: f64 = 35.0;
    let [full, fast] = [Precision::F32, Precision::Fast].map(load_as);
    for (prompt, seed) in [
        ("a photo of a cat", 1),
        ("a red apple on a blue background", 2),
    ] {
        let config = SamplingConfig {
            steps: 20,
            ..asked(&full, prompt, seed)
        };
        let [a, b] = [&full, &fast].map(|model| generate(model, &config).remove(0).image.to_rgb8());
        let found = psnr(&a, &b);
        println!("{prompt}: {found:.1} dB");
        assert!(found >= LEAST_DB, "{prompt}: {found:.1} dB");
    }
}
