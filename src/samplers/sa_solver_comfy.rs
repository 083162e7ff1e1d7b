//! SA-Solver (Xue et al. 2023, algorithm 1) as ComfyUI has it (`comfy/k_diffusion/sampling.py`, `sample_sa_solver`): through
//! a schedule's sigmas, with a predictor of order 3 and a corrector of order 4, noise in the middle of training's
//! timesteps, and, as `sa_solver_pece`, with a second estimate after each correction.

use std::collections::VecDeque;

use super::plan::Step;
use super::sa_solver::Interval;
use super::schedule::{NoiseSchedule, Settings};
use super::{Run, Sampler};
use crate::error::Result;
use crate::host::HostTensor;

const PREDICTOR_ORDER: usize = 3;
const CORRECTOR_ORDER: usize = 4;

/// Places of training, from its least noise to its most, between which noise is drawn; upstream counts 999 timesteps
/// and from the other end.
const NOISY: [f32; 2] = [0.2 * 999.0, 0.8 * 999.0];

/// When the model is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evaluations {
    /// Once a step, at the predicted latents.
    Predicted,
    /// At the corrected ones too.
    Both,
}

/// The SA-Solver sampler of ComfyUI.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SaSolverComfy {
    /// The paper's τ between `noisy`'s sigmas.
    pub eta: f64,
    /// Factor on the noise.
    pub s_noise: f64,
    /// The smallest and the largest sigma at the end of a step that draws noise.
    pub noisy: [f64; 2],
    /// When the model is asked.
    pub evaluations: Evaluations,
}

impl SaSolverComfy {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Self::with(settings, Evaluations::Predicted)
    }

    pub(super) fn build_pece(settings: &Settings) -> Box<dyn Sampler> {
        Self::with(settings, Evaluations::Both)
    }

    fn with(settings: &Settings, evaluations: Evaluations) -> Box<dyn Sampler> {
        let schedule = NoiseSchedule::new(settings.clone());
        Box::new(Self {
            eta: settings.randomness.eta,
            s_noise: settings.randomness.s_noise,
            noisy: NOISY.map(|place| f64::from(schedule.sigma_between(place))),
            evaluations,
        })
    }

    /// The step, with τ by its end.
    fn interval(&self, step: &Step) -> Interval {
        let [low, high] = self.noisy;
        let noisy = (low..=high).contains(&step.to.sigma);
        Interval {
            from: step.from,
            to: step.to,
            tau: if noisy { self.eta } else { 0.0 },
        }
    }
}

/// Estimates with the sigmas they were found at, the latest first.
#[derive(Default)]
struct History {
    estimates: VecDeque<HostTensor>,
    sigmas: VecDeque<f64>,
}

impl History {
    /// The end of `interval` from `start` by the latest `order` estimates, without noise.
    fn end(&self, interval: &Interval, start: &HostTensor, order: usize) -> Result<HostTensor> {
        let sigmas: Vec<f64> = self.sigmas.iter().copied().take(order).collect();
        let weights = interval.weights(&sigmas);
        let terms: Vec<_> = weights.into_iter().zip(&self.estimates).collect();
        interval.apply_without_noise(start, &terms)
    }
}

/// Where the last step started, and what it drew.
struct Last {
    start: HostTensor,
    interval: Interval,
    noise: Option<HostTensor>,
}

impl Sampler for SaSolverComfy {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        let steps = run.plan.steps();
        let to_zero = run.plan.last().sigma <= 0.0;
        let mut history = History::default();
        let mut last: Option<Last> = None;
        for (index, step) in steps.iter().enumerate() {
            // `x` is the predicted latents, corrected below.
            let denoised = run.denoiser.denoise(&x, step.at.sigma)?;
            history.estimates.push_front(denoised);
            history.sigmas.push_front(step.from.sigma);
            history.estimates.truncate(CORRECTOR_ORDER);
            history.sigmas.truncate(CORRECTOR_ORDER);
            let left = steps.len() - index;
            let known = history.estimates.len();
            let limit = |order: usize, left: usize| {
                let order = order.min(known);
                if to_zero { order.min(left) } else { order }
            };
            let is_end = step.to.sigma <= 0.0;
            let corrects = !is_end || self.evaluations == Evaluations::Both;
            if let Some(last) = last.take().filter(|_| corrects) {
                x = history.end(&last.interval, &last.start, limit(CORRECTOR_ORDER, left))?;
                if let Some(noise) = &last.noise {
                    x = x.zip_map(noise, |x, noise| x + noise)?;
                }
                if self.evaluations == Evaluations::Both {
                    history.estimates[0] = run.denoiser.denoise(&x, step.at.sigma)?;
                }
            }
            if is_end {
                x.clone_from(&history.estimates[0]);
            } else {
                let interval = self.interval(step);
                let start = x;
                let order = limit(PREDICTOR_ORDER, left - 1).max(1);
                x = history.end(&interval, &start, order)?;
                let spread = interval.spread() * self.s_noise;
                let noise = (spread > 0.0).then(|| {
                    let drawn = run.noise.noise(x.shape());
                    drawn.map(|value| value * spread as f32)
                });
                if let Some(noise) = &noise {
                    x = x.zip_map(noise, |x, noise| x + noise)?;
                }
                last = Some(Last {
                    start,
                    interval,
                    noise,
                });
            }
            run.report(index, &x, history.estimates.front())?;
        }
        Ok(x)
    }
}
