//! Names tensors while a model is built, and compares what a model wants with what a file has.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::engine::Engine;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::weights::{RawTensor, StoredDType, TensorSource};

/// A tensor that a model asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedTensor {
    /// Full name within the component.
    pub name: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Whether it is a table of vectors, of which a layer reads a few at a time.
    pub table: bool,
}

/// A tensor that a layer reads parts of, again and again, from where the checkpoint is.
#[derive(Clone)]
pub(super) struct StoredTensor {
    tensors: Arc<dyn TensorSource>,
    name: String,
}

impl fmt::Debug for StoredTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredTensor")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl StoredTensor {
    /// Gives the tensor to `place`, and back what reading it took.
    pub(super) fn read<T>(&self, place: impl FnOnce(&RawTensor<'_>) -> Result<T>) -> Result<T> {
        let raw = self.tensors.read(&self.name)?;
        let placed = place(&raw).context(format!("tensor {}", self.name));
        drop(raw);
        self.tensors.release(&self.name);
        placed
    }
}

/// A place in the tree of a component's tensors; cheap to clone and to descend.
#[derive(Clone)]
pub struct Scope<'a> {
    engine: Engine,
    prefix: String,
    typical_pixels: usize,
    exact: bool,
    mode: Arc<Mode<'a>>,
}

type OnTensor<'a> = Mutex<Box<dyn FnMut(&str) -> Result<()> + Send + 'a>>;

enum Mode<'a> {
    Plan {
        asked: Mutex<Vec<ExpectedTensor>>,
        tensors: Option<Arc<dyn TensorSource>>,
    },
    Load {
        tensors: Arc<dyn TensorSource>,
        on_tensor: OnTensor<'a>,
    },
}

impl<'a> Scope<'a> {
    /// The root of a component whose layers read their weights from `tensors`.
    ///
    /// `on_tensor` is told each name before the tensor is read; its error, such as a cancellation, ends
    /// the load.
    pub fn load(
        engine: &Engine,
        tensors: Arc<dyn TensorSource>,
        on_tensor: impl FnMut(&str) -> Result<()> + Send + 'a,
    ) -> Self {
        Self::root(
            engine,
            Mode::Load {
                tensors,
                on_tensor: Mutex::new(Box::new(on_tensor)),
            },
        )
    }

    /// The root of a component whose layers are built without weights: what they ask for is recorded,
    /// and computing with them is an error.
    pub fn plan(engine: &Engine) -> Self {
        Self::root(
            engine,
            Mode::Plan {
                asked: Mutex::default(),
                tensors: None,
            },
        )
    }

    /// As [`plan`](Self::plan), with [`has`](Self::has) answered by `tensors`.
    pub fn plan_for(engine: &Engine, tensors: Arc<dyn TensorSource>) -> Self {
        Self::root(
            engine,
            Mode::Plan {
                asked: Mutex::default(),
                tensors: Some(tensors),
            },
        )
    }

    fn root(engine: &Engine, mode: Mode<'a>) -> Self {
        Self {
            engine: engine.clone(),
            prefix: String::new(),
            typical_pixels: 0,
            exact: false,
            mode: Arc::new(mode),
        }
    }

    /// The scope one level down.
    #[must_use]
    pub fn pp(&self, part: impl fmt::Display) -> Self {
        Self {
            prefix: self.full(&part.to_string()),
            ..self.clone()
        }
    }

    /// The same place, whose layers usually see pictures of `pixels` positions; engines may choose kernels by it.
    #[must_use]
    pub fn seeing(&self, pixels: usize) -> Self {
        Self {
            typical_pixels: pixels,
            ..self.clone()
        }
    }

    /// The same place, whose layers multiply in f32 whatever the engine's precision: for what is small and enters
    /// everything else.
    #[must_use]
    pub fn exact(&self) -> Self {
        Self {
            exact: true,
            ..self.clone()
        }
    }

    /// What [`seeing`](Self::seeing) said; 0 when nothing did.
    pub(super) fn typical_pixels(&self) -> usize {
        self.typical_pixels
    }

    /// Whether [`exact`](Self::exact) was asked for.
    pub(super) fn is_exact(&self) -> bool {
        self.exact
    }

    /// The engine layers are built for.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Full name of this scope, such as `down_blocks.0.resnets.1`; empty at the root.
    pub fn path(&self) -> &str {
        &self.prefix
    }

    /// Whether the file has a tensor `name` below this scope; false in a [`plan`](Self::plan).
    pub fn has(&self, name: &str) -> bool {
        match self.mode.as_ref() {
            Mode::Plan { tensors: None, .. } => false,
            Mode::Plan {
                tensors: Some(tensors),
                ..
            }
            | Mode::Load { tensors, .. } => tensors.info(&self.full(name)).is_some(),
        }
    }

    /// All tensors asked for so far, by this scope and its relatives, in order; empty unless planning.
    pub fn manifest(&self) -> Vec<ExpectedTensor> {
        match self.mode.as_ref() {
            Mode::Plan { asked, .. } => {
                asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
            }
            Mode::Load { .. } => Vec::new(),
        }
    }

    /// Asks for a tensor. Planning records it and gives nothing; loading passes it to `place`, with
    /// exactly `shape`.
    pub(super) fn tensor<T>(
        &self,
        name: &str,
        shape: &[usize],
        place: impl FnOnce(&RawTensor<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        self.ask((name, false), shape, place)
    }

    /// As [`tensor`](Self::tensor), for a table of vectors.
    pub(super) fn table<T>(
        &self,
        name: &str,
        shape: &[usize],
        place: impl FnOnce(&RawTensor<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        self.ask((name, true), shape, place)
    }

    /// As [`table`](Self::table), of which nothing is read now but what `check` looks at.
    pub(super) fn stored_table(
        &self,
        name: &str,
        shape: &[usize],
        check: impl FnOnce(&RawTensor<'_>) -> Result<()>,
    ) -> Result<Option<StoredTensor>> {
        let found = self.table(name, shape, check)?;
        Ok(match self.mode.as_ref() {
            Mode::Load { tensors, .. } => found.map(|()| StoredTensor {
                tensors: Arc::clone(tensors),
                name: self.full(name),
            }),
            Mode::Plan { .. } => None,
        })
    }

    fn ask<T>(
        &self,
        (name, table): (&str, bool),
        shape: &[usize],
        place: impl FnOnce(&RawTensor<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let name = self.full(name);
        match self.mode.as_ref() {
            Mode::Plan { asked, .. } => {
                let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
                asked.push(ExpectedTensor {
                    name,
                    shape: shape.to_vec(),
                    table,
                });
                Ok(None)
            }
            Mode::Load { tensors, on_tensor } => {
                (on_tensor.lock().unwrap_or_else(PoisonError::into_inner))(&name)?;
                let mut raw = tensors.read(&name)?;
                let fault = fault(shape, Some((raw.dtype, &raw.shape)));
                if let Some(fault) = fault {
                    return Err(mismatch(format!("tensor {name}: {fault}")));
                }
                raw.shape = shape.to_vec();
                let placed = place(&raw).context(format!("tensor {name}"));
                drop(raw);
                tensors.release(&name);
                placed.map(Some)
            }
        }
    }

    fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("prefix", &self.prefix)
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

/// Compares a planned model with a file.
///
/// Weights of 1x1 convolutions may be stored as `[O, I]` and those of linear layers as `[O, I, 1, 1]`
/// or `[O, I, 1]`.
///
/// # Errors
/// One [`ErrorKind::WeightMismatch`] that lists every missing tensor and every tensor of a wrong shape or
/// type.
pub fn check(manifest: &[ExpectedTensor], tensors: &dyn TensorSource) -> Result<()> {
    let mut missing = 0;
    let mut wrong = 0;
    let mut lines = Vec::new();
    for expected in manifest {
        let info = tensors.info(&expected.name);
        let found = info
            .as_ref()
            .map(|(dtype, shape)| (*dtype, shape.as_slice()));
        let Some(fault) = fault(&expected.shape, found) else {
            continue;
        };
        if info.is_none() {
            missing += 1;
        } else {
            wrong += 1;
        }
        lines.push(format!("  {}: {fault}", expected.name));
    }
    if lines.is_empty() {
        return Ok(());
    }
    Err(mismatch(format!(
        "of {} tensors {missing} are missing and {wrong} have another shape or type than the configuration says:\n{}",
        manifest.len(),
        lines.join("\n")
    )))
}

fn mismatch(message: String) -> Error {
    Error::new(ErrorKind::WeightMismatch, message).with_hint(
        "check that config.json and weights belong together and that the file is complete",
    )
}

/// What is wrong with a tensor of which `expected` is asked.
fn fault(expected: &[usize], found: Option<(StoredDType, &[usize])>) -> Option<String> {
    let Some((dtype, shape)) = found else {
        return Some(format!("missing, expected shape {expected:?}"));
    };
    if !same_matrix(expected, shape) {
        return Some(format!("found shape {shape:?}, expected {expected:?}"));
    }
    match dtype {
        StoredDType::F64 | StoredDType::F32 | StoredDType::F16 | StoredDType::Bf16 => None,
        StoredDType::I64 | StoredDType::I32 | StoredDType::U8 | StoredDType::Bool => Some(format!(
            "found elements of type {dtype:?}, expected floating point"
        )),
    }
}

/// Equal shapes, where a matrix and a 1x1 convolution are equal.
pub(crate) fn same_matrix(expected: &[usize], found: &[usize]) -> bool {
    fn matrix(shape: &[usize]) -> &[usize] {
        match shape {
            [_, _, 1, 1] | [_, _, 1] => &shape[..2],
            _ => shape,
        }
    }
    matrix(expected) == matrix(found)
}
