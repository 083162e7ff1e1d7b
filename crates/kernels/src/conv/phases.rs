//! A 3x3 window over a picture of twice the size, without making that picture.
//!
//! Nearest upsampling gives four output pixels the same source pixels, each under other places of the window. Places that
//! see the same pixel have their weights added once, at load, which leaves four windows of 2x2 over the small picture, one for
//! each output pixel of four: 16 products where 36 were.

use super::weight::{ConvShape, ConvWeight};
use super::{Conv2d, ConvKernel, Padding};
use crate::error::Result;

/// Which of four output pixels: the lower ones, the right ones.
pub(crate) type Phase = (usize, usize);

const PHASES: [Phase; 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];
const WINDOW: usize = 3;
const SMALL: usize = 2;

/// The weights of the four windows.
#[derive(Clone, Debug)]
pub(super) struct Phases(Box<[ConvWeight; 4]>);

impl Phases {
    /// Adds and packs `weight: (O, I, 3, 3)`.
    pub(super) fn pack(weight: &[f32], shape: ConvShape, kernel: ConvKernel) -> Result<Self> {
        let small = ConvShape {
            kernel_h: SMALL,
            kernel_w: SMALL,
            ..shape
        };
        let mut sums = vec![0.0; weight.len() / (WINDOW * WINDOW) * SMALL * SMALL];
        let pack = |phase| {
            add_places(weight, phase, &mut sums);
            ConvWeight::pack(&sums, small, kernel)
        };
        let [a, b, c, d] = PHASES.map(pack);
        Ok(Self(Box::new([a?, b?, c?, d?])))
    }

    /// The four calls that make up `call`, and the output pixels each computes.
    pub(super) fn calls<'a>(
        &'a self,
        call: Conv2d<'a>,
    ) -> impl Iterator<Item = (Phase, Conv2d<'a>)> {
        PHASES
            .into_iter()
            .zip(&*self.0)
            .map(move |(phase, weight)| {
                let (lower, right) = phase;
                let padding = Padding {
                    top: 1 - lower,
                    bottom: lower,
                    left: 1 - right,
                    right,
                };
                let call = Conv2d {
                    weight,
                    padding,
                    upsample_to: None,
                    ..call
                };
                (phase, call)
            })
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(ConvWeight::bytes).sum()
    }
}

/// Place of the small window under which a place of the whole one falls.
fn small_place(place: usize, phase: usize) -> usize {
    (place + 1 - phase) / 2
}

/// `sums: (O, I, 2, 2)` of `weight: (O, I, 3, 3)`.
fn add_places(weight: &[f32], (lower, right): Phase, sums: &mut [f32]) {
    let windows = weight.chunks_exact(WINDOW * WINDOW);
    for (window, sums) in windows.zip(sums.chunks_exact_mut(SMALL * SMALL)) {
        sums.fill(0.0);
        for (place, value) in window.iter().enumerate() {
            let y = small_place(place / WINDOW, lower);
            let x = small_place(place % WINDOW, right);
            sums[y * SMALL + x] += value;
        }
    }
}
