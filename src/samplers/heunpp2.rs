//! Heun++ (github.com/Carzit/sd-webui-samplers-scheduler): Heun's method with up to three slopes, weighted
//! by their share of the run's first sigma. Asks the model up to three times a step.

use super::churn::Churn;
use super::schedule::Settings;
use super::{Run, Sampler, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// The HeunPP2 sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeunPp2 {
    /// Noise put back before steps.
    pub churn: Churn,
}

impl HeunPp2 {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            churn: settings.randomness.into(),
        })
    }
}

impl Sampler for HeunPp2 {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        let (steps, count) = (run.plan.steps(), run.plan.full_len());
        let first = steps[0].from.sigma;
        for (index, step) in steps.iter().enumerate() {
            let to = step.to.sigma;
            let from = self
                .churn
                .raise(&mut x, step.from.sigma, count, run.noise)?;
            let denoised = run.denoiser.denoise(&x, from)?;
            let d = maths::slope(&x, &denoised, from)?;
            let dt = to - from;
            let x_2 = maths::combine(&[(1.0, &x), (dt, &d)])?;
            let Some(next) = steps.get(index + 1) else {
                x = x_2;
                run.report(index, &x, Some(&denoised))?;
                continue;
            };
            let denoised_2 = run.denoiser.denoise(&x_2, to)?;
            let d_2 = maths::slope(&x_2, &denoised_2, to)?;
            let after = next.to.sigma;
            if index + 2 == steps.len() {
                let w_2 = to / (2.0 * first);
                x = maths::combine(&[(1.0, &x), (dt * (1.0 - w_2), &d), (dt * w_2, &d_2)])?;
            } else {
                let x_3 = maths::combine(&[(1.0, &x_2), (after - to, &d_2)])?;
                let denoised_3 = run.denoiser.denoise(&x_3, after)?;
                let d_3 = maths::slope(&x_3, &denoised_3, after)?;
                let (w_2, w_3) = (to / (3.0 * first), after / (3.0 * first));
                x = maths::combine(&[
                    (1.0, &x),
                    (dt * (1.0 - w_2 - w_3), &d),
                    (dt * w_2, &d_2),
                    (dt * w_3, &d_3),
                ])?;
            }
            run.report(index, &x, Some(&denoised))?;
        }
        Ok(x)
    }
}
