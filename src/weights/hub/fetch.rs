//! Fetching a repository's files.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use hf_hub::{HFClient, HFError, HFRepositorySync, RepoTypeModel};
use serde_json::Value;

use super::cache::Cache;
use super::{PullOptions, Wanted, path_in};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::events::{Event, Observer};
use crate::weights::card;
use crate::weights::component::{self, Layout};
use crate::weights::folder::{self, INDEX};
use crate::weights::json;

/// A tokenizer's files, in either form.
const TOKENIZER: [&str; 6] = [
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
];

/// How often the thread that waits for a file looks whether it is done.
const POLL: Duration = Duration::from_millis(50);

/// Fetches what is missing of a revision.
pub(super) fn fetch(
    cache: &Cache,
    wanted: Wanted<'_>,
    options: &PullOptions,
    observer: &mut dyn Observer,
) -> Result<PathBuf> {
    let fault = |error| explain(wanted, error);
    let mut client = HFClient::builder().cache_dir(cache.root());
    if let Some(endpoint) = &options.hub.endpoint {
        client = client.endpoint(endpoint);
    }
    let client = client.build_sync().map_err(fault)?;
    let (owner, name) = hf_hub::split_id(wanted.repo);
    let repo = client.model(owner, name);
    let info = repo
        .info()
        .revision(wanted.revision)
        .send()
        .map_err(fault)?;
    let files: Vec<String> = info
        .siblings
        .unwrap_or_default()
        .into_iter()
        .map(|file| file.rfilename)
        .collect();
    let Some(commit) = info.sha.filter(|sha| super::cache::is_commit(sha)) else {
        return Err(Error::new(
            ErrorKind::Network,
            format!("the hub's answer about {wanted} names no commit"),
        ));
    };
    let mut fetching = Fetching {
        repo,
        wanted,
        commit: &commit,
        snapshot: cache.snapshot_of(wanted.repo, &commit),
        observer,
    };
    fetching.all(&files, options.variant.as_deref())?;
    cache.write_reference(wanted, &commit)?;
    Ok(fetching.snapshot)
}

struct Fetching<'a> {
    repo: HFRepositorySync<RepoTypeModel>,
    wanted: Wanted<'a>,
    commit: &'a str,
    snapshot: PathBuf,
    observer: &'a mut dyn Observer,
}

impl Fetching<'_> {
    /// Fetches the index first, then the files it makes necessary, small ones before weights.
    fn all(&mut self, files: &[String], variant: Option<&str>) -> Result<()> {
        if !files.iter().any(|file| file == INDEX) {
            return Err(no_index(self.wanted, files));
        }
        self.one(INDEX)?;
        let index = json::read_object(&path_in(&self.snapshot, INDEX))?;
        let needed = needed(&index, files, variant).context(self.wanted)?;
        for file in &needed.small {
            self.one(file)?;
        }
        for (component, layout) in &needed.weights {
            let entry = format!("{component}/{}", layout.entry());
            self.one(&entry)?;
            if let Layout::Sharded(_) = layout {
                let path = path_in(&self.snapshot, &entry);
                let index = json::read_object(&path)?;
                for shard in component::shards_of(&index, &path)? {
                    self.one(&format!("{component}/{shard}"))?;
                }
            }
        }
        Ok(())
    }

    /// Fetches one file, unless the snapshot has it.
    fn one(&mut self, file: &str) -> Result<()> {
        if path_in(&self.snapshot, file).exists() {
            return Ok(());
        }
        let (sender, receiver) = mpsc::channel();
        let progress = Forward {
            file: file.to_owned(),
            sender,
        };
        let (repo, commit) = (&self.repo, self.commit);
        // The observer need be neither shared nor 'static, so it stays on this thread and the transfer's
        // events come through a channel.
        let result = std::thread::scope(|scope| {
            let transfer = scope.spawn(move || {
                repo.download_file()
                    .filename(file)
                    .revision(commit)
                    .progress(progress)
                    .send()
            });
            while !transfer.is_finished() {
                if let Ok(event) = receiver.recv_timeout(POLL) {
                    self.observer.on_event(&event);
                }
            }
            for event in receiver.try_iter() {
                self.observer.on_event(&event);
            }
            transfer.join()
        });
        match result {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(explain(self.wanted, error)),
            Err(_) => Err(Error::new(
                ErrorKind::Internal,
                format!("fetching {file} of {} ended in a panic", self.wanted),
            )),
        }
    }
}

/// The files that a picture needs.
#[derive(Debug, PartialEq, Eq)]
struct Needed {
    small: Vec<String>,
    weights: Vec<(&'static str, Layout)>,
}

/// Chooses among a repository's files.
fn needed(index: &Value, files: &[String], variant: Option<&str>) -> Result<Needed> {
    let mut small = vec!["scheduler/scheduler_config.json".to_owned()];
    let mut weights = Vec::new();
    for component in folder::weighted_components(index)? {
        let prefix = format!("{component}/");
        let own: Vec<String> = files
            .iter()
            .filter_map(|file| Some(file.strip_prefix(&prefix)?.to_owned()))
            .collect();
        let layout = component::choose(&own, variant)
            .context(format_args!("component {component} has no weights"))?;
        weights.push((component, layout));
        small.push(format!("{prefix}config.json"));
    }
    for folder in ["tokenizer", "tokenizer_2"] {
        small.extend(
            TOKENIZER
                .iter()
                .map(|file| format!("{folder}/{file}"))
                .filter(|file| files.contains(file)),
        );
    }
    small.extend(
        [card::FILE]
            .map(str::to_owned)
            .into_iter()
            .filter(|file| files.contains(file)),
    );
    Ok(Needed { small, weights })
}

/// Passes a transfer's progress on.
struct Forward {
    file: String,
    sender: mpsc::Sender<Event>,
}

impl ProgressHandler for Forward {
    fn on_progress(&self, event: &ProgressEvent) {
        let ProgressEvent::Download(event) = event else {
            return;
        };
        let (received, total) = match event {
            DownloadEvent::Start { total_bytes, .. } => (0, *total_bytes),
            DownloadEvent::Progress { files } => {
                match files.iter().find(|file| file.filename == self.file) {
                    Some(file) => (file.bytes_completed, file.total_bytes),
                    None => return,
                }
            }
            // One file is fetched at a time, so the batch is this file.
            DownloadEvent::AggregateProgress {
                bytes_completed,
                total_bytes,
                ..
            } => (*bytes_completed, *total_bytes),
            DownloadEvent::Complete => return,
        };
        // Nobody listens any more once the transfer was given up; that is no fault of the transfer's.
        let _ = self.sender.send(Event::Download {
            file: self.file.clone(),
            received_bytes: received,
            total_bytes: (total > 0).then_some(total),
        });
    }
}

/// The error for a repository that is no model in diffusers' form.
fn no_index(wanted: Wanted<'_>, files: &[String]) -> Error {
    let single: Vec<_> = files
        .iter()
        .filter(|file| {
            let extension = Path::new(file).extension().and_then(|e| e.to_str());
            !file.contains('/') && matches!(extension, Some("safetensors" | "ckpt"))
        })
        .take(5)
        .cloned()
        .collect();
    let (found, hint) = if single.is_empty() {
        (
            format!("{} files", files.len()),
            "name a repository of a Stable Diffusion model in diffusers' form".to_owned(),
        )
    } else {
        (
            format!("the files {}", single.join(", ")),
            "to use a single-file checkpoint, download it and name the file".to_owned(),
        )
    };
    Error::new(
        ErrorKind::NotFound,
        format!("{wanted} on the hub holds {found}, expected {INDEX}"),
    )
    .with_hint(hint)
}

/// Says what a failed transfer means and what to do.
fn explain(wanted: Wanted<'_>, error: HFError) -> Error {
    const TOKEN: &str = "accept the model's terms on its page, and set HF_TOKEN to an access token";
    let (kind, message, hint) = match &error {
        HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. } => (
            ErrorKind::NotFound,
            format!("the hub has no {wanted}, or it is private"),
            "check the spelling; for a private repository set HF_TOKEN to an access token",
        ),
        HFError::EntryNotFound { path, .. } => (
            ErrorKind::NotFound,
            format!("{wanted} on the hub has no file {path}"),
            "name another revision (owner/name@revision)",
        ),
        HFError::AuthRequired { .. } | HFError::Forbidden { .. } => (
            ErrorKind::Network,
            format!("the hub does not let {wanted} be fetched: {error}"),
            TOKEN,
        ),
        HFError::RateLimited { .. } => (
            ErrorKind::Network,
            format!("the hub asks to wait before {wanted} is fetched"),
            "try again in some minutes, or set HF_TOKEN to an access token",
        ),
        HFError::Io(io) => (
            ErrorKind::Io,
            format!("{wanted} cannot be stored: {io}"),
            "free some disk space or set HF_HUB_CACHE to another folder",
        ),
        HFError::CacheLockTimeout { path } => (
            ErrorKind::Io,
            format!(
                "{} is locked: another program is fetching {wanted}",
                path.display()
            ),
            "wait for it to finish",
        ),
        other => (
            ErrorKind::Network,
            format!("{wanted} cannot be fetched: {other}"),
            "check the connection (and HTTPS_PROXY behind a proxy), or name a model's folder or file; what is in the cache needs no network",
        ),
    };
    Error::new(kind, message).with_hint(hint).with_source(error)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn files(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn index() -> Value {
        json!({
            "_class_name": "StableDiffusionPipeline",
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        })
    }

    #[test]
    fn only_what_a_picture_needs_is_fetched() {
        let files = files(&[
            "README.md",
            "v1-5-pruned.ckpt",
            "safety_checker/model.safetensors",
            "text_encoder/flax_model.msgpack",
            "text_encoder/model.fp16.safetensors",
            "text_encoder/model.safetensors",
            "text_encoder/pytorch_model.bin",
            "tintype.json",
            "tokenizer/merges.txt",
            "tokenizer/vocab.json",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "unet/diffusion_pytorch_model.non_ema.safetensors",
            "unet/diffusion_pytorch_model.safetensors.index.json",
            "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
            "unet/model.onnx",
            "vae/diffusion_pytorch_model.bin",
            "vae/diffusion_pytorch_model.fp16.safetensors",
        ]);
        let small = [
            "scheduler/scheduler_config.json",
            "unet/config.json",
            "vae/config.json",
            "text_encoder/config.json",
            "tokenizer/vocab.json",
            "tokenizer/merges.txt",
            "tintype.json",
        ]
        .map(str::to_owned);
        let plain = needed(&index(), &files, None).unwrap();
        assert_eq!(plain.small, small);
        assert_eq!(
            plain.weights,
            [
                (
                    "unet",
                    Layout::Sharded("diffusion_pytorch_model.safetensors.index.json".into())
                ),
                ("vae", Layout::Single("diffusion_pytorch_model.bin".into())),
                ("text_encoder", Layout::Single("model.safetensors".into())),
            ]
        );
        let half = needed(&index(), &files, Some("fp16")).unwrap();
        assert_eq!(
            half.weights[1].1,
            Layout::Single("diffusion_pytorch_model.fp16.safetensors".into())
        );
        let error = needed(&index(), &files, Some("bf16")).unwrap_err();
        assert!(error.message().contains("variant bf16"), "{error}");
    }
}
