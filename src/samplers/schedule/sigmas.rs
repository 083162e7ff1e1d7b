//! Curves that sigmas can follow between the largest and the smallest.

use std::fmt;
use std::str::FromStr;

use super::timesteps::linspace;
use crate::error::{Error, Result};

/// The curve a run's noise levels follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ScheduleKind {
    /// The sampler's and the checkpoint's own: the sigmas of evenly spread training timesteps.
    #[default]
    Automatic,
    /// Karras et al. 2022, equation 5, with rho = 7.
    Karras,
    /// Evenly in the logarithm.
    Exponential,
    /// Evenly in the log signal-to-noise ratio (Lu et al. 2022, "DPM-Solver"): the exponential curve, but
    /// the model is told whole timesteps.
    Lu,
}

/// A row of [`SCHEDULES`].
#[derive(Debug, Clone, Copy)]
pub struct ScheduleSpec {
    /// Which.
    pub kind: ScheduleKind,
    /// Name as typed and shown.
    pub name: &'static str,
    /// Other spellings.
    pub aliases: &'static [&'static str],
    /// One line for --help.
    pub help: &'static str,
}

/// Every schedule, in the order help shows them.
pub const SCHEDULES: &[ScheduleSpec] = &[
    ScheduleSpec {
        kind: ScheduleKind::Automatic,
        name: "automatic",
        aliases: &["auto", "default"],
        help: "the checkpoint's and the sampler's own",
    },
    ScheduleSpec {
        kind: ScheduleKind::Karras,
        name: "karras",
        aliases: &[],
        help: "smaller steps towards the end (Karras et al. 2022, rho 7)",
    },
    ScheduleSpec {
        kind: ScheduleKind::Exponential,
        name: "exponential",
        aliases: &["exp"],
        help: "even steps in the logarithm of sigma",
    },
    ScheduleSpec {
        kind: ScheduleKind::Lu,
        name: "lu",
        aliases: &["lu lambdas"],
        help: "even steps in the log signal-to-noise ratio, at whole timesteps (Lu et al. 2022)",
    },
];

impl ScheduleKind {
    /// This schedule's row.
    pub fn spec(self) -> &'static ScheduleSpec {
        SCHEDULES
            .iter()
            .find(|row| row.kind == self)
            .unwrap_or(&SCHEDULES[0])
    }
}

impl fmt::Display for ScheduleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.spec().name)
    }
}

impl FromStr for ScheduleKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wanted = crate::samplers::registry::normalize(text);
        let names = || {
            SCHEDULES.iter().flat_map(|row| {
                std::iter::once(&row.name)
                    .chain(row.aliases)
                    .map(move |name| (*name, row))
            })
        };
        if let Some((_, row)) =
            names().find(|(name, _)| crate::samplers::registry::normalize(name) == wanted)
        {
            return Ok(row.kind);
        }
        Err(crate::samplers::registry::unknown(
            "schedule",
            text,
            &names().map(|(name, _)| name).collect::<Vec<_>>(),
            &SCHEDULES.iter().map(|row| row.name).collect::<Vec<_>>(),
        ))
    }
}

/// `count` sigmas from `max` down to `min`, as Karras et al. 2022, equation 5; rho is the paper's 7.
pub(super) fn karras(max: f64, min: f64, count: usize) -> Vec<f64> {
    const RHO: f64 = 7.0;
    let (max, min) = (max.powf(1.0 / RHO), min.powf(1.0 / RHO));
    linspace(0.0, 1.0, count)
        .into_iter()
        .map(|share| (max + share * (min - max)).powf(RHO))
        .collect()
}

/// `count` sigmas from `max` down to `min`, evenly in the logarithm.
pub(super) fn exponential(max: f64, min: f64, count: usize) -> Vec<f64> {
    linspace(max.ln(), min.ln(), count)
        .into_iter()
        .map(f64::exp)
        .collect()
}
