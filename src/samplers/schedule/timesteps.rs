//! Which training timesteps a run of n steps visits (Lin et al. 2023, table 2).
//!
//! The three rules are one idea, but diffusers' schedulers round them differently; each variant here
//! names the schedulers that use it.

use serde::Deserialize;

/// How a run's timesteps are spread over those of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSpacing {
    /// Evenly from the first to the last.
    Linspace,
    /// A fixed number apart, from the first up; the last is not visited.
    Leading,
    /// A fixed number apart, from the last down.
    Trailing,
}

/// Falling timesteps as DDIM and PNDM round them: to whole numbers. `steps` is 1 to `train`.
pub(crate) fn whole(
    spacing: TimestepSpacing,
    train: usize,
    steps: usize,
    offset: usize,
) -> Vec<f64> {
    match spacing {
        TimestepSpacing::Linspace => falling(
            linspace(0.0, (train - 1) as f64, steps),
            f64::round_ties_even,
        ),
        TimestepSpacing::Leading => leading(train / steps, steps, offset),
        TimestepSpacing::Trailing => trailing(train as f64, train, steps),
    }
}

/// Falling timesteps as the Euler schedulers round them: those of linspace spacing to f32 only.
pub(crate) fn fractional(
    spacing: TimestepSpacing,
    train: usize,
    steps: usize,
    offset: usize,
) -> Vec<f64> {
    match spacing {
        TimestepSpacing::Linspace => {
            falling(linspace(0.0, (train - 1) as f64, steps), |timestep| {
                f64::from(timestep as f32)
            })
        }
        _ => whole(spacing, train, steps, offset),
    }
}

/// Falling timesteps of DPM-Solver++: whole, below `end`, as if one step more were made and then left
/// out, so that the last step still ends above timestep 0.
pub(crate) fn short_of_zero(
    spacing: TimestepSpacing,
    (train, end): (usize, usize),
    steps: usize,
    offset: usize,
) -> Vec<f64> {
    let mut timesteps = match spacing {
        TimestepSpacing::Linspace => falling(
            linspace(0.0, (end - 1) as f64, steps + 1),
            f64::round_ties_even,
        ),
        TimestepSpacing::Leading => leading(end / (steps + 1), steps + 1, offset),
        TimestepSpacing::Trailing => trailing(end as f64, train, steps),
    };
    timesteps.truncate(steps);
    timesteps
}

/// Falling timesteps of the webui's samplers on timesteps (stable-diffusion-webui from 1.6.0,
/// `modules/sd_samplers_timesteps.py`): a fixed number apart, from 1 up. The run ends at the last.
pub(super) fn of_the_webui(train: usize, steps: usize) -> Vec<usize> {
    let up = (0..train).step_by((train / steps).max(1));
    up.rev()
        .map(|timestep| (timestep + 1).min(train - 1))
        .collect()
}

/// `numpy.linspace(first, last, count)`.
pub(super) fn linspace(first: f64, last: f64, count: usize) -> Vec<f64> {
    if count < 2 {
        return vec![first; count];
    }
    let step = (last - first) / (count - 1) as f64;
    let mut values: Vec<f64> = (0..count)
        .map(|index| index as f64 * step + first)
        .collect();
    values[count - 1] = last;
    values
}

fn falling(values: Vec<f64>, round: impl Fn(f64) -> f64) -> Vec<f64> {
    values.into_iter().rev().map(round).collect()
}

fn leading(ratio: usize, count: usize, offset: usize) -> Vec<f64> {
    (0..count)
        .rev()
        .map(|index| (index * ratio + offset) as f64)
        .collect()
}

/// `numpy.round(numpy.arange(end, 0, -train / steps)) - 1`.
///
/// For 62 of the step counts up to 1000 (61 is the first) rounding makes numpy's range one longer than
/// asked, and diffusers then runs a step at timestep -1; here the count asked for is kept.
fn trailing(end: f64, train: usize, steps: usize) -> Vec<f64> {
    let ratio = train as f64 / steps as f64;
    // numpy's range multiplies by the rounded difference of its first two values.
    let step = (end - ratio) - end;
    (0..steps)
        .map(|index| (end + index as f64 * step).round_ties_even() - 1.0)
        .filter(|timestep| *timestep >= 0.0)
        .collect()
}
