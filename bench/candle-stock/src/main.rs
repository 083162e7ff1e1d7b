//! Candle's own Stable Diffusion 1.5, timed part by part: the loop of its stable-diffusion example
//! (DDIM, guidance 7.5, f32, no flash attention) over `candle-transformers`' models.
//!
//! ```sh
//! RUSTFLAGS="-C target-cpu=native" cargo run --release -- <diffusers folder> [steps]
//! ```
//!
//! The prompt's token ids are given as numbers ("a photo of a cat"), so that nothing but the weights is
//! needed; the start latents are random, since only time and memory are measured.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{D, DType, Device, Tensor};
use candle_nn::Module;
use candle_transformers::models::stable_diffusion::{StableDiffusionConfig, build_clip_transformer};

const PROMPT: [u32; 7] = [49406, 320, 1125, 539, 320, 2368, 49407];
const GUIDANCE: f64 = 7.5;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().context("the first argument is a diffusers folder of SD1.5")?;
    let steps: usize = arguments.next().map_or(Ok(20), |text| text.parse())?;
    let folder = Path::new(&folder);
    let (device, dtype) = (Device::Cpu, DType::F32);
    let config = StableDiffusionConfig::v1_5(None, Some(512), Some(512));

    let start = Instant::now();
    let clip =
        build_clip_transformer(&config.clip, folder.join("text_encoder/model.safetensors"), &device, dtype)?;
    let text = Tensor::cat(&[encode(&clip, &[], &device)?, encode(&clip, &PROMPT, &device)?], 0)?;
    drop(clip);
    println!("text_s {:.2}", start.elapsed().as_secs_f64());

    let start = Instant::now();
    let vae = config.build_vae(folder.join("vae/diffusion_pytorch_model.safetensors"), &device, dtype)?;
    let unet = config.build_unet(
        folder.join("unet/diffusion_pytorch_model.safetensors"),
        &device,
        4,
        false,
        dtype,
    )?;
    println!("load_s {:.2}", start.elapsed().as_secs_f64());

    let mut scheduler = config.build_scheduler(steps)?;
    let mut latents = (Tensor::randn(0f32, 1f32, (1, 4, 64, 64), &device)? * scheduler.init_noise_sigma())?;
    let denoising = Instant::now();
    for (index, timestep) in scheduler.timesteps().to_vec().into_iter().enumerate() {
        let start = Instant::now();
        let input = scheduler.scale_model_input(Tensor::cat(&[&latents, &latents], 0)?, timestep)?;
        let output = unet.forward(&input, timestep as f64, &text)?.chunk(2, 0)?;
        let guided = (&output[0] + ((&output[1] - &output[0])? * GUIDANCE)?)?;
        latents = scheduler.step(&guided, timestep, &latents)?;
        println!("step {} {:.2}", index + 1, start.elapsed().as_secs_f64());
    }
    println!("denoise_s {:.2}", denoising.elapsed().as_secs_f64());

    let start = Instant::now();
    let picture = vae.decode(&(latents / 0.18215)?)?;
    let mean = picture.mean_all()?.to_scalar::<f32>()?;
    println!("decode_s {:.2} (mean {mean:.4})", start.elapsed().as_secs_f64());
    println!("peak_mib {}", peak_mib()?);
    Ok(())
}

/// The hidden states of `ids`, padded to 77 tokens, shape (1, 77, 768).
fn encode(clip: &impl Module, ids: &[u32], device: &Device) -> Result<Tensor> {
    let mut padded = if ids.is_empty() { vec![49406] } else { ids.to_vec() };
    padded.resize(77, 49407);
    Ok(clip.forward(&Tensor::new(padded, device)?.unsqueeze(0)?)?.contiguous()?.narrow(D::Minus1, 0, 768)?)
}

/// The most memory this process ever held, from the kernel's own count.
fn peak_mib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM")).context("no VmHWM line")?;
    let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib / 1024)
}
