//! Memory for values: on cache lines, and of large pages where Linux has them.
//!
//! A vector or tile that straddles two lines is read twice, and a first touch of a small page costs more than filling it.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::guard;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Bytes of a large page; from there on memory comes from the system page by page.
#[cfg(target_os = "linux")]
const LARGE: usize = 2 * 1024 * 1024;

/// Values of f32, or words of as many bits, on a cache line; zeros at first.
pub struct Buffer {
    start: NonNull<f32>,
    len: usize,
}

// SAFETY: a buffer owns its memory, as a Vec does.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len` zeros.
    ///
    /// # Panics
    /// When so much cannot be addressed.
    pub fn zeroed(len: usize) -> Self {
        let start = if len == 0 {
            NonNull::dangling()
        } else {
            allocate(layout(len)).cast()
        };
        Self { start, len }
    }

    /// Where it starts, for whoever hands out parts of it.
    pub(crate) fn pointer(&self) -> NonNull<f32> {
        self.start
    }

    /// Bytes it has.
    pub(crate) fn size(&self) -> usize {
        self.len * size_of::<f32>()
    }

    /// The same memory as words.
    pub(crate) fn words(&self) -> &[u32] {
        // SAFETY: the memory is this buffer's, and every pattern of bits is a word.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.len) }
    }

    /// The same memory as words.
    pub(crate) fn words_mut(&mut self) -> &mut [u32] {
        // SAFETY: as above, and borrowed alone; every word is an f32.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.len) }
    }
}

/// Where `len` values lie; guarded memory ends where the values do, on a line's border or not.
fn layout(len: usize) -> Layout {
    let align = if guard::is_on() { 1 } else { LINE };
    Layout::array::<f32>(len)
        .and_then(|layout| layout.align_to(align))
        .expect("a buffer of more values than can be addressed, this is a bug")
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: `zeroed` got this memory with this layout.
            unsafe { release(self.start.cast(), layout(self.len)) };
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: the memory is this buffer's and holds `len` values.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::zeroed(0)
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Self::zeroed(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// Whether memory comes from the system page by page.
#[cfg(target_os = "linux")]
fn is_mapped(layout: Layout) -> bool {
    layout.size() >= LARGE && !guard::is_on()
}

/// Zeros.
fn allocate(layout: Layout) -> NonNull<u8> {
    #[cfg(target_os = "linux")]
    if is_mapped(layout) {
        return map(layout);
    }
    // SAFETY: the layout is not empty.
    let start = unsafe { alloc_zeroed(layout) };
    NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout))
}

/// # Safety
/// [`allocate`] gave `start` for `layout`.
unsafe fn release(start: NonNull<u8>, layout: Layout) {
    #[cfg(target_os = "linux")]
    if is_mapped(layout) {
        // SAFETY: `map` has mapped these bytes, which nobody uses any more.
        unsafe { libc::munmap(start.as_ptr().cast(), layout.size()) };
        return;
    }
    // SAFETY: the caller's promise.
    unsafe { dealloc(start.as_ptr(), layout) };
}

/// Pages of the system's, on a large page's border, which the system is asked to make large.
#[cfg(target_os = "linux")]
fn map(layout: Layout) -> NonNull<u8> {
    let size = layout.size();
    let total = size.saturating_add(LARGE);
    // SAFETY: a new private mapping touches no memory there is.
    let all = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            total,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if all == libc::MAP_FAILED {
        handle_alloc_error(layout);
    }
    let before = all.addr().next_multiple_of(LARGE) - all.addr();
    let start = all.wrapping_byte_add(before);
    let end = size.next_multiple_of(4096);
    // SAFETY: both ends of the mapping just made, outside the part that is kept; advice changes no contents. What fails here
    // costs memory or time, nothing else.
    unsafe {
        if before > 0 {
            libc::munmap(all, before);
        }
        if total > before + end {
            libc::munmap(start.wrapping_byte_add(end), total - before - end);
        }
        libc::madvise(start, size, libc::MADV_HUGEPAGE);
    }
    NonNull::new(start.cast()).unwrap_or_else(|| handle_alloc_error(layout))
}
