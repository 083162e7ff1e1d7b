//! From the bytes of a file to an engine's storage, one tensor at a time.

use std::borrow::Cow;

use candle_core::Tensor;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

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
    scope.tensor(name, shape, |raw| to_candle(raw, device, dtype))
}

/// As [`candle_weight`], of a table of vectors.
pub(super) fn candle_table(
    scope: &Scope,
    device: &candle_core::Device,
    name: &str,
    shape: &[usize],
) -> Result<Option<Tensor>> {
    let dtype = scope.engine().dtype();
    scope.table(name, shape, |raw| to_candle(raw, device, dtype))
}

fn to_candle(raw: &RawTensor<'_>, device: &candle_core::Device, dtype: DType) -> Result<Tensor> {
    let stored = stored_dtype(raw)?;
    // Converted on the host: Metal has no f64, and the narrower type crosses the bus.
    Tensor::from_raw_buffer(&raw.bytes, stored, &raw.shape, &candle_core::Device::Cpu)
        .and_then(|tensor| tensor.to_dtype(candle_dtype(dtype))?.to_device(device))
        .op("read")
}

/// A tensor's values as f32.
pub(super) fn decode_f32(raw: &RawTensor<'_>) -> Result<Vec<f32>> {
    let mut values = vec![0.0; raw.shape.iter().product()];
    decode_f32_into(raw, &mut values)?;
    Ok(values)
}

/// The same into memory of as many values.
pub(super) fn decode_f32_into(raw: &RawTensor<'_>, values: &mut [f32]) -> Result<()> {
    stored_dtype(raw)?;
    let blocks = values.par_chunks_mut(BLOCK);
    match raw.dtype {
        StoredDType::F32 => decode(blocks, &raw.bytes, |from: &[[u8; 4]], to| {
            for (to, from) in to.iter_mut().zip(from) {
                *to = f32::from_le_bytes(*from);
            }
        }),
        StoredDType::F16 => decode(blocks, &raw.bytes, |from: &[[u8; 2]], to| {
            let mut halves = [f16::ZERO; BLOCK];
            for (half, from) in halves.iter_mut().zip(from) {
                *half = f16::from_le_bytes(*from);
            }
            halves[..to.len()].convert_to_f32_slice(to);
        }),
        StoredDType::Bf16 => decode(blocks, &raw.bytes, |from: &[[u8; 2]], to| {
            for (to, from) in to.iter_mut().zip(from) {
                *to = bf16::from_le_bytes(*from).to_f32();
            }
        }),
        // What `stored_dtype` lets pass besides.
        _ => decode(blocks, &raw.bytes, |from: &[[u8; 8]], to| {
            for (to, from) in to.iter_mut().zip(from) {
                *to = f64::from_le_bytes(*from) as f32;
            }
        }),
    }
    Ok(())
}

/// Values converted by one task: 16 KiB of f32.
const BLOCK: usize = 4096;

fn decode<const N: usize>(
    blocks: rayon::slice::ChunksMut<'_, f32>,
    bytes: &[u8],
    convert: impl Fn(&[[u8; N]], &mut [f32]) + Sync,
) {
    let (elements, _) = bytes.as_chunks::<N>();
    blocks
        .zip(elements.par_chunks(BLOCK))
        .for_each(|(to, from)| convert(from, to));
}

/// Row `index` of a tensor of at least so many, as f32 into `values`.
pub(super) fn decode_row_into(raw: &RawTensor<'_>, index: usize, values: &mut [f32]) -> Result<()> {
    let len = values.len() * raw.dtype.size_bytes();
    let Some(bytes) = raw.bytes.get(index * len..(index + 1) * len) else {
        return Err(Error::malformed(format!(
            "found {} bytes, expected {} or more: has the file been changed since it was opened?",
            raw.bytes.len(),
            (index + 1) * len
        )));
    };
    let row = RawTensor {
        dtype: raw.dtype,
        shape: vec![values.len()],
        bytes: Cow::Borrowed(bytes),
    };
    decode_f32_into(&row, values)
}

/// Refuses a tensor that cannot be read as f32.
pub(super) fn check_floats(raw: &RawTensor<'_>) -> Result<()> {
    stored_dtype(raw).map(|_| ())
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
