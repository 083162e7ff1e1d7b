//! Pixels under a window, rounded into the planes that AMX reads.

use std::ops::Range;

use super::Window;
use crate::amx::{Pixels, Values};
use crate::half::BLOCK;
use crate::isa::{Isa, dispatch_words};
use crate::norm::RoundPixels;

/// Channels of a plane.
const DEEP: usize = 2 * BLOCK;

impl Pixels for Window<'_> {
    fn round(
        &self,
        (picture, y, x): (usize, usize, usize),
        count: usize,
        channels: Range<usize>,
        values: Values,
        (to, plane): (&mut [u32], usize),
    ) {
        let parts = channels.len() / DEEP * values.parts();
        let (width, left) = (self.upsampled.1, self.call.padding.left);
        // Columns of the picture; what lies before and after them is padding.
        let start = left.saturating_sub(x).min(count);
        let end = (left + width).saturating_sub(x).min(count).max(start);
        let inside = self.source((y, x + start)).filter(|_| start < end);
        let inside = inside.map_or(0..0, |_| start..end);
        let mut clear = |range: Range<usize>| {
            for part in 0..parts {
                to[part * plane..][range.start * BLOCK..range.end * BLOCK].fill(0);
            }
        };
        clear(0..inside.start);
        clear(inside.end..count);
        let repeats = self.upsampled != (self.call.height, self.call.width);
        if values == Values::Bf16 && !repeats {
            let to = (&mut to[inside.start * BLOCK..], plane);
            let place = (picture, y, x + inside.start);
            if inside.is_empty() || self.round_run(place, inside.len(), &channels, to) {
                return;
            }
        }
        let mut room = vec![0.0; channels.len()];
        for i in inside {
            let from = self.values((picture, y, x + i), channels.clone(), &mut room);
            values.round(from, &mut to[i * BLOCK..], plane);
        }
    }
}

impl Window<'_> {
    /// Rounds pixels that lie side by side in the picture to bf16; `false` if their channels do not come in whole planes.
    fn round_run(
        &self,
        (picture, y, x): (usize, usize, usize),
        count: usize,
        channels: &Range<usize>,
        (to, plane): (&mut [u32], usize),
    ) -> bool {
        let Some((y, x)) = self.source((y, x)) else {
            return false;
        };
        let pixel = y * self.call.width + x;
        if let Some(normed) = &self.call.normed {
            return normed.round_run((picture, pixel), count, channels, (to, plane));
        }
        let width = self.zeros.len();
        let first = picture * self.call.height * self.call.width + pixel;
        let run = RoundPixels {
            x: &self.call.x[first * width + channels.start..(first + count) * width],
            width,
            channels: channels.len(),
            norm: None,
            to,
            plane,
        };
        dispatch_words(Isa::Amx, run);
        true
    }
}
