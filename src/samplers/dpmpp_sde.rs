//! DPM-Solver++ for the stochastic equation, singlestep (k-diffusion's `sample_dpmpp_sde`, after Lu et al.
//! 2022). Noise is that of a Brownian path. Asks the model twice a step.

use super::schedule::Settings;
use super::{Run, Sampler, maths};
use crate::error::Result;
use crate::host::HostTensor;
use crate::rng::BrownianNoise;

/// The DPM++ SDE sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DpmppSde {
    /// Share of each step's noise that is drawn afresh, 0 to 1.
    pub eta: f64,
    /// Factor on that noise.
    pub s_noise: f64,
}

impl DpmppSde {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            eta: settings.randomness.eta,
            s_noise: settings.randomness.s_noise,
        })
    }

    /// Takes `x` from `from` to `to` by the estimate, with the path's noise between these sigmas.
    fn leap(
        &self,
        x: &HostTensor,
        denoised: &HostTensor,
        (from, to): (f32, f32),
        path: &mut BrownianNoise,
    ) -> Result<HostTensor> {
        let (down, up) = maths::ancestral(f64::from(from), f64::from(to), self.eta);
        let x = maths::toward(x, denoised, down / f64::from(from))?;
        if up <= 0.0 {
            return Ok(x);
        }
        maths::combine(&[(1.0, &x), (up * self.s_noise, &path.between(from, to))])
    }
}

/// Upstream's way to a sigma and back, `exp(-(-ln σ))`, in f32: the path is asked at the result.
fn there_and_back(log_sigma: f32) -> f32 {
    f64::from(log_sigma).exp() as f32
}

impl Sampler for DpmppSde {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        let mut path = run.brownian(&x);
        for (index, step) in run.plan.steps().iter().enumerate() {
            let denoised = run.denoiser.denoise(&x, step.from.sigma)?;
            if step.to.sigma <= 0.0 {
                x = maths::toward(&x, &denoised, 0.0)?;
            } else {
                let (t, t_next) = (step.from.sigma.ln() as f32, step.to.sigma.ln() as f32);
                let (from, to) = (there_and_back(t), there_and_back(t_next));
                let middle = there_and_back(t + (t_next - t) * 0.5);
                let x_2 = self.leap(&x, &denoised, (from, middle), &mut path)?;
                let denoised_2 = run.denoiser.denoise(&x_2, f64::from(middle))?;
                x = self.leap(&x, &denoised_2, (from, to), &mut path)?;
            }
            run.report(index, &x, Some(&denoised))?;
        }
        Ok(x)
    }
}
