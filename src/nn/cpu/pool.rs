//! Reuse of activation memory from layer to layer.
//!
//! A fresh block of some megabytes costs a page fault every 4 KiB, several per cent of a layer's time.
//! Blocks therefore go back to their pool when the last activation in them is dropped. What a block
//! holds when it is taken is unspecified: every kernel writes the whole of its result.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use crate::nn::profile::Profiler;

/// Blocks that wait for their next use, the one longest unused first.
#[derive(Default)]
pub(in crate::nn) struct Pool {
    free: Mutex<Vec<Vec<f32>>>,
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
    pub(super) fn take(self: &Arc<Self>, len: usize) -> Buffer {
        let mut data = self.reuse(len).unwrap_or_else(|| vec![0.0; len]);
        if cfg!(debug_assertions) {
            // A kernel that leaves a gap shows at once.
            data[..len].fill(f32::NAN);
        }
        Buffer {
            data,
            len,
            pool: Arc::clone(self),
        }
    }

    /// The smallest block that fits without wasting more than half of it. When there is none, as many
    /// values are given back to the system as are about to be allocated, so that the pool never holds
    /// more than the most that was ever in use.
    fn reuse(&self, len: usize) -> Option<Vec<f32>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |block: &Vec<f32>| block.len() >= len && block.len() / 2 <= len;
        let best = (0..free.len())
            .filter(|&i| fits(&free[i]))
            .min_by_key(|&i| free[i].len());
        if let Some(best) = best {
            return Some(free.remove(best));
        }
        let mut released = 0;
        let dropped = free
            .iter()
            .take_while(|block| {
                let more = released < len;
                released += block.len();
                more
            })
            .count();
        free.drain(..dropped);
        None
    }

    fn give_back(&self, block: Vec<f32>) {
        self.free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(block);
    }

    /// Values in waiting blocks.
    pub(in crate::nn) fn waiting(&self) -> usize {
        self.free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(Vec::len)
            .sum()
    }
}

/// A block on loan from a pool.
pub(super) struct Buffer {
    data: Vec<f32>,
    len: usize,
    pool: Arc<Pool>,
}

impl Buffer {
    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.data[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_block_is_used_again() {
        let pool = Arc::new(Pool::default());
        let block = pool.take(1000);
        let address = block.as_ptr();
        drop(block);
        let again = pool.take(600);
        assert_eq!((again.as_ptr(), again.len()), (address, 600));
        assert_eq!(pool.waiting(), 0);
    }

    #[test]
    fn holds_no_more_than_was_ever_in_use() {
        let pool = Arc::new(Pool::default());
        for len in [100, 5000, 20, 9000, 300, 70, 20_000, 1] {
            drop(pool.take(len));
            assert!(
                pool.waiting() <= 20_000.min(9000.max(len) + 1),
                "{} after {len}",
                pool.waiting()
            );
        }
        drop([pool.take(10), pool.take(10)]);
        assert!(pool.waiting() >= 20);
    }
}
