//! A checkpoint in memory: opened, checked against its configuration, placed on an engine.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::clip::{ClipTextEncoder, TextLayer};
use super::sampling::SamplingConfig;
use super::scheduler::SchedulerConfig;
use super::vae::VaeDecoder;
use crate::error::{Error, Result};
use crate::events::{CancelToken, Event, Observer, Silent};
use crate::models::{self, UNet2DCondition, UNetConfig};
use crate::nn::{DType, Device, Engine, EngineKind, MemoryUse, Precision};
use crate::tokenizer::ClipTokenizer;
use crate::weights::{Card, Checkpoint, Component, Family, ModelSource, OpenOptions, Place};

/// How a model is loaded.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Where it runs.
    pub device: Device,
    /// What activations are kept in; `None` is f32 on a CPU and f16 elsewhere.
    pub dtype: Option<DType>,
    /// How the processor's own kernels multiply; `None` is [`Precision::F32`] where `dtype` is given, else the fastest
    /// the processor has instructions for.
    pub precision: Option<Precision>,
    /// How much memory weights may take for the sake of speed.
    pub memory: MemoryUse,
    /// Who computes.
    pub engine: EngineKind,
    /// A VAE in place of the checkpoint's own: a folder or a file.
    pub vae: Option<PathBuf>,
    /// Which variant of a folder's weights to take ("fp16").
    pub variant: Option<String>,
    /// A folder whose configurations describe a single file of no published shape.
    pub config: Option<PathBuf>,
}

impl LoadOptions {
    /// Opens the engine they ask for, without a model.
    ///
    /// # Errors
    /// When device, compute type, engine, precision and memory do not go together or the device is not there.
    pub fn open_engine(&self) -> Result<Engine> {
        let engine = Engine::new(self.engine, self.device, self.dtype)?;
        let plain = engine.kind() == EngineKind::Cpu && self.dtype.is_some();
        let precision = self.precision.or(plain.then_some(Precision::F32));
        engine.with_precision(precision)?.with_memory(self.memory)
    }

    pub(crate) fn open(&self) -> OpenOptions {
        OpenOptions {
            vae: self.vae.clone(),
            variant: self.variant.clone(),
            config: self.config.clone(),
            ..OpenOptions::default()
        }
    }
}

/// A Stable Diffusion model, ready to make pictures.
#[derive(Debug)]
pub struct SDModel {
    pub(super) engine: Engine,
    pub(super) text: ClipTextEncoder,
    pub(super) unet: UNet2DCondition,
    pub(super) vae: VaeDecoder,
    pub(super) scheduler: SchedulerConfig,
    pub(super) checkpoint: Checkpoint,
    file_hash: Arc<OnceLock<Option<String>>>,
    /// Name of a VAE that replaced the checkpoint's own.
    pub(super) vae_name: Option<String>,
}

impl SDModel {
    /// Loads a model from a folder, a file or a hub id.
    ///
    /// `source` is a path or `owner/name[@revision]`; an existing path wins.
    ///
    /// # Errors
    /// When the source cannot be found or read, when tensors are missing or have another shape than the
    /// configuration says (all of them are listed), and when the configuration asks for something unsupported.
    pub fn load(source: impl AsRef<str>, options: &LoadOptions) -> Result<Self> {
        let source = ModelSource::parse(source.as_ref())?;
        Self::load_with(&source, options, &mut Silent, &CancelToken::new())
    }

    /// Loads the small model that travels with the program.
    ///
    /// # Errors
    /// When the options name a device that is not there.
    #[cfg(feature = "model-in-the-box")]
    pub fn in_the_box(options: &LoadOptions) -> Result<Self> {
        let source = ModelSource::in_the_box();
        Self::load_with(&source, options, &mut Silent, &CancelToken::new())
    }

    /// Loads a model, telling `observer` of downloads and tensors; `cancel` stops it between two tensors.
    ///
    /// # Errors
    /// As [`load`](Self::load), and [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled).
    pub fn load_with(
        source: &ModelSource,
        options: &LoadOptions,
        observer: &mut dyn Observer,
        cancel: &CancelToken,
    ) -> Result<Self> {
        let start = Instant::now();
        let engine = options.open_engine()?;
        let checkpoint = Checkpoint::open(source, &options.open(), observer)?;
        if let Some(obstacle) = text_to_image_obstacle(&checkpoint) {
            return Err(
                Error::unsupported(format!("{}: {obstacle}", checkpoint.title))
                    .with_hint("`tintype inspect` shows what the checkpoint holds"),
            );
        }
        let scheduler = SchedulerConfig::from_json(&checkpoint.scheduler)?;
        let unet_config = UNetConfig::from_json(&checkpoint.unet.name, &checkpoint.unet.config)?;
        let layer = match unet_config.addition {
            Some(_) => TextLayer::PenultimatePooled,
            None => TextLayer::LastNormed,
        };
        let mut placed = Placed { observer, cancel };
        let text =
            ClipTextEncoder::load(&engine, towers(&checkpoint)?, layer, |part, done, total| {
                placed.tell(part, done, total)
            })?;
        let unet = models::load(
            &engine,
            &checkpoint.unet,
            |done, total| placed.tell(&checkpoint.unet, done, total),
            |scope| UNet2DCondition::load(scope, &unet_config),
        )?;
        let vae = VaeDecoder::load(&engine, &checkpoint.vae, |done, total| {
            placed.tell(&checkpoint.vae, done, total)
        })?;
        observer.on_event(&Event::Loaded {
            elapsed: start.elapsed(),
        });
        Ok(Self {
            engine,
            text,
            unet,
            vae,
            scheduler,
            file_hash: hash_behind(&checkpoint),
            vae_name: options.vae.as_deref().and_then(file_name),
            checkpoint,
        })
    }

    /// How a model reads prompts, without its weights: the tokenizer of its first text tower, and its usual steps.
    ///
    /// # Errors
    /// When the source cannot be found or read, or has no text tower.
    pub fn reading_of(
        source: &ModelSource,
        options: &LoadOptions,
    ) -> Result<(ClipTokenizer, usize)> {
        let checkpoint = Checkpoint::open(source, &options.open(), &mut Silent)?;
        let own = checkpoint
            .card
            .as_ref()
            .and_then(|card| card.defaults.steps);
        let steps = own.unwrap_or(checkpoint.family.default_steps);
        match towers(&checkpoint)?.into_iter().next() {
            Some((_, tokenizer)) => Ok((tokenizer, steps)),
            None => Err(Error::malformed("the model has no text encoder")),
        }
    }

    /// The model's name, as pictures record it.
    pub fn title(&self) -> &str {
        &self.checkpoint.title
    }

    /// First digits of the single file's SHA-256, as the webui writes them; `None` for folders.
    pub(super) fn file_hash(&self) -> Option<&str> {
        self.file_hash
            .get_or_init(|| hash_of(&self.checkpoint))
            .as_deref()
    }

    /// The text towers with their tokenizers.
    pub fn text_encoder(&self) -> &ClipTextEncoder {
        &self.text
    }

    /// Who computes, where and in what.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What the model's makers say of it, where its folder holds a card.
    pub fn card(&self) -> Option<&Card> {
        self.checkpoint.card.as_ref()
    }

    /// The clip skip that a request without one takes.
    pub fn own_clip_skip(&self) -> usize {
        self.text.own_clip_skip()
    }

    /// The settings the checkpoint was made for: its own size, and the steps and guidance of its card or else its
    /// family.
    pub fn default_config(&self) -> SamplingConfig {
        let (width, height) = self.checkpoint.default_size_px();
        let own = self.card().map(|card| card.defaults).unwrap_or_default();
        let family = &self.checkpoint.family;
        SamplingConfig {
            width,
            height,
            steps: own.steps.unwrap_or(family.default_steps),
            guidance_scale: own.guidance_scale.unwrap_or(family.default_guidance_scale),
            ..SamplingConfig::default()
        }
    }
}

/// The hash of a single file, computed on a thread of its own: it takes seconds for gigabytes and is wanted only when
/// the first picture is finished.
fn hash_behind(checkpoint: &Checkpoint) -> Arc<OnceLock<Option<String>>> {
    let hash = Arc::new(OnceLock::new());
    if matches!(checkpoint.source, ModelSource::File(_)) {
        let (cell, checkpoint) = (Arc::clone(&hash), checkpoint.clone());
        // Without a thread the first picture computes it itself.
        drop(
            std::thread::Builder::new()
                .name("tintype-hash".into())
                .spawn(move || {
                    cell.get_or_init(|| hash_of(&checkpoint));
                }),
        );
    }
    hash
}

/// A picture without its model's hash is worth more than none, so a file that cannot be read again is only logged.
fn hash_of(checkpoint: &Checkpoint) -> Option<String> {
    checkpoint.file_hash().unwrap_or_else(|error| {
        tracing::warn!("the model's file could not be hashed: {error}");
        None
    })
}

/// Why no picture can be made from text with this checkpoint, if so.
pub(super) fn text_to_image_obstacle(checkpoint: &Checkpoint) -> Option<String> {
    if let Some(obstacle) = checkpoint.family.text_to_image_obstacle {
        return Some(obstacle.to_owned());
    }
    let channels =
        |config: &serde_json::Value, key: &str| config.get(key).and_then(serde_json::Value::as_u64);
    let sample = channels(&checkpoint.unet.config, "in_channels").unwrap_or(4);
    let latent = channels(&checkpoint.vae.config, "latent_channels").unwrap_or(4);
    (sample != latent).then(|| {
        format!(
            "its unet takes {sample} channels where the vae's latents have {latent}: it was made for more than \
             text to image (inpainting, depth, upscaling), which is not supported yet"
        )
    })
}

/// The text towers in the order their hidden states are joined, each with its tokenizer.
fn towers(checkpoint: &Checkpoint) -> Result<Vec<(&Component, ClipTokenizer)>> {
    let parts = [
        (&checkpoint.text_encoder, &checkpoint.tokenizer, "tokenizer"),
        (
            &checkpoint.text_encoder_2,
            &checkpoint.tokenizer_2,
            "tokenizer_2",
        ),
    ];
    let mut towers = Vec::new();
    for (tower, folder, name) in parts {
        if let Some(tower) = tower {
            towers.push((tower, tokenizer(&checkpoint.family, folder.as_ref(), name)?));
        }
    }
    Ok(towers)
}

/// The checkpoint's own tokenizer, or CLIP's padded as the family's published one.
fn tokenizer(family: &Family, folder: Option<&Place>, name: &str) -> Result<ClipTokenizer> {
    if let Some(folder) = folder {
        return ClipTokenizer::from_place(folder);
    }
    match family.pad_token(name)? {
        Some(token) => ClipTokenizer::embedded().with_pad(&token),
        None => Ok(ClipTokenizer::embedded()),
    }
}

/// Tells an observer of tensors, until it is cancelled.
struct Placed<'a> {
    observer: &'a mut dyn Observer,
    cancel: &'a CancelToken,
}

impl Placed<'_> {
    fn tell(&mut self, part: &Component, done: usize, total: usize) -> Result<()> {
        self.cancel.check()?;
        let (component, path) = (part.name.clone(), part.path.clone());
        self.observer.on_event(&Event::Loading {
            component,
            path,
            done,
            total,
        });
        Ok(())
    }
}

fn file_name(path: &Path) -> Option<String> {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
}
