//! Checkpoints: from a folder, a file or a hub id to named tensors and raw configurations.
//!
//! Whatever the file's dialect, tensors are offered under the names of diffusers' component files
//! (`unet/diffusion_pytorch_model.safetensors`, `text_encoder/model.safetensors`, ...), so that the rest of
//! the crate knows one dialect only.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Result;

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

/// A tensor's bytes, little endian, row-major, without a copy where the file allows it.
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

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Component")
            .field("name", &self.name)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
