//! Views: another dialect's names over the same bytes.
//!
//! Converting a checkpoint is renaming, cutting rows out of a fused matrix, dropping trailing ones of a
//! shape, and now and then a transpose. Only the last needs memory, and only while that tensor is read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::{RawTensor, StoredDType, TensorSource};
use crate::error::{Error, ErrorKind, Result};

/// How a tensor is derived from one of the source's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    /// Name in the source.
    pub(crate) source: String,
    /// Rows (indices of the outermost dimension) to keep; `None` keeps all.
    pub(crate) rows: Option<Range<usize>>,
    /// Whether the matrix is transposed, after cutting rows.
    pub(crate) order: Order,
    /// The shape that results.
    pub(crate) shape: Vec<usize>,
}

/// Whether a matrix keeps its order of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// As stored.
    AsStored,
    /// Rows become columns.
    Transposed,
}

impl View {
    /// The whole tensor under another name.
    pub(crate) fn whole(source: &str, shape: &[usize]) -> Self {
        Self {
            source: source.to_owned(),
            rows: None,
            order: Order::AsStored,
            shape: shape.to_vec(),
        }
    }

    /// Part `index` of `count` equal parts along the outermost dimension.
    pub(crate) fn part(source: &str, shape: &[usize], index: usize, count: usize) -> Self {
        let rows = shape.first().map_or(0, |rows| rows / count);
        let mut part = Self::whole(source, shape);
        part.rows = Some(index * rows..(index + 1) * rows);
        if let Some(first) = part.shape.first_mut() {
            *first = rows;
        }
        part
    }

    /// A matrix with rows and columns exchanged.
    pub(crate) fn transposed(source: &str, shape: &[usize]) -> Self {
        let mut view = Self::whole(source, shape);
        view.shape.reverse();
        view.order = Order::Transposed;
        view
    }

    /// A convolution's 1x1 kernel as a matrix: extents of one behind the second are dropped.
    pub(crate) fn matrix(source: &str, shape: &[usize]) -> Self {
        let mut view = Self::whole(source, shape);
        if shape.len() > 2 && shape[2..].iter().all(|&extent| extent == 1) {
            view.shape.truncate(2);
        }
        view
    }

    /// Applies the view to the tensor as stored.
    fn apply<'a>(&self, tensor: RawTensor<'a>) -> Result<RawTensor<'a>> {
        let mut bytes = tensor.bytes;
        let mut stored = tensor.shape;
        if let Some(rows) = &self.rows {
            let count = stored.first().copied().unwrap_or(0);
            if rows.end > count || rows.start > rows.end || count == 0 {
                return Err(self.broken(&stored));
            }
            let row = bytes.len() / count;
            let range = rows.start * row..rows.end * row;
            bytes = match bytes {
                Cow::Borrowed(all) => Cow::Borrowed(&all[range]),
                Cow::Owned(mut all) => {
                    all.truncate(range.end);
                    all.drain(..range.start);
                    Cow::Owned(all)
                }
            };
            stored[0] = rows.len();
        }
        if self.order == Order::Transposed {
            let [rows, columns] = stored[..] else {
                return Err(self.broken(&stored));
            };
            bytes = Cow::Owned(transpose(&bytes, rows, columns, tensor.dtype.size_bytes()));
        }
        if self.shape.iter().product::<usize>() != stored.iter().product::<usize>() {
            return Err(self.broken(&stored));
        }
        Ok(RawTensor {
            dtype: tensor.dtype,
            shape: self.shape.clone(),
            bytes,
        })
    }

    fn broken(&self, stored: &[usize]) -> Error {
        Error::new(
            ErrorKind::Internal,
            format!(
                "a view of shape {:?} cannot be made of {} with shape {stored:?}",
                self.shape, self.source
            ),
        )
    }
}

/// Exchanges rows and columns of elements of `size` bytes.
fn transpose(bytes: &[u8], rows: usize, columns: usize, size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for column in 0..columns {
        for row in 0..rows {
            let at = (row * columns + column) * size;
            out.extend_from_slice(&bytes[at..at + size]);
        }
    }
    out
}

/// A source under other names.
pub(crate) struct MappedSource {
    base: Arc<dyn TensorSource>,
    views: BTreeMap<String, View>,
}

impl MappedSource {
    /// Offers `views`, each under its key, over `base`.
    pub(crate) fn new(base: Arc<dyn TensorSource>, views: BTreeMap<String, View>) -> Self {
        Self { base, views }
    }

    /// Renames every tensor by `rename`; those it answers `None` for are left out.
    pub(crate) fn renamed(
        base: Arc<dyn TensorSource>,
        rename: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let views = base
            .names()
            .into_iter()
            .filter_map(|source| {
                let (_, shape) = base.info(&source)?;
                Some((rename(&source)?, View::whole(&source, &shape)))
            })
            .collect();
        Self { base, views }
    }

    fn view(&self, name: &str) -> Option<&View> {
        self.views.get(name)
    }
}

impl TensorSource for MappedSource {
    fn names(&self) -> Vec<String> {
        self.views.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<(StoredDType, Vec<usize>)> {
        let view = self.view(name)?;
        let (dtype, _) = self.base.info(&view.source)?;
        Some((dtype, view.shape.clone()))
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>> {
        let view = self.view(name).ok_or_else(|| no_tensor(name))?;
        view.apply(self.base.read(&view.source)?)
    }

    fn release(&self, name: &str) {
        if let Some(view) = self.view(name) {
            self.base.release(&view.source);
        }
    }
}

/// Several files that hold one component between them.
pub(crate) struct ShardedSource {
    shards: Vec<Arc<dyn TensorSource>>,
    owners: BTreeMap<String, usize>,
}

impl ShardedSource {
    /// Joins `shards`; a name in several of them is the last one's.
    pub(crate) fn new(shards: Vec<Arc<dyn TensorSource>>) -> Self {
        let owners = shards
            .iter()
            .enumerate()
            .flat_map(|(index, shard)| shard.names().into_iter().map(move |name| (name, index)))
            .collect();
        Self { shards, owners }
    }

    fn shard(&self, name: &str) -> Option<&dyn TensorSource> {
        Some(self.shards[*self.owners.get(name)?].as_ref())
    }
}

impl TensorSource for ShardedSource {
    fn names(&self) -> Vec<String> {
        self.owners.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<(StoredDType, Vec<usize>)> {
        self.shard(name)?.info(name)
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>> {
        self.shard(name).ok_or_else(|| no_tensor(name))?.read(name)
    }

    fn release(&self, name: &str) {
        if let Some(shard) = self.shard(name) {
            shard.release(name);
        }
    }
}

/// The error for a name that a source does not hold.
pub(crate) fn no_tensor(name: &str) -> Error {
    Error::new(
        ErrorKind::WeightMismatch,
        format!("there is no tensor {name}"),
    )
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Tensors in memory, for tests.
    #[derive(Default)]
    pub(crate) struct MemorySource {
        pub(crate) tensors: BTreeMap<String, (StoredDType, Vec<usize>, Vec<u8>)>,
    }

    impl MemorySource {
        /// Adds `name` with bytes that count up.
        pub(crate) fn with(mut self, name: &str, shape: &[usize]) -> Self {
            let count = shape.iter().product::<usize>();
            let bytes = (0..count).flat_map(|i| (i as f32).to_le_bytes()).collect();
            self.tensors
                .insert(name.to_owned(), (StoredDType::F32, shape.to_vec(), bytes));
            self
        }
    }

    impl TensorSource for MemorySource {
        fn names(&self) -> Vec<String> {
            self.tensors.keys().cloned().collect()
        }

        fn info(&self, name: &str) -> Option<(StoredDType, Vec<usize>)> {
            let (dtype, shape, _) = self.tensors.get(name)?;
            Some((*dtype, shape.clone()))
        }

        fn read(&self, name: &str) -> Result<RawTensor<'_>> {
            let (dtype, shape, bytes) = self.tensors.get(name).ok_or_else(|| no_tensor(name))?;
            Ok(RawTensor {
                dtype: *dtype,
                shape: shape.clone(),
                bytes: Cow::Borrowed(bytes),
            })
        }
    }

    /// Names and shapes without bytes, for models of full size.
    #[derive(Default)]
    pub(crate) struct ShapeSource {
        shapes: BTreeMap<String, Vec<usize>>,
    }

    impl ShapeSource {
        /// Adds a tensor.
        pub(crate) fn put(&mut self, name: &str, shape: &[usize]) {
            self.shapes.insert(name.to_owned(), shape.to_vec());
        }

        /// Takes a tensor out.
        pub(crate) fn remove(&mut self, name: &str) {
            assert!(self.shapes.remove(name).is_some(), "{name}");
        }
    }

    impl TensorSource for ShapeSource {
        fn names(&self) -> Vec<String> {
            self.shapes.keys().cloned().collect()
        }

        fn info(&self, name: &str) -> Option<(StoredDType, Vec<usize>)> {
            Some((StoredDType::F16, self.shapes.get(name)?.clone()))
        }

        fn read(&self, name: &str) -> Result<RawTensor<'_>> {
            Err(no_tensor(name))
        }
    }

    /// FNV-1a of the lines "name [shape]", sorted and joined by newlines: what the reference script prints.
    pub(crate) fn digest(source: &dyn TensorSource) -> u64 {
        let lines: Vec<_> = source
            .names()
            .iter()
            .map(|name| format!("{name} {:?}", source.info(name).unwrap().1))
            .collect();
        lines
            .join("\n")
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            })
    }

    /// Writes a source as a safetensors file, by the reference library.
    pub(crate) fn write_safetensors(source: &MemorySource, path: &std::path::Path) {
        let views = source.tensors.iter().map(|(name, (_, shape, bytes))| {
            let dtype = safetensors::Dtype::F32;
            let view = safetensors::tensor::TensorView::new(dtype, shape.clone(), bytes);
            (name, view.unwrap())
        });
        safetensors::serialize_to_file(views, None, path).unwrap();
    }

    /// The elements of an f32 tensor.
    pub(crate) fn f32s(tensor: &RawTensor<'_>) -> Vec<f32> {
        assert_eq!(tensor.dtype, StoredDType::F32);
        tensor
            .bytes
            .chunks_exact(4)
            .map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{MemorySource, f32s};
    use super::*;

    fn mapped(shape: &[usize], view: View) -> MappedSource {
        let base: Arc<dyn TensorSource> = Arc::new(MemorySource::default().with("a", shape));
        MappedSource::new(base, BTreeMap::from([("b".to_owned(), view)]))
    }

    #[test]
    fn cuts_equal_parts_without_copying() {
        let source = mapped(&[6, 2], View::part("a", &[6, 2], 1, 3));
        assert_eq!(source.info("b").unwrap(), (StoredDType::F32, vec![2, 2]));
        let tensor = source.read("b").unwrap();
        assert!(matches!(tensor.bytes, Cow::Borrowed(_)));
        assert_eq!(f32s(&tensor), [4.0, 5.0, 6.0, 7.0]);
    }

    #[test]
    fn transposes() {
        let source = mapped(&[2, 3], View::transposed("a", &[2, 3]));
        let tensor = source.read("b").unwrap();
        assert_eq!(tensor.shape, [3, 2]);
        assert_eq!(f32s(&tensor), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    }

    #[test]
    fn turns_one_by_one_kernels_into_matrices_and_nothing_else() {
        assert_eq!(View::matrix("a", &[4, 3, 1, 1]).shape, [4, 3]);
        assert_eq!(View::matrix("a", &[4, 3, 1]).shape, [4, 3]);
        assert_eq!(View::matrix("a", &[4, 3, 3, 3]).shape, [4, 3, 3, 3]);
        assert_eq!(View::matrix("a", &[4]).shape, [4]);
        let source = mapped(&[4, 3, 1, 1], View::matrix("a", &[4, 3, 1, 1]));
        assert_eq!(source.read("b").unwrap().shape, [4, 3]);
    }

    #[test]
    fn a_missing_tensor_is_named() {
        let source = mapped(&[1], View::whole("a", &[1]));
        assert!(source.info("c").is_none());
        let error = source.read("c").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WeightMismatch);
        assert!(error.message().contains(" c"), "{error}");
    }

    #[test]
    fn shards_are_read_as_one() {
        let first: Arc<dyn TensorSource> = Arc::new(MemorySource::default().with("a", &[1]));
        let second: Arc<dyn TensorSource> = Arc::new(MemorySource::default().with("b", &[2]));
        let source = ShardedSource::new(vec![first, second]);
        assert_eq!(source.names(), ["a", "b"]);
        assert_eq!(source.read("b").unwrap().shape, [2]);
        assert!(source.read("c").is_err());
    }
}
