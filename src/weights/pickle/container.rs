//! Where a PyTorch checkpoint keeps its pickle and its storages.

use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;

use zip::{CompressionMethod, ZipArchive};

use super::machine;
use super::value::{Object, Unpickled, Value};
use crate::error::{Error, Result};

/// How every zip archive begins.
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// The pickle of the number with which files from before 1.6 begin (`torch/serialization.py`).
const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.";

/// Version of the legacy form that every torch since 0.4 writes.
const LEGACY_VERSION: i64 = 1001;

const REFETCH: &str = "the file is damaged or incomplete; fetch it anew";

/// The parts of a checkpoint.
#[derive(Debug)]
pub(super) struct Container {
    /// The pickle that describes the tensors.
    pub(super) pickle: Range<usize>,
    /// Storages by key, where the container itself lists them.
    entries: Option<HashMap<String, Range<usize>>>,
}

/// Whether the bytes begin as a zip archive.
pub(super) fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(ZIP_MAGIC)
}

/// Finds the parts.
///
/// # Errors
/// When the bytes are neither form of a PyTorch checkpoint.
pub(super) fn open(bytes: &[u8]) -> Result<Container> {
    if is_zip(bytes) {
        open_zip(bytes)
    } else if bytes.starts_with(LEGACY_MAGIC) {
        open_legacy(bytes)
    } else {
        let found = if bytes.first() == Some(&0x80) {
            "a bare pickle"
        } else {
            "something else"
        };
        Err(Error::malformed(format!(
            "found {found}, expected a checkpoint that torch.save wrote (a zip archive, or PyTorch's form from before 1.6)"
        ))
        .with_hint("fetch the file anew; a page saved in place of the file is a common cause"))
    }
}

impl Container {
    /// The storages by key, as ranges of the file.
    ///
    /// # Errors
    /// When the storages behind a legacy pickle are cut off.
    pub(super) fn storages<'a>(
        &'a self,
        bytes: &'a [u8],
        pickle: &'a Unpickled<'a>,
    ) -> Result<HashMap<&'a str, Range<usize>>> {
        match &self.entries {
            Some(entries) => Ok(entries
                .iter()
                .map(|(key, range)| (key.as_str(), range.clone()))
                .collect()),
            None => legacy_storages(bytes, self.pickle.start + pickle.end, pickle),
        }
    }
}

fn open_zip(bytes: &[u8]) -> Result<Container> {
    let damaged = |error: zip::result::ZipError| {
        Error::malformed(format!("the zip archive cannot be read: {error}"))
            .with_hint(REFETCH)
            .with_source(error)
    };
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    let mut files = HashMap::new();
    for index in 0..archive.len() {
        let file = archive.by_index_raw(index).map_err(damaged)?;
        let name = String::from_utf8_lossy(file.name_raw()).into_owned();
        if file.compression() != CompressionMethod::Stored {
            return Err(Error::malformed(format!(
                "entry {name:?} is compressed, expected the plain entries that torch.save writes"
            ))
            .with_hint("if this is an archive of a model, unpack it first"));
        }
        let range = file.data_start().and_then(|start| {
            let start = usize::try_from(start).ok()?;
            let end = start.checked_add(usize::try_from(file.size()).ok()?)?;
            (end <= bytes.len()).then_some(start..end)
        });
        let range = range.ok_or_else(|| {
            Error::malformed(format!("entry {name:?} lies beyond the end of the file"))
                .with_hint(REFETCH)
        })?;
        files.insert(name, range);
    }
    let Some((root, pickle)) = files.iter().find_map(|(name, range)| {
        let root = name.strip_suffix("data.pkl")?;
        (root.is_empty() || root.ends_with('/')).then(|| (root.to_owned(), range.clone()))
    }) else {
        return Err(Error::malformed(format!(
            "found a zip archive of {} entries without data.pkl, expected a PyTorch checkpoint",
            files.len()
        ))
        .with_hint("if this is an archive of a model, unpack it first"));
    };
    let order = files
        .get(&format!("{root}byteorder"))
        .map(|range| &bytes[range.clone()]);
    if order.is_some_and(|order| order != b"little") {
        return Err(Error::unsupported(
            "the checkpoint was written on a big-endian machine, expected little-endian numbers",
        ));
    }
    let folder = format!("{root}data/");
    let entries = files
        .into_iter()
        .filter_map(|(name, range)| Some((name.strip_prefix(&folder)?.to_owned(), range)))
        .collect();
    Ok(Container {
        pickle,
        entries: Some(entries),
    })
}

/// Skips the three pickles before the one that matters: magic, version, facts about the machine.
fn open_legacy(bytes: &[u8]) -> Result<Container> {
    let mut at = LEGACY_MAGIC.len();
    let version = machine::run(&bytes[at..])?;
    if version.root != Value::Int(LEGACY_VERSION) {
        return Err(Error::unsupported(format!(
            "the checkpoint has version {:?} of PyTorch's older form, expected {LEGACY_VERSION}",
            version.root
        )));
    }
    at += version.end;
    let facts = machine::run(&bytes[at..])?;
    if facts.get(facts.root, "little_endian") == Some(Value::Bool(false)) {
        return Err(Error::unsupported(
            "the checkpoint was written on a big-endian machine, expected little-endian numbers",
        ));
    }
    at += facts.end;
    Ok(Container {
        pickle: at..bytes.len(),
        entries: None,
    })
}

/// The storages behind a legacy pickle: a pickled list of keys, then for each its count and elements.
fn legacy_storages<'a>(
    bytes: &'a [u8],
    after_pickle: usize,
    pickle: &'a Unpickled<'a>,
) -> Result<HashMap<&'a str, Range<usize>>> {
    let sizes: HashMap<&str, usize> = pickle
        .objects
        .iter()
        .filter_map(|object| match object {
            Object::Storage(storage) => {
                let size = storage
                    .dtype
                    .map_or_else(|(_, size)| size, super::StoredDType::size_bytes);
                Some((storage.key.as_str(), size))
            }
            _ => None,
        })
        .collect();
    let keys = machine::run(&bytes[after_pickle..])?;
    let Some(Object::Sequence(order)) = keys.object(keys.root) else {
        return Err(Error::malformed("the list of storages is missing").with_hint(REFETCH));
    };
    let mut at = after_pickle + keys.end;
    let mut storages = HashMap::new();
    for &key in order {
        let Some((&key, &size)) = keys.text(key).and_then(|key| sizes.get_key_value(key)) else {
            return Err(
                Error::malformed("the list of storages names one that no tensor uses")
                    .with_hint(REFETCH),
            );
        };
        let range = legacy_storage(bytes, at, size).ok_or_else(|| {
            Error::malformed(format!("storage {key:?} is cut off at the end of the file"))
                .with_hint(REFETCH)
        })?;
        at = range.end;
        storages.insert(key, range);
    }
    Ok(storages)
}

/// One storage: eight bytes of count, then the elements.
fn legacy_storage(bytes: &[u8], at: usize, size: usize) -> Option<Range<usize>> {
    let (count, _) = bytes.get(at..)?.split_first_chunk::<8>()?;
    let start = at + 8;
    let length = usize::try_from(u64::from_le_bytes(*count))
        .ok()?
        .checked_mul(size)?;
    let end = start.checked_add(length)?;
    (end <= bytes.len()).then_some(start..end)
}
