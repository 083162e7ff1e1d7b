//! Linear multistep of order 4 (Adams and Bashforth's method on sigmas that are not evenly spread;
//! k-diffusion's `sample_lms`).

use std::collections::VecDeque;

use super::plan::{Plan, Step};
use super::schedule::{NoiseSchedule, ScheduleKind, Settings};
use super::{Euler, Run, Sampler, maths};
use crate::error::{Error, Result};
use crate::host::HostTensor;

/// Slopes the method remembers.
const ORDER: usize = 4;

/// Gauss and Legendre's rule of three points, which is exact for the cubics of order 4.
const GAUSS: [(f64, f64); 3] = [
    (-0.774_596_669_241_483_4, 5.0 / 9.0),
    (0.0, 8.0 / 9.0),
    (0.774_596_669_241_483_4, 5.0 / 9.0),
];

/// The LMS sampler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lms {
    /// Whether a run that begins later, from a picture, is weighted as if it had made the steps it left out, as
    /// diffusers' `LMSDiscreteScheduler` does; k-diffusion begins afresh.
    pub counts_skipped: bool,
}

impl Lms {
    pub(super) fn build(_settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self::default())
    }

    /// diffusers' own.
    pub(super) fn build_of_checkpoint(_settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            counts_skipped: true,
        })
    }

    /// The levels whose slopes step `index` is weighted by, the latest first; `slopes` of them are known.
    pub(super) fn nodes(self, plan: &Plan, index: usize, slopes: usize) -> Vec<f64> {
        let count = if self.counts_skipped { ORDER } else { slopes };
        let at = std::iter::once(plan.steps()[index].from).chain(plan.before(index));
        at.take(count).map(|level| level.sigma).collect()
    }

    /// The levels of diffusers' `LMSDiscreteScheduler`, which are Euler's.
    ///
    /// # Errors
    /// `Unsupported` for limits of Karras' curve, which that scheduler alone does not obey, and `InvalidConfig` for
    /// more steps than there are noise levels.
    pub(super) fn plan_of_checkpoint(schedule: &NoiseSchedule, steps: usize) -> Result<Plan> {
        let settings = schedule.settings();
        let limited = settings.sigma_min.or(settings.sigma_max).is_some();
        if limited && settings.sigmas == ScheduleKind::Karras {
            return Err(Error::unsupported(
                "scheduler_config.json sets sigma_min or sigma_max with use_karras_sigmas, which is not supported with lms",
            )
            .with_hint("name a schedule yourself"));
        }
        let plan = Euler::plan(schedule, steps)?;
        let stands = |step: &Step| step.from.sigma <= step.to.sigma;
        if plan.steps().iter().any(stands) {
            return Err(Error::invalid(format!(
                "{steps} steps leave two with the same noise level, which lms cannot pass"
            ))
            .with_hint("ask for fewer steps"));
        }
        Ok(plan)
    }
}

impl Sampler for Lms {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        // The latest first.
        let mut slopes: VecDeque<HostTensor> = VecDeque::new();
        for (index, step) in run.plan.steps().iter().enumerate() {
            let (from, to) = (step.from.sigma, step.to.sigma);
            let denoised = run.denoiser.denoise(&x, from)?;
            slopes.truncate(ORDER - 1);
            slopes.push_front(maths::slope(&x, &denoised, from)?);
            let nodes = self.nodes(run.plan, index, slopes.len());
            let mut terms = vec![(1.0, &x)];
            // Weights without a slope count for nothing.
            terms.extend(weights(&nodes, from, to).into_iter().zip(&slopes));
            x = maths::combine(&terms)?;
            run.report(index, &x, Some(&denoised))?;
        }
        Ok(x)
    }
}

/// The integral from `from` to `to` of each Lagrange polynomial through `nodes`.
pub(super) fn weights(nodes: &[f64], from: f64, to: f64) -> Vec<f64> {
    let (middle, half) = (0.5 * (from + to), 0.5 * (to - from));
    let lagrange = |chosen: usize, at: f64| -> f64 {
        nodes
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != chosen)
            .map(|(_, node)| (at - node) / (nodes[chosen] - node))
            .product()
    };
    (0..nodes.len())
        .map(|chosen| {
            let sum: f64 = GAUSS
                .iter()
                .map(|(place, weight)| weight * lagrange(chosen, middle + half * place))
                .sum();
            half * sum
        })
        .collect()
}
