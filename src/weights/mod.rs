//! Checkpoints: from a folder, a file or a hub id to named tensors and raw configurations.
//!
//! Whatever the file's dialect, tensors are offered under the names of diffusers' component files
//! (`unet/diffusion_pytorch_model.safetensors`, `text_encoder/model.safetensors`, ...), so that the rest of
//! the crate knows one dialect only. Nothing is copied before it is read: a component is a set of views
//! over memory-mapped (or embedded) files, and a change of dialect is a change of names, row ranges and shapes.

mod card;
mod checkpoint;
mod component;
mod folder;
mod hash;
mod hub;
#[cfg(feature = "model-in-the-box")]
mod in_the_box;
mod json;
mod ldm;
mod mmap;
mod pickle;
mod place;
mod prediction;
mod safetensors;
mod seen;
mod single_file;
mod spec;
mod tensor_file;
mod vae_file;
mod view;

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Result;

pub use card::{Card, CardDefaults, DataSource};
pub use checkpoint::{Checkpoint, ModelSource, OpenOptions};
pub use hub::{HubOptions, Network, PullOptions, pull};
pub(crate) use json::without_non_numbers;
pub use place::{EmbeddedFolder, Place};
pub use spec::{FAMILIES, Family};

/// Element type of a tensor as stored in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StoredDType {
    /// IEEE 754 double precision.
    F64,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// 64-bit signed integers (position ids of old checkpoints).
    I64,
    /// 32-bit signed integers.
    I32,
    /// Bytes.
    U8,
    /// Booleans, one byte each.
    Bool,
}

impl StoredDType {
    /// Bytes an element takes.
    pub fn size_bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::U8 | Self::Bool => 1,
        }
    }

    /// Significant bits of a value, at most those of the f32 it becomes.
    pub fn significant_bits(self) -> u32 {
        match self {
            Self::F64 | Self::F32 | Self::I64 | Self::I32 => f32::MANTISSA_DIGITS,
            Self::F16 => 11,
            Self::Bf16 | Self::U8 => 8,
            Self::Bool => 1,
        }
    }

    /// The name safetensors headers use.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
        }
    }

    /// The type that safetensors headers call `name`, if it is one that is read here.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [
            Self::F64,
            Self::F32,
            Self::F16,
            Self::Bf16,
            Self::I64,
            Self::I32,
            Self::U8,
            Self::Bool,
        ]
        .into_iter()
        .find(|dtype| dtype.name() == name)
    }
}

impl fmt::Display for StoredDType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tensor's bytes, little endian, row-major, without a copy where the file allows it.
///
/// The bytes start anywhere in a file, so they are aligned to nothing.
#[derive(Debug, Clone)]
pub struct RawTensor<'a> {
    /// Element type of `bytes`.
    pub dtype: StoredDType,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// The elements.
    pub bytes: Cow<'a, [u8]>,
}

/// The tensors of one component under their diffusers names.
pub trait TensorSource: Send + Sync {
    /// All names, sorted.
    fn names(&self) -> Vec<String>;

    /// Type and shape of `name`, without reading it; `None` when there is no such tensor.
    fn info(&self, name: &str) -> Option<(StoredDType, Vec<usize>)>;

    /// Reads `name`.
    ///
    /// # Errors
    /// When there is no such tensor or the file cannot be read.
    fn read(&self, name: &str) -> Result<RawTensor<'_>>;

    /// Says that `name` is not needed for the time being: memory that reading it took may go back to the system. It
    /// can be read again.
    fn release(&self, name: &str) {
        let _ = name;
    }
}

/// One part of a checkpoint: its `config.json` and its tensors.
#[derive(Clone)]
pub struct Component {
    /// Name as in `model_index.json` ("unet", "vae", "text_encoder", "text_encoder_2").
    pub name: String,
    /// The component's own `config.json`, or, for single files, the family's published one.
    pub config: serde_json::Value,
    /// Its tensors.
    pub tensors: Arc<dyn TensorSource>,
    /// File or folder it came from.
    pub path: PathBuf,
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("name", &self.name)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
