//! Single-file checkpoints: every component in one file, in the original dialect.
//!
//! The file says which tensors there are and nothing else. The family follows from the UNet's structure
//! (`label_emb` for added conditioning, linear or convolutional projections) and from where the text
//! towers stand; configurations are the family's published ones, corrected by every extent that the
//! tensors show. A folder with configurations of its own can stand in for these.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::checkpoint::OpenOptions;
use super::folder::{self, Parts};
use super::ldm::{self, ema, text, unet, vae};
use super::place::Place;
use super::prediction::{self, Evidence, Kind};
use super::spec::{Base, Distilled, Family, Traits};
use super::tensor_file::{self, TensorFile};
use super::view::MappedSource;
use super::{Component, TensorSource, component, seen};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::events::{Event, Observer};

/// Where the text towers stand, by family.
const SD1_TEXT: &str = "cond_stage_model.transformer.";
const SD2_TEXT: &str = "cond_stage_model.model.";
const SDXL_TEXT: &str = "conditioner.embedders.0.transformer.";
const SDXL_TEXT_2: &str = "conditioner.embedders.1.model.";
const REFINER_TEXT: &str = "conditioner.embedders.0.model.";

/// Width of the refiner's text embedding, which tells its UNet from SDXL's where no tower does.
const REFINER_CONTEXT: usize = 1280;
/// Width of SDXL's.
const SDXL_CONTEXT: usize = 2048;

/// An opened file and what was found out about it.
struct SingleFile<'a> {
    path: &'a Path,
    file: TensorFile,
    names: Vec<String>,
    unet: Arc<dyn TensorSource>,
    base: Base,
    /// Configurations that the user provides, by component.
    provided: Option<Provided>,
    /// The family's published configurations.
    published: Value,
}

/// A folder whose configurations describe the file.
struct Provided {
    index: Value,
    configs: Value,
}

/// Opens the checkpoint at `path`.
///
/// # Errors
/// When the file is damaged, of another kind, or lacks a component.
pub(crate) fn open(
    path: &Path,
    options: &OpenOptions,
    observer: &mut dyn Observer,
) -> Result<Parts> {
    let file = tensor_file::open(path)?;
    open_parts(path, file, options, observer).context(path.display())
}

fn open_parts(
    path: &Path,
    file: TensorFile,
    options: &OpenOptions,
    observer: &mut dyn Observer,
) -> Result<Parts> {
    let file = TensorFile {
        tensors: unwrapped(file.tensors),
        ..file
    };
    let names = file.tensors.names();
    let unet = find_unet(&file.tensors, &names, observer)?;
    let base = find_base(&names, unet.as_ref())?;
    let published = published(base)?;
    let provided = options
        .config
        .as_ref()
        .map(|folder| read_provided(&folder.into()))
        .transpose()?;
    let single = SingleFile {
        path,
        file,
        names,
        unet,
        base,
        provided,
        published,
    };
    single.check_complete(options)?;
    let unet = single.unet()?;
    let scheduler = single.scheduler(observer);
    let (unet, family) = single.with_family(unet, &scheduler)?;
    let (text_encoder, text_encoder_2) = single.text_encoders()?;
    let tokenizer = |name: &str| folder::tokenizer(&options.config.as_ref()?.into(), name);
    Ok(Parts {
        family,
        text_encoder,
        text_encoder_2,
        unet,
        vae: single.vae(options)?,
        vae_config: single.config("vae").cloned(),
        scheduler,
        tokenizer: tokenizer("tokenizer"),
        tokenizer_2: tokenizer("tokenizer_2"),
        model_index: single.config("model_index").cloned().unwrap_or_default(),
        card: None,
    })
}

/// The tensors without a `state_dict.` before every name, which some converters leave.
fn unwrapped(tensors: Arc<dyn TensorSource>) -> Arc<dyn TensorSource> {
    const WRAPPER: &str = "state_dict.";
    if tensors
        .names()
        .iter()
        .any(|name| name.starts_with("state_dict.model."))
    {
        return below(&tensors, WRAPPER);
    }
    tensors
}

/// The tensors below `prefix`, without it.
fn below(tensors: &Arc<dyn TensorSource>, prefix: &str) -> Arc<dyn TensorSource> {
    Arc::new(MappedSource::renamed(tensors.clone(), |name| {
        name.strip_prefix(prefix).map(str::to_owned)
    }))
}

/// The UNet's tensors, in the original dialect and without prefix.
fn find_unet(
    tensors: &Arc<dyn TensorSource>,
    names: &[String],
    observer: &mut dyn Observer,
) -> Result<Arc<dyn TensorSource>> {
    const FIRST: &str = "input_blocks.0.0.weight";
    let has = |name: &str| tensors.info(name).is_some();
    if has(&format!("{}{FIRST}", ldm::UNET_PREFIX)) {
        return Ok(below(tensors, ldm::UNET_PREFIX));
    }
    if has(FIRST) {
        return Ok(tensors.clone());
    }
    if names.iter().any(|name| name.starts_with(ema::PREFIX)) {
        observer.on_event(&Event::Warning(
            "the file holds averaged (EMA) weights only; these are used".to_owned(),
        ));
        return Ok(Arc::new(MappedSource::renamed(tensors.clone(), |name| {
            name.strip_prefix(ema::PREFIX).and_then(ema::with_dots)
        })));
    }
    Err(seen::not_a_checkpoint(names))
}

/// Which architecture the tensors descend from.
fn find_base(names: &[String], unet: &dyn TensorSource) -> Result<Base> {
    let below = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
    let Some((context, linear)) = unet::cross_attention(unet) else {
        return Err(seen::not_a_checkpoint(names));
    };
    if names.iter().any(|name| name == "edm_mean") {
        return Err(Error::unsupported(
            "found the markers of Playground 2.5 (edm_mean), whose noise schedule is not among those supported",
        ));
    }
    let added = unet.info("label_emb.0.0.weight").is_some();
    Ok(match (added, linear) {
        (true, _) if below(REFINER_TEXT) => Base::Refiner,
        (true, _) if below(SDXL_TEXT) || below(SDXL_TEXT_2) => Base::Sdxl,
        (true, _) if context == REFINER_CONTEXT => Base::Refiner,
        (true, _) if context == SDXL_CONTEXT => Base::Sdxl,
        (true, _) => {
            return Err(Error::unsupported(format!(
                "found a UNet with added conditioning over text of width {context} (unCLIP?), expected {SDXL_CONTEXT} (SDXL) or {REFINER_CONTEXT} (its refiner)"
            )));
        }
        (false, true) => Base::Sd2,
        (false, false) => Base::Sd1,
    })
}

/// The published configurations of an architecture.
fn published(base: Base) -> Result<Value> {
    let traits = Traits {
        base,
        in_channels: 4,
        latent_channels: 4,
        distilled: Distilled::No,
    };
    traits.family()?.published.configs()
}

/// Reads the configurations in a folder, as far as it has them.
fn read_provided(folder: &Place) -> Result<Provided> {
    let index = folder::read_index(folder)?;
    let mut configs = serde_json::Map::new();
    for name in folder::weighted_components(&index)? {
        configs.insert(
            name.to_owned(),
            component::read_config(&folder.join(name), name)?,
        );
    }
    configs.insert("scheduler".to_owned(), folder::read_scheduler(folder)?);
    configs.insert("model_index".to_owned(), index.clone());
    Ok(Provided {
        index,
        configs: Value::Object(configs),
    })
}

impl SingleFile<'_> {
    /// A component's configuration, provided or published.
    fn config(&self, name: &str) -> Option<&Value> {
        match &self.provided {
            Some(provided) => provided.configs.get(name),
            None => self.published.get(name),
        }
    }

    /// The configuration for a component whose tensors are `tensors`: as provided, or as published and
    /// corrected by `correct`.
    fn corrected(
        &self,
        name: &str,
        correct: impl FnOnce(&Value) -> Result<Value>,
    ) -> Result<Value> {
        let Some(config) = self.config(name) else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "component {name} is in the file, but not among the configurations given for it"
                ),
            ));
        };
        if self.provided.is_some() {
            Ok(config.clone())
        } else {
            correct(config)
        }
    }

    fn component(&self, name: &str, config: Value, tensors: Arc<dyn TensorSource>) -> Component {
        Component {
            name: name.to_owned(),
            config,
            tensors,
            path: self.path.to_owned(),
        }
    }

    fn has(&self, prefix: &str) -> bool {
        self.names.iter().any(|name| name.starts_with(prefix))
    }

    /// Names, at once, every component that the file lacks.
    fn check_complete(&self, options: &OpenOptions) -> Result<()> {
        let text: &[(&str, &str)] = match self.base {
            Base::Sd1 => &[("text_encoder", SD1_TEXT)],
            Base::Sd2 => &[("text_encoder", SD2_TEXT)],
            Base::Sdxl => &[("text_encoder", SDXL_TEXT), ("text_encoder_2", SDXL_TEXT_2)],
            Base::Refiner => &[("text_encoder_2", REFINER_TEXT)],
        };
        let mut missing: Vec<_> = text
            .iter()
            .filter(|(_, prefix)| !self.has(prefix))
            .map(|(name, prefix)| format!("{name} ({prefix}*)"))
            .collect();
        let without_text = !missing.is_empty();
        if options.vae.is_none() && self.vae_prefix().is_none() {
            missing.push(format!("vae ({}*)", ldm::VAE_PREFIXES[0]));
        }
        if missing.is_empty() {
            return Ok(());
        }
        let hint = if without_text {
            "the file holds only part of a model; use the full checkpoint, or a folder in diffusers' form"
        } else {
            "name a VAE of the same family to go with it (--vae)"
        };
        Err(Error::new(
            ErrorKind::WeightMismatch,
            format!(
                "found a UNet and {}, missing {}",
                seen::prefixes(&self.names),
                missing.join(", ")
            ),
        )
        .with_hint(hint))
    }

    fn vae_prefix(&self) -> Option<&'static str> {
        ldm::VAE_PREFIXES
            .into_iter()
            .find(|prefix| self.has(prefix))
    }

    fn unet(&self) -> Result<Component> {
        let layout = unet::Layout::of(self.unet.as_ref())?;
        let rules = layout.rules(self.unet.as_ref());
        let config = self.corrected("unet", |published| {
            layout.config(self.unet.as_ref(), self.base, published)
        })?;
        let tensors = Arc::new(unet::mapped(self.unet.clone(), &rules));
        Ok(self.component("unet", config, tensors))
    }

    /// The scheduler's configuration, with what the UNet predicts.
    fn scheduler(&self, observer: &mut dyn Observer) -> Value {
        let mut scheduler = self.config("scheduler").cloned().unwrap_or_default();
        if self.provided.is_some() {
            return scheduler;
        }
        let found = prediction::find(self.path, &self.file, self.base, self.unet.as_ref());
        found.write(&mut scheduler);
        if found.evidence == Evidence::Guessed {
            let (kind, other) = match found.kind {
                Kind::Epsilon => ("noise (epsilon)", "velocity (v_prediction)"),
                Kind::Velocity => ("velocity (v_prediction)", "noise (epsilon)"),
            };
            observer.on_event(&Event::Warning(format!(
                "the file does not say what its UNet predicts; judging by its weights, {kind}. If pictures come out as noise it is {other}: put the model's .yaml beside it"
            )));
        }
        scheduler
    }

    /// Finds the family, and sets the latents' size that goes with it.
    fn with_family(&self, mut unet: Component, scheduler: &Value) -> Result<(Component, Family)> {
        if let Some(provided) = &self.provided {
            let family = folder::traits(&provided.index, &unet.config, scheduler).family()?;
            return Ok((unet, family));
        }
        let number = |key: &str| unet.config.get(key).and_then(Value::as_u64);
        let in_channels = number("in_channels").unwrap_or(4);
        let traits = Traits {
            base: self.base,
            in_channels,
            latent_channels: number("out_channels").unwrap_or(4),
            distilled: match number("time_cond_proj_dim") {
                Some(_) => Distilled::Lcm,
                None => Distilled::No,
            },
        };
        // The published configuration is the 768-pixel model's; those that predict noise have 512.
        let epsilon = scheduler.get("prediction_type").and_then(Value::as_str) == Some("epsilon");
        if self.base == Base::Sd2
            && epsilon
            && let Some(config) = unet.config.as_object_mut()
        {
            config.insert("sample_size".to_owned(), 64.into());
        }
        Ok((unet, traits.family()?))
    }

    fn text_encoders(&self) -> Result<(Option<Component>, Option<Component>)> {
        let clip = |prefix| -> Result<Option<Component>> {
            let tensors = Arc::new(text::clip(below(&self.file.tensors, prefix)));
            self.text_encoder("text_encoder", tensors).map(Some)
        };
        let open_clip = |name, prefix, keep| -> Result<Option<Component>> {
            let tensors = text::open_clip(below(&self.file.tensors, prefix), keep)
                .context(format_args!("component {name}"))?;
            self.text_encoder(name, Arc::new(tensors)).map(Some)
        };
        Ok(match self.base {
            Base::Sd1 => (clip(SD1_TEXT)?, None),
            Base::Sd2 => (
                open_clip("text_encoder", SD2_TEXT, text::Keep::Penultimate)?,
                None,
            ),
            Base::Sdxl => (
                clip(SDXL_TEXT)?,
                open_clip("text_encoder_2", SDXL_TEXT_2, text::Keep::All)?,
            ),
            Base::Refiner => (
                None,
                open_clip("text_encoder_2", REFINER_TEXT, text::Keep::All)?,
            ),
        })
    }

    fn text_encoder(&self, name: &str, tensors: Arc<dyn TensorSource>) -> Result<Component> {
        let config = self.corrected(name, |published| {
            Ok(text::config(tensors.as_ref(), published))
        })?;
        Ok(self.component(name, config, tensors))
    }

    /// The file's own VAE, unless another is to be used.
    fn vae(&self, options: &OpenOptions) -> Result<Option<Component>> {
        let Some(prefix) = self.vae_prefix().filter(|_| options.vae.is_none()) else {
            return Ok(None);
        };
        let tensors = below(&self.file.tensors, prefix);
        let layout = vae::Layout::of(tensors.as_ref()).context("component vae")?;
        let config = self.corrected("vae", |published| {
            Ok(layout.config(tensors.as_ref(), published))
        })?;
        let tensors = Arc::new(vae::mapped(tensors, &layout.rules()));
        Ok(Some(self.component("vae", config, tensors)))
    }
}

#[cfg(test)]
mod tests;
