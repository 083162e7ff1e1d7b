//! The CPU engine: channels-last f32 arrays and weights packed at load, computed by `tintype-kernels`.
//!
//! Shapes are checked by the layers above; what a kernel refuses all the same is an internal error.

mod array;
mod attention;
mod context;
mod conv;
mod layers;
mod ops;
mod pending;
mod pool;
mod table;
mod waves;

pub(super) use array::Array;
pub(super) use attention::{Part, Projections, attend, project};
pub(super) use context::Context;
pub(super) use conv::{Conv, ConvExtras};
pub(super) use layers::{Gain, Gated, Product};
pub(super) use ops::{
    add, concat_batch, concat_channels, narrow_batch, narrow_channels, pointwise, scale,
    select_tokens, upsample_nearest,
};
pub(super) use pool::Pool;
pub(super) use table::Table;
pub(super) use waves::{add_waves, scale_first_channels};

use crate::error::{Error, ErrorKind, Result};

/// Turns the kernels' errors into this crate's.
trait KernelResult<T> {
    /// Names the operation that failed.
    fn op(self, op: &str) -> Result<T>;
}

impl<T> KernelResult<T> for Result<T, tintype_kernels::ShapeError> {
    fn op(self, op: &str) -> Result<T> {
        self.map_err(|source| {
            Error::new(ErrorKind::Internal, format!("{op}: {source}")).with_source(source)
        })
    }
}
