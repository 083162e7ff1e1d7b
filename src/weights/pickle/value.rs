//! What a pickle builds here: plain values, containers, storages and tensors.
//!
//! Values are small and copied; whatever has parts lies in one list of objects and is pointed at. So a
//! pickle that nests a million tuples, or memoises one list into itself, costs its own length and no
//! recursion, neither here nor when everything is dropped.

use std::ops::Range;

use super::symbol::Symbol;
use crate::weights::StoredDType;

/// A value on the machine's stack.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    /// `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer that fits.
    Int(i64),
    /// Text: a range of the pickle's own bytes, checked to be UTF-8.
    Text(u32, u32),
    /// An object, by its place in the list.
    Object(u32),
    /// An allowed name.
    Symbol(Symbol),
    /// Something whose content has no use: a float, bytes, what an inert name would have built.
    Opaque,
}

/// A value with parts.
#[derive(Debug)]
pub(super) enum Object {
    /// A list, tuple or set.
    Sequence(Vec<Value>),
    /// A mapping, in order of insertion.
    Mapping(Vec<(Value, Value)>),
    /// A run of elements in the file, called by its key.
    Storage(Storage),
    /// A view of a storage.
    Tensor(Tensor),
}

/// A run of elements.
#[derive(Debug, Clone)]
pub(super) struct Storage {
    /// The key under which the file holds it.
    pub(super) key: String,
    /// Element type; where it has no use here, what it is and the bytes an element takes.
    pub(super) dtype: Result<StoredDType, (&'static str, usize)>,
    /// Elements.
    pub(super) count: usize,
}

/// A view of a storage.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    /// Place of the [`Storage`] in the list of objects.
    pub(super) storage: u32,
    /// First element.
    pub(super) offset: usize,
    /// Extents, outermost first.
    pub(super) shape: Vec<usize>,
    /// Elements between neighbours in each dimension.
    pub(super) strides: Vec<usize>,
}

/// What a pickle left on the stack, with everything it refers to.
#[derive(Debug)]
pub(super) struct Unpickled<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) objects: Vec<Object>,
    pub(super) root: Value,
    /// Bytes of `bytes` that the pickle took.
    pub(super) end: usize,
}

impl Unpickled<'_> {
    /// The text of a value that is text.
    pub(super) fn text(&self, value: Value) -> Option<&str> {
        text(self.bytes, value)
    }

    /// The object behind a value that is one.
    pub(super) fn object(&self, value: Value) -> Option<&Object> {
        object(&self.objects, value)
    }

    /// The entries of a mapping.
    pub(super) fn entries(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.object(value)? {
            Object::Mapping(entries) => Some(entries),
            _ => None,
        }
    }

    /// What a mapping holds under a text; the last where it was set twice.
    pub(super) fn get(&self, mapping: Value, key: &str) -> Option<Value> {
        let entries = self.entries(mapping)?;
        let found = entries
            .iter()
            .rev()
            .find(|(k, _)| self.text(*k) == Some(key))?;
        Some(found.1)
    }
}

/// The text of a value that is text.
pub(super) fn text(bytes: &[u8], value: Value) -> Option<&str> {
    let Value::Text(start, length) = value else {
        return None;
    };
    let range: Range<usize> = start as usize..(start as usize).checked_add(length as usize)?;
    std::str::from_utf8(bytes.get(range)?).ok()
}

/// The object behind a value that is one.
pub(super) fn object(objects: &[Object], value: Value) -> Option<&Object> {
    match value {
        Value::Object(index) => objects.get(index as usize),
        _ => None,
    }
}
