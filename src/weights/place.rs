//! Where a checkpoint's files lie: on disk, or compiled into the program.
//!
//! The readers of folders ask a [`Place`] and nothing else, so that an embedded model takes the very path that a
//! downloaded one takes, without a temporary file.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::mmap::MappedFile;
use crate::error::{Error, Result};

/// A model's folder compiled into a program.
#[derive(Clone, Copy)]
pub struct EmbeddedFolder {
    name: &'static str,
    files: &'static [(&'static str, &'static [u8])],
}

impl EmbeddedFolder {
    /// The folder `name` with `files`: paths inside it, with `/` between the parts, and contents.
    pub const fn new(name: &'static str, files: &'static [(&'static str, &'static [u8])]) -> Self {
        Self { name, files }
    }

    /// The folder's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The files' paths inside it.
    pub fn paths(&self) -> impl Iterator<Item = &'static str> {
        self.files.iter().map(|(path, _)| *path)
    }

    /// The contents of the file at `path`.
    pub fn file(&self, path: &str) -> Option<&'static [u8]> {
        let (_, bytes) = self.files.iter().find(|(known, _)| *known == path)?;
        Some(bytes)
    }
}

impl fmt::Debug for EmbeddedFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedFolder")
            .field("name", &self.name)
            .field("files", &self.files.len())
            .finish()
    }
}

/// The same table of files; contents are not compared.
impl PartialEq for EmbeddedFolder {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && std::ptr::eq(self.files, other.files)
    }
}

impl Eq for EmbeddedFolder {}

/// A file or folder of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On disk.
    Disk(PathBuf),
    /// In the program.
    Embedded {
        /// The whole folder.
        folder: EmbeddedFolder,
        /// The path inside it; empty for the folder itself.
        path: String,
    },
}

impl Place {
    /// The file or folder `name` in this folder.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        match self {
            Self::Disk(path) => Self::Disk(path.join(name)),
            Self::Embedded { folder, path } => {
                let separator = if path.is_empty() { "" } else { "/" };
                Self::Embedded {
                    folder: *folder,
                    path: format!("{path}{separator}{name}"),
                }
            }
        }
    }

    /// Whether there is a file here.
    pub fn is_file(&self) -> bool {
        match self {
            Self::Disk(path) => path.is_file(),
            Self::Embedded { folder, path } => folder.file(path).is_some(),
        }
    }

    /// Whether there is a folder here.
    pub fn is_dir(&self) -> bool {
        match self {
            Self::Disk(path) => path.is_dir(),
            Self::Embedded { folder, .. } => {
                let prefix = self.prefix();
                folder.paths().any(|path| path.starts_with(&prefix))
            }
        }
    }

    /// Whether there is anything here.
    pub fn exists(&self) -> bool {
        match self {
            Self::Disk(path) => path.exists(),
            Self::Embedded { .. } => self.is_file() || self.is_dir(),
        }
    }

    /// The path on disk, or for messages one of the same form.
    pub fn to_path(&self) -> PathBuf {
        match self {
            Self::Disk(path) => path.clone(),
            Self::Embedded { folder, path } if path.is_empty() => PathBuf::from(folder.name),
            Self::Embedded { folder, path } => Path::new(folder.name).join(path),
        }
    }

    /// The names of the files in this folder, sorted.
    pub(crate) fn file_names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        match self {
            Self::Disk(folder) => {
                for entry in std::fs::read_dir(folder).map_err(|error| Error::io(folder, error))? {
                    let entry = entry.map_err(|error| Error::io(folder, error))?;
                    if entry.path().is_file() {
                        names.push(entry.file_name().to_string_lossy().into_owned());
                    }
                }
            }
            Self::Embedded { folder, .. } => {
                let prefix = self.prefix();
                let inside = folder.paths().filter_map(|path| path.strip_prefix(&prefix));
                names.extend(inside.filter(|name| !name.contains('/')).map(str::to_owned));
            }
        }
        names.sort();
        Ok(names)
    }

    /// The file's length in bytes and its contents, to be read from the start.
    ///
    /// # Errors
    /// When there is no file or it cannot be opened.
    pub(crate) fn reader(&self) -> Result<(u64, Box<dyn Read>)> {
        match self {
            Self::Disk(path) => {
                let fault = |error| Error::io(path, error);
                let file = File::open(path).map_err(fault)?;
                let size_bytes = file.metadata().map_err(fault)?.len();
                Ok((size_bytes, Box::new(file)))
            }
            Self::Embedded { .. } => {
                let bytes = self.embedded()?;
                Ok((bytes.len() as u64, Box::new(bytes)))
            }
        }
    }

    /// The whole file, mapped or as it lies in the program.
    ///
    /// # Errors
    /// When there is no file or it cannot be mapped.
    pub(crate) fn contents(self) -> Result<Contents> {
        let bytes = match &self {
            Self::Disk(path) => Bytes::Mapped(MappedFile::open(path)?),
            Self::Embedded { .. } => Bytes::Static(self.embedded()?),
        };
        Ok(Contents { place: self, bytes })
    }

    /// An embedded file's bytes.
    fn embedded(&self) -> Result<&'static [u8]> {
        let bytes = match self {
            Self::Disk(_) => None,
            Self::Embedded { folder, path } => folder.file(path),
        };
        bytes.ok_or_else(|| self.not_found())
    }

    /// The error for a place where nothing is.
    pub(crate) fn not_found(&self) -> Error {
        Error::io(&self.to_path(), std::io::ErrorKind::NotFound.into())
    }

    /// How the paths of an embedded folder's files begin.
    fn prefix(&self) -> String {
        match self {
            Self::Embedded { path, .. } if !path.is_empty() => format!("{path}/"),
            _ => String::new(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_path().display())
    }
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Self {
        Self::Disk(path.to_owned())
    }
}

impl From<&PathBuf> for Place {
    fn from(path: &PathBuf) -> Self {
        Self::Disk(path.clone())
    }
}

impl From<&Place> for Place {
    fn from(place: &Place) -> Self {
        place.clone()
    }
}

impl From<EmbeddedFolder> for Place {
    fn from(folder: EmbeddedFolder) -> Self {
        Self::Embedded {
            folder,
            path: String::new(),
        }
    }
}

/// A file's bytes and where they lie.
#[derive(Debug)]
pub(crate) struct Contents {
    place: Place,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Mapped(MappedFile),
    Static(&'static [u8]),
}

impl Contents {
    /// All bytes of the file.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(file) => file.bytes(),
            Bytes::Static(bytes) => bytes,
        }
    }

    /// Gives back the memory behind some of the bytes until somebody looks at them again.
    pub(crate) fn release(&self, range: std::ops::Range<usize>) {
        if let Bytes::Mapped(file) = &self.bytes {
            file.release(range);
        }
    }

    /// Where it lies.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const FOLDER: EmbeddedFolder = EmbeddedFolder::new(
        "small",
        &[
            ("model_index.json", b"{}"),
            ("unet/config.json", b"{\"a\": 1}"),
            ("unet/model.safetensors", b"weights"),
        ],
    );

    /// The same files on disk and in memory.
    fn twins() -> (tempfile::TempDir, [Place; 2]) {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("small");
        std::fs::create_dir_all(disk.join("unet")).unwrap();
        for path in FOLDER.paths() {
            std::fs::write(disk.join(path), FOLDER.file(path).unwrap()).unwrap();
        }
        (dir, [Place::Disk(disk), FOLDER.into()])
    }

    #[test]
    fn embedded_files_are_found_as_those_on_disk() {
        let (_dir, places) = twins();
        for place in places {
            assert!(place.is_dir() && place.exists() && !place.is_file());
            assert_eq!(place.file_names().unwrap(), ["model_index.json"]);
            let unet = place.join("unet");
            assert!(unet.is_dir() && !unet.is_file());
            let names = ["config.json", "model.safetensors"];
            assert_eq!(unet.file_names().unwrap(), names);
            let weights = unet.join("model.safetensors");
            assert!(weights.is_file() && !weights.is_dir());
            let (size_bytes, mut reader) = weights.reader().unwrap();
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!((size_bytes, text.as_str()), (7, "weights"));
            assert!(
                weights
                    .to_string()
                    .ends_with("small/unet/model.safetensors")
            );
            let contents = weights.clone().contents().unwrap();
            assert_eq!(contents.bytes(), b"weights");
            assert_eq!(contents.place(), &weights);
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let (_dir, places) = twins();
        for place in places {
            // Neither a part of a name nor a way out of the folder leads anywhere.
            for name in ["une", "unet/config", "vae", "unet/config.json/x"] {
                let place = place.join(name);
                assert!(!place.exists() && !place.is_dir() && !place.is_file());
                let errors = [
                    place.reader().map(|_| ()).unwrap_err(),
                    place.clone().contents().map(|_| ()).unwrap_err(),
                ];
                for error in errors {
                    let kind = error.kind();
                    assert!(matches!(kind, ErrorKind::NotFound | ErrorKind::Io));
                    assert!(error.message().contains(name), "{error}");
                }
            }
        }
    }
}
