//! Every component of every family against the tensors that diffusers and transformers computed, on both engines.
//!
//! `cargo test --test it models::parity -- --nocapture` prints the measured differences, which docs/parity.md quotes.

use tintype::HostTensor;
use tintype::models::clip::FinalNorm;
use tintype::models::unet::AddedConditioning;
use tintype::models::vae::{Decoder, Encoder};
use tintype::models::{
    self, ClipTextConfig, ClipTextModel, Conditioning, UNet2DCondition, UNetConfig, VaeConfig,
};
use tintype::nn::{Engine, FeatureMap};
use tintype_testkit::{Golden, GoldenTensor, TinyModel, compare};

use super::tiny::{component, engines, host};

/// Largest difference allowed, for values whose largest is about 1; sums of a few hundred f32 products taken in
/// another order differ by some 1e-6.
const TOLERANCE: f64 = 2e-5;

/// Collects comparisons, so that one run reports every difference.
#[derive(Default)]
struct Report {
    lines: Vec<String>,
    failures: Vec<String>,
}

impl Report {
    fn add(&mut self, engine: &Engine, expected: &GoldenTensor, found: &HostTensor) {
        let name = format!("{} on {}", expected.name, engine.kind());
        if expected.shape != found.shape() {
            let shape = found.shape();
            self.failures.push(format!(
                "{name}: shape {shape:?}, expected {:?}",
                expected.shape
            ));
            return;
        }
        let comparison = compare(&expected.shape, &expected.data, found.data());
        let peak = expected
            .data
            .iter()
            .fold(1.0, |peak: f32, x| peak.max(x.abs()));
        let line = format!("{name}: {comparison}");
        if comparison.max_abs > TOLERANCE * f64::from(peak) {
            self.failures.push(line.clone());
        }
        self.lines.push(line);
    }

    fn finish(&self) {
        assert!(self.failures.is_empty(), "{}", self.failures.join("\n"));
        assert!(!self.lines.is_empty(), "nothing was compared");
    }
}

fn unet(engine: &Engine, family: &str) -> UNet2DCondition {
    let unet = component(family, "unet");
    let config = UNetConfig::from_json("unet", &unet.config).unwrap();
    let build = |scope: &tintype::nn::Scope<'_>| UNet2DCondition::load(scope, &config);
    models::load(engine, &unet, |_, _| Ok(()), build).unwrap()
}

fn text_tower(engine: &Engine, family: &str, name: &str) -> ClipTextModel {
    let tower = component(family, name);
    let config = ClipTextConfig::from_json(name, &tower.config).unwrap();
    let build = |scope: &tintype::nn::Scope<'_>| ClipTextModel::load(scope, &config);
    models::load(engine, &tower, |_, _| Ok(()), build).unwrap()
}

/// (B, 1, C) as (B, C).
fn flat(tokens: &tintype::nn::Tokens) -> HostTensor {
    let shape = [tokens.batch(), tokens.channels()];
    HostTensor::new(shape, tokens.to_host().unwrap().into_data()).unwrap()
}

#[test]
fn text_towers_match_transformers() {
    let mut report = Report::default();
    for engine in engines() {
        for family in ["sd15", "sd21"] {
            let golden = Golden::of(family);
            let tower = text_tower(&engine, family, "text_encoder");
            for kind in ["cond", "uncond"] {
                let ids = [golden.tokens(kind)];
                let output = tower.forward(&ids, 0, FinalNorm::Apply).unwrap();
                assert!(output.pooled.is_none());
                let hidden = output.hidden.to_host().unwrap();
                report.add(&engine, &golden.tensor(&format!("text.{kind}")), &hidden);
            }
            let ids = [golden.tokens("cond")];
            let output = tower.forward(&ids, 1, FinalNorm::Skip).unwrap();
            let hidden = output.hidden.to_host().unwrap();
            report.add(&engine, &golden.tensor("text.penultimate"), &hidden);
        }
        let golden = Golden::of("sdxl");
        let tower = text_tower(&engine, "sdxl", "text_encoder");
        let output = tower
            .forward(&[golden.tokens("cond")], 0, FinalNorm::Apply)
            .unwrap();
        report.add(
            &engine,
            &golden.tensor("text.last"),
            &output.hidden.to_host().unwrap(),
        );
        // Both texts in one batch: each must come out as alone.
        let tower = text_tower(&engine, "sdxl", "text_encoder_2");
        let ids = [golden.tokens("cond_2"), golden.tokens("uncond_2")];
        let output = tower.forward(&ids, 1, FinalNorm::Skip).unwrap();
        let hidden = output.hidden.to_host().unwrap().item(0).unwrap();
        report.add(&engine, &golden.tensor("text_2.penultimate"), &hidden);
        let pooled = flat(&output.pooled.unwrap());
        report.add(
            &engine,
            &golden.tensor("text_2.pooled"),
            &pooled.item(0).unwrap(),
        );
        let uncond = golden.tensor("text.pooled_uncond");
        report.add(&engine, &uncond, &pooled.item(1).unwrap());
    }
    println!("{}", report.lines.join("\n"));
    report.finish();
}

/// Conditioning of item `index` of the recorded batch.
fn conditioning(golden: &Golden, index: usize) -> Conditioning {
    let item = |name: &str| host(&golden.tensor(name)).item(index).unwrap();
    let addition = golden
        .has("unet.in.text_embeds")
        .then(|| AddedConditioning {
            pooled: item("unet.in.text_embeds"),
            time_ids: item("unet.in.time_ids"),
        });
    Conditioning {
        context: item("unet.in.context"),
        addition,
        // The scales that the reference embedded for the two items.
        guidance_scale: golden
            .has("unet.in.timestep_cond")
            .then_some([7.5, 2.0][index]),
    }
}

#[test]
fn unets_match_diffusers() {
    let mut report = Report::default();
    for engine in engines() {
        for family in TinyModel::families() {
            let golden = Golden::of(&family);
            let model = unet(&engine, &family);
            let sample = host(&golden.tensor("unet.in.sample"));
            let timesteps = golden.tensor("unet.in.timestep").data;
            let outputs: Vec<HostTensor> = (0..2)
                .map(|i| {
                    let prepared = model.prepare(&conditioning(&golden, i)).unwrap();
                    let sample = sample.item(i).unwrap();
                    let sample = FeatureMap::from_host(&engine, &sample).unwrap();
                    let output = model.forward(&sample, f64::from(timesteps[i]), &prepared);
                    output.unwrap().to_host().unwrap()
                })
                .collect();
            let found = HostTensor::concat(&outputs).unwrap();
            report.add(&engine, &golden.tensor("unet.out"), &found);
        }
    }
    println!("{}", report.lines.join("\n"));
    report.finish();
}

/// Guidance runs both texts in one batch; neither may see the other.
#[test]
fn a_batch_gives_what_its_items_give_alone() {
    for engine in engines() {
        for family in ["sd15", "sdxl"] {
            let golden = Golden::of(family);
            let model = unet(&engine, family);
            let items = [conditioning(&golden, 0), conditioning(&golden, 1)];
            let join = |part: fn(&Conditioning) -> HostTensor| {
                HostTensor::concat(&items.each_ref().map(part)).unwrap()
            };
            let addition = items[0].addition.is_some().then(|| AddedConditioning {
                pooled: join(|item| item.addition.clone().unwrap().pooled),
                time_ids: join(|item| item.addition.clone().unwrap().time_ids),
            });
            let both = Conditioning {
                context: join(|item| item.context.clone()),
                addition,
                guidance_scale: None,
            };
            let sample = host(&golden.tensor("unet.in.sample"));
            let run = |sample: &HostTensor, conditioning: &Conditioning| {
                let prepared = model.prepare(conditioning).unwrap();
                let sample = FeatureMap::from_host(&engine, sample).unwrap();
                let output = model.forward(&sample, 500.25, &prepared).unwrap();
                output.to_host().unwrap()
            };
            let together = run(&sample, &both);
            for (i, item) in items.iter().enumerate() {
                let alone = run(&sample.item(i).unwrap(), item);
                let together = together.item(i).unwrap();
                let comparison = compare(alone.shape(), alone.data(), together.data());
                assert!(comparison.max_abs < 1e-5, "{family} item {i}: {comparison}");
            }
        }
    }
}

#[test]
fn the_autoencoder_matches_diffusers() {
    let mut report = Report::default();
    for (engine, family) in engines()
        .into_iter()
        .flat_map(|engine| [(engine.clone(), "sd15"), (engine, "latent16")])
    {
        let golden = Golden::of(family);
        let vae = component(family, "vae");
        let config = VaeConfig::from_json("vae", &vae.config).unwrap();
        let channels = config.latent_channels;
        let build = |scope: &tintype::nn::Scope<'_>| Decoder::load(scope, &config);
        let decoder = models::load(&engine, &vae, |_, _| Ok(()), build).unwrap();
        let latents = host(&golden.tensor("vae.decode.in"));
        let latents = FeatureMap::from_host(&engine, &latents).unwrap();
        let picture = decoder.forward(latents).unwrap().to_host().unwrap();
        report.add(&engine, &golden.tensor("vae.decode.out"), &picture);

        let build = |scope: &tintype::nn::Scope<'_>| Encoder::load(scope, &config);
        let encoder = models::load(&engine, &vae, |_, _| Ok(()), build).unwrap();
        let picture = host(&golden.tensor("vae.encode.in"));
        let picture = FeatureMap::from_host(&engine, &picture).unwrap();
        let moments = encoder.forward(&picture).unwrap();
        let part = |start| {
            moments
                .narrow_channels(start, channels)
                .unwrap()
                .to_host()
                .unwrap()
        };
        report.add(&engine, &golden.tensor("vae.encode.mean"), &part(0));
        report.add(
            &engine,
            &golden.tensor("vae.encode.logvar"),
            &part(channels),
        );
    }
    println!("{}", report.lines.join("\n"));
    report.finish();
}
