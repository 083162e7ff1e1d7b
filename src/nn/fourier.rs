//! What FreeU does to maps: it strengthens half of the channels and turns the four lowest frequencies up or down.
//!
//! Follows `apply_freeu` and `fourier_filter` of `diffusers/utils/torch_utils.py`. Four frequencies are few enough to be
//! had by sums over the map, without a transform: one product with cosines and sines, and one back.

use std::f64::consts::TAU;

use super::repr::{Repr, misfit};
use super::{FeatureMap, candle, cpu};
use crate::error::Result;

impl FeatureMap {
    /// The first `count` channels times `factor`, the others as they are.
    ///
    /// # Errors
    /// When there are fewer channels.
    pub fn scale_first_channels(&self, count: usize, factor: f64) -> Result<Self> {
        if count > self.channels() {
            let expected = format!("{count} channels or more");
            return Err(misfit("scale_first_channels", &self.dims(), &expected));
        }
        match &self.repr {
            Repr::Candle(x) => candle::scale_first_channels(x, count, factor).map(Self::candle),
            Repr::Cpu(x) => cpu::scale_first_channels(x, count, factor).map(Self::cpu),
        }
    }

    /// The frequencies 0 and -1 of either direction, four in all, times `factor`; of what that makes, the real part.
    ///
    /// # Errors
    /// When the device fails.
    pub fn scale_low_frequencies(&self, factor: f64) -> Result<Self> {
        let (height, width) = (self.height(), self.width());
        let waves = low_waves(height, width);
        let gain = (factor - 1.0) / (height * width).max(1) as f64;
        match &self.repr {
            Repr::Candle(x) => candle::add_waves(x, &waves, gain).map(Self::candle),
            Repr::Cpu(x) => cpu::add_waves(x, &waves, gain).map(Self::cpu),
        }
    }
}

/// Cosine and sine of each frequency over the positions, row by row, one wave after the other.
fn low_waves(height: usize, width: usize) -> Vec<f32> {
    // A single row or column has no frequency but 0.
    let along = |extent: usize| if extent > 1 { 0..2 } else { 0..1 };
    let mut waves = Vec::new();
    for (down, across) in along(height).flat_map(|y| along(width).map(move |x| (y, x))) {
        let phases = || {
            (0..height * width).map(move |position| {
                let (y, x) = (position / width, position % width);
                TAU * ((down * y) as f64 / height as f64 + (across * x) as f64 / width as f64)
            })
        };
        waves.extend(phases().map(|phase| phase.cos() as f32));
        waves.extend(phases().map(|phase| phase.sin() as f32));
    }
    waves
}
