//! The scale of guidance over the steps of a run, and the part of the run that is guided.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use super::within;
use crate::error::{Error, Result};

/// Largest scale of guidance.
pub(crate) const MAX_SCALE: f64 = 1000.0;

/// Most scales of a list, as many as a run may have steps.
const MAX_SCALES: usize = 1000;

/// A scale for each step.
///
/// As text it is `7.5..2`, `7.5..2:cosine` or a list such as `7.5,7,6.5` with one scale for each step.
#[derive(Debug, Clone, PartialEq)]
pub enum ScaleSchedule {
    /// From one scale at the first step to another at the last.
    Ramp {
        /// At the first step.
        from: f64,
        /// At the last step.
        to: f64,
        /// On which way.
        shape: Shape,
    },
    /// One for each step.
    Steps(Vec<f64>),
}

/// The way from the first scale to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Shape {
    /// Straight.
    #[default]
    Linear,
    /// Half a wave of the cosine: slow at both ends.
    Cosine,
}

impl ScaleSchedule {
    /// The scale at `step`, from 0, of a run of `steps`.
    pub fn scale(&self, step: usize, steps: usize) -> f64 {
        match self {
            Self::Ramp { from, to, shape } => {
                let share = share_of(step, steps);
                let share = match shape {
                    Shape::Linear => share,
                    Shape::Cosine => 0.5 - (PI * share).cos() / 2.0,
                };
                from + share * (to - from)
            }
            Self::Steps(scales) => scales.get(step).or(scales.last()).copied().unwrap_or(1.0),
        }
    }

    /// The largest scale in it.
    pub(super) fn highest(&self) -> f64 {
        match self {
            Self::Ramp { from, to, .. } => from.max(*to),
            Self::Steps(scales) => scales.iter().copied().fold(0.0, f64::max),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Ramp { from, to, .. } => {
                within("guidance schedule", *from, 0.0, MAX_SCALE)?;
                within("guidance schedule", *to, 0.0, MAX_SCALE)
            }
            Self::Steps(scales) => {
                if !(1..=MAX_SCALES).contains(&scales.len()) {
                    return Err(Error::invalid(format!(
                        "the guidance schedule has {} scales, expected 1 to {MAX_SCALES}",
                        scales.len()
                    )));
                }
                scales
                    .iter()
                    .try_for_each(|&scale| within("guidance schedule", scale, 0.0, MAX_SCALE))
            }
        }
    }

    /// Refuses a list that is not as long as the run.
    pub(super) fn check_steps(&self, steps: usize) -> Result<()> {
        match self {
            Self::Steps(scales) if scales.len() != steps => Err(Error::invalid(format!(
                "the guidance schedule has {} scales, expected {steps}, one for each step",
                scales.len()
            ))
            .with_hint("`7.5..2` falls from one scale to another over any number of steps")),
            _ => Ok(()),
        }
    }
}

/// How far `step`, from 0, is on the way to the last of `steps`, 0 to 1.
pub(super) fn share_of(step: usize, steps: usize) -> f64 {
    let last = steps.saturating_sub(1);
    if last == 0 {
        return 0.0;
    }
    step.min(last) as f64 / last as f64
}

impl FromStr for ScaleSchedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = || {
            Error::invalid(format!(
                "the guidance schedule is {text:?}, expected two scales such as 7.5..2 or 7.5..2:cosine, or one for \
                 each step such as 7.5,7,6.5"
            ))
        };
        let number = |part: &str| part.trim().parse::<f64>().map_err(|_| expected());
        let ends = text.split_once("..").or_else(|| text.split_once("->"));
        let Some((from, rest)) = ends else {
            return text
                .split(',')
                .map(number)
                .collect::<Result<_>>()
                .map(Self::Steps);
        };
        let (to, shape) = rest.split_once(':').unwrap_or((rest, "linear"));
        Ok(Self::Ramp {
            from: number(from)?,
            to: number(to)?,
            shape: match shape.trim() {
                "linear" => Shape::Linear,
                "cosine" => Shape::Cosine,
                _ => return Err(expected()),
            },
        })
    }
}

impl fmt::Display for ScaleSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ramp { from, to, shape } => {
                let shape = match shape {
                    Shape::Linear => "",
                    Shape::Cosine => ":cosine",
                };
                write!(f, "{from}..{to}{shape}")
            }
            Self::Steps(scales) => {
                let scales: Vec<_> = scales.iter().map(ToString::to_string).collect();
                f.write_str(&scales.join(","))
            }
        }
    }
}

/// The part of a run that is guided; the rest takes the prediction with the prompt alone.
///
/// As text it is `0.1..0.8` for shares of the run or `sigma:0.28..5.42` for noise levels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Interval {
    /// Shares of the evaluations, 0 to 1: those from `start` to before `stop`, counted as diffusers' guiders count.
    Share {
        /// First.
        start: f64,
        /// End.
        stop: f64,
    },
    /// Noise levels above `low` and up to `high` (Kynkäänniemi et al. 2024, arXiv 2404.07724).
    Sigma {
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
}

impl Interval {
    /// Whether evaluation `index` of `count`, at `sigma`, is in it.
    pub fn holds(&self, index: usize, count: usize, sigma: f64) -> bool {
        match *self {
            Self::Share { start, stop } => {
                // Cut towards zero, as Python's int() does.
                let place = |share: f64| (share * count as f64) as usize;
                (place(start)..place(stop)).contains(&index.min(count.saturating_sub(1)))
            }
            Self::Sigma { low, high } => sigma > low && sigma <= high,
        }
    }

    /// Whether nothing can be in it.
    pub(super) fn is_empty(&self) -> bool {
        match *self {
            Self::Share { start, stop } => start >= stop,
            Self::Sigma { low, high } => low >= high,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let (low, high, limit) = match *self {
            Self::Share { start, stop } => (start, stop, 1.0),
            Self::Sigma { low, high } => (low, high, f64::INFINITY),
        };
        within("guidance interval's start", low, 0.0, limit)?;
        within("guidance interval's end", high, 0.0, limit)?;
        if low > high {
            return Err(Error::invalid(format!(
                "the guidance interval is {self}, expected the smaller end first"
            )));
        }
        Ok(())
    }
}

impl FromStr for Interval {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = || {
            Error::invalid(format!(
                "the guidance interval is {text:?}, expected shares of the run such as 0.1..0.8 or noise levels such \
                 as sigma:0.28..5.42"
            ))
        };
        let number = |part: &str| part.trim().parse::<f64>().map_err(|_| expected());
        let sigmas = text.trim().strip_prefix("sigma:");
        let (low, high) = sigmas
            .unwrap_or(text)
            .split_once("..")
            .ok_or_else(expected)?;
        let (low, high) = (number(low)?, number(high)?);
        Ok(match sigmas {
            Some(_) => Self::Sigma { low, high },
            None => Self::Share {
                start: low,
                stop: high,
            },
        })
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share { start, stop } => write!(f, "{start}..{stop}"),
            Self::Sigma { low, high } => write!(f, "sigma:{low}..{high}"),
        }
    }
}
