//! PyTorch's own checkpoints (`.ckpt`, `.pt`, `.bin`), read without executing anything.
//!
//! Since 1.6 `torch.save` writes a zip archive: `data.pkl`, a pickle that describes tensors as views of
//! numbered storages, and one stored (not compressed) entry a storage, which is read in place. Before, it
//! was a row of pickles with the storages behind them. The pickle runs on a [machine](machine) that can
//! build tensors and containers and nothing else.

mod container;
mod machine;
mod symbol;
mod value;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use self::value::{Object, Storage, Tensor, Unpickled, Value};
use super::place::{Contents, Place};
use super::view::no_tensor;
use super::{RawTensor, StoredDType, TensorSource};
use crate::error::{Error, Result};

/// An opened PyTorch checkpoint.
#[derive(Debug)]
pub(crate) struct TorchFile {
    file: Contents,
    tensors: BTreeMap<String, Entry>,
    global_step: Option<i64>,
}

/// A tensor as a view of the file.
#[derive(Debug)]
struct Entry {
    dtype: StoredDType,
    shape: Vec<usize>,
    /// Where its storage lies in the file.
    storage: Range<usize>,
    /// First element within the storage.
    offset: usize,
    /// `None` when the elements lie in order.
    strides: Option<Vec<usize>>,
}

/// Keys under which trainers keep the tensors, beside optimisers and counters.
const NESTED: [&str; 2] = ["state_dict", "model"];

impl TorchFile {
    /// Maps the file, runs its pickle and checks every tensor against the storages.
    ///
    /// # Errors
    /// [`UnsafeFile`](crate::ErrorKind::UnsafeFile) when the pickle asks for a name that does not build
    /// tensors; otherwise when the file is missing, damaged, or of another kind.
    pub(crate) fn open(place: impl Into<Place>) -> Result<Self> {
        let file = place.into().contents()?;
        let (tensors, global_step) =
            read(file.bytes()).map_err(|error| error.context(file.place()))?;
        Ok(Self {
            file,
            tensors,
            global_step,
        })
    }

    /// Training steps that made the checkpoint, where the trainer noted them.
    pub(crate) fn global_step(&self) -> Option<i64> {
        self.global_step
    }
}

impl TensorSource for TorchFile {
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
        let storage = &self.file.bytes()[entry.storage.clone()];
        Ok(RawTensor {
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            bytes: entry.gather(storage),
        })
    }

    fn release(&self, name: &str) {
        if let Some(entry) = self.tensors.get(name) {
            self.file.release(entry.storage.clone());
        }
    }
}

impl Entry {
    /// The elements in row-major order.
    fn gather<'a>(&self, storage: &'a [u8]) -> Cow<'a, [u8]> {
        let size = self.dtype.size_bytes();
        let count: usize = self.shape.iter().product();
        let Some(strides) = &self.strides else {
            return Cow::Borrowed(&storage[self.offset * size..(self.offset + count) * size]);
        };
        let mut out = Vec::with_capacity(count * size);
        let mut index = vec![0; self.shape.len()];
        let mut at = self.offset;
        for _ in 0..count {
            out.extend_from_slice(&storage[at * size..(at + 1) * size]);
            for dimension in (0..index.len()).rev() {
                index[dimension] += 1;
                at += strides[dimension];
                if index[dimension] < self.shape[dimension] {
                    break;
                }
                at -= strides[dimension] * self.shape[dimension];
                index[dimension] = 0;
            }
        }
        Cow::Owned(out)
    }
}

type Read = (BTreeMap<String, Entry>, Option<i64>);

/// Reads the structure of a checkpoint of either form.
fn read(bytes: &[u8]) -> Result<Read> {
    let container = container::open(bytes)?;
    let pickle = machine::run(&bytes[container.pickle.clone()])?;
    let storages = container.storages(bytes, &pickle)?;
    let dict = state_dict(&pickle);
    let mut tensors = BTreeMap::new();
    for &(key, value) in pickle.entries(dict).unwrap_or_default() {
        if let (Some(name), Some(Object::Tensor(tensor))) = (pickle.text(key), pickle.object(value))
        {
            let entry = entry(&pickle, tensor, &storages)
                .map_err(|error| error.context(format_args!("tensor {name}")))?;
            tensors.insert(name.to_owned(), entry);
        }
    }
    if tensors.is_empty() {
        return Err(Error::malformed(format!(
            "the pickle describes {}, expected a mapping of names to tensors",
            describe(&pickle, dict)
        ))
        .with_hint("expected a model's checkpoint; an optimiser's or a whole pickled module cannot be read"));
    }
    let global_step = match pickle.get(pickle.root, "global_step") {
        Some(Value::Int(step)) => Some(step),
        _ => None,
    };
    Ok((tensors, global_step))
}

/// The mapping that holds the tensors: the root, or a mapping inside it.
fn state_dict(pickle: &Unpickled<'_>) -> Value {
    NESTED
        .iter()
        .filter_map(|key| pickle.get(pickle.root, key))
        .find(|&inner| pickle.entries(inner).is_some())
        .unwrap_or(pickle.root)
}

/// What a value is, for an error.
fn describe(pickle: &Unpickled<'_>, value: Value) -> String {
    match (pickle.object(value), pickle.entries(value)) {
        (_, Some(entries)) => {
            let keys: Vec<_> = entries
                .iter()
                .filter_map(|(key, _)| pickle.text(*key))
                .take(8)
                .map(|key| {
                    key.chars()
                        .take(60)
                        .flat_map(char::escape_debug)
                        .collect::<String>()
                })
                .collect();
            format!("a mapping without tensors (its keys: {})", keys.join(", "))
        }
        (Some(Object::Sequence(items)), _) => format!("a list of {} items", items.len()),
        (Some(Object::Tensor(_)), _) => "a single tensor".to_owned(),
        _ => "a single value".to_owned(),
    }
}

/// Checks a tensor against its storage.
fn entry(
    pickle: &Unpickled<'_>,
    tensor: &Tensor,
    storages: &HashMap<&str, Range<usize>>,
) -> Result<Entry> {
    let Some(Object::Storage(storage)) = pickle.object(Value::Object(tensor.storage)) else {
        return Err(Error::malformed("its storage is missing"));
    };
    let dtype = storage.dtype.map_err(|(what, _)| {
        Error::unsupported(format!(
            "it holds {what}, expected numbers of F32, F16 or BF16"
        ))
    })?;
    let range = storage_range(storage, dtype, storages)?;
    let count = tensor
        .shape
        .iter()
        .try_fold(1_usize, |count, &extent| count.checked_mul(extent));
    let last = tensor
        .shape
        .iter()
        .zip(&tensor.strides)
        .try_fold(tensor.offset, |last, (&extent, &stride)| {
            last.checked_add(extent.saturating_sub(1).checked_mul(stride)?)
        });
    // An expanded tensor (stride 0) could ask for any amount of memory out of a few bytes.
    let fits = match (count, last) {
        (Some(0), _) => tensor.offset <= storage.count,
        (Some(count), Some(last)) => count <= storage.count && last < storage.count,
        _ => false,
    };
    if !fits {
        return Err(Error::malformed(format!(
            "shape {:?} with strides {:?} from element {} does not fit into its storage of {} elements",
            tensor.shape, tensor.strides, tensor.offset, storage.count
        ))
        .with_hint("the file is damaged; fetch it anew"));
    }
    Ok(Entry {
        dtype,
        shape: tensor.shape.clone(),
        storage: range,
        offset: tensor.offset,
        strides: (!is_row_major(tensor)).then(|| tensor.strides.clone()),
    })
}

/// Where a storage lies, checked against its length.
fn storage_range(
    storage: &Storage,
    dtype: StoredDType,
    storages: &HashMap<&str, Range<usize>>,
) -> Result<Range<usize>> {
    let Some(range) = storages.get(storage.key.as_str()) else {
        return Err(
            Error::malformed(format!("its storage {:?} is not in the file", storage.key))
                .with_hint("the file is damaged or incomplete; fetch it anew"),
        );
    };
    let expected = storage.count.checked_mul(dtype.size_bytes());
    if expected.is_none_or(|expected| range.len() < expected) {
        return Err(Error::malformed(format!(
            "its storage {:?} has {} bytes, expected {} elements of {dtype}",
            storage.key,
            range.len(),
            storage.count
        ))
        .with_hint("the file is damaged or incomplete; fetch it anew"));
    }
    Ok(range.clone())
}

/// Whether the elements lie in order without gaps.
fn is_row_major(tensor: &Tensor) -> bool {
    if tensor.shape.contains(&0) {
        return true;
    }
    let mut expected = 1_usize;
    for (&extent, &stride) in tensor.shape.iter().zip(&tensor.strides).rev() {
        if extent != 1 && stride != expected {
            return false;
        }
        expected = expected.saturating_mul(extent);
    }
    true
}

/// Whether the bytes begin as a PyTorch checkpoint of either form does.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    container::is_zip(bytes) || bytes.first() == Some(&0x80)
}

#[cfg(test)]
mod tests;
