//! The model in the box, trained: what the tiny random models cannot show.
//!
//! Pictures are judged by their nearest neighbour among the motifs the model was taught (`tests/data/box/thumbs.png`,
//! made by `tools/train/thumbs.py`), at 64 pixels a side. `tools/train/golden.py` records diffusers' picture.

mod drawn;
mod golden;
mod precision;
mod thumbs;

use image::{DynamicImage, RgbImage};
use tintype::{EngineKind, LoadOptions, Precision, SDModel, SamplingConfig};

use crate::support::generate;

/// The model on one of the engines.
fn load(engine: EngineKind) -> SDModel {
    let options = LoadOptions {
        engine,
        precision: Some(Precision::F32),
        ..LoadOptions::default()
    };
    SDModel::in_the_box(&options).expect("the model in the box loads")
}

/// The model on our own kernels.
fn load_as(precision: Precision) -> SDModel {
    let options = LoadOptions {
        engine: EngineKind::Cpu,
        precision: Some(precision),
        ..LoadOptions::default()
    };
    SDModel::in_the_box(&options).expect("the model in the box loads")
}

/// Ratio of the largest value to the mean error, in dB.
fn psnr(a: &RgbImage, b: &RgbImage) -> f64 {
    let squares: f64 = a
        .as_raw()
        .iter()
        .zip(b.as_raw())
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
        .sum();
    10.0 * (255.0_f64.powi(2) * a.as_raw().len() as f64 / squares).log10()
}

/// The model's own settings, with fewer steps: enough to tell a motif by.
fn asked(model: &SDModel, prompt: &str, seed: u64) -> SamplingConfig {
    SamplingConfig {
        prompt: prompt.to_owned(),
        seed: Some(seed),
        steps: 10,
        ..model.default_config()
    }
}

fn picture(model: &SDModel, config: &SamplingConfig) -> DynamicImage {
    generate(model, config).remove(0).image
}

/// Mean red, green and blue of the outer 16 pixels.
fn border(picture: &DynamicImage) -> [f64; 3] {
    const WIDE: u32 = 16;
    let picture: RgbImage = picture.to_rgb8();
    let (width, height) = picture.dimensions();
    let inside = |at: u32, side: u32| at >= WIDE && at < side - WIDE;
    let mut sums = [0.0; 3];
    let mut count = 0.0;
    for (x, y, pixel) in picture.enumerate_pixels() {
        if !(inside(x, width) && inside(y, height)) {
            for (sum, &value) in sums.iter_mut().zip(&pixel.0) {
                *sum += f64::from(value);
            }
            count += 1.0;
        }
    }
    sums.map(|sum| sum / count)
}
