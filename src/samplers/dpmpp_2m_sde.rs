//! DPM-Solver++ for the stochastic equation, multistep of second order (k-diffusion's
//! `sample_dpmpp_2m_sde`, after Lu et al. 2022). Noise is that of a Brownian path.

use super::schedule::{Settings, SolverType};
use super::{Run, Sampler, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// The DPM++ 2M SDE sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dpmpp2mSde {
    /// Rule of its second-order term.
    pub solver_type: SolverType,
    /// Share of each step's noise that is drawn afresh, 0 to 1.
    pub eta: f64,
    /// Factor on that noise.
    pub s_noise: f64,
}

impl Dpmpp2mSde {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Self::with(SolverType::Midpoint, settings)
    }

    pub(super) fn build_heun(settings: &Settings) -> Box<dyn Sampler> {
        Self::with(SolverType::Heun, settings)
    }

    fn with(solver_type: SolverType, settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            solver_type,
            eta: settings.randomness.eta,
            s_noise: settings.randomness.s_noise,
        })
    }
}

impl Sampler for Dpmpp2mSde {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        let mut path = run.brownian(&x);
        // The estimate of the step before, and how wide that was in the logarithm of sigma.
        let mut last: Option<(HostTensor, f64)> = None;
        for (index, step) in run.plan.steps().iter().enumerate() {
            let (from, to) = (step.from.sigma, step.to.sigma);
            let denoised = run.denoiser.denoise(&x, from)?;
            if to <= 0.0 {
                x.clone_from(&denoised);
                run.report(index, &x, Some(&denoised))?;
                continue;
            }
            let h = (from / to).ln();
            let wide = h * (1.0 + self.eta);
            // 1 - exp(-wide)
            let e = -(-wide).exp_m1();
            let keep = to / from * (-self.eta * h).exp();
            x = match &last {
                None => maths::combine(&[(keep, &x), (e, &denoised)])?,
                Some((old, h_last)) => {
                    let second = match self.solver_type {
                        SolverType::Midpoint => 0.5 * e,
                        SolverType::Heun => 1.0 - e / wide,
                    };
                    let b = second * h / h_last;
                    maths::combine(&[(keep, &x), (e + b, &denoised), (-b, old)])?
                }
            };
            let spread = to * (-(-2.0 * self.eta * h).exp_m1()).sqrt() * self.s_noise;
            if spread > 0.0 {
                let noise = path.between(from as f32, to as f32);
                x = maths::combine(&[(1.0, &x), (spread, &noise)])?;
            }
            run.report(index, &x, Some(&denoised))?;
            last = Some((denoised, h));
        }
        Ok(x)
    }
}
