//! Weights of a block of scores, a few at a time.

use crate::amx::{SUMS, TILE};
use crate::half::BLOCK;
use crate::simd::{POWERS_HIGH, Words};

/// What writes a unit's weights, a few at a time.
pub(super) struct Pen<V> {
    /// Two rows of scores, and their weights' two halves, which lie in two tiles.
    pub(super) from: *const f32,
    pub(super) to: *mut u32,
    /// Pairs of keys to come.
    pub(super) left: usize,
    /// Pairs of keys in all, products they are spread over, and how far these are ahead.
    pub(super) pairs: usize,
    pub(super) slots: usize,
    pub(super) due: usize,
    pub(super) factor: V,
    pub(super) low: V,
    pub(super) shift: [V; 2],
    /// The largest logarithm of each query.
    pub(super) most: [V; 2],
}

impl<V: Copy> Pen<V> {
    /// Two keys for 32 queries.
    #[inline(always)]
    pub(super) fn write<S: Words<V = V>>(&mut self, s: S) {
        let mut half = 0;
        while half < 2 {
            // SAFETY: [`super::Quick::pen`] has seen to room for all pairs; this runs where `Isa::Amx` is.
            unsafe {
                let from = self.from.add(half * TILE);
                let even = s.mul_add(s.load(from), self.factor, self.shift[half]);
                let odd = s.mul_add(s.load(from.add(SUMS)), self.factor, self.shift[half]);
                self.most[half] = s.max(self.most[half], s.max(even, odd));
                let words = s.powers(s.max(even, self.low), s.max(odd, self.low));
                let to = self.to.add(half * TILE * BLOCK);
                s.store(to.cast(), s.as_float(words));
            }
            half += 1;
        }
        self.left -= 1;
        self.from = self.from.wrapping_add(2 * SUMS);
        // Behind sixteen pairs of one tile lie those of the other.
        let skipped = if self.left.is_multiple_of(BLOCK) {
            TILE * BLOCK
        } else {
            0
        };
        self.to = self.to.wrapping_add(BLOCK + skipped);
    }

    /// As many as fall to a product.
    #[inline(always)]
    pub(super) fn slot<S: Words<V = V>>(&mut self, s: S) {
        self.due += self.pairs;
        while self.due >= self.slots {
            self.due -= self.slots;
            if self.left > 0 {
                self.write(s);
            }
        }
    }

    /// All but so many at least.
    #[inline(always)]
    pub(super) fn leave<S: Words<V = V>>(&mut self, s: S, most: usize) {
        while self.left > most {
            self.write(s);
        }
    }

    /// The rest; whether a score is above its reference.
    #[inline(always)]
    pub(super) fn finish<S: Words<V = V>>(mut self, s: S) -> bool {
        self.leave(s, 0);
        s.largest(s.max(self.most[0], self.most[1])) > POWERS_HIGH
    }
}
