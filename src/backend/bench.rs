//! One stage of a picture at a time, for measurement: `tintype bench`.
//!
//! The work is that of `bench/peers`, so that several engines can be held against each other: the noise of seed 42, the
//! texts "" and "a photo of a cat", timestep 621.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::model::SDModel;
use super::sampling::SamplingConfig;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::models::unet::PreparedConditioning;
use crate::nn::{FeatureMap, Spent, Work};
use crate::rng::TorchGenerator;

const PROMPT: &str = "a photo of a cat";
const SEED: u64 = 42;
const TIMESTEP: f64 = 621.0;

/// A part of the work on a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The texts through the first text tower, in one pass.
    Text,
    /// One pass of the UNet over the whole batch: a guided step has a batch of two.
    Unet,
    /// Latents to a picture.
    Vae,
}

impl Stage {
    /// All of them, in a picture's order.
    pub const ALL: [Self; 3] = [Self::Text, Self::Unet, Self::Vae];

    /// Its name, as profiles have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Unet => "unet",
            Self::Vae => "vae",
        }
    }
}

impl FromStr for Stage {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|stage| stage.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::invalid(format!("stage is {text:?}, expected one of {names}"))
        })
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A model with inputs for each stage.
#[derive(Debug)]
pub struct Bench<'a> {
    model: &'a SDModel,
    texts: Vec<&'static str>,
    conditioning: PreparedConditioning,
    /// (batch, C, h, w): the same noise for each item.
    sample: HostTensor,
    /// (1, C, h, w).
    latents: HostTensor,
}

impl<'a> Bench<'a> {
    /// Makes inputs for pictures of `width` x `height` pixels and a batch of `batch` texts: the first half, rounded
    /// down, is empty, as the unconditional items of a guided step are.
    ///
    /// # Errors
    /// When the size is not a multiple of the VAE's reduction, out of range or too large for memory, `batch` is 0 or
    /// beyond 64, or the text towers fail.
    pub fn new(model: &'a SDModel, (width, height): (usize, usize), batch: usize) -> Result<Self> {
        let config = SamplingConfig {
            prompt: PROMPT.into(),
            width,
            height,
            batch,
            ..SamplingConfig::default()
        };
        config.validate()?;
        model.validate_size(&config)?;
        model.require_memory((width, height), batch)?;
        let texts: Vec<_> = (0..batch)
            .map(|item| if item < batch / 2 { "" } else { PROMPT })
            .collect();
        let encoded = model.text.encode(&texts, None)?;
        let encoded: Vec<_> = encoded.iter().map(|text| (**text).clone()).collect();
        let factor = model.vae.config().scale_factor();
        let noise = |channels| {
            TorchGenerator::new(SEED).randn([1, channels, height / factor, width / factor])
        };
        let sample = noise(model.unet.config().in_channels);
        Ok(Self {
            model,
            texts,
            conditioning: model.prepare_texts(&encoded, &config)?,
            sample: HostTensor::concat(&vec![sample; batch])?,
            latents: noise(model.vae.config().latent_channels),
        })
    }

    /// Runs a stage once: its wall time, from inputs in memory to the result in memory, and the result.
    ///
    /// # Errors
    /// When the device fails.
    pub fn run(&self, stage: Stage) -> Result<(Duration, HostTensor)> {
        let start = Instant::now();
        let output = self.once(stage)?;
        Ok((start.elapsed(), output))
    }

    /// Runs a stage once with its layers' clock on: time and operations by kind of layer, kernel and shape; empty on
    /// engines that do not time layers. What another listener of the clock has not yet taken is lost.
    ///
    /// # Errors
    /// When the device fails.
    pub fn profile(&self, stage: Stage) -> Result<Vec<(Work, Spent)>> {
        let engine = &self.model.engine;
        let Some(profiler) = engine.profiler() else {
            self.once(stage)?;
            return Ok(Vec::new());
        };
        profiler.take();
        engine.enter(stage.name());
        profiler.start();
        let done = self.once(stage);
        profiler.stop();
        done?;
        Ok(profiler.take())
    }

    fn once(&self, stage: Stage) -> Result<HostTensor> {
        let model = self.model;
        if stage != Stage::Text {
            model.text.release();
        }
        match stage {
            Stage::Text => model.text.first_tower(&self.texts),
            Stage::Unet => {
                let sample = FeatureMap::from_host(&model.engine, &self.sample)?;
                let unet = &model.unet;
                unet.forward(&sample, TIMESTEP, &self.conditioning)?
                    .to_host()
            }
            Stage::Vae => model.vae.decode(&self.latents),
        }
    }
}
