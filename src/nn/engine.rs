//! Where and how layers are computed: device, compute type and engine.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use tintype_kernels::Isa;

use super::cpu::Pool;
use crate::error::{Error, ErrorKind, Result};

/// The hardware that computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this index, from 0.
    Cuda(usize),
    /// The Apple GPU of this index, from 0.
    Metal(usize),
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || {
            Error::invalid(format!(
                "device is {text:?}, expected cpu, cuda, cuda:N, metal or metal:N"
            ))
        };
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, Some(index.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (name, index) {
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            ("metal", index) => Ok(Self::Metal(index.unwrap_or(0))),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Metal(index) => write!(f, "metal:{index}"),
        }
    }
}

/// The type in which activations are kept and products are formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DType {
    /// IEEE 754 single precision.
    #[default]
    F32,
    /// IEEE 754 half precision.
    F16,
    /// bfloat16.
    BF16,
}

impl DType {
    /// Bytes of one element.
    pub fn size_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }
}

impl FromStr for DType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::BF16),
            _ => Err(Error::invalid(format!(
                "compute type is {text:?}, expected f32, f16 or bf16"
            ))),
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
        })
    }
}

/// Which implementation of the layers runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum EngineKind {
    /// [`Cpu`](Self::Cpu) where it can serve device and type, else [`Candle`](Self::Candle).
    #[default]
    Auto,
    /// This project's own kernels, f32 on the processor.
    Cpu,
    /// Candle, on any device.
    Candle,
}

impl FromStr for EngineKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "candle" => Ok(Self::Candle),
            _ => Err(Error::invalid(format!(
                "engine is {text:?}, expected auto, cpu or candle"
            ))),
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Candle => "candle",
        })
    }
}

/// A device with its compute type, opened; cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    device: Device,
    dtype: DType,
    backend: Backend,
}

/// What [`EngineKind`] resolved to.
#[derive(Debug, Clone)]
pub(super) enum Backend {
    Cpu(Arc<Pool>),
    Candle(candle_core::Device),
}

/// Refuses a `TINTYPE_ISA` that this machine cannot run, which a measurement would otherwise mistake for another.
fn check_forced_isa() -> Result<()> {
    let Some(found) = Isa::forced_but_unavailable() else {
        return Ok(());
    };
    let available: Vec<_> = Isa::available().iter().map(|isa| isa.name()).collect();
    Err(Error::invalid(format!(
        "TINTYPE_ISA is {found:?}, expected one that this machine can run: {}",
        available.join(", ")
    )))
}

impl Engine {
    /// Opens `device`. Without `dtype` the processor computes in f32 and a GPU in f16.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device is not compiled in or not present,
    /// [`ErrorKind::Unsupported`] when the engine cannot serve the device or the type.
    pub fn new(kind: EngineKind, device: Device, dtype: Option<DType>) -> Result<Self> {
        let dtype = dtype.unwrap_or(match device {
            Device::Cpu => DType::F32,
            Device::Cuda(_) | Device::Metal(_) => DType::F16,
        });
        check_forced_isa()?;
        let backend = match (kind, device) {
            (EngineKind::Cpu, Device::Cpu) => Backend::Cpu(Arc::default()),
            (EngineKind::Auto, Device::Cpu) if dtype == DType::F32 => Backend::Cpu(Arc::default()),
            (EngineKind::Cpu, Device::Cuda(_) | Device::Metal(_)) => {
                return Err(Error::unsupported(format!(
                    "engine cpu on device {device}: it runs on the processor only"
                ))
                .with_hint("use --engine auto or candle with a GPU"));
            }
            (EngineKind::Auto | EngineKind::Candle, _) => Backend::Candle(open(device)?),
        };
        Self {
            device,
            dtype: DType::F32,
            backend,
        }
        .with_dtype(dtype)
    }

    /// The processor in f32 with the engine that serves it best; always there.
    pub fn cpu() -> Self {
        Self {
            device: Device::Cpu,
            dtype: DType::F32,
            backend: Backend::Cpu(Arc::default()),
        }
    }

    /// The device layers run on.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The compute type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The implementation chosen; never [`EngineKind::Auto`].
    pub fn kind(&self) -> EngineKind {
        match &self.backend {
            Backend::Cpu(_) => EngineKind::Cpu,
            Backend::Candle(_) => EngineKind::Candle,
        }
    }

    /// The same device and implementation with another compute type, such as f32 for a VAE that
    /// overflows in f16.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when the engine has no such type.
    pub fn with_dtype(&self, dtype: DType) -> Result<Self> {
        match (&self.backend, self.device, dtype) {
            (Backend::Cpu(_), _, DType::F16 | DType::BF16) => Err(Error::unsupported(format!(
                "compute type {dtype} with engine cpu: it computes in f32"
            ))
            .with_hint("use f32; weights stored as f16 or bf16 are read into it")),
            (Backend::Candle(_), Device::Cpu, DType::BF16) => Err(Error::unsupported(
                "compute type bf16 on device cpu: candle has no bf16 matrix product there",
            )
            .with_hint("use f32 on the cpu; bf16 weights are read into it")),
            _ => Ok(Self {
                dtype,
                ..self.clone()
            }),
        }
    }

    pub(super) fn backend(&self) -> &Backend {
        &self.backend
    }
}

fn open(device: Device) -> Result<candle_core::Device> {
    let (compiled, feature, opened) = match device {
        Device::Cpu => return Ok(candle_core::Device::Cpu),
        Device::Cuda(index) => (
            candle_core::utils::cuda_is_available(),
            "cuda",
            candle_core::Device::new_cuda(index),
        ),
        Device::Metal(index) => (
            candle_core::utils::metal_is_available(),
            "metal",
            candle_core::Device::new_metal(index),
        ),
    };
    opened.map_err(|source| {
        if compiled {
            Error::new(
                ErrorKind::Device,
                format!("device {device} does not open: {source}"),
            )
            .with_hint(format!(
                "check that the {feature} driver works and the index exists, or use --device cpu"
            ))
        } else {
            Error::new(
                ErrorKind::Device,
                format!("device {device}: this build has no {feature} support"),
            )
            .with_hint(format!(
                "build with --features {feature}, or use --device cpu"
            ))
        }
        .with_source(source)
    })
}
