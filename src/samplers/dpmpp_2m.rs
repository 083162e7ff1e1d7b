//! DPM-Solver++, multistep (Lu et al. 2022, "DPM-Solver++", algorithm 2; k-diffusion's `sample_dpmpp_2m`).
//!
//! Follows diffusers' `DPMSolverMultistepScheduler` with `algorithm_type` dpmsolver++, orders 1 to 3. That
//! scheduler keeps variance-preserving latents; divided by `sqrt(ᾱ)` its updates are the ones here, in
//! which `exp(-h)` is the ratio of two sigmas.

use std::collections::VecDeque;

use super::plan::{NoiseLevel, Plan, Step};
use super::prediction::Clip;
use super::schedule::{
    BetaSchedule, FinalSigmas, NoiseSchedule, ScheduleKind, Settings, SolverType, levels, timesteps,
};
use super::{Run, Sampler, maths};
use crate::error::{Error, Result};
use crate::host::HostTensor;

/// Runs of fewer steps than this end with lower orders, as upstream found stable.
const SHORT_RUN: usize = 15;

/// The DPM++ 2M sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dpmpp2m {
    /// Order of the method, 1 to 3.
    pub order: usize,
    /// Rule of its second-order term.
    pub solver_type: SolverType,
    /// Whether short runs end with lower orders.
    pub lower_order_final: bool,
    /// Whether the last step is of first order; it always is where it ends at sigma 0.
    pub euler_at_final: bool,
    /// What is done to each estimate of the clean latents.
    pub clip: Clip,
}

impl Dpmpp2m {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            order: settings.solver_order,
            solver_type: settings.solver_type,
            lower_order_final: settings.lower_order_final,
            euler_at_final: settings.euler_at_final || settings.final_sigmas == FinalSigmas::Zero,
            clip: settings.clip,
        })
    }

    pub(super) fn plan(schedule: &NoiseSchedule, steps: usize) -> Result<Plan> {
        Self::plan_to(schedule, steps, |schedule, _| schedule.final_sigma())
    }

    /// As [`plan`](Self::plan), but a curve ends with a step of no width, as in diffusers' DEIS and SA-Solver.
    pub(super) fn plan_with_curve_end(schedule: &NoiseSchedule, steps: usize) -> Result<Plan> {
        Self::plan_to(schedule, steps, |schedule, last| {
            if schedule.is_scheduled() {
                last
            } else {
                schedule.final_sigma()
            }
        })
    }

    /// The levels of diffusers' DPM-Solver, the last one `end` of the schedule and the sigma before.
    fn plan_to(
        schedule: &NoiseSchedule,
        steps: usize,
        end: fn(&NoiseSchedule, f64) -> f64,
    ) -> Result<Plan> {
        if schedule.has_k_levels() {
            return levels::plan(schedule, steps);
        }
        let (timesteps, sigmas) = diffusers_levels(schedule, steps)?;
        let mut levels: Vec<NoiseLevel> = sigmas
            .into_iter()
            .zip(timesteps)
            .map(|(sigma, timestep)| NoiseLevel::from_sigma(timestep, f64::from(sigma as f32)))
            .collect();
        if levels.windows(2).any(|pair| pair[0].sigma <= pair[1].sigma) {
            return Err(Error::invalid(format!(
                "{steps} steps leave two with the same noise level"
            ))
            .with_hint("ask for fewer steps"));
        }
        let (first, last) = (levels[0].sigma, levels[levels.len() - 1].sigma);
        levels.push(NoiseLevel::from_sigma(0.0, end(schedule, last)));
        Plan::through(&levels, (first * first + 1.0).sqrt())
    }

    /// Which order step `index` of `total` has, with `known` estimates at hand.
    fn order_at(&self, index: usize, total: usize, known: usize) -> usize {
        let short = self.lower_order_final && total < SHORT_RUN;
        let limit = if index + 1 == total && (self.euler_at_final || short) {
            1
        } else if index + 2 == total && short {
            2
        } else {
            3
        };
        self.order.min(known).min(limit)
    }
}

/// The timesteps and sigmas of diffusers' DPM-Solver.
fn diffusers_levels(schedule: &NoiseSchedule, steps: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let settings = schedule.settings();
    let sigmas = schedule.sigmas();
    let (min, max) = (f64::from(sigmas[0]), f64::from(sigmas[sigmas.len() - 1]));
    if let Some(curve) = schedule.curve(max, min, steps)? {
        let whole = |sigma: &f64| {
            let timestep = schedule.sigma_to_timestep(*sigma);
            let rounds = settings.sigmas != ScheduleKind::Exponential
                && settings.beta_schedule != BetaSchedule::SquaredCosine;
            if rounds {
                timestep.round_ties_even()
            } else {
                timestep.trunc()
            }
        };
        return Ok((curve.iter().map(whole).collect(), curve));
    }
    // Levels with a log signal-to-noise ratio below the limit are left out.
    let end = sigmas
        .iter()
        .filter(|sigma| f64::from(-sigma.ln()) >= settings.lambda_min_clipped)
        .count();
    let timesteps = timesteps::short_of_zero(
        settings.timestep_spacing,
        (settings.num_train_timesteps, end),
        steps,
        settings.steps_offset,
    );
    if timesteps.is_empty() {
        return Err(Error::unsupported(format!(
            "lambda_min_clipped {} leaves no noise level",
            settings.lambda_min_clipped
        )));
    }
    let sigmas = timesteps.iter().map(|&t| schedule.sigma_at(t)).collect();
    Ok((timesteps, sigmas))
}

impl Sampler for Dpmpp2m {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        let steps = run.plan.steps();
        // The latest estimate first.
        let mut history: VecDeque<HostTensor> = VecDeque::new();
        for (index, step) in steps.iter().enumerate() {
            let mut denoised = run.denoiser.denoise(&x, step.at.sigma)?;
            self.clip.apply(&mut denoised);
            history.truncate(self.order - 1);
            history.push_front(denoised);
            // The rules of higher order have no limit at sigma 0.
            let known = if step.to.sigma > 0.0 {
                history.len()
            } else {
                1
            };
            let order = self.order_at(index + run.plan.skipped(), run.plan.full_len(), known);
            self.advance(&mut x, &steps[..=index], &history, order)?;
            if index + 1 == steps.len() {
                // Where the end is not at sigma 0, upstream's latents stay variance-preserving.
                let scale = step.to.alpha_bar.sqrt() as f32;
                x = x.map(|value| value * scale);
            }
            run.report(index, &x, history.front())?;
        }
        Ok(x)
    }
}

impl Dpmpp2m {
    /// Takes `x` over the last of `steps` by the estimates in `history`, the latest first.
    fn advance(
        &self,
        x: &mut HostTensor,
        steps: &[Step],
        history: &VecDeque<HostTensor>,
        order: usize,
    ) -> Result<()> {
        let step = steps[steps.len() - 1];
        // h of the step `back` before this one, in log signal-to-noise ratio.
        let width = |back: usize| {
            let step = steps[steps.len() - 1 - back];
            (step.from.sigma / step.to.sigma).ln()
        };
        let h = width(0);
        if h <= 0.0 {
            // A curve that ends at the smallest sigma, then asked to end there (`final_sigmas_type`).
            return Ok(());
        }
        let ratio = step.to.sigma / step.from.sigma;
        // exp(-h) - 1
        let e = ratio - 1.0;
        let keep = ratio as f32;
        if order == 1 {
            let a = -e as f32;
            for (x, &m0) in x.data_mut().iter_mut().zip(history[0].data()) {
                *x = keep * *x + a * m0;
            }
            return Ok(());
        }
        let r0 = width(1) / h;
        let second = match (order, self.solver_type) {
            (2, SolverType::Midpoint) => -0.5 * e,
            _ => e / h + 1.0,
        };
        if order == 2 {
            // D0 = m0, D1 = (m0 - m1) / r0
            let (a, b) = ((-e + second / r0) as f32, (-second / r0) as f32);
            return maths::update(x, &history[0], &history[1], |x, m0, m1| {
                keep * x + a * m0 + b * m1
            });
        }
        // D1 = D1_0 + r0 / (r0 + r1) (D1_0 - D1_1), D2 = (D1_0 - D1_1) / (r0 + r1), where
        // D1_0 = (m0 - m1) / r0 and D1_1 = (m1 - m2) / r1.
        let r1 = width(2) / h;
        let third = -((e + h) / (h * h) - 0.5);
        let on_difference = (second * r0 + third) / (r0 + r1);
        let on_d10 = (second + on_difference) / r0;
        let on_d11 = -on_difference / r1;
        let a = (-e + on_d10) as f32;
        let b = (on_d11 - on_d10) as f32;
        let c = -on_d11 as f32;
        maths::update(x, &history[0], &history[1], |x, m0, m1| {
            keep * x + a * m0 + b * m1
        })?;
        for (x, &m2) in x.data_mut().iter_mut().zip(history[2].data()) {
            *x += c * m2;
        }
        Ok(())
    }
}
