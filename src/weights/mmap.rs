//! Memory-mapped files: the only unsafe lines of this crate.
//!
//! Checkpoints are gigabytes that are read once, tensor by tensor, on the way to the engine's own layout.
//! Mapping them lets the system page them in and out and costs no second copy.
#![expect(
    unsafe_code,
    reason = "a mapping is unsafe to create because others may change the file below it"
)]

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;

use crate::error::{Error, ErrorKind, Result};

/// The bytes of a file.
///
/// The contract towards the user: a model file must not be changed in place while it is loaded. Replacing
/// it (as every downloader does: write aside, then rename) is fine, for the mapping keeps the old file.
#[derive(Debug)]
pub(crate) struct MappedFile {
    /// `None` for an empty file, which no system maps.
    map: Option<Mmap>,
}

impl MappedFile {
    /// Maps the file at `path` for reading.
    ///
    /// # Errors
    /// When there is no such file, it cannot be read, or it is a directory.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io(path, error))?;
        let metadata = file.metadata().map_err(|error| Error::io(path, error))?;
        if !metadata.is_file() {
            let found = if metadata.is_dir() {
                "a directory"
            } else {
                "not a regular file"
            };
            return Err(Error::malformed(format!(
                "{}: found {found}, expected a file with weights",
                path.display()
            ))
            .with_hint(
                "name the file itself, or the model's folder (the one with model_index.json)",
            ));
        }
        let map = if metadata.len() == 0 {
            None
        } else {
            // SAFETY: the map is private to this struct, read-only, and hands out shared slices that borrow
            // from it, so no reference outlives the mapping. Every byte pattern is a valid u8. Left to the
            // user, as documented above: nobody truncates or rewrites the file in place meanwhile.
            let map = unsafe { Mmap::map(&file) }.map_err(|error| {
                Error::new(
                    ErrorKind::Io,
                    format!("{}: cannot map the file: {error}", path.display()),
                )
                .with_source(error)
            })?;
            Some(map)
        };
        Ok(Self { map })
    }

    /// Gives back the memory behind these bytes: their pages leave this process, and are read from the file
    /// again when somebody looks. Without effect where the system cannot.
    pub(crate) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Some(map) = &self.map {
            let (start, end) = (range.start, range.end.min(map.len()));
            if start < end {
                // SAFETY: the mapping is shared, read-only, never locked and backed by the file, so a page that is dropped is read from it
                // again with the same bytes (as long as nobody writes the file, which `open` leaves to the user):
                // slices that are still borrowed stay valid and keep their contents.
                let advised = unsafe {
                    map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start)
                };
                if let Err(error) = advised {
                    tracing::debug!(%error, "the system keeps the pages of a tensor that is loaded");
                }
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }

    /// All bytes of the file.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_what_the_file_holds_and_empty_files_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, b"weights").unwrap();
        assert_eq!(MappedFile::open(&path).unwrap().bytes(), b"weights");
        std::fs::write(&path, b"").unwrap();
        assert_eq!(MappedFile::open(&path).unwrap().bytes(), b"");
    }

    #[test]
    fn released_bytes_can_be_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let bytes: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = MappedFile::open(&path).unwrap();
        let held = &file.bytes()[70_000..];
        for range in [0..bytes.len(), 100..200, 65_536..131_072, 5..usize::MAX] {
            file.release(range);
            assert_eq!(file.bytes(), bytes);
        }
        assert_eq!(held, &bytes[70_000..]);
    }

    #[test]
    fn names_missing_files_and_directories() {
        let dir = tempfile::tempdir().unwrap();
        let error = MappedFile::open(&dir.path().join("none")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.message().contains("none"), "{error}");
        let error = MappedFile::open(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(error.message().contains("found a directory"), "{error}");
        assert!(error.hint().is_some());
    }
}
