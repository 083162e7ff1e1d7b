//! Single components against diffusers' own tensors.

use tintype::backend::{VaeDecoder, VaeEncoder};
use tintype::models::unet::AddedConditioning;
use tintype::models::{self, Conditioning, UNet2DCondition, UNetConfig};
use tintype::nn::{Engine, FeatureMap};
use tintype::weights::{Checkpoint, OpenOptions};
use tintype::{Device, Event, HostTensor, LoadOptions, ModelSource};

use crate::Outcome;
use crate::golden::Golden;

/// Prints a row for each component that diffusers recorded.
pub(crate) fn table(source: &str, golden: &Golden, options: &LoadOptions) -> Outcome<()> {
    let engine = Engine::new(options.engine, Device::Cpu, None)?.with_memory(options.memory)?;
    let source = ModelSource::parse(source)?;
    let checkpoint = Checkpoint::open(&source, &OpenOptions::default(), &mut |_: &Event| {})?;
    println!("| component | worst absolute | of the largest | root mean square, relative |");
    println!("|---|---|---|---|");
    // A recorded guidance embedding differs between the items of its batch, which no run of ours does.
    if golden.has_forward() && !golden.has("unet.in.timestep_cond") {
        row(
            "UNet forward",
            &golden.tensor("unet.out")?,
            &unet(&engine, &checkpoint, golden)?,
        );
    }
    if golden.has("vae.decode.out") {
        let decoder = VaeDecoder::load(&engine, &checkpoint.vae, |_, _| Ok(()))?;
        // The pipeline's latents are scaled; the record's are not.
        let scale = decoder.config().scaling_factor as f32;
        let latents = golden.tensor("vae.decode.in")?.map(|value| value * scale);
        row(
            "VAE decode",
            &golden.tensor("vae.decode.out")?,
            &decoder.decode(&latents)?,
        );
    }
    if golden.has("vae.encode.mean") {
        let encoder = VaeEncoder::load(&engine, &checkpoint.vae, |_, _| Ok(()))?;
        let found = encoder.encode(&golden.tensor("vae.encode.in")?)?;
        row(
            "VAE encode, mean",
            &golden.tensor("vae.encode.mean")?,
            &found.mean,
        );
    }
    println!();
    Ok(())
}

fn unet(engine: &Engine, checkpoint: &Checkpoint, golden: &Golden) -> Outcome<HostTensor> {
    let component = &checkpoint.unet;
    let config = UNetConfig::from_json(&component.name, &component.config)?;
    let unet = models::load(
        engine,
        component,
        |_, _| Ok(()),
        |scope| UNet2DCondition::load(scope, &config),
    )?;
    let sample = golden.tensor("unet.in.sample")?;
    let timesteps = golden.tensor("unet.in.timestep")?;
    let context = golden.context()?;
    let mut outputs = Vec::new();
    // One by one: the items of the recorded batch are at timesteps of their own.
    for (index, &timestep) in timesteps.data().iter().enumerate() {
        let conditioning = unet.prepare(&Conditioning {
            context: context.item(index)?,
            addition: addition(golden, index)?,
            guidance_scale: None,
        })?;
        let sample = FeatureMap::from_host(engine, &sample.item(index)?)?;
        outputs.push(
            unet.forward(&sample, f64::from(timestep), &conditioning)?
                .to_host()?,
        );
    }
    Ok(HostTensor::concat(&outputs)?)
}

/// SDXL's micro-conditioning of one item of the recorded batch.
fn addition(golden: &Golden, index: usize) -> Outcome<Option<AddedConditioning>> {
    if !golden.has("unet.in.text_embeds") {
        return Ok(None);
    }
    Ok(Some(AddedConditioning {
        pooled: golden.tensor("unet.in.text_embeds")?.item(index)?,
        time_ids: golden.tensor("unet.in.time_ids")?.item(index)?,
    }))
}

fn row(name: &str, expected: &HostTensor, found: &HostTensor) {
    let pairs = || {
        expected
            .data()
            .iter()
            .zip(found.data())
            .map(|(&e, &f)| (f64::from(e), f64::from(f)))
    };
    let worst = pairs().map(|(e, f)| (e - f).abs()).fold(0.0, f64::max);
    let largest = pairs().map(|(e, _)| e.abs()).fold(0.0, f64::max);
    let error: f64 = pairs().map(|(e, f)| (e - f).powi(2)).sum();
    let energy: f64 = pairs().map(|(e, _)| e * e).sum();
    println!(
        "| {name} | {worst:.1e} | {:.1e} | {:.1e} |",
        worst / largest,
        (error / energy).sqrt()
    );
}
