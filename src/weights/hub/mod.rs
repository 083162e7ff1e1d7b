//! Models from the hub, into the cache that Python's libraries share.
//!
//! The cache's layout is the hub's own: `models--owner--name/snapshots/COMMIT/` holds a revision's files,
//! `refs/REVISION` the commit a branch or tag stood at. A model found there is used without a word to the
//! network; [`pull`] asks for the newest revision and fetches only the files a picture needs. hf-hub does
//! the transfers; what it leaves out is done here: `HF_HUB_OFFLINE`, the choice of files, and a reference
//! that moves only once the revision is complete.

mod cache;
mod fetch;

use std::path::{Path, PathBuf};

use self::cache::Cache;
use super::checkpoint::{ModelSource, OpenOptions};
use super::folder;
use super::place::Place;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Event, Observer, Silent};

/// Whether the network may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// Unless the environment variable `HF_HUB_OFFLINE` is set to 1, true, yes or on.
    #[default]
    Environment,
    /// Yes.
    Allowed,
    /// Never: only what the cache holds.
    Offline,
}

impl Network {
    fn is_offline(self) -> bool {
        match self {
            Self::Environment => std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| is_true(&value)),
            Self::Allowed => false,
            Self::Offline => true,
        }
    }
}

/// The spellings that Python's library takes for yes.
fn is_true(value: &str) -> bool {
    ["1", "true", "yes", "on"]
        .iter()
        .any(|yes| value.eq_ignore_ascii_case(yes))
}

/// Where models from the hub are kept and how they are reached.
///
/// Access tokens come from where hf-hub finds them: `HF_TOKEN`, or the file that `hf auth login` writes.
#[derive(Debug, Clone, Default)]
pub struct HubOptions {
    /// The cache's folder; `None` takes `HF_HUB_CACHE`, `HF_HOME`/hub or ~/.cache/huggingface/hub.
    pub cache_dir: Option<PathBuf>,
    /// Whether the network may be used.
    pub network: Network,
    /// Address of the hub; `None` takes `HF_ENDPOINT` or the public one.
    pub endpoint: Option<String>,
}

/// What to fetch of a repository.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// Which of several precisions ("fp16"); `None` takes the plain files, or the only variant there is.
    pub variant: Option<String>,
    /// Where from and where to.
    pub hub: HubOptions,
}

/// A revision of a repository.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    repo: &'a str,
    revision: &'a str,
}

impl std::fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.repo, self.revision)
    }
}

/// The branch that is meant when none is named.
const MAIN: &str = "main";

/// Fetches what is missing of `id`, `owner/name[@revision]`, and returns the folder it lies in.
///
/// Where the network fails and the cache holds a complete copy, that is returned with a warning.
///
/// # Errors
/// [`ErrorKind::NotFound`] when the hub has no such repository, revision or file, [`ErrorKind::Network`]
/// when it cannot be reached or must not be, [`ErrorKind::Unsupported`] for models of another kind.
pub fn pull(id: &str, options: &PullOptions, observer: &mut dyn Observer) -> Result<PathBuf> {
    let ModelSource::Hub { repo, revision } = ModelSource::parse_hub(id)? else {
        return Err(Error::new(
            ErrorKind::Internal,
            "a hub id was read as a path",
        ));
    };
    let wanted = Wanted {
        repo: &repo,
        revision: checked_revision(revision.as_deref())?,
    };
    let cache = Cache::new(&options.hub);
    let open = OpenOptions {
        variant: options.variant.clone(),
        ..OpenOptions::default()
    };
    if options.hub.network.is_offline() {
        return cached(&cache, wanted, &open).map_err(|error| offline(wanted, error));
    }
    match fetch::fetch(&cache, wanted, options, observer) {
        Err(error) if error.kind() == ErrorKind::Network => match cached(&cache, wanted, &open) {
            Ok(folder) => {
                observer.on_event(&Event::Warning(format!(
                    "{}; the copy of {wanted} in the cache is used",
                    error.message()
                )));
                Ok(folder)
            }
            Err(_) => Err(error),
        },
        other => other,
    }
}

/// The folder of a repository for opening: from the cache when it is complete there, else pulled.
pub(crate) fn folder_for(
    repo: &str,
    revision: Option<&str>,
    options: &OpenOptions,
    observer: &mut dyn Observer,
) -> Result<PathBuf> {
    let wanted = Wanted {
        repo,
        revision: checked_revision(revision)?,
    };
    let cache = Cache::new(&options.hub);
    match cached(&cache, wanted, options) {
        Ok(folder) => Ok(folder),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Err(error) if options.hub.network.is_offline() => Err(offline(wanted, error)),
        Err(_) => {
            let pull = PullOptions {
                variant: options.variant.clone(),
                hub: options.hub.clone(),
            };
            fetch::fetch(&cache, wanted, &pull, observer)
        }
    }
}

/// The snapshot in the cache, if everything needed of it is there.
fn cached(cache: &Cache, wanted: Wanted<'_>, options: &OpenOptions) -> Result<PathBuf> {
    let Some(snapshot) = cache.snapshot(wanted) else {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("the cache {} has no {wanted}", cache.root().display()),
        ));
    };
    folder::open(&Place::from(&snapshot), options, &mut Silent)?;
    Ok(snapshot)
}

/// The error for a model that would have to be fetched, offline.
fn offline(wanted: Wanted<'_>, error: Error) -> Error {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    Error::new(
        ErrorKind::Network,
        format!(
            "{wanted} would have to be fetched, and the network must not be used: {}",
            error.message()
        ),
    )
    .with_source(error)
    .with_hint(format!(
        "unset HF_HUB_OFFLINE and run `tintype pull {}` once, or name a model's folder or file",
        wanted.repo
    ))
}

/// A revision that is safe as part of a path.
fn checked_revision(revision: Option<&str>) -> Result<&str> {
    let revision = revision.unwrap_or(MAIN);
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let safe = !revision.is_empty()
        && revision.chars().all(allowed)
        && revision
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.'));
    if safe {
        Ok(revision)
    } else {
        Err(Error::invalid(format!(
            "found the revision {revision:?}, expected a branch, tag or commit of letters, digits and -_./"
        )))
    }
}

/// The name of a file in a snapshot, as the repository calls it.
fn path_in(snapshot: &Path, file: &str) -> PathBuf {
    file.split('/')
        .fold(snapshot.to_owned(), |path, part| path.join(part))
}

#[cfg(test)]
mod tests;
