//! Rows and weights in three bf16 each, of whose products six are formed, for attention as precise as f32.
//!
//! A row of a query or key is laid out for the scores' sums: each block of 32 channels once a part, then what is left of the
//! channels once a product, side by side, since a head of 40 would fill only a quarter of each block there.

use crate::amx::{PARTS, Step, split};
use crate::half::{BLOCK, Convert};
use crate::isa::WordOp;
use crate::simd::Words;

/// The products that are formed of keys' and queries' parts, the smallest first.
const PRODUCTS: [(usize, usize); 6] = [(2, 0), (0, 2), (1, 1), (1, 0), (0, 1), (0, 0)];
/// Values of a block.
const ELEMENTS: usize = 2 * BLOCK;

/// Which side of a product a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The left one.
    Key,
    /// The right one.
    Query,
}

impl Role {
    /// The part of a product that is this side's.
    fn part(self, product: (usize, usize)) -> usize {
        match self {
            Self::Key => product.0,
            Self::Query => product.1,
        }
    }
}

/// How the parts of a row of `dim` channels lie.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    dim: usize,
}

impl Layout {
    pub(super) fn of(dim: usize) -> Self {
        Self { dim }
    }

    /// Whole blocks of channels.
    fn blocks(self) -> usize {
        self.dim / ELEMENTS
    }

    /// Channels behind them.
    fn rest(self) -> usize {
        self.dim % ELEMENTS
    }

    /// Blocks of words of a row.
    fn len(self) -> usize {
        PARTS * self.blocks() + (PRODUCTS.len() * self.rest()).div_ceil(ELEMENTS)
    }

    /// Words of a row.
    pub(super) fn words(self) -> usize {
        self.len() * BLOCK
    }

    /// The blocks of keys and queries that meet in all products of their parts, and the ones behind them that meet as they are.
    pub(super) fn steps(self) -> [Vec<Step>; 2] {
        let step = |block| Step {
            a: block * BLOCK * size_of::<u32>(),
            b: block * BLOCK,
        };
        let rest = PARTS * self.blocks();
        [
            (0..rest).step_by(PARTS).map(step).collect(),
            (rest..self.len()).map(step).collect(),
        ]
    }

    /// Writes the row `factor * from`.
    #[inline(always)]
    pub(super) fn write<S: Words>(
        self,
        s: S,
        role: Role,
        (from, factor): (&[f32], f32),
        to: &mut [u32],
    ) {
        let values = from.chunks_exact(ELEMENTS);
        let last = values.remainder();
        let (blocks, rest) = to.split_at_mut(PARTS * self.blocks() * BLOCK);
        let mut parts = [[0.0; ELEMENTS]; PARTS];
        for (values, to) in values.zip(blocks.chunks_exact_mut(PARTS * BLOCK)) {
            split_all(values, factor, &mut parts);
            convert(s, parts.as_flattened(), to);
        }
        if !last.is_empty() {
            split_all(last, factor, &mut parts);
            let mut row = [0.0; PRODUCTS.len() * ELEMENTS];
            for (product, to) in PRODUCTS.into_iter().zip(row.chunks_exact_mut(last.len())) {
                to.copy_from_slice(&parts[role.part(product)][..last.len()]);
            }
            convert(s, &row[..2 * rest.len()], rest);
        }
    }
}

#[inline(always)]
fn convert<S: Words>(s: S, from: &[f32], to: &mut [u32]) {
    let convert = Convert {
        from,
        factor: 1.0,
        to,
        step: BLOCK,
    };
    convert.run(s);
}

/// The parts of `factor * values`.
#[inline(always)]
pub(super) fn split_all<const LEN: usize>(
    values: &[f32],
    factor: f32,
    parts: &mut [[f32; LEN]; PARTS],
) {
    let [high, middle, low] = parts;
    let to = high.iter_mut().zip(middle).zip(low);
    for (((high, middle), low), value) in to.zip(values) {
        [*high, *middle, *low] = split(value * factor);
    }
}

/// Steps of values, `[groups][parts][tall][16]`, and weights, `[parts][groups][16][32]`, for so many groups of 32 keys.
pub(super) fn steps_of_values(parts: usize, groups: usize, tall: usize) -> Vec<Step> {
    let step = |group| Step {
        a: group * parts * tall * BLOCK * size_of::<u32>(),
        b: group * BLOCK,
    };
    (0..groups).map(step).collect()
}

/// The parts of two vectors of weights, which are at least 0, at `to` and `apart` words behind the one before.
///
/// Parts are cut off instead of rounded, which leaves as little.
///
/// # Safety
/// `to + part * apart` is valid for writes of a vector of words for each part.
#[inline(always)]
pub(super) unsafe fn store_parts<S: Words>(
    s: S,
    to: *mut u32,
    apart: usize,
    even: S::V,
    odd: S::V,
) {
    let (mut even, mut odd) = (even, odd);
    let mut part = 0;
    while part < PARTS {
        // SAFETY: the caller's promise.
        unsafe { s.store_cut_pairs(to.add(part * apart), even, odd) };
        even = s.sub(even, s.cut(even));
        odd = s.sub(odd, s.cut(odd));
        part += 1;
    }
}
