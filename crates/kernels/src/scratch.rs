//! Work memory that threads keep between calls.

use std::cell::RefCell;

use crate::buffer::Buffer;
use crate::guard;

thread_local! {
    static SPARE: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// Buffers a thread keeps; kernels nest at most four.
const KEPT: usize = 4;

/// Largest buffer kept, in values: 64 MiB, the keys and values of a 64x64 map several times over.
const KEPT_LEN: usize = 16 * 1024 * 1024;

/// Values of a large page.
const LARGE: usize = 512 * 1024;

/// Runs `body` with `len` values of work memory, whose contents are whatever was left there.
///
/// The buffer leaves the thread's store while `body` runs, so nesting (also through work stealing) is safe.
pub(crate) fn with<R>(len: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    if guard::is_on() {
        let mut own = Buffer::zeroed(len);
        own.fill(guard::UNWRITTEN);
        return body(&mut own);
    }
    let mut buffer = SPARE.with_borrow_mut(|spare| {
        // The smallest that fits, else the last one, which then grows.
        let fit = (0..spare.len())
            .filter(|&i| spare[i].len() >= len)
            .min_by_key(|&i| spare[i].len());
        fit.or(spare.len().checked_sub(1))
            .map(|i| spare.swap_remove(i))
            .unwrap_or_default()
    });
    if buffer.len() < len {
        // From a quarter of a large page on, whole ones.
        let whole = len.next_multiple_of(LARGE);
        buffer = Buffer::zeroed(if len < LARGE / 4 { len } else { whole });
    }
    let result = body(&mut buffer[..len]);
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < KEPT && buffer.len() <= KEPT_LEN {
            spare.push(buffer);
        }
    });
    result
}

/// The same for `len` words.
pub(crate) fn with_words<R>(len: usize, body: impl FnOnce(&mut [u32]) -> R) -> R {
    with(len, |buffer| body(as_words(buffer)))
}

/// The same memory as words.
pub(crate) fn as_words(buffer: &mut [f32]) -> &mut [u32] {
    // SAFETY: u32 and f32 have one size and alignment, and every pattern of bits is a value of both.
    unsafe { std::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast(), buffer.len()) }
}
