//! SA-Solver (Xue et al. 2023, "SA-Solver: Stochastic Adams Solver for Fast Sampling of Diffusion Models",
//! algorithm 1): a multistep predictor and corrector for a stochastic equation whose noise, τ(t), is up to the
//! caller.
//!
//! Follows diffusers' `SASolverScheduler` with `algorithm_type` data_prediction, orders 1 to 4, its τ (1 between
//! timesteps 200 and 800, else 0, here times eta) and its change to the second order, which the paper's authors
//! made for few steps. Its updates divided by `sqrt(ᾱ)` are the ones here.

use std::collections::VecDeque;

use super::plan::{NoiseLevel, Step};
use super::prediction::Clip;
use super::schedule::Settings;
use super::{Run, Sampler, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// The timesteps between which noise is drawn.
const NOISY: std::ops::RangeInclusive<f64> = 200.0..=800.0;

/// The SA-Solver sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SaSolver {
    /// Order of the predictor, 1 to 4.
    pub predictor_order: usize,
    /// Order of the corrector, 1 to 4.
    pub corrector_order: usize,
    /// Whether the run ends with lower orders.
    pub lower_order_final: bool,
    /// The paper's τ between timesteps 200 and 800.
    pub eta: f64,
    /// Factor on the noise.
    pub s_noise: f64,
    /// What is done to each estimate of the clean latents.
    pub clip: Clip,
}

impl SaSolver {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            predictor_order: settings.predictor_order,
            corrector_order: settings.corrector_order,
            lower_order_final: settings.lower_order_final,
            eta: settings.randomness.eta,
            s_noise: settings.randomness.s_noise,
            clip: settings.clip,
        })
    }

    /// The step of the plan, with τ at its start.
    fn interval(&self, step: &Step) -> Interval {
        let tau = if NOISY.contains(&step.at.timestep) {
            self.eta
        } else {
            0.0
        };
        Interval {
            from: step.from,
            to: step.to,
            tau,
        }
    }
}

/// What predictor and corrector of one step have in common.
#[derive(Clone, Copy)]
pub(super) struct Interval {
    pub(super) from: NoiseLevel,
    pub(super) to: NoiseLevel,
    pub(super) tau: f64,
}

impl Interval {
    /// The step's width in log signal-to-noise ratio.
    fn width(&self) -> f64 {
        (self.from.sigma / self.to.sigma).ln()
    }

    /// Weights of the estimates known at `sigmas`, which interpolate the estimate over the step.
    pub(super) fn weights(&self, sigmas: &[f64]) -> Vec<f64> {
        let rate = 1.0 + self.tau * self.tau;
        let places: Vec<f64> = sigmas
            .iter()
            .map(|sigma| (self.to.sigma / sigma).ln())
            .collect();
        maths::exponential_weights(&places, rate, (-self.width(), 0.0))
            .into_iter()
            .map(|weight| rate * weight)
            .collect()
    }

    /// How far the linear term is from the exact one over the step, in h², by which upstream shifts weight
    /// between the two estimates of its second order.
    fn shift(&self) -> f64 {
        let rate = 1.0 + self.tau * self.tau;
        let h = self.width();
        let exact = (h * rate + (-rate * h).exp_m1()) / (rate * rate);
        rate * (h * h / 2.0 - exact)
    }

    /// The end of the step from `x` with weighted estimates and the step's noise.
    fn apply(
        &self,
        x: &HostTensor,
        estimates: &[(f64, &HostTensor)],
        (noise, s_noise): (&HostTensor, f64),
    ) -> Result<HostTensor> {
        let mut terms = vec![(self.keep(), x)];
        terms.extend_from_slice(estimates);
        terms.push((self.spread() * s_noise, noise));
        maths::combine(&terms)
    }

    /// The same without noise.
    pub(super) fn apply_without_noise(
        &self,
        x: &HostTensor,
        estimates: &[(f64, &HostTensor)],
    ) -> Result<HostTensor> {
        let mut terms = vec![(self.keep(), x)];
        terms.extend_from_slice(estimates);
        maths::combine(&terms)
    }

    /// What is kept of the latents at the step's start.
    fn keep(&self) -> f64 {
        (-self.tau * self.tau * self.width()).exp() * self.to.sigma / self.from.sigma
    }

    /// Standard deviation of the step's noise.
    pub(super) fn spread(&self) -> f64 {
        self.to.sigma * (-(-2.0 * self.tau * self.tau * self.width()).exp_m1()).sqrt()
    }
}

/// Where the last step started, what it drew and what its corrector is.
struct Last {
    start: HostTensor,
    noise: HostTensor,
    interval: Interval,
    corrector_order: usize,
}

/// Estimates of the clean latents with the sigmas they were found at, the latest first.
#[derive(Default)]
struct History {
    estimates: VecDeque<HostTensor>,
    sigmas: VecDeque<f64>,
}

impl History {
    fn remember(&mut self, denoised: HostTensor, sigma: f64, limit: usize) {
        self.estimates.truncate(limit - 1);
        self.sigmas.truncate(limit - 1);
        self.estimates.push_front(denoised);
        self.sigmas.push_front(sigma);
    }

    /// The predictor's end of `interval` from `x`.
    fn predict(
        &self,
        x: &HostTensor,
        interval: &Interval,
        order: usize,
        noise: (&HostTensor, f64),
    ) -> Result<HostTensor> {
        let sigmas: Vec<f64> = self.sigmas.iter().copied().take(order).collect();
        let mut weights = interval.weights(&sigmas);
        if order == 2 {
            let shift = interval.shift() / (sigmas[1] / sigmas[0]).ln();
            weights[0] += shift;
            weights[1] -= shift;
        }
        let terms: Vec<_> = weights.into_iter().zip(&self.estimates).collect();
        interval.apply(x, &terms, noise)
    }

    /// The corrector's end of the last step, with the estimate `newest` found there.
    fn correct(&self, last: &Last, newest: &HostTensor, s_noise: f64) -> Result<HostTensor> {
        let mut sigmas = vec![last.interval.to.sigma];
        sigmas.extend(self.sigmas.iter().take(last.corrector_order - 1));
        let mut weights = last.interval.weights(&sigmas);
        if last.corrector_order == 2 {
            let shift = last.interval.shift() / last.interval.width();
            weights[0] += shift;
            weights[1] -= shift;
        }
        let estimates = std::iter::once(newest).chain(&self.estimates);
        let terms: Vec<_> = weights.into_iter().zip(estimates).collect();
        last.interval
            .apply(&last.start, &terms, (&last.noise, s_noise))
    }
}

impl Sampler for SaSolver {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        let steps = run.plan.steps();
        let limit = self.predictor_order.max(self.corrector_order - 1);
        let mut history = History::default();
        let mut last: Option<Last> = None;
        for (index, step) in steps.iter().enumerate() {
            let mut denoised = run.denoiser.denoise(&x, step.at.sigma)?;
            self.clip.apply(&mut denoised);
            if let Some(last) = &last {
                x = history.correct(last, &denoised, self.s_noise)?;
            }
            history.remember(denoised, step.from.sigma, limit);
            let noise = run.noise.noise(x.shape());
            let left = if self.lower_order_final {
                steps.len() - index
            } else {
                self.predictor_order.max(self.corrector_order)
            };
            let interval = self.interval(step);
            let start = x;
            x = if step.to.sigma <= 0.0 {
                history.estimates[0].clone()
            } else if maths::is_no_step(step) {
                start.clone()
            } else {
                let order = self.predictor_order.min(left).min(index + 1);
                history.predict(&start, &interval, order, (&noise, self.s_noise))?
            };
            let corrector_order = self.corrector_order.min(left + 1).min(index.min(limit) + 2);
            last = Some(Last {
                start,
                noise,
                interval,
                corrector_order,
            });
            if index + 1 == steps.len() {
                // Where the end is not at sigma 0, upstream's latents stay variance-preserving.
                let scale = step.to.alpha_bar.sqrt() as f32;
                x = x.map(|value| value * scale);
            }
            run.report(index, &x, history.estimates.front())?;
        }
        Ok(x)
    }
}
