//! What the processor's own kernels trade: exactness against time, memory against time.

use std::fmt;
use std::str::FromStr;

use tintype_kernels::Isa;

use crate::error::{Error, Result};

/// How the kernels of [`EngineKind::Cpu`](super::EngineKind::Cpu) multiply. Sums, norms, softmax and activations are
/// f32 in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// f32 products: the reference's picture but for rounding.
    #[default]
    F32,
    /// 16-bit products: bf16, or i16 with a scale for each block of channels, whichever is faster. Layers that a
    /// checkpoint wants in f32 (`upcast_attention`), the time embedding and convolutions of few channels stay in f32.
    Fast,
}

impl Precision {
    /// [`Fast`](Self::Fast) where the processor multiplies 16-bit values faster than f32.
    pub fn best() -> Self {
        if Isa::current().multiplies_16_bit() {
            Self::Fast
        } else {
            Self::F32
        }
    }
}

impl From<Precision> for tintype_kernels::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Fast => Self::Fast,
        }
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" => Ok(Self::F32),
            "fast" => Ok(Self::Fast),
            _ => Err(Error::invalid(format!(
                "precision is {text:?}, expected f32 or fast"
            ))),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Fast => "fast",
        })
    }
}

/// How much memory weights may take for the sake of speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MemoryUse {
    /// Each weight in the form its fastest kernel reads, up to 16 bytes a value.
    #[default]
    Normal,
    /// No weight larger than in its direct form: 4 bytes a value where products are f32, 2 where they are 16-bit. Text towers are
    /// given up between the texts of two pictures, and tables of vectors stay in the checkpoint.
    Low,
}

impl FromStr for MemoryUse {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "normal" => Ok(Self::Normal),
            "low" => Ok(Self::Low),
            _ => Err(Error::invalid(format!(
                "memory is {text:?}, expected normal or low"
            ))),
        }
    }
}

impl fmt::Display for MemoryUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal",
            Self::Low => "low",
        })
    }
}
