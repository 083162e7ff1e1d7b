//! How a scale goes over a run in dynamic thresholding.

use std::f64::consts::TAU;

use super::schedule::share_of;

/// The extension's quarter of a wave, 1.5707, a little less than half of pi.
const QUARTER: f64 = 15_707.0 / 10_000.0;

/// A scale's way over the run.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Course {
    /// The way.
    pub mode: CourseMode,
    /// Its lower end, 0 or more.
    pub min: f64,
}

/// Ways by the extension's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CourseMode {
    /// The scale itself.
    #[default]
    Constant,
    /// Straight down to the lower end.
    LinearDown,
    /// Down by a quarter of a wave.
    CosineDown,
    /// Down by the cosine of 0 to 1.
    HalfCosineDown,
    /// Straight up from the lower end.
    LinearUp,
    /// Up by a quarter of a wave.
    CosineUp,
    /// Up by the cosine of 0 to 1.
    HalfCosineUp,
    /// Up by a power.
    PowerUp,
    /// Down by a power.
    PowerDown,
    /// Straight down and up, several times.
    LinearRepeating,
    /// Whole waves.
    CosineRepeating,
    /// Straight up, several times.
    Sawtooth,
}

impl CourseMode {
    /// Every one with its name.
    pub const NAMES: [(&'static str, Self); 12] = [
        ("constant", Self::Constant),
        ("linear-down", Self::LinearDown),
        ("cosine-down", Self::CosineDown),
        ("half-cosine-down", Self::HalfCosineDown),
        ("linear-up", Self::LinearUp),
        ("cosine-up", Self::CosineUp),
        ("half-cosine-up", Self::HalfCosineUp),
        ("power-up", Self::PowerUp),
        ("power-down", Self::PowerDown),
        ("linear-repeating", Self::LinearRepeating),
        ("cosine-repeating", Self::CosineRepeating),
        ("sawtooth", Self::Sawtooth),
    ];

    /// Share of the way from the lower end to the scale at `share` of the run; `value` is a power or a count.
    fn height(self, share: f64, value: f64) -> f64 {
        let quarter = share * QUARTER;
        match self {
            Self::Constant => 1.0,
            Self::LinearDown => 1.0 - share,
            Self::CosineDown => quarter.cos(),
            Self::HalfCosineDown => share.cos(),
            Self::LinearUp => share,
            Self::CosineUp => 1.0 - quarter.cos(),
            Self::HalfCosineUp => 1.0 - share.cos(),
            Self::PowerUp => share.powf(value),
            Self::PowerDown => 1.0 - share.powf(value),
            Self::LinearRepeating => ((share * value).fract() - 0.5).abs() * 2.0,
            Self::CosineRepeating => (share * TAU * value).cos() * 0.5 + 0.5,
            Self::Sawtooth => (share * value).fract(),
        }
    }
}

impl Course {
    /// `scale` at evaluation `index` of `count`.
    pub(super) fn at(self, scale: f64, (index, count): (usize, usize), value: f64) -> f64 {
        let height = self.mode.height(share_of(index, count), value);
        (scale - self.min) * height + self.min
    }
}
