//! The safetensors container: eight bytes of header length, a JSON header, then the tensors' bytes.
//!
//! The header is read here rather than by the `safetensors` crate because a damaged file deserves an answer
//! with names and numbers in it (which tensor, how many bytes, how many there should be), and because the
//! crate's limit on the header (100 MB) is far above what any model needs. The rules are the format's own
//! (<https://github.com/huggingface/safetensors#format>): offsets cover the data without holes or overlaps.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::place::{Contents, Place};
use super::view::no_tensor;
use super::{RawTensor, StoredDType, TensorSource};
use crate::error::{Error, Result};

/// Longest header that is read. SDXL's, the longest here, takes 0.4 MB for 2,515 tensors.
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// Bytes of the number that precedes the header.
const LENGTH_BYTES: usize = 8;

/// Types that the format knows and this crate has no use for.
const UNSUPPORTED: [&str; 14] = [
    "F4",
    "F6_E2M3",
    "F6_E3M2",
    "F8_E4M3",
    "F8_E5M2",
    "F8_E8M0",
    "F8_E4M3FNUZ",
    "F8_E5M2FNUZ",
    "I8",
    "I16",
    "U16",
    "U32",
    "U64",
    "C64",
];

/// An opened safetensors file.
#[derive(Debug)]
pub(crate) struct SafetensorsFile {
    file: Contents,
    tensors: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Entry {
    dtype: StoredDType,
    shape: Vec<usize>,
    /// Where the bytes lie in the file.
    range: Range<usize>,
}

impl SafetensorsFile {
    /// Maps the file and checks its header against its length.
    ///
    /// # Errors
    /// When the file is missing, shorter or longer than its header says, or the header breaks the format's
    /// rules; [`ErrorKind::Unsupported`] for element types this crate cannot compute with.
    pub(crate) fn open(place: impl Into<Place>) -> Result<Self> {
        let file = place.into().contents()?;
        let (tensors, metadata) =
            parse(file.bytes()).map_err(|error| error.context(file.place()))?;
        Ok(Self {
            file,
            tensors,
            metadata,
        })
    }

    /// The header's free-form strings (`__metadata__`).
    pub(crate) fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

impl TensorSource for SafetensorsFile {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<(StoredDType, Vec<usize>)> {
        let entry = self.tensors.get(name)?;
        Some((entry.dtype, entry.shape.clone()))
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>> {
        let entry = self
            .tensors
            .get(name)
            .ok_or_else(|| no_tensor(name).context(self.file.place()))?;
        Ok(RawTensor {
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            bytes: Cow::Borrowed(&self.file.bytes()[entry.range.clone()]),
        })
    }

    fn release(&self, name: &str) {
        if let Some(entry) = self.tensors.get(name) {
            self.file.release(entry.range.clone());
        }
    }
}

type Parsed = (BTreeMap<String, Entry>, BTreeMap<String, String>);

/// Reads the header in front of `bytes` and checks it against them.
fn parse(bytes: &[u8]) -> Result<Parsed> {
    let header = header_of(bytes)?;
    let data_start = LENGTH_BYTES + header.len();
    let header: Header = serde_json::from_slice(header).map_err(|error| {
        Error::malformed(format!(
            "the safetensors header is not what it should be: {error}"
        ))
        .with_hint(REFETCH)
        .with_source(error)
    })?;
    let mut tensors = BTreeMap::new();
    for (name, raw) in header.tensors {
        let entry = check_tensor(&name, raw, data_start)?;
        tensors.insert(name, entry);
    }
    check_layout(&tensors, data_start, bytes.len())?;
    Ok((tensors, header.metadata))
}

const REFETCH: &str = "the file is damaged or incomplete; fetch it anew";

/// The header's JSON.
fn header_of(bytes: &[u8]) -> Result<&[u8]> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(Error::malformed(format!(
            "found {} bytes, expected a safetensors file, which begins with {LENGTH_BYTES} bytes of header length",
            bytes.len()
        ))
        .with_hint(REFETCH));
    };
    let length = u64::from_le_bytes(*length);
    if rest.first() != Some(&b'{') {
        return Err(Error::malformed(
            "this is no safetensors file: expected a JSON header after 8 bytes of length",
        )
        .with_hint(
            "a .ckpt or .pt file must keep its extension; a page saved in place of a model must be fetched anew",
        ));
    }
    if length > MAX_HEADER_BYTES {
        return Err(Error::malformed(format!(
            "the header claims a length of {length} bytes, expected at most {MAX_HEADER_BYTES}"
        ))
        .with_hint(REFETCH));
    }
    rest.get(..length as usize).ok_or_else(|| {
        Error::malformed(format!(
            "the header claims a length of {length} bytes, found {} bytes after it in the whole file",
            rest.len()
        ))
        .with_hint(REFETCH)
    })
}

/// Checks one tensor's type, shape and extent against each other.
fn check_tensor(name: &str, raw: RawEntry, data_start: usize) -> Result<Entry> {
    let Some(dtype) = StoredDType::from_name(&raw.dtype) else {
        if UNSUPPORTED.contains(&raw.dtype.as_str()) {
            return Err(Error::unsupported(format!(
                "tensor {name} is stored as {}, expected F32, F16 or BF16",
                raw.dtype
            ))
            .with_hint("use the model's fp16 or fp32 file"));
        }
        return Err(Error::malformed(format!(
            "tensor {name} has the unknown element type {:?}",
            raw.dtype
        )));
    };
    let size = raw
        .shape
        .iter()
        .try_fold(dtype.size_bytes(), |size, &extent| size.checked_mul(extent));
    let (start, end) = raw.data_offsets;
    let found = end.checked_sub(start);
    if size.is_none() || found != size {
        return Err(Error::malformed(format!(
            "tensor {name} of type {dtype} and shape {:?} has offsets {start} to {end}, expected {}",
            raw.shape,
            size.map_or_else(|| "a shape that fits into memory".to_owned(), |size| format!("{size} bytes between them")),
        ))
        .with_hint(REFETCH));
    }
    let (Some(start), Some(end)) = (start.checked_add(data_start), end.checked_add(data_start))
    else {
        return Err(Error::malformed(format!(
            "tensor {name} has offsets {start} to {end}, which no file can hold"
        ))
        .with_hint(REFETCH));
    };
    Ok(Entry {
        dtype,
        shape: raw.shape,
        range: start..end,
    })
}

/// Checks that the tensors cover the data once, without holes, and end where the file ends.
fn check_layout(
    tensors: &BTreeMap<String, Entry>,
    data_start: usize,
    file_bytes: usize,
) -> Result<()> {
    let mut order: Vec<_> = tensors
        .iter()
        .map(|(name, entry)| (entry.range.start, entry.range.end, name))
        .collect();
    order.sort_unstable();
    let mut covered = data_start;
    let mut previous = "the header";
    for (start, end, name) in order {
        if start != covered {
            let relation = if start < covered {
                "overlaps"
            } else {
                "leaves a hole after"
            };
            return Err(Error::malformed(format!(
                "tensor {name} {relation} {previous}: it begins at byte {start}, expected {covered}"
            ))
            .with_hint(REFETCH));
        }
        covered = end;
        previous = name;
    }
    if covered != file_bytes {
        let what = if file_bytes < covered {
            "truncated"
        } else {
            "longer than its header says"
        };
        return Err(Error::malformed(format!(
            "the file is {what}: found {file_bytes} bytes, expected {covered}"
        ))
        .with_hint(REFETCH));
    }
    Ok(())
}

/// The header as written.
struct Header {
    tensors: BTreeMap<String, RawEntry>,
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// Tells tensors and `__metadata__` apart and refuses a name that comes twice.
struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header {
            tensors: BTreeMap::new(),
            metadata: BTreeMap::new(),
        };
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                header.metadata = map.next_value::<Strings>()?.0;
                continue;
            }
            let entry = map
                .next_value()
                .map_err(|error| A::Error::custom(format_args!("tensor {name}: {error}")))?;
            if header.tensors.insert(name.clone(), entry).is_some() {
                return Err(A::Error::custom(format_args!(
                    "tensor {name} is described twice"
                )));
            }
        }
        Ok(header)
    }
}

/// The strings of an object; values of other types, which some tools write, are passed over.
struct Strings(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StringsVisitor).map(Self)
    }
}

struct StringsVisitor;

impl<'de> Visitor<'de> for StringsVisitor {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut strings = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            if let StringOrOther::String(value) = map.next_value()? {
                strings.insert(key, value);
            }
        }
        Ok(strings)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum StringOrOther {
    String(String),
    Other(IgnoredAny),
}

/// Whether the file's name says that it is of this format.
pub(crate) fn has_extension(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"))
}

/// Whether a file that begins with `bytes` can be of this format.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    bytes.get(LENGTH_BYTES) == Some(&b'{')
}

#[cfg(test)]
mod tests;
