//! DEIS as a multistep method in the logarithm of sigma (Zhang and Chen 2022, "Fast Sampling of Diffusion Models
//! with Exponential Integrator", ρAB-DEIS of equation 15 with ln ρ as the variable of interpolation).
//!
//! Follows diffusers' `DEISMultistepScheduler`, orders 1 to 3; [`Deis`](super::Deis) is the webuis'. Its updates
//! divided by `sqrt(ᾱ)` are the ones here.

use std::collections::VecDeque;

use super::prediction::Clip;
use super::schedule::Settings;
use super::{Run, Sampler, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// Runs of fewer steps than this end with lower orders.
const SHORT_RUN: usize = 15;

/// The DEIS sampler of diffusers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeisMultistep {
    /// Order of the method, 1 to 3.
    pub order: usize,
    /// Whether short runs end with lower orders.
    pub lower_order_final: bool,
    /// What is done to each estimate of the clean latents.
    pub clip: Clip,
}

impl DeisMultistep {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            order: settings.solver_order,
            lower_order_final: settings.lower_order_final,
            clip: settings.clip,
        })
    }

    /// Highest order of a step with `left` steps of `total` to go, itself included.
    fn limit(&self, left: usize, total: usize) -> usize {
        if self.lower_order_final && total < SHORT_RUN {
            self.order.min(left)
        } else {
            self.order
        }
    }
}

impl Sampler for DeisMultistep {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        let steps = run.plan.steps();
        // The latest first.
        let mut slopes: VecDeque<HostTensor> = VecDeque::new();
        let mut sigmas: VecDeque<f64> = VecDeque::new();
        for (index, step) in steps.iter().enumerate() {
            let (from, to) = (step.from.sigma, step.to.sigma);
            let mut denoised = run.denoiser.denoise(&x, from)?;
            self.clip.apply(&mut denoised);
            slopes.truncate(self.order - 1);
            slopes.push_front(maths::slope(&x, &denoised, from)?);
            sigmas.truncate(self.order - 1);
            sigmas.push_front(from);
            if to <= 0.0 {
                x.clone_from(&denoised);
            } else if !maths::is_no_step(step) {
                let order = self.limit(steps.len() - index, run.plan.full_len());
                let places: Vec<f64> = sigmas
                    .iter()
                    .take(order)
                    .map(|sigma| (sigma / to).ln())
                    .collect();
                let weights = maths::exponential_weights(&places, 1.0, (places[0], 0.0));
                let mut terms = vec![(1.0, &x)];
                terms.extend(weights.iter().map(|weight| to * weight).zip(&slopes));
                x = maths::combine(&terms)?;
            }
            if index + 1 == steps.len() {
                // Where the end is not at sigma 0, upstream's latents stay variance-preserving.
                let scale = step.to.alpha_bar.sqrt() as f32;
                x = x.map(|value| value * scale);
            }
            run.report(index, &x, Some(&denoised))?;
        }
        Ok(x)
    }
}
