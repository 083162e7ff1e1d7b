//! Restart sampling (Xu et al. 2023, "Restart Sampling for Improving Generative Processes", algorithm 1),
//! over Heun's steps, with the webui's choice of the restart: from 20 steps on, the way from sigma 2 to 0.1
//! is gone again once, from 36 steps on twice, with noise that brings the latents back up.

use super::plan::{Coordinates, NoiseLevel, Plan, Step};
use super::schedule::{NoiseSchedule, Settings, karras_between, levels};
use super::{Run, Sampler, heun, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// Where a restart begins, and up to where it goes.
const LOW: f32 = 0.1;
const HIGH: f32 = 2.0;

/// The Restart sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Restart {
    /// Factor on the noise of restarts.
    pub s_noise: f64,
}

impl Restart {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            s_noise: settings.randomness.s_noise,
        })
    }

    pub(super) fn plan(schedule: &NoiseSchedule, steps: usize) -> Result<Plan> {
        let mut sigmas = levels::sigmas(schedule, steps)?;
        let count = sigmas.len() - 1;
        let (length, times) = match count {
            // Levels of the user's own stay as they are.
            _ if schedule.has_own_levels() => (0, 0),
            0..20 => (0, 0),
            20..36 => (9, 1),
            _ => (count / 4, 2),
        };
        if times > 0 {
            // The restarts take their steps from the rest, which then follows Karras' curve.
            let (first, last) = (f64::from(sigmas[0]), f64::from(sigmas[count - 1]));
            sigmas = karras_between(first, last, count - length * times);
            sigmas.push(0.0);
        }
        let (low, high) = (nearest(&sigmas, LOW), nearest(&sigmas, HIGH));
        let mut pairs = Vec::new();
        for (index, pair) in sigmas.windows(2).enumerate() {
            pairs.push((pair[0], pair[1]));
            if index + 1 == low && high < low {
                let (from, to) = (f64::from(sigmas[high]), f64::from(sigmas[low]));
                for _ in 0..times {
                    let again = karras_between(from, to, length + 1);
                    pairs.extend(again.windows(2).map(|pair| (pair[0], pair[1])));
                }
            }
        }
        let level = |sigma: f32| -> NoiseLevel { levels::level(schedule, sigma) };
        let steps: Vec<Step> = pairs
            .into_iter()
            .map(|(from, to)| Step {
                at: level(from),
                from: level(from),
                to: level(to),
            })
            .collect();
        let start = schedule.start_scale(steps[0].from.sigma);
        Plan::new(steps, Coordinates::VarianceExploding, start)
    }
}

/// The place of the sigma nearest to `wanted`, the first of equals.
fn nearest(sigmas: &[f32], wanted: f32) -> usize {
    let mut best = 0;
    for (index, sigma) in sigmas.iter().enumerate() {
        if (sigma - wanted).abs() < (sigmas[best] - wanted).abs() {
            best = index;
        }
    }
    best
}

impl Sampler for Restart {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        let mut last = f64::INFINITY;
        for (index, step) in run.plan.steps().iter().enumerate() {
            let (from, to) = (step.from.sigma, step.to.sigma);
            if last < from {
                let up = (from * from - last * last).sqrt();
                x = maths::add_noise(x, up * self.s_noise, run.noise)?;
            }
            let denoised = run.denoiser.denoise(&x, from)?;
            x = heun::step_with(&x, &denoised, (from, to), run)?;
            last = to;
            run.report(index, &x, Some(&denoised))?;
        }
        Ok(x)
    }
}
