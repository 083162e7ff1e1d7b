//! The hub's cache on disk.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{HubOptions, Wanted};
use crate::error::{Error, Result};

/// The folder that holds all repositories.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    root: PathBuf,
}

impl Cache {
    pub(super) fn new(options: &HubOptions) -> Self {
        let root = options
            .cache_dir
            .clone()
            .unwrap_or_else(|| default_root(|name| std::env::var_os(name)));
        Self { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn repository(&self, repo: &str) -> PathBuf {
        self.root
            .join(format!("models--{}", repo.replace('/', "--")))
    }

    /// The snapshot's folder of a commit, whether it exists or not.
    pub(super) fn snapshot_of(&self, repo: &str, commit: &str) -> PathBuf {
        self.repository(repo).join("snapshots").join(commit)
    }

    /// The snapshot of a revision, if there is one.
    pub(super) fn snapshot(&self, wanted: Wanted<'_>) -> Option<PathBuf> {
        let commit = if is_commit(wanted.revision) {
            wanted.revision.to_owned()
        } else {
            let commit = std::fs::read_to_string(self.reference(wanted)).ok()?;
            let commit = commit.trim();
            is_commit(commit).then(|| commit.to_owned())?
        };
        let snapshot = self.snapshot_of(wanted.repo, &commit);
        snapshot.is_dir().then_some(snapshot)
    }

    fn reference(&self, wanted: Wanted<'_>) -> PathBuf {
        self.repository(wanted.repo)
            .join("refs")
            .join(wanted.revision)
    }

    /// Notes at which commit a branch or tag stands.
    pub(super) fn write_reference(&self, wanted: Wanted<'_>, commit: &str) -> Result<()> {
        if is_commit(wanted.revision) {
            return Ok(());
        }
        let path = self.reference(wanted);
        let write = || {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(&path, commit)
        };
        write().map_err(|error| Error::io(&path, error))
    }
}

/// Whether a revision is a commit's full hash.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Where Python's libraries keep the cache, by the same variables in the same order.
fn default_root(variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let folder = |name: &str| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    folder("HF_HUB_CACHE")
        .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| Some(folder("HF_HOME")?.join("hub")))
        .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("huggingface").join("hub")))
        .unwrap_or_else(|| {
            let home = folder("HOME")
                .or_else(|| folder("USERPROFILE"))
                .unwrap_or_default();
            home.join(".cache").join("huggingface").join("hub")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_python_keeps_it() {
        let root = |variables: &[(&str, &str)]| {
            default_root(|name| {
                let (_, value) = variables.iter().find(|(key, _)| *key == name)?;
                Some(OsString::from(value))
            })
        };
        let home = ("HOME", "/h");
        assert_eq!(root(&[home]), Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(
            root(&[home, ("XDG_CACHE_HOME", "/x")]),
            Path::new("/x/huggingface/hub")
        );
        assert_eq!(root(&[home, ("HF_HOME", "/f")]), Path::new("/f/hub"));
        assert_eq!(
            root(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]),
            Path::new("/c")
        );
        assert_eq!(
            root(&[("HF_HUB_CACHE", ""), home]),
            Path::new("/h/.cache/huggingface/hub")
        );
    }
}
