//! Where and how layers are computed: device, compute type, engine and precision.

mod names;
mod precision;

use std::fmt;
use std::sync::Arc;

use tintype_kernels::Isa;

use super::cpu::Context;
use super::profile::Profiler;
use crate::error::{Error, ErrorKind, Result};

pub use names::{DType, Device, EngineKind};
pub use precision::{MemoryUse, Precision};

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
    Cpu(Context),
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

/// Name of the instruction set that the processor's own kernels use: the best one, or what `TINTYPE_ISA` names.
pub fn instruction_set() -> &'static str {
    Isa::current().name()
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
            (EngineKind::Cpu, Device::Cpu) => Backend::Cpu(Context::default()),
            (EngineKind::Auto, Device::Cpu) if dtype == DType::F32 => {
                Backend::Cpu(Context::default())
            }
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
            backend: Backend::Cpu(Context::default()),
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

    /// The same engine with products of this precision; `None` is [`Precision::Fast`] where the processor
    /// multiplies 16-bit values faster than f32.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for Candle, whose products are those of its compute type: `fast` always, `f32` when
    /// that is another one.
    pub fn with_precision(mut self, precision: Option<Precision>) -> Result<Self> {
        match (&mut self.backend, precision) {
            (Backend::Cpu(context), _) => {
                context.precision = precision.unwrap_or_else(Precision::best);
            }
            (Backend::Candle(_), Some(precision))
                if precision == Precision::Fast || self.dtype != DType::F32 =>
            {
                return Err(Error::unsupported(format!(
                    "precision {precision} with engine candle and compute type {}: candle multiplies in its compute type",
                    self.dtype
                ))
                .with_hint("leave the precision out, or use --engine cpu"));
            }
            (Backend::Candle(_), _) => {}
        }
        Ok(self)
    }

    /// The same engine with another weighing of memory against time.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for [`MemoryUse::Low`] with Candle, which has one form of weights only.
    pub fn with_memory(mut self, memory: MemoryUse) -> Result<Self> {
        match &mut self.backend {
            Backend::Cpu(context) => context.memory = memory,
            Backend::Candle(_) if memory == MemoryUse::Low => {
                return Err(Error::unsupported(
                    "memory low with engine candle: it keeps weights in one form only",
                )
                .with_hint("leave it out, or use --engine cpu"));
            }
            Backend::Candle(_) => {}
        }
        Ok(self)
    }

    /// How memory weighs against time; [`MemoryUse::Normal`] with Candle.
    pub fn memory(&self) -> MemoryUse {
        match &self.backend {
            Backend::Cpu(context) => context.memory,
            Backend::Candle(_) => MemoryUse::Normal,
        }
    }

    /// How products are formed: [`Precision::F32`] or [`Precision::Fast`] on our own kernels; `None` with Candle,
    /// where the compute type says it.
    pub fn precision(&self) -> Option<Precision> {
        match &self.backend {
            Backend::Cpu(context) => Some(context.precision),
            Backend::Candle(_) => None,
        }
    }

    /// How products are formed, in a word: the precision, or with Candle the compute type.
    pub fn arithmetic(&self) -> String {
        self.precision()
            .map_or_else(|| self.dtype.to_string(), |precision| precision.to_string())
    }

    /// Bytes that a tensor of `shape`, whose values have so many significant bits (24 in f32, 11 in f16, 8 in bf16), takes once it is
    /// loaded into a layer of its usual kind.
    pub fn weight_bytes(&self, shape: &[usize], bits: u32) -> u64 {
        let elements = shape.iter().map(|&extent| extent as u64).product::<u64>();
        match &self.backend {
            Backend::Cpu(context) => context.weight_bytes(shape, elements, bits),
            Backend::Candle(_) => elements * self.dtype.size_bytes() as u64,
        }
    }

    /// Bytes that a table of vectors of `shape` takes once it is loaded.
    pub fn table_bytes(&self, shape: &[usize]) -> u64 {
        let elements = shape.iter().map(|&extent| extent as u64).product::<u64>();
        match &self.backend {
            Backend::Cpu(context) => context.table_bytes(elements),
            Backend::Candle(_) => elements * self.dtype.size_bytes() as u64,
        }
    }

    /// The clock of this engine's layers; `None` with Candle, whose layers are not timed one by one.
    pub fn profiler(&self) -> Option<&Arc<Profiler>> {
        match &self.backend {
            Backend::Cpu(context) => Some(context.pool.profiler()),
            Backend::Candle(_) => None,
        }
    }

    /// Operations a second that products of this precision can reach on all threads, as a short probe finds; `None`
    /// with Candle.
    pub fn peak_flops(&self) -> Option<f64> {
        Some(tintype_kernels::peak_flops(self.precision()?.into()))
    }

    /// Bytes of activation memory that this engine holds for later and nobody uses.
    pub(crate) fn idle_bytes(&self) -> u64 {
        match &self.backend {
            Backend::Cpu(context) => 4 * context.pool.waiting() as u64,
            Backend::Candle(_) => 0,
        }
    }

    /// Counts the work that follows under `stage`, where layers are timed at all.
    pub(crate) fn enter(&self, stage: &'static str) {
        if let Some(profiler) = self.profiler() {
            profiler.enter(stage);
        }
    }

    pub(super) fn backend(&self) -> &Backend {
        &self.backend
    }
}

/// Engine, device and arithmetic, such as `cpu cpu fast`, `cpu cpu f32 low` or `candle cuda:0 f16`.
impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.kind(), self.device, self.arithmetic())?;
        match &self.backend {
            // It changes which kernels run, and with them the last bits.
            Backend::Cpu(context) if context.memory == MemoryUse::Low => f.write_str(" low"),
            _ => Ok(()),
        }
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
