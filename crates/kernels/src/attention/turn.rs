//! Rows into columns: queries into lanes, channels of values into rows, and results back.

use crate::isa::WordOp;
use crate::simd::Words;

/// `to[column][row] = from[row][column]`.
#[derive(Clone, Copy)]
pub(super) struct Turn<'a> {
    from: &'a [f32],
    from_step: usize,
    rows: usize,
    columns: usize,
    to: *mut f32,
    to_step: usize,
}

impl<'a> Turn<'a> {
    /// Turns `rows` rows of `columns` values, both sides' rows so far apart.
    ///
    /// # Safety
    /// `to` has so many columns as rows, writable, that nobody else touches meanwhile.
    pub(super) unsafe fn new(
        (from, from_step): (&'a [f32], usize),
        (rows, columns): (usize, usize),
        (to, to_step): (*mut f32, usize),
    ) -> Self {
        assert!(
            rows == 0 || from.len() >= (rows - 1) * from_step + columns,
            "rows to be turned are missing, this is a bug"
        );
        Self {
            from,
            from_step,
            rows,
            columns,
            to,
            to_step,
        }
    }
}

impl WordOp for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Words>(self, s: S) {
        if self.rows < S::LANES || self.columns < S::LANES {
            for row in 0..self.rows {
                for column in 0..self.columns {
                    let value = self.from[row * self.from_step + column];
                    // SAFETY: inside, by the promise of `new`.
                    unsafe { *self.to.add(column * self.to_step + row) = value };
                }
            }
            return;
        }
        // Squares; the last ones of a side reach back over those before.
        let mut row = 0;
        while row < self.rows {
            let first = row.min(self.rows - S::LANES);
            let mut column = 0;
            while column < self.columns {
                let at = column.min(self.columns - S::LANES);
                // SAFETY: a square inside both, by the assertion and the promise of `new`.
                unsafe {
                    let from = self.from.as_ptr().add(first * self.from_step + at).cast();
                    let to = self.to.add(at * self.to_step + first).cast();
                    s.transpose(from, self.from_step, to, self.to_step);
                }
                column += S::LANES;
            }
            row += S::LANES;
        }
    }
}
