//! A checkpoint as a whole: where it comes from and what it consists of.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::folder::{self, Parts};
use super::hub::{self, HubOptions};
use super::place::{EmbeddedFolder, Place};
use super::{Card, Component, Family, hash, single_file, vae_file};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Observer;

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// A folder with `model_index.json`.
    Folder(PathBuf),
    /// A single file that holds every component.
    File(PathBuf),
    /// A folder compiled into the program.
    Embedded(EmbeddedFolder),
    /// A repository on the hub.
    Hub {
        /// Its id, "owner/name".
        repo: String,
        /// Branch, tag or commit; the main branch when `None`.
        revision: Option<String>,
    },
}

impl ModelSource {
    /// Reads what a user typed: an existing path wins, then `owner/name[@revision]`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it is neither, saying what was looked for.
    pub fn parse(text: &str) -> Result<Self> {
        let path = Path::new(text);
        if path.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        if path.exists() {
            return Ok(Self::File(path.to_owned()));
        }
        Self::parse_hub(text)
    }

    /// Reads a hub id, `owner/name[@revision]`.
    pub(crate) fn parse_hub(text: &str) -> Result<Self> {
        let (repo, revision) = match text.split_once('@') {
            Some((repo, revision)) => (repo, Some(revision)),
            None => (text, None),
        };
        if is_repo(repo) && revision.is_none_or(|revision| !revision.is_empty()) {
            return Ok(Self::Hub {
                repo: repo.to_owned(),
                revision: revision.map(str::to_owned),
            });
        }
        Err(Error::new(
            ErrorKind::NotFound,
            format!("found no file and no folder {text:?}, and it is no hub id of the form owner/name[@revision]"),
        )
        .with_hint("name a folder with model_index.json, a .safetensors or .ckpt file, or a hub id"))
    }
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) | Self::File(path) => write!(f, "{}", path.display()),
            Self::Embedded(folder) => write!(f, "{} (embedded)", folder.name()),
            Self::Hub { repo, revision } => {
                f.write_str(repo)?;
                revision
                    .as_ref()
                    .map_or(Ok(()), |revision| write!(f, "@{revision}"))
            }
        }
    }
}

/// Whether `text` is an id as the hub allows it: one slash between two names of letters, digits, `-_.`.
fn is_repo(text: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.len() <= 96
            && !name.starts_with(['.', '-'])
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    // An extension means that a file was meant, and mistyped.
    let is_file = [".safetensors", ".ckpt", ".pt", ".bin", ".json"]
        .iter()
        .any(|extension| text.ends_with(extension));
    !is_file
        && text
            .split_once('/')
            .is_some_and(|(owner, name)| is_name(owner) && is_name(name))
}

/// How to open a checkpoint.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// A VAE to use in place of the model's own: a folder in diffusers' form or a file in any dialect.
    pub vae: Option<PathBuf>,
    /// Which of several precisions to take from a folder or the hub ("fp16"); `None` takes the plain files,
    /// or the only variant there is.
    pub variant: Option<String>,
    /// A folder in diffusers' form whose configurations (`model_index.json` and each `config.json`; weights
    /// are not needed) describe a single file, for models of no published shape. A folder has its own.
    pub config: Option<PathBuf>,
    /// Where models from the hub are kept and how they are reached.
    pub hub: HubOptions,
}

/// An opened checkpoint: configurations read, tensors mapped, nothing copied yet.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Where it came from.
    pub source: ModelSource,
    /// Its family.
    pub family: Family,
    /// The first text tower: CLIP-L, or OpenCLIP-H for Stable Diffusion 2.x. Refiners have none.
    pub text_encoder: Option<Component>,
    /// The second text tower, OpenCLIP-bigG, of Stable Diffusion XL.
    pub text_encoder_2: Option<Component>,
    /// The denoiser.
    pub unet: Component,
    /// The autoencoder between pixels and latents.
    pub vae: Component,
    /// `scheduler_config.json`, or for single files the family's published one with the file's own
    /// prediction type.
    pub scheduler: Value,
    /// The folder's own tokenizer, to be used in place of the embedded one.
    pub tokenizer: Option<Place>,
    /// The folder's own tokenizer for the second text tower.
    pub tokenizer_2: Option<Place>,
    /// `model_index.json`, or for single files the entries of the published one that a picture depends on
    /// (`force_zeros_for_empty_prompt`).
    pub model_index: Option<Value>,
    /// What the model's makers say of it, for folders that hold a `tintype.json`.
    pub card: Option<Card>,
    /// The model's name as pictures record it: a file's name without extension, a folder's, a repository's.
    pub title: String,
}

impl Checkpoint {
    /// Opens the model at `source`. `observer` hears of downloads and of parts that are not used.
    ///
    /// # Errors
    /// When anything needed is missing, damaged, or of a kind this crate cannot run.
    pub fn open(
        source: &ModelSource,
        options: &OpenOptions,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        if let Some(config) = &options.config
            && !matches!(source, ModelSource::File(_))
        {
            return Err(Error::invalid(format!(
                "the configurations in {} were given for {source}, expected a single file; a folder has its own",
                config.display()
            )));
        }
        match source {
            ModelSource::Folder(path) => {
                let parts = folder::open(&path.into(), options, observer)?;
                Self::assemble(source, parts, options, title_of_folder(path))
            }
            ModelSource::File(path) => {
                let parts = single_file::open(path, options, observer)?;
                let title = path.file_stem().unwrap_or_default().to_string_lossy();
                Self::assemble(source, parts, options, title.into_owned())
            }
            ModelSource::Embedded(folder) => {
                let parts = folder::open(&Place::from(*folder), options, observer)?;
                Self::assemble(source, parts, options, folder.name().to_owned())
            }
            ModelSource::Hub { repo, revision } => {
                let folder = hub::folder_for(repo, revision.as_deref(), options, observer)?;
                let parts = folder::open(&Place::from(&folder), options, observer)?;
                let title = repo.rsplit('/').next().unwrap_or(repo);
                Self::assemble(source, parts, options, title.to_owned())
            }
        }
    }

    fn assemble(
        source: &ModelSource,
        parts: Parts,
        options: &OpenOptions,
        title: String,
    ) -> Result<Self> {
        let vae = match (&options.vae, parts.vae) {
            (Some(path), _) => {
                let config = match parts.vae_config {
                    Some(config) => config,
                    None => parts.family.published_config("vae")?,
                };
                vae_file::open(path, &config)?
            }
            (None, Some(vae)) => vae,
            (None, None) => {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!("{source}: component vae is missing"),
                )
                .with_hint("name a VAE of the same family to go with it (--vae)"));
            }
        };
        Ok(Self {
            source: source.clone(),
            family: parts.family,
            text_encoder: parts.text_encoder,
            text_encoder_2: parts.text_encoder_2,
            unet: parts.unet,
            vae,
            scheduler: parts.scheduler,
            tokenizer: parts.tokenizer,
            tokenizer_2: parts.tokenizer_2,
            model_index: Some(parts.model_index),
            card: parts.card,
            title,
        })
    }

    /// The components with weights, in the order in which a picture needs them.
    pub fn components(&self) -> impl Iterator<Item = &Component> {
        [&self.text_encoder, &self.text_encoder_2]
            .into_iter()
            .flatten()
            .chain([&self.unet, &self.vae])
    }

    /// The first ten hexadecimal digits of the single file's SHA-256, as pictures record it ("Model hash");
    /// `None` for folders. Reads the whole file, so ask once.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn file_hash(&self) -> Result<Option<String>> {
        match &self.source {
            ModelSource::File(path) => hash::short_sha256(path).map(Some),
            ModelSource::Folder(_) | ModelSource::Embedded(_) | ModelSource::Hub { .. } => Ok(None),
        }
    }

    /// Width and height in pixels of the pictures the model was trained on: the UNet's `sample_size` times
    /// the VAE's reduction, or the family's when the configuration is silent.
    pub fn default_size_px(&self) -> (usize, usize) {
        let levels = self
            .vae
            .config
            .get("block_out_channels")
            .and_then(Value::as_array)
            .map_or(4, Vec::len);
        let side = |value: &Value| -> Option<usize> {
            let latent = usize::try_from(value.as_u64()?).ok()?;
            latent.checked_mul(1_usize.checked_shl(u32::try_from(levels.saturating_sub(1)).ok()?)?)
        };
        let size = self
            .unet
            .config
            .get("sample_size")
            .and_then(|size| match size {
                Value::Array(sides) => Some((side(sides.get(1)?)?, side(sides.first()?)?)),
                one => side(one).map(|side| (side, side)),
            });
        size.unwrap_or((self.family.default_size_px, self.family.default_size_px))
    }
}

/// A folder's name, also when it was written as `.` or with a trailing slash.
fn title_of_folder(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_ids_are_told_from_paths() {
        let hub = |repo: &str, revision: Option<&str>| ModelSource::Hub {
            repo: repo.to_owned(),
            revision: revision.map(str::to_owned),
        };
        assert_eq!(
            ModelSource::parse("stabilityai/sd-turbo").unwrap(),
            hub("stabilityai/sd-turbo", None)
        );
        assert_eq!(
            ModelSource::parse("a/b_c.d@fp16").unwrap(),
            hub("a/b_c.d", Some("fp16"))
        );
        assert_eq!(hub("a/b", Some("v1")).to_string(), "a/b@v1");
        for text in [
            "",
            "model",
            "/no-such-folder/x",
            "../no-such-model",
            "a/b/c",
            "a/b@",
            "models/x.safetensors",
            "a/..",
            "ä/b",
            "a b/c",
        ] {
            let error = ModelSource::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{text:?}");
            assert!(error.message().contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn what_exists_wins() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().to_str().unwrap();
        assert_eq!(
            ModelSource::parse(text).unwrap(),
            ModelSource::Folder(dir.path().to_owned())
        );
        let file = dir.path().join("a.safetensors");
        std::fs::write(&file, b"x").unwrap();
        assert_eq!(
            ModelSource::parse(file.to_str().unwrap()).unwrap(),
            ModelSource::File(file)
        );
    }
}
