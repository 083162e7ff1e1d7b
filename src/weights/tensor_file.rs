//! One file of tensors, in whichever container its first bytes say.
//!
//! Extensions lie: safetensors files renamed to `.ckpt` are common. The content decides.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use super::TensorSource;
use super::pickle::{self, TorchFile};
use super::place::Place;
use super::safetensors::{self, SafetensorsFile};
use crate::error::{Error, Result};

/// An opened file of tensors.
#[derive(Clone)]
pub(crate) struct TensorFile {
    /// Its tensors under its own names.
    pub(crate) tensors: Arc<dyn TensorSource>,
    /// Free-form strings (`__metadata__` of safetensors).
    pub(crate) metadata: BTreeMap<String, String>,
    /// Training steps, where a PyTorch checkpoint notes them.
    pub(crate) global_step: Option<i64>,
}

/// Opens the file at `place`.
///
/// # Errors
/// When it is missing, a directory, damaged, or in no known container.
pub(crate) fn open(place: impl Into<Place>) -> Result<TensorFile> {
    let place = place.into();
    let mut start = Vec::new();
    // Anything but a file is told apart by the readers below.
    if place.is_file() {
        let (_, reader) = place.reader()?;
        reader
            .take(64)
            .read_to_end(&mut start)
            .map_err(|error| Error::io(&place.to_path(), error))?;
    }
    // Asked first: a safetensors header whose length ends in 0x80 begins as a pickle does.
    let is_torch = !safetensors::looks_like(&start)
        && (pickle::looks_like(&start) || !safetensors::has_extension(&place.to_path()));
    if is_torch {
        let file = TorchFile::open(place)?;
        return Ok(TensorFile {
            global_step: file.global_step(),
            metadata: BTreeMap::new(),
            tensors: Arc::new(file),
        });
    }
    let file = SafetensorsFile::open(place)?;
    Ok(TensorFile {
        metadata: file.metadata().clone(),
        global_step: None,
        tensors: Arc::new(file),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_content_decides_not_the_extension() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.ckpt");
        std::fs::write(&path, [&2_u64.to_le_bytes()[..], b"{}"].concat()).unwrap();
        assert!(open(&path).unwrap().tensors.names().is_empty());
        let path = dir.path().join("model.safetensors");
        std::fs::write(&path, include_bytes!("pickle/testdata/lightning.ckpt")).unwrap();
        assert_eq!(open(&path).unwrap().global_step, Some(875_000));
    }

    #[test]
    fn a_header_length_that_looks_like_a_pickle_is_no_pickle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let header = format!("{{{:126}}}", "");
        assert_eq!(header.len(), 0x80);
        std::fs::write(
            &path,
            [&0x80_u64.to_le_bytes()[..], header.as_bytes()].concat(),
        )
        .unwrap();
        assert!(open(&path).unwrap().tensors.names().is_empty());
    }

    #[test]
    fn the_extension_decides_what_is_expected_of_garbage() {
        let dir = tempfile::tempdir().unwrap();
        for (name, expected) in [("a.safetensors", "safetensors"), ("a.ckpt", "torch.save")] {
            let path = dir.path().join(name);
            std::fs::write(&path, b"<!DOCTYPE html>").unwrap();
            let error = open(&path).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed);
            assert!(error.message().contains(expected), "{error}");
        }
        let error = open(dir.path()).map(|_| ()).unwrap_err();
        assert!(error.message().contains("found a directory"), "{error}");
        let error = open(&dir.path().join("none")).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
