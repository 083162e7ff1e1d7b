//! Whole runs against diffusers' own.

use std::time::Instant;

use tintype::{CancelToken, Event, GeneratedImage, LoadOptions, SDModel};

use crate::Outcome;
use crate::golden::{Golden, Pictures};

/// Prints a row a case; those in `wanted`, or all.
pub(crate) fn table(
    source: &str,
    golden: &Golden,
    options: &LoadOptions,
    wanted: &[String],
) -> Outcome<()> {
    let cases = golden.cases(wanted);
    if cases.is_empty() {
        return Ok(());
    }
    let model = SDModel::load(source, options)?;
    println!(
        "| case | steps | latents: worst absolute | of the largest | picture: worst of 255 | PSNR, dB | s |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut failed = 0;
    for name in cases {
        let (config, pictures) = golden.run(&name)?;
        let start = Instant::now();
        let made = model.generate(&config, &mut |_: &Event| {}, &CancelToken::new())?;
        let row = Row::of(&made, &pictures);
        println!(
            "| {name} | {} | {:.1e} | {:.1e} | {} | {:.1} | {:.1} |",
            config.steps,
            row.latents,
            row.latents / row.largest,
            row.pixel,
            row.psnr,
            start.elapsed().as_secs_f64()
        );
        failed += usize::from(row.psnr < 50.0);
    }
    if failed > 0 {
        return Err(format!("{failed} pictures are below 50 dB").into());
    }
    Ok(())
}

/// How far a case is from diffusers.
struct Row {
    latents: f32,
    largest: f32,
    pixel: u8,
    psnr: f64,
}

impl Row {
    fn of(made: &[GeneratedImage], expected: &Pictures) -> Self {
        let latents = made.iter().flat_map(|picture| picture.latents.data());
        let differences = latents
            .zip(&expected.latents)
            .map(|(own, other)| (own - other).abs());
        let pixels: Vec<u8> = made
            .iter()
            .flat_map(|picture| picture.image.to_rgb8().into_raw())
            .collect();
        Self {
            latents: differences.fold(0.0, f32::max),
            largest: expected
                .latents
                .iter()
                .fold(0.0, |largest, value| value.abs().max(largest)),
            pixel: pixels
                .iter()
                .zip(&expected.pixels)
                .map(|(own, other)| own.abs_diff(*other))
                .max()
                .unwrap_or(0),
            psnr: psnr(&pixels, &expected.pixels),
        }
    }
}

/// Peak signal-to-noise ratio; infinite for equal pictures and where none was recorded.
fn psnr(pixels: &[u8], expected: &[u8]) -> f64 {
    if expected.is_empty() {
        return f64::INFINITY;
    }
    if pixels.len() != expected.len() {
        return 0.0;
    }
    let differences = pixels
        .iter()
        .zip(expected)
        .map(|(own, other)| f64::from(own.abs_diff(*other)));
    let mean = differences
        .map(|difference| difference * difference)
        .sum::<f64>()
        / expected.len() as f64;
    10.0 * (255.0 * 255.0 / mean).log10()
}
