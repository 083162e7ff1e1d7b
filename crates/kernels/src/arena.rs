//! Memory for results that live from one layer to another, used again and again.
//!
//! A first touch of memory costs a page fault and the zeros the system writes there, several times what a layer writes. So
//! results lie in slabs that stay: a free part of one is used again by whatever fits, and slabs nobody uses go back to the
//! system only when a larger one is needed.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::buffer::Buffer;
use crate::guard;

/// Values of a slab at least: 32 MiB.
const SLAB: usize = 8 * 1024 * 1024;
/// Leases start on cache lines.
const LINE: usize = 16;
/// Between leases, so that equal places of two do not fall on one set of a cache.
const GAP: usize = 5 * LINE;

/// Slabs, and what of them is free. A clone is the same arena.
#[derive(Clone, Default)]
pub struct Arena {
    slabs: Arc<Mutex<Vec<Slab>>>,
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena").finish_non_exhaustive()
    }
}

struct Slab {
    memory: Buffer,
    /// Start and length of the free parts, in order, none touching the next.
    free: Vec<(usize, usize)>,
}

impl Slab {
    fn new(len: usize) -> Self {
        Self {
            memory: Buffer::zeroed(len),
            free: vec![(0, len)],
        }
    }

    /// A new one for a lease of `len` values; guarded memory holds nothing else.
    fn for_a_lease_of(len: usize) -> Self {
        if !guard::is_on() {
            return Self::new(len.max(SLAB));
        }
        let mut slab = Self::new(len);
        slab.memory.fill(guard::UNWRITTEN);
        slab
    }

    fn is_free(&self) -> bool {
        self.free.first() == Some(&(0, self.memory.size() / size_of::<f32>()))
    }

    /// Takes the start of a free part.
    fn cut(&mut self, part: usize, len: usize) -> usize {
        let (start, there) = self.free[part];
        if there == len {
            self.free.remove(part);
        } else {
            self.free[part] = (start + len, there - len);
        }
        start
    }

    /// Gives a part back, joined with its neighbours.
    fn join(&mut self, start: usize, len: usize) {
        let at = self.free.partition_point(|&(other, _)| other < start);
        self.free.insert(at, (start, len));
        let touches = |pair: &[(usize, usize)]| pair[0].0 + pair[0].1 == pair[1].0;
        for at in [at, at.wrapping_sub(1)] {
            if self.free.get(at..at.wrapping_add(2)).is_some_and(touches) {
                self.free[at].1 += self.free[at + 1].1;
                self.free.remove(at + 1);
            }
        }
    }
}

/// What a lease of `len` values takes of a slab; guarded memory lies in a slab of its own and ends where the values do.
fn room(len: usize) -> usize {
    if guard::is_on() {
        len.max(1)
    } else {
        len.next_multiple_of(LINE) + GAP
    }
}

impl Arena {
    /// `len` values, whatever they are.
    pub fn take(&self, len: usize) -> Lease {
        let whole = room(len);
        let mut slabs = self.slabs();
        let mut best: Option<(usize, usize, usize)> = None;
        for (slab, at) in slabs.iter().enumerate() {
            for (part, &(_, there)) in at.free.iter().enumerate() {
                if there >= whole && best.is_none_or(|(_, _, other)| there < other) {
                    best = Some((slab, part, there));
                }
            }
        }
        let (slab, part) = if let Some((slab, part, _)) = best {
            (slab, part)
        } else {
            // What is too small and unused makes room for what is needed.
            slabs.retain(|slab| !slab.is_free());
            slabs.push(Slab::for_a_lease_of(whole));
            (slabs.len() - 1, 0)
        };
        let slab = &mut slabs[slab];
        let start = slab.cut(part, whole);
        Lease {
            // SAFETY: the part lies in the slab.
            start: unsafe { slab.memory.pointer().add(start) },
            len,
            arena: self.clone(),
        }
    }

    /// Values of all slabs, used or not.
    pub fn held(&self) -> usize {
        self.slabs()
            .iter()
            .map(|slab| slab.memory.size() / size_of::<f32>())
            .sum()
    }

    /// Values of slabs nobody uses.
    pub fn unused(&self) -> usize {
        let free = |slab: &Slab| slab.free.iter().map(|&(_, len)| len).sum::<usize>();
        self.slabs().iter().map(free).sum()
    }

    fn slabs(&self) -> MutexGuard<'_, Vec<Slab>> {
        self.slabs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of an arena, which goes back when it is dropped.
pub struct Lease {
    start: NonNull<f32>,
    len: usize,
    arena: Arena,
}

// SAFETY: a lease alone uses its part of the slab, as a Vec does its memory, and the slab lives as long as a part is in use.
unsafe impl Send for Lease {}
// SAFETY: as above.
unsafe impl Sync for Lease {}

impl Deref for Lease {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `take` cut `len` values or more out of a slab, which is kept while any part of it is not free; no other
        // lease has them.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let whole = room(self.len);
        let at = self.start.as_ptr().addr();
        let mut slabs = self.arena.slabs();
        for slab in slabs.iter_mut() {
            let bytes = at.wrapping_sub(slab.memory.pointer().as_ptr().addr());
            if bytes < slab.memory.size() {
                slab.join(bytes / size_of::<f32>(), whole);
                break;
            }
        }
        if guard::is_on() {
            slabs.retain(|slab| !slab.is_free());
        }
    }
}
