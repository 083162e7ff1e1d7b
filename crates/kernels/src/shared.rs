//! One output buffer written by many tasks, each its own part.

use std::marker::PhantomData;

/// A mutable slice that tasks on several threads write at disjoint places.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<'a> {
    start: *mut f32,
    len: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer comes from an exclusive borrow that outlives `self`; what tasks do with it is governed by the unsafe
// methods below, whose callers promise disjoint parts.
unsafe impl Send for SharedMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedMut<'_> {}

impl<'a> SharedMut<'a> {
    pub(crate) fn new(slice: &'a mut [f32]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            borrow: PhantomData,
        }
    }

    /// The part `from..from + len`.
    ///
    /// # Safety
    /// No other task reads or writes any of it while the result lives.
    pub(crate) unsafe fn part(&self, from: usize, len: usize) -> &'a mut [f32] {
        assert!(
            from.checked_add(len).is_some_and(|end| end <= self.len),
            "part leaves the buffer, this is a bug"
        );
        // SAFETY: in bounds by the assertion; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), len) }
    }

    /// Pointer to element `from`, for parts that are not contiguous.
    pub(crate) fn at(&self, from: usize) -> *mut f32 {
        debug_assert!(from <= self.len);
        self.start.wrapping_add(from)
    }
}
