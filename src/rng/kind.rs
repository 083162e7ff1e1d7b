//! Which program's random numbers a run uses.

use std::fmt;
use std::str::FromStr;

use super::{NumpyGenerator, PhiloxGenerator, TorchGenerator};
use crate::error::{Error, Result};

/// A source of random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RngKind {
    /// torch on the CPU: diffusers with a CPU generator, ComfyUI, InvokeAI, the webui's `CPU`.
    #[default]
    TorchCpu,
    /// torch on an NVIDIA GPU: the webui's `GPU`, its default, and `NV`.
    TorchCuda,
    /// NumPy's `RandomState`: diffusers' ONNX pipelines.
    Numpy,
}

/// Names that [`RngKind`] is read from; the first of each kind is its own.
const NAMES: [(&str, RngKind); 8] = [
    ("cpu", RngKind::TorchCpu),
    ("torch", RngKind::TorchCpu),
    ("gpu", RngKind::TorchCuda),
    ("nv", RngKind::TorchCuda),
    ("cuda", RngKind::TorchCuda),
    ("philox", RngKind::TorchCuda),
    ("numpy", RngKind::Numpy),
    ("np", RngKind::Numpy),
];

impl RngKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::TorchCpu, Self::TorchCuda, Self::Numpy];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::TorchCpu => "cpu",
            Self::TorchCuda => "gpu",
            Self::Numpy => "numpy",
        }
    }

    /// Its name in a picture's settings: the webui's, which has none for NumPy. The webui's `GPU` needs a GPU, so
    /// that a picture made with the GPU's numbers says `NV`, which repeats anywhere.
    pub fn label(self) -> &'static str {
        match self {
            Self::TorchCpu => "CPU",
            Self::TorchCuda => "NV",
            Self::Numpy => "NumPy",
        }
    }

    /// The largest seed it takes.
    pub fn max_seed(self) -> u64 {
        match self {
            Self::TorchCpu | Self::TorchCuda => u64::MAX,
            Self::Numpy => u64::from(u32::MAX),
        }
    }

    pub(super) fn generator(self, seed: u64) -> Generator {
        match self {
            Self::TorchCpu => Generator::TorchCpu(Box::new(TorchGenerator::new(seed))),
            Self::TorchCuda => Generator::TorchCuda(PhiloxGenerator::new(seed)),
            Self::Numpy => Generator::Numpy(Box::new(NumpyGenerator::new(seed as u32))),
        }
    }
}

impl fmt::Display for RngKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for RngKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let named = NAMES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text));
        named.map(|(_, kind)| *kind).ok_or_else(|| {
            Error::invalid(format!(
                "rng is {text:?}, expected cpu (torch's), gpu or nv (torch's on CUDA), or numpy"
            ))
        })
    }
}

/// A generator of any kind.
#[derive(Debug, Clone)]
pub(super) enum Generator {
    TorchCpu(Box<TorchGenerator>),
    TorchCuda(PhiloxGenerator),
    Numpy(Box<NumpyGenerator>),
}

impl Generator {
    /// Fills `values` with standard normal numbers.
    pub(super) fn fill_normal(&mut self, values: &mut [f32]) {
        match self {
            Self::TorchCpu(generator) => generator.fill_normal(values),
            Self::TorchCuda(generator) => generator.fill_normal(values),
            Self::Numpy(generator) => generator.fill_normal(values),
        }
    }
}
