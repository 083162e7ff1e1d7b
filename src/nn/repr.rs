//! What activations are made of, and the errors every operation shares.

use candle_core::Tensor;

use super::cpu;
use super::engine::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::host::HostTensor;

/// An activation in the layout of the engine that made it.
#[derive(Debug, Clone)]
pub(super) enum Repr {
    /// NCHW for feature maps, (batch, tokens, channels) for tokens; contiguous.
    Candle(Tensor),
    /// Channels last.
    Cpu(cpu::Array),
}

impl Repr {
    /// The tensor of a Candle engine's activation.
    pub(super) fn as_candle(&self, op: &str) -> Result<&Tensor> {
        match self {
            Self::Candle(tensor) => Ok(tensor),
            Self::Cpu(_) => Err(mixed(op)),
        }
    }

    /// The array of a Cpu engine's activation.
    pub(super) fn as_cpu(&self, op: &str) -> Result<&cpu::Array> {
        match self {
            Self::Cpu(array) => Ok(array),
            Self::Candle(_) => Err(mixed(op)),
        }
    }
}

/// Uploads a host array as it is.
pub(super) fn candle_from_host(
    device: &candle_core::Device,
    dtype: DType,
    host: &HostTensor,
) -> Result<Tensor> {
    Tensor::from_slice(host.data(), host.shape(), device)
        .and_then(|tensor| tensor.to_dtype(candle_dtype(dtype)))
        .op("upload")
}

/// Downloads a tensor as f32.
pub(super) fn candle_to_host(tensor: &Tensor) -> Result<HostTensor> {
    let data = tensor
        .to_dtype(candle_core::DType::F32)
        .and_then(|tensor| tensor.flatten_all()?.to_vec1::<f32>())
        .op("download")?;
    HostTensor::new(tensor.dims(), data)
}

pub(super) fn candle_dtype(dtype: DType) -> candle_core::DType {
    match dtype {
        DType::F32 => candle_core::DType::F32,
        DType::F16 => candle_core::DType::F16,
        DType::BF16 => candle_core::DType::BF16,
    }
}

/// Turns Candle's errors into this crate's.
pub(super) trait CandleResult<T> {
    /// Names the operation that failed.
    fn op(self, op: &str) -> Result<T>;
}

impl<T> CandleResult<T> for candle_core::Result<T> {
    fn op(self, op: &str) -> Result<T> {
        self.map_err(|source| {
            let kind = match root(&source) {
                candle_core::Error::Cuda(_) | candle_core::Error::Metal(_) => ErrorKind::Device,
                _ => ErrorKind::Internal,
            };
            let error = Error::new(kind, format!("{op}: {}", root(&source)));
            if kind == ErrorKind::Device {
                error.with_hint(
                    "if the device is out of memory, use a smaller size or batch, or --dtype f16",
                )
            } else {
                error
            }
            .with_source(source)
        })
    }
}

/// The error below context and backtrace.
fn root(error: &candle_core::Error) -> &candle_core::Error {
    use candle_core::Error;
    match error {
        Error::WithBacktrace { inner, .. } | Error::Context { inner, .. } => root(inner),
        _ => error,
    }
}

/// A shape that does not fit, which is a fault of the model code.
pub(super) fn misfit(op: &str, found: &[usize], expected: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("{op}: found shape {found:?}, expected {expected}"),
    )
}

/// A forward pass through a layer that has no weights.
pub(super) fn planned(label: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("{label}: built from a plan, without weights, and cannot compute"),
    )
}

/// Activations of two engines in one operation.
fn mixed(op: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("{op}: weights or activations of two engines meet, expected one"),
    )
}
