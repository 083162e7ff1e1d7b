//! Channels-last activations.

use std::fmt;
use std::sync::{Arc, OnceLock};

use tintype_kernels as kernels;

use super::KernelResult;
use super::pending::{Pending, PendingNorm, Sources};
use super::pool::{Buffer, Pool};
use crate::error::Result;
use crate::host::HostTensor;
use crate::nn::profile::Account;

/// `(batch, height, width, channels)`, contiguous; tokens are one row of `width` elements.
#[derive(Clone)]
pub(in crate::nn) struct Array {
    data: Arc<Content>,
    batch: usize,
    height: usize,
    width: usize,
    channels: usize,
}

/// Values, or what makes them when somebody wants them.
struct Content {
    values: OnceLock<Buffer>,
    pending: Option<Pending>,
    /// Sums that were taken while the values were written.
    moments: Option<kernels::Moments>,
    pool: Arc<Pool>,
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
        bhwc: [usize; 4],
        account: impl FnOnce() -> Account,
        fill: impl FnOnce(&mut [f32]) -> Result<()>,
    ) -> Result<Self> {
        Self::build_recorded(pool, bhwc, account, |out| fill(out).map(|()| None))
    }

    /// The same where `fill` may tell the sums a group norm wants.
    pub(super) fn build_recorded(
        pool: &Arc<Pool>,
        [batch, height, width, channels]: [usize; 4],
        account: impl FnOnce() -> Account,
        fill: impl FnOnce(&mut [f32]) -> Result<Option<kernels::Moments>>,
    ) -> Result<Self> {
        let mut data = pool.take(batch * height * width * channels);
        let moments = pool.profiler().time(account, || fill(&mut data))?;
        let content = Content {
            values: data.into(),
            pending: None,
            moments,
            pool: Arc::clone(pool),
        };
        Ok(Self {
            data: Arc::new(content),
            batch,
            height,
            width,
            channels,
        })
    }

    /// An array of bf16 that `fill` writes in full, two values in each place.
    pub(super) fn build_halves(
        pool: &Arc<Pool>,
        bhwc: [usize; 4],
        account: impl FnOnce() -> Account,
        fill: impl FnOnce(&mut [f32]) -> Result<()>,
    ) -> Result<Self> {
        let mut data = pool.take(bhwc.iter().product::<usize>() / 2);
        pool.profiler().time(account, || fill(&mut data))?;
        Ok(Self::pending(pool, bhwc, Pending::Halves(data)))
    }

    /// An array whose values are made when they are first asked for.
    pub(super) fn pending(
        pool: &Arc<Pool>,
        [batch, height, width, channels]: [usize; 4],
        pending: Pending,
    ) -> Self {
        let content = Content {
            values: OnceLock::new(),
            pending: Some(pending),
            moments: None,
            pool: Arc::clone(pool),
        };
        Self {
            data: Arc::new(content),
            batch,
            height,
            width,
            channels,
        }
    }

    /// What stands for the values, while nobody has asked for them.
    fn unmade(&self) -> Option<&Pending> {
        let made = self.data.values.get().is_some();
        self.data.pending.as_ref().filter(|_| !made)
    }

    /// The group norm that waits, while nobody has asked for its values.
    pub(super) fn waiting(&self) -> Option<&PendingNorm> {
        match self.unmade() {
            Some(Pending::Group(norm)) => Some(norm),
            _ => None,
        }
    }

    /// The sums of its channels, as far as they are known.
    pub(super) fn moments(&self) -> Option<&kernels::Moments> {
        self.data.moments.as_ref()
    }

    /// The arrays side by side that it is, while nobody has asked for its own values; else itself.
    pub(super) fn parts(&self) -> &[Self] {
        match self.unmade() {
            Some(Pending::Joined(parts)) => parts,
            _ => std::slice::from_ref(self),
        }
    }

    /// The values as bf16, where they were rounded when they were made.
    pub(super) fn halves(&self) -> Option<&[f32]> {
        match &self.data.pending {
            Some(Pending::Halves(halves)) => Some(halves),
            _ => None,
        }
    }

    /// What a product reads, in the form it reads with the least work; `room` is for the sources of a norm.
    pub(super) fn input<'a>(
        &'a self,
        room: &'a mut Sources<'a>,
        takes: impl FnOnce(&kernels::Input<'_>) -> bool,
    ) -> Result<kernels::Input<'a>> {
        let prepared = match self.unmade() {
            Some(Pending::Group(norm)) => Some(kernels::Input::GroupNormed(norm.call(room)?)),
            Some(Pending::Layer(norm)) => Some(kernels::Input::Normed(norm.call())),
            _ => self.halves().map(kernels::Input::Halves),
        };
        let taken = prepared.filter(takes);
        Ok(taken.unwrap_or_else(|| kernels::Input::Values(self.data())))
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
            |out| kernels::nchw_to_nhwc(values, batch, channels, height * width, out).op("upload"),
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
        kernels::nhwc_to_nchw(
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

    /// The values.
    pub(super) fn data(&self) -> &[f32] {
        self.data.values.get_or_init(|| {
            let pool = &self.data.pool;
            let mut values = pool.take(self.rows() * self.channels);
            if let Some(pending) = &self.data.pending {
                let account = || Account::moving(pending.kind(), self.bhwc());
                let written = pool.profiler().time(account, || pending.write(&mut values));
                written.expect("values of other sizes than what stands for them, this is a bug");
            }
            values
        })
    }

    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.data.pool
    }
}
