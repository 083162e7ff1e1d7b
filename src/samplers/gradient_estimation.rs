//! Gradient estimation (Permenter and Yuan 2024, "Interpreting and Improving Diffusion Models from an
//! Optimization Perspective", algorithm 3): Euler's method that goes on in the direction in which the
//! slope has changed.

use super::schedule::Settings;
use super::{Run, Sampler, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// How far it goes on; 1 is Euler's method, 2 is the paper's.
const GAMMA: f64 = 2.0;

/// The gradient estimation sampler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GradientEstimation;

impl GradientEstimation {
    pub(super) fn build(_settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self)
    }
}

impl Sampler for GradientEstimation {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        let mut last: Option<HostTensor> = None;
        for (index, step) in run.plan.steps().iter().enumerate() {
            let (from, to) = (step.from.sigma, step.to.sigma);
            let denoised = run.denoiser.denoise(&x, from)?;
            let d = maths::slope(&x, &denoised, from)?;
            let dt = to - from;
            x = if to <= 0.0 {
                denoised.clone()
            } else {
                match &last {
                    None => maths::combine(&[(1.0, &x), (dt, &d)])?,
                    Some(old) => {
                        let more = dt * (GAMMA - 1.0);
                        maths::combine(&[(1.0, &x), (dt + more, &d), (-more, old)])?
                    }
                }
            };
            run.report(index, &x, Some(&denoised))?;
            last = Some(d);
        }
        Ok(x)
    }
}
