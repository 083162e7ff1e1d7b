//! DPM-Solver++, singlestep (Lu et al. 2022, "DPM-Solver++", algorithm 1): a step of order n goes again over the
//! n last levels from where they began, by the estimates found on the way.
//!
//! Follows diffusers' `DPMSolverSinglestepScheduler` with `algorithm_type` dpmsolver++, orders 1 to 3; the number of
//! steps counts evaluations. Its updates divided by `sqrt(ᾱ)` are the ones here.

use std::collections::VecDeque;

use super::plan::Step;
use super::prediction::Clip;
use super::schedule::{FinalSigmas, Settings, SolverType};
use super::{Run, Sampler, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// The DPM++ 2S sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dpmpp2s {
    /// Order of the method, 1 to 3.
    pub order: usize,
    /// Rule of the terms of higher order.
    pub solver_type: SolverType,
    /// Whether the run ends with lower orders; it always does where its steps are no multiple of the order.
    pub lower_order_final: bool,
    /// Whether the last step ends at sigma 0, and so is of first order.
    pub to_zero: bool,
    /// What is done to each estimate of the clean latents.
    pub clip: Clip,
}

impl Dpmpp2s {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            order: settings.solver_order,
            solver_type: settings.solver_type,
            lower_order_final: settings.lower_order_final,
            to_zero: settings.final_sigmas == FinalSigmas::Zero,
            clip: settings.clip,
        })
    }

    /// The order of each step of a run of `total`: 1, 2 and so on up to the method's, and again.
    fn orders(&self, total: usize) -> Vec<usize> {
        let mut orders: Vec<usize> = (0..total).map(|index| index % self.order + 1).collect();
        let lower = self.lower_order_final || self.to_zero || !total.is_multiple_of(self.order);
        if lower && total.is_multiple_of(self.order) && total > 0 {
            // As upstream: 1, 2, 3 becomes 1, 2, 1, and 1, 2 becomes 1, 1.
            orders[total - 1] = 1;
        }
        orders
    }

    /// The end of a step of order 2 or 3 from `start`, over the last of `steps`.
    fn again(
        &self,
        start: &HostTensor,
        steps: &[Step],
        estimates: &VecDeque<HostTensor>,
        order: usize,
    ) -> Result<HostTensor> {
        let first = steps[steps.len() - order].from.sigma;
        let last = steps[steps.len() - 1];
        // Log signal-to-noise ratio gained since the start, at the end and where the estimates were found.
        let h = (first / last.to.sigma).ln();
        let share = |back: usize| (first / steps[steps.len() - 1 - back].from.sigma).ln() / h;
        let ratio = last.to.sigma / first;
        // exp(-h) - 1
        let e = ratio - 1.0;
        let linear = match (order, self.solver_type) {
            (2, SolverType::Midpoint) => -0.5 * e,
            _ => e / h + 1.0,
        };
        let oldest = &estimates[order - 1];
        let r0 = share(0);
        if order == 2 {
            let weight = linear / r0;
            return maths::combine(&[
                (ratio, start),
                (-e - weight, oldest),
                (weight, &estimates[0]),
            ]);
        }
        // D1_0 = (m1 - m2) / r1 and D1_1 = (m0 - m2) / r0; on them:
        let r1 = share(1);
        let (on_d10, on_d11) = match self.solver_type {
            SolverType::Midpoint => (0.0, linear),
            SolverType::Heun => {
                let square = -((e + h) / (h * h) - 0.5);
                (
                    (linear * r0 - 2.0 * square) / (r0 - r1),
                    (2.0 * square - linear * r1) / (r0 - r1),
                )
            }
        };
        let (on_m1, on_m0) = (on_d10 / r1, on_d11 / r0);
        maths::combine(&[
            (ratio, start),
            (-e - on_m1 - on_m0, oldest),
            (on_m1, &estimates[1]),
            (on_m0, &estimates[0]),
        ])
    }
}

impl Sampler for Dpmpp2s {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        let steps = run.plan.steps();
        let orders = self.orders(run.plan.full_len());
        // The latest estimate first.
        let mut estimates: VecDeque<HostTensor> = VecDeque::new();
        // Where the last step of order 1 started.
        let mut start = x.clone();
        for (index, step) in steps.iter().enumerate() {
            let mut denoised = run.denoiser.denoise(&x, step.at.sigma)?;
            self.clip.apply(&mut denoised);
            estimates.truncate(self.order - 1);
            estimates.push_front(denoised);
            let planned = orders[index + run.plan.skipped()];
            let order = if step.to.sigma > 0.0 {
                planned.min(estimates.len())
            } else {
                1
            };
            if order == 1 {
                start.clone_from(&x);
                x = maths::toward(&x, &estimates[0], step.to.sigma / step.from.sigma)?;
            } else {
                x = self.again(&start, &steps[..=index], &estimates, order)?;
            }
            if index + 1 == steps.len() {
                // Where the end is not at sigma 0, upstream's latents stay variance-preserving.
                let scale = step.to.alpha_bar.sqrt() as f32;
                x = x.map(|value| value * scale);
            }
            run.report(index, &x, estimates.front())?;
        }
        Ok(x)
    }
}
