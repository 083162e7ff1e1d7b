//! From the bytes of a file to an engine's storage, one tensor at a time.

use candle_core::Tensor;

use super::engine::DType;
use super::repr::{CandleResult, candle_dtype};
use super::scope::Scope;
use crate::error::{Error, ErrorKind, Result};
use crate::weights::{RawTensor, StoredDType};

/// Reads a tensor of `shape` in the engine's compute type; `None` when planning.
pub(super) fn candle_weight(
    scope: &Scope,
    device: &candle_core::Device,
    name: &str,
    shape: &[usize],
) -> Result<Option<Tensor>> {
    candle_weight_as(scope, device, name, shape, scope.engine().dtype())
}

/// Reads a tensor of `shape` as `dtype`; `None` when planning.
pub(super) fn candle_weight_as(
    scope: &Scope,
    device: &candle_core::Device,
    name: &str,
    shape: &[usize],
    dtype: DType,
) -> Result<Option<Tensor>> {
    scope.tensor(name, shape, |raw| {
        let stored = stored_dtype(raw)?;
        // Converted on the host: Metal has no f64, and the narrower type crosses the bus.
        Tensor::from_raw_buffer(&raw.bytes, stored, &raw.shape, &candle_core::Device::Cpu)
            .and_then(|tensor| tensor.to_dtype(candle_dtype(dtype))?.to_device(device))
            .op("read")
    })
}

/// Candle's name of the stored type, once the bytes are known to fill the shape.
fn stored_dtype(raw: &RawTensor<'_>) -> Result<candle_core::DType> {
    let dtype = match raw.dtype {
        StoredDType::F64 => candle_core::DType::F64,
        StoredDType::F32 => candle_core::DType::F32,
        StoredDType::F16 => candle_core::DType::F16,
        StoredDType::Bf16 => candle_core::DType::BF16,
        other => {
            return Err(Error::new(
                ErrorKind::WeightMismatch,
                format!("found elements of type {other:?}, expected floating point"),
            ));
        }
    };
    let expected = raw.shape.iter().product::<usize>() * dtype.size_in_bytes();
    if raw.bytes.len() != expected {
        return Err(Error::malformed(format!(
            "found {} bytes, expected {expected} for shape {:?}",
            raw.bytes.len(),
            raw.shape
        )));
    }
    Ok(dtype)
}
