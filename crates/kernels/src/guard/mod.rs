//! Memory whose borders are watched, for tests: each allocation on pages of its own, between two that nobody may touch.
//!
//! A test program names [`Guard`] its global allocator. `TINTYPE_GUARD=end` then puts the last byte of each allocation at the
//! end of a page, so that a read or write behind it ends the program (SIGSEGV); `TINTYPE_GUARD=start` does the same for the
//! first byte and what lies before. The side that is not flush is watched for writes by a pattern, looked at when the memory is
//! given back. Fresh memory holds NaN, as f32 and as bf16, and memory given back can no more be touched. The processor does the
//! watching, so that assembly and tile loads are watched as well, which an address sanitizer does not see.
//!
//! With either setting the crate's own memory ([`crate::Buffer`], [`crate::Arena`], the work memory of threads) is not shared,
//! padded or put on cache lines. Without the variable [`Guard`] is the system's allocator. Not watched: arrays on the stack,
//! the border between two parts of one allocation, and text shorter than a cache line, of which a program has more than Linux
//! has maps.

#[cfg(target_os = "linux")]
mod pages;

#[cfg(target_os = "linux")]
pub use pages::Guard;
#[cfg(not(target_os = "linux"))]
pub use std::alloc::System as Guard;

/// What memory holds that nobody has written: NaN, also as a pair of bf16.
pub(crate) const UNWRITTEN: f32 = f32::from_bits(u32::MAX);

/// Whether memory is guarded in this program.
pub fn is_on() -> bool {
    #[cfg(target_os = "linux")]
    return pages::is_on();
    #[cfg(not(target_os = "linux"))]
    false
}
