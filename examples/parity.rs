//! Holds a checkpoint to what diffusers made of it and prints the table of `docs/parity.md`:
//! `cargo run --release --example parity -- MODEL FOLDER_WITH_GOLDEN [--engine candle] [--case NAME]..`.
//!
//! The folder holds `golden.json` and `golden.safetensors` as `tools/reference` writes them.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tintype::{
    CancelToken, CandleSDBackend, GeneratedImage, HostTensor, LoadOptions, SDModel, SamplingConfig,
};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments = Arguments::parse()?;
    let golden = Golden::open(&arguments.golden)?;
    let options = LoadOptions {
        engine: arguments.engine.parse()?,
        ..LoadOptions::default()
    };
    let backend = CandleSDBackend::new(SDModel::load(&arguments.model, &options)?)?;
    println!("| case | steps | latents: worst absolute | picture: worst of 255 | PSNR, dB | s |");
    println!("|---|---|---|---|---|---|");
    let mut failed = 0;
    for name in golden.cases(&arguments.cases) {
        let (config, pictures) = golden.run(&name)?;
        let start = std::time::Instant::now();
        let made = backend
            .generate(config.clone(), |_: &tintype::Event| {}, CancelToken::new())
            .await;
        match made {
            Ok(made) => {
                let row = compare(&made, &pictures);
                println!(
                    "| {name} | {} | {:.1e} | {} | {:.1} | {:.1} |",
                    config.steps,
                    row.latents,
                    row.pixel,
                    row.psnr,
                    start.elapsed().as_secs_f64()
                );
                failed += usize::from(row.psnr < 50.0 || row.latents > 0.05);
            }
            Err(error) => {
                println!("| {name} | {} | {error} | | | |", config.steps);
                failed += 1;
            }
        }
    }
    if failed > 0 {
        return Err(format!("{failed} cases failed or are below 50 dB").into());
    }
    Ok(())
}

/// What was typed.
struct Arguments {
    model: String,
    golden: PathBuf,
    engine: String,
    cases: Vec<String>,
}

impl Arguments {
    fn parse() -> Outcome<Self> {
        let mut words = std::env::args().skip(1);
        let model = words.next().ok_or("the first argument is a model")?;
        let golden = words
            .next()
            .ok_or("the second argument is a folder with golden.json")?
            .into();
        let (mut engine, mut cases) = ("auto".to_owned(), Vec::new());
        while let Some(flag) = words.next() {
            let value = words.next().ok_or("each flag takes a value")?;
            match flag.as_str() {
                "--engine" => engine = value,
                "--case" => cases.push(value),
                _ => return Err(format!("unknown flag {flag}").into()),
            }
        }
        Ok(Self {
            model,
            golden,
            engine,
            cases,
        })
    }
}

/// diffusers' record.
struct Golden {
    json: Value,
    tensors: Vec<u8>,
}

/// What diffusers made: final latents and pixels, all pictures of the case one after the other.
struct Pictures {
    latents: Vec<f32>,
    pixels: Vec<u8>,
}

impl Golden {
    fn open(folder: &Path) -> Outcome<Self> {
        let json = serde_json::from_slice(&std::fs::read(folder.join("golden.json"))?)?;
        let tensors = std::fs::read(folder.join("golden.safetensors"))?;
        Ok(Self { json, tensors })
    }

    /// The cases wanted, or all, in the file's order.
    fn cases(&self, wanted: &[String]) -> Vec<String> {
        let all = self.json["cases"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone());
        all.filter(|name| wanted.is_empty() || wanted.contains(name))
            .collect()
    }

    /// diffusers counts skipped layers from the one it uses anyhow: the last, or for SDXL the last but one.
    fn default_layer(&self) -> usize {
        if self.json["tokens"].get("cond_2").is_some() {
            2
        } else {
            1
        }
    }

    fn run(&self, name: &str) -> Outcome<(SamplingConfig, Pictures)> {
        let case = &self.json["cases"][name];
        let text = |key: &str| case[key].as_str().map(str::to_owned);
        let count = |key: &str| case[key].as_u64().map(|n| n as usize);
        let seeds: Vec<u64> = case["seeds"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64)
            .collect();
        let config = SamplingConfig {
            prompt: text("prompt").unwrap_or_default(),
            negative_prompt: text("negative"),
            steps: count("steps").ok_or("no steps")?,
            guidance_scale: case["guidance"].as_f64().ok_or("no guidance")?,
            guidance_rescale: case["guidance_rescale"].as_f64().unwrap_or(0.0),
            seed: seeds.first().copied(),
            width: count("width").ok_or("no width")?,
            height: count("height").ok_or("no height")?,
            batch: seeds.len(),
            sampler: text("sampler").map(|name| name.trim_end_matches("-eta05").to_owned()),
            eta: case["eta"].as_f64().unwrap_or(0.0),
            clip_skip: count("clip_skip").map(|left_out| left_out + self.default_layer()),
            ..SamplingConfig::default()
        };
        let tensors = safetensors::SafeTensors::deserialize(&self.tensors)?;
        let latents = tensors
            .tensor(&format!("run.{name}.latents"))?
            .data()
            .to_vec();
        let latents = latents
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        // Some cases record latents only.
        let pixels = tensors
            .tensor(&format!("run.{name}.image"))
            .map(|image| image.data().to_vec());
        let pixels = pixels.unwrap_or_default();
        Ok((config, Pictures { latents, pixels }))
    }
}

/// How far a case is from diffusers.
struct Row {
    latents: f32,
    pixel: u8,
    psnr: f64,
}

fn compare(made: &[GeneratedImage], expected: &Pictures) -> Row {
    let latents = made
        .iter()
        .flat_map(|picture| HostTensor::into_data(picture.latents.clone()));
    let latents = latents
        .zip(&expected.latents)
        .map(|(own, other)| (own - other).abs())
        .fold(0.0, f32::max);
    let pixels: Vec<u8> = made
        .iter()
        .flat_map(|picture| picture.image.to_rgb8().into_raw())
        .collect();
    let differences = || {
        pixels
            .iter()
            .zip(&expected.pixels)
            .map(|(&own, &other)| own.abs_diff(other))
    };
    let squares: f64 = differences()
        .map(|difference| f64::from(difference).powi(2))
        .sum();
    let mean = squares / expected.pixels.len() as f64;
    let psnr = match expected.pixels.len() {
        0 => f64::INFINITY,
        length if length == pixels.len() => 10.0 * (255.0 * 255.0 / mean).log10(),
        _ => 0.0,
    };
    Row {
        latents,
        pixel: differences().max().unwrap_or(0),
        psnr,
    }
}
