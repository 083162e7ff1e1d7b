//! f32 as three bf16, so that six of nine products are as precise as one of f32 (Henry, Tang and Heinecke, arXiv:1904.06376).
//!
//! Eight bits each, x = high + middle + low to the last bit; products of what is left out are below a 2^26th of the whole. Weights
//! that were stored with fewer bits have fewer parts, and products.

use rayon::prelude::*;

use crate::half::{BLOCK, HalfMatrix, Order};
use crate::isa::WordOp;
use crate::matmul::Columns;
use crate::simd::Words;

/// Parts of a value.
pub(crate) const PARTS: usize = 3;
/// Products of parts that are formed: all whose parts' places, counted from 0, add up to 2 at most.
pub(crate) const PRODUCTS: usize = 6;

/// Multiplying by this and taking the difference leaves the upper 8 bits of 24 (Veltkamp's splitting).
const SPLITTER: f32 = 65_537.0;

/// The nearest number of 8 bits.
#[inline(always)]
fn upper(x: f32) -> f32 {
    let c = x * SPLITTER;
    c - (c - x)
}

/// The parts of a value, the largest first.
#[inline(always)]
pub(crate) fn split(x: f32) -> [f32; PARTS] {
    let high = upper(x);
    let middle = upper(x - high);
    [high, middle, x - high - middle]
}

/// Columns of a matrix as the parts of columns of another, one part after the other, each of whole blocks.
struct Parts<'a, C> {
    source: &'a C,
    /// Values of a column, and with what fills the last block.
    len: usize,
    padded: usize,
}

impl<C: Columns> Columns for Parts<'_, C> {
    fn read(&self, column: usize, from: usize, out: &mut [f32]) {
        let (mut at, mut rest) = (from, out);
        while !rest.is_empty() {
            let (part, k) = (at / self.padded, at % self.padded);
            let (run, others) = rest.split_at_mut((self.padded - k).min(rest.len()));
            at += run.len();
            rest = others;
            let there = self.len.saturating_sub(k).min(run.len());
            let (values, none) = run.split_at_mut(there);
            none.fill(0.0);
            if there > 0 {
                self.source.read(column, k, values);
            }
            for value in values {
                *value = split(*value)[part];
            }
        }
    }
}

/// The matrix of `columns` columns of `len` values in so many parts.
pub(crate) fn split_matrix(
    columns: usize,
    len: usize,
    source: &impl Columns,
    parts: usize,
) -> HalfMatrix {
    let padded = len.next_multiple_of(2 * BLOCK);
    let split = Parts {
        source,
        len,
        padded,
    };
    HalfMatrix::from_columns(columns, parts * padded, &split, Order::Tiles).in_parts(parts)
}

/// Parts that hold the values to the last bit: a checkpoint of f16 has 11 bits and needs two, one of bf16 one.
pub(crate) fn parts_of(columns: usize, len: usize, source: &impl Columns) -> usize {
    const TWO_PARTS: u32 = 0xff;
    const ONE_PART: u32 = 0xffff;
    let bits_of = |column| {
        let (mut bits, mut values) = (0, [0.0f32; 8 * BLOCK]);
        let mut from = 0;
        while from < len && bits & TWO_PARTS == 0 {
            let values = &mut values[..(8 * BLOCK).min(len - from)];
            source.read(column, from, values);
            bits |= values.iter().fold(0, |bits, value| bits | value.to_bits());
            from += values.len();
        }
        bits
    };
    let bits = (0..columns)
        .into_par_iter()
        .map(bits_of)
        .reduce(|| 0, |a, b| a | b);
    match bits {
        bits if bits & ONE_PART == 0 => 1,
        bits if bits & TWO_PARTS == 0 => 2,
        _ => PARTS,
    }
}

/// Writes the parts of `from` as bf16, each in blocks of 16 words at `to[i * step..]`, one part `apart` words behind the other; zeros
/// fill the last block.
pub(super) struct Split<'a> {
    pub(super) from: &'a [f32],
    pub(super) to: &'a mut [u32],
    pub(super) step: usize,
    pub(super) apart: usize,
}

impl WordOp for Split<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Words>(self, s: S) {
        const ELEMENTS: usize = 2 * BLOCK;
        let blocks = self.from.len().div_ceil(ELEMENTS);
        let end = (PARTS - 1) * self.apart + blocks.saturating_sub(1) * self.step + BLOCK;
        assert!(
            blocks == 0 || self.to.len() >= end,
            "blocks leave the buffer, this is a bug"
        );
        let splitter = s.splat(SPLITTER);
        let mut block = 0;
        while block < blocks {
            let values = &self.from[block * ELEMENTS..];
            let mut copy = [0.0; ELEMENTS];
            let values = if values.len() < ELEMENTS {
                copy[..values.len()].copy_from_slice(values);
                copy.as_ptr()
            } else {
                values.as_ptr()
            };
            let mut i = 0;
            while i < ELEMENTS {
                // SAFETY: 32 values; blocks of 16 words, whose last is inside by the assertion.
                unsafe {
                    let mut rest = [s.load(values.add(i)), s.load(values.add(i + S::LANES))];
                    let mut part = 0;
                    while part < PARTS {
                        let [a, b] = rest;
                        let (c, d) = (s.mul(a, splitter), s.mul(b, splitter));
                        let upper = [s.sub(c, s.sub(c, a)), s.sub(d, s.sub(d, b))];
                        let to = self
                            .to
                            .as_mut_ptr()
                            .add(part * self.apart + block * self.step);
                        s.store_bf16(to.cast::<u16>().add(i), upper[0], upper[1]);
                        rest = [s.sub(a, upper[0]), s.sub(b, upper[1])];
                        part += 1;
                    }
                }
                i += 2 * S::LANES;
            }
            block += 1;
        }
    }
}
