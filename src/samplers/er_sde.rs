//! ER-SDE-Solver-3 (Cui et al. 2023, "Elucidating the Solution Space of Extended Reverse-Time SDE for
//! Diffusion Models", algorithm 2, with the noise scale of its experiments).

use super::schedule::Settings;
use super::{Run, Sampler, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// Points of the paper's sum for the integrals that have no closed form.
const POINTS: u32 = 200;

/// The ER-SDE sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErSde {
    /// Factor on the noise.
    pub s_noise: f64,
}

impl ErSde {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            s_noise: settings.randomness.s_noise,
        })
    }
}

/// The noise scale `φ(σ) = σ (exp(σ^0.3) + 10)`.
fn scale(sigma: f64) -> f64 {
    sigma * (sigma.powf(0.3).exp() + 10.0)
}

/// The sums over `from..to` of `1 / φ` and of `(σ - from) / φ`.
fn integrals(from: f64, to: f64) -> (f64, f64) {
    let width = (from - to) / f64::from(POINTS);
    let mut sums = (0.0, 0.0);
    for point in 0..POINTS {
        let at = to + f64::from(point) * width;
        sums.0 += 1.0 / scale(at);
        sums.1 += (at - from) / scale(at);
    }
    (sums.0 * width, sums.1 * width)
}

/// Estimates and sigmas of the steps before.
#[derive(Default)]
struct History {
    denoised: Option<(HostTensor, f64)>,
    derivative: Option<HostTensor>,
    sigma_before_last: f64,
}

impl Sampler for ErSde {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        let mut history = History::default();
        for (index, step) in run.plan.steps().iter().enumerate() {
            let (from, to) = (step.from.sigma, step.to.sigma);
            let denoised = run.denoiser.denoise(&x, from)?;
            if to <= 0.0 {
                x.clone_from(&denoised);
                run.report(index, &x, Some(&denoised))?;
                continue;
            }
            let r = scale(to) / scale(from);
            x = maths::toward(&x, &denoised, r)?;
            x = history.correct(x, &denoised, (from, to))?;
            let spread = (to * to - from * from * r * r).max(0.0).sqrt();
            if self.s_noise > 0.0 {
                let noise = run.noise.noise(x.shape());
                x = maths::combine(&[(1.0, &x), (spread * self.s_noise, &noise)])?;
            }
            run.report(index, &x, Some(&denoised))?;
            let last = history.denoised.replace((denoised, from));
            history.sigma_before_last = last.map_or(0.0, |(_, sigma)| sigma);
        }
        Ok(x)
    }
}

impl History {
    /// Adds the terms of second and third order, as far as estimates are known.
    fn correct(
        &mut self,
        x: HostTensor,
        denoised: &HostTensor,
        (from, to): (f64, f64),
    ) -> Result<HostTensor> {
        let Some((old, old_sigma)) = &self.denoised else {
            return Ok(x);
        };
        let dt = to - from;
        let (s, s_u) = integrals(from, to);
        let per = 1.0 / (from - old_sigma);
        let derivative = maths::combine(&[(per, denoised), (-per, old)])?;
        let mut x = maths::combine(&[(1.0, &x), (dt + s * scale(to), &derivative)])?;
        if let Some(old_derivative) = &self.derivative {
            let per = 2.0 / (from - self.sigma_before_last);
            let a = (dt * dt / 2.0 + s_u * scale(to)) * per;
            x = maths::combine(&[(1.0, &x), (a, &derivative), (-a, old_derivative)])?;
        }
        self.derivative = Some(derivative);
        Ok(x)
    }
}
