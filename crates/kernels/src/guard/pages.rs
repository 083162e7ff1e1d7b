//! The allocator of a guarded program.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::CStr;
use std::sync::atomic::{AtomicU8, Ordering};

/// What every page size of Linux divides.
const PAGE: usize = 64 * 1024;
/// Bytes looked at on a side that is not flush.
const WATCHED: usize = 256;
/// What they hold.
const PATTERN: u8 = 0xA5;
/// What fresh memory holds: NaN as f32, as f64 and as pairs of bf16.
const FRESH: u8 = 0xFF;
/// Allocations of bytes below this size are text.
const TEXT: usize = 64;

/// A program's mode is not known before its first allocation, and never where its allocator is another.
const UNKNOWN: u8 = 0;
const OFF: u8 = 1;
const END: u8 = 2;
const START: u8 = 3;

static MODE: AtomicU8 = AtomicU8::new(UNKNOWN);

/// The allocator.
#[derive(Clone, Copy, Debug)]
pub struct Guard;

pub(super) fn is_on() -> bool {
    MODE.load(Ordering::Relaxed) > OFF
}

/// What the environment asks for, read once.
fn mode() -> u8 {
    let mode = MODE.load(Ordering::Relaxed);
    if mode != UNKNOWN {
        return mode;
    }
    // SAFETY: the name is a C string. The first allocation comes before `main`, when nothing changes the environment.
    let value = unsafe { libc::getenv(c"TINTYPE_GUARD".as_ptr()) };
    let mode = if value.is_null() {
        OFF
    } else {
        // SAFETY: `getenv` gives a C string, which stays while nobody changes the environment.
        match unsafe { CStr::from_ptr(value) }.to_bytes() {
            b"" => OFF,
            b"end" => END,
            b"start" => START,
            _ => give_up("TINTYPE_GUARD is neither `end` nor `start`\n"),
        }
    };
    MODE.store(mode, Ordering::Relaxed);
    mode
}

/// Ends the program with a message, without asking for memory.
fn give_up(message: &str) -> ! {
    // SAFETY: the bytes are the message's; a message that cannot be written is lost.
    unsafe {
        libc::write(2, message.as_ptr().cast(), message.len());
        libc::abort()
    }
}

/// How an allocation lies in its map: a page that nobody may touch, `data` bytes, another such page.
struct Place {
    /// From the map's start to the allocation.
    offset: usize,
    size: usize,
    data: usize,
}

impl Place {
    /// Nothing for what the system's allocator shall have.
    fn of(layout: Layout) -> Option<Self> {
        let mode = mode();
        let (size, align) = (layout.size(), layout.align());
        if mode == OFF || align > 4096 || (align == 1 && size < TEXT) {
            return None;
        }
        let data = size.checked_next_multiple_of(PAGE)?;
        let offset = if mode == START {
            PAGE
        } else {
            PAGE + data - size.next_multiple_of(align)
        };
        Some(Self { offset, size, data })
    }

    fn total(&self) -> usize {
        self.data.saturating_add(2 * PAGE)
    }

    /// Zeros, null if the system has none.
    fn map(&self) -> *mut u8 {
        // SAFETY: a new private mapping touches no memory there is.
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                self.total(),
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if map == libc::MAP_FAILED {
            return std::ptr::null_mut();
        }
        let inside = map.wrapping_byte_add(PAGE);
        // SAFETY: the middle of the map just made.
        let opened =
            unsafe { libc::mprotect(inside, self.data, libc::PROT_READ | libc::PROT_WRITE) };
        if opened != 0 {
            // SAFETY: the map just made, of which nobody knows.
            unsafe { libc::munmap(map, self.total()) };
            return std::ptr::null_mut();
        }
        map.wrapping_byte_add(self.offset).cast()
    }

    /// Bytes to watch before and behind.
    fn watched(&self) -> [usize; 2] {
        let before = self.offset - PAGE;
        [before, self.data - before - self.size].map(|side| side.min(WATCHED))
    }

    /// # Safety
    /// `start` is what [`Self::map`] gave, not null.
    unsafe fn draw_pattern(&self, start: *mut u8) {
        let [before, behind] = self.watched();
        // SAFETY: both sides lie in the part of the map that is open.
        unsafe {
            start.sub(before).write_bytes(PATTERN, before);
            start.add(self.size).write_bytes(PATTERN, behind);
        }
    }

    /// # Safety
    /// As above, after [`Self::draw_pattern`].
    unsafe fn is_intact(&self, start: *mut u8) -> bool {
        let [before, behind] = self.watched();
        // SAFETY: as above, and nobody else knows of these bytes.
        let sides = unsafe {
            [
                std::slice::from_raw_parts(start.sub(before), before),
                std::slice::from_raw_parts(start.add(self.size), behind),
            ]
        };
        sides
            .iter()
            .all(|side| side.iter().all(|&byte| byte == PATTERN))
    }
}

// SAFETY: memory is either the system allocator's, by the layout alone, or a map of its own that is large enough, aligned as
// asked (its start is on a page and its offset a multiple of the alignment), and unmapped once.
unsafe impl GlobalAlloc for Guard {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(place) = Place::of(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc(layout) };
        };
        let start = place.map();
        if !start.is_null() {
            // SAFETY: the map was made for this place.
            unsafe {
                start.write_bytes(FRESH, place.size);
                place.draw_pattern(start);
            }
        }
        start
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(place) = Place::of(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc_zeroed(layout) };
        };
        let start = place.map();
        if !start.is_null() {
            // SAFETY: the map was made for this place.
            unsafe { place.draw_pattern(start) };
        }
        start
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        let Some(place) = Place::of(layout) else {
            // SAFETY: the caller's promise, and the layout alone decides who has given this memory.
            return unsafe { System.dealloc(start, layout) };
        };
        // SAFETY: by the caller's promise `start` was given for this layout, so by this place's `map`, with a pattern.
        unsafe {
            if !place.is_intact(start) {
                give_up("memory beside an allocation was written\n");
            }
            libc::munmap(start.sub(place.offset).cast(), place.total());
        }
    }
}
