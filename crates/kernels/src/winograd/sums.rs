//! How the products of a position reach its sums: as f32, times the factors of tile and channel for i16.

use crate::half::{Finish, Kind};
use crate::matmul::PANEL;
use crate::simd::Words;

/// Writes products to the sums of a position.
#[derive(Clone, Copy)]
pub(super) struct ToSums {
    /// First tile of the chunk, first column of the strip; tiles are `PANEL` apart.
    pub(super) sums: *mut f32,
    pub(super) rows: usize,
    /// A factor a tile, and a factor a column.
    pub(super) factors: Option<(*const f32, *const f32)>,
    pub(super) add: bool,
}

impl<K: Kind> Finish<K> for ToSums {
    #[inline(always)]
    unsafe fn finish<S: Words, const MR: usize, const NV: usize>(
        self,
        s: S,
        first: usize,
        sums: &[[K::Sum<S>; NV]; MR],
    ) {
        let mut columns = [s.splat(1.0); NV];
        if let Some((_, factors)) = self.factors {
            let mut j = 0;
            while j < NV {
                // SAFETY: a factor for each column of the strip.
                columns[j] = unsafe { s.load(factors.add(j * S::LANES)) };
                j += 1;
            }
        }
        let mut i = 0;
        while i < MR {
            if first + i < self.rows {
                let row = match self.factors {
                    // SAFETY: a factor for each tile of the chunk.
                    Some((factors, _)) => s.splat(unsafe { *factors.add(first + i) }),
                    None => s.splat(1.0),
                };
                let mut j = 0;
                while j < NV {
                    let to = self.sums.wrapping_add((first + i) * PANEL + j * S::LANES);
                    let value = K::value(s, sums[i][j]);
                    let factor = s.mul(row, columns[j]);
                    // SAFETY: a vector of this tile's sums.
                    unsafe {
                        if self.add {
                            s.store(to, s.mul_add(value, factor, s.load(to)));
                        } else if K::PER_WORD == 2 {
                            s.store(to, s.mul(value, factor));
                        } else {
                            s.store(to, value);
                        }
                    }
                    j += 1;
                }
            }
            i += 1;
        }
    }
}
