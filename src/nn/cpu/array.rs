//! Channels-last activations.

use std::fmt;
use std::sync::Arc;

use super::KernelResult;
use super::pool::{Buffer, Pool};
use crate::error::Result;
use crate::host::HostTensor;
use crate::nn::profile::Account;

/// `(batch, height, width, channels)`, contiguous; tokens are one row of `width` elements.
#[derive(Clone)]
pub(in crate::nn) struct Array {
    data: Arc<Buffer>,
    batch: usize,
    height: usize,
    width: usize,
    channels: usize,
}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Array")
            .field("bhwc", &self.bhwc())
            .finish_non_exhaustive()
    }
}

impl Array {
    /// An array that `fill` writes in full; its time is counted under what `account` says.
    pub(super) fn build(
        pool: &Arc<Pool>,
        [batch, height, width, channels]: [usize; 4],
        account: impl FnOnce() -> Account,
        fill: impl FnOnce(&mut [f32]) -> Result<()>,
    ) -> Result<Self> {
        let mut data = pool.take(batch * height * width * channels);
        pool.profiler().time(account, || fill(&mut data))?;
        Ok(Self {
            data: Arc::new(data),
            batch,
            height,
            width,
            channels,
        })
    }

    /// From `(batch, channels, height, width)`.
    pub(in crate::nn) fn from_map(
        pool: &Arc<Pool>,
        [batch, channels, height, width]: [usize; 4],
        values: &[f32],
    ) -> Result<Self> {
        let bhwc = [batch, height, width, channels];
        Self::build(
            pool,
            bhwc,
            || Account::moving("upload", bhwc),
            |out| {
                tintype_kernels::nchw_to_nhwc(values, batch, channels, height * width, out)
                    .op("upload")
            },
        )
    }

    /// From `(batch, tokens, channels)`.
    pub(in crate::nn) fn from_tokens(
        pool: &Arc<Pool>,
        [batch, tokens, channels]: [usize; 3],
        values: &[f32],
    ) -> Result<Self> {
        let bhwc = [batch, 1, tokens, channels];
        Self::build(
            pool,
            bhwc,
            || Account::moving("upload", bhwc),
            |out| {
                out.copy_from_slice(values);
                Ok(())
            },
        )
    }

    /// As `(batch, channels, height, width)`.
    pub(in crate::nn) fn map_to_host(&self) -> Result<HostTensor> {
        let mut host = HostTensor::zeros(self.map_dims());
        let pixels = self.height * self.width;
        tintype_kernels::nhwc_to_nchw(
            self.data(),
            self.batch,
            self.channels,
            pixels,
            host.data_mut(),
        )
        .op("download")?;
        Ok(host)
    }

    /// As `(batch, tokens, channels)`.
    pub(in crate::nn) fn tokens_to_host(&self) -> Result<HostTensor> {
        HostTensor::new(self.token_dims(), self.data().to_vec())
    }

    /// The same memory as one row per item.
    pub(in crate::nn) fn into_tokens(self) -> Self {
        let width = self.height * self.width;
        Self {
            height: 1,
            width,
            ..self
        }
    }

    /// The same memory as `height` rows per item, which must hold all elements.
    pub(in crate::nn) fn into_map(self, height: usize, width: usize) -> Self {
        Self {
            height,
            width,
            ..self
        }
    }

    pub(in crate::nn) fn map_dims(&self) -> [usize; 4] {
        [self.batch, self.channels, self.height, self.width]
    }

    pub(in crate::nn) fn token_dims(&self) -> [usize; 3] {
        [self.batch, self.height * self.width, self.channels]
    }

    pub(super) fn bhwc(&self) -> [usize; 4] {
        [self.batch, self.height, self.width, self.channels]
    }

    /// Batch times positions.
    pub(super) fn rows(&self) -> usize {
        self.batch * self.height * self.width
    }

    /// Elements of one position.
    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    pub(super) fn data(&self) -> &[f32] {
        &self.data
    }

    pub(super) fn pool(&self) -> &Arc<Pool> {
        self.data.pool()
    }
}
