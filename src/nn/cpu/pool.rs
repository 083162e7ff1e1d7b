//! Reuse of activation memory from layer to layer.
//!
//! What a block holds when it is taken is unspecified: every kernel writes the whole of its result.

use std::fmt;
use std::sync::Arc;

use tintype_kernels as kernels;

use crate::nn::profile::Profiler;

/// A block on loan from a pool.
pub(super) type Buffer = kernels::Lease;

/// Where activations lie, and the clock of the layers that compute them.
#[derive(Default)]
pub(in crate::nn) struct Pool {
    arena: kernels::Arena,
    profiler: Arc<Profiler>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// The clock of the layers that compute into this pool's blocks.
    pub(in crate::nn) fn profiler(&self) -> &Arc<Profiler> {
        &self.profiler
    }

    /// A block of `len` values, whatever they are.
    pub(super) fn take(&self, len: usize) -> Buffer {
        let mut data = self.arena.take(len);
        if cfg!(debug_assertions) {
            // A kernel that leaves a gap shows at once.
            data.fill(f32::NAN);
        }
        data
    }

    /// Values of memory that waits for its next use.
    pub(in crate::nn) fn waiting(&self) -> usize {
        self.arena.unused()
    }
}
