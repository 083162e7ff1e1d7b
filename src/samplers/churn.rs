//! Noise put back before a step (Karras et al. 2022, algorithm 2, lines 4 to 6).

use super::noise_options::Randomness;
use super::{NoiseSource, Run, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// How much noise is put back, and where.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Churn {
    /// Noise put back over the whole run; each of n steps goes up by the factor `1 + s_churn / n`, at most √2.
    pub s_churn: f64,
    /// Smallest sigma at which noise is put back.
    pub s_tmin: f64,
    /// Largest sigma at which noise is put back.
    pub s_tmax: f64,
    /// Factor on that noise.
    pub s_noise: f64,
}

impl From<Randomness> for Churn {
    fn from(randomness: Randomness) -> Self {
        Self {
            s_churn: randomness.s_churn,
            s_tmin: randomness.s_tmin,
            s_tmax: randomness.s_tmax,
            s_noise: randomness.s_noise,
        }
    }
}

/// One step from `x`, whose estimate is `denoised`, between two sigmas.
pub(super) type Step = fn(&HostTensor, &HostTensor, (f64, f64), &mut Run<'_>) -> Result<HostTensor>;

impl Churn {
    /// Goes through the plan by `step`, each time from a sigma raised before.
    ///
    /// # Errors
    /// What the denoiser, the observer or `step` fails with.
    pub(super) fn sample(
        &self,
        mut x: HostTensor,
        run: &mut Run<'_>,
        step: Step,
    ) -> Result<HostTensor> {
        let count = run.plan.full_len();
        for (index, levels) in run.plan.steps().iter().enumerate() {
            let from = self.raise(&mut x, levels.from.sigma, count, run.noise)?;
            let denoised = run.denoiser.denoise(&x, from)?;
            x = step(&x, &denoised, (from, levels.to.sigma), run)?;
            run.report(index, &x, Some(&denoised))?;
        }
        Ok(x)
    }

    /// Brings `x` from `sigma` up to the sigma returned, for a run of `steps` steps.
    ///
    /// # Errors
    /// When the noise has another shape.
    pub(super) fn raise(
        &self,
        x: &mut HostTensor,
        sigma: f64,
        steps: usize,
        noise: &mut dyn NoiseSource,
    ) -> Result<f64> {
        if self.s_churn <= 0.0 {
            return Ok(sigma);
        }
        // k-diffusion draws whether or not it uses what it drew.
        let drawn = noise.noise(x.shape());
        if !(self.s_tmin..=self.s_tmax).contains(&sigma) {
            return Ok(sigma);
        }
        let gamma = (self.s_churn / steps as f64).min(std::f64::consts::SQRT_2 - 1.0);
        let raised = f64::from((sigma * (gamma + 1.0)) as f32);
        let spread = self.s_noise * (raised * raised - sigma * sigma).max(0.0).sqrt();
        *x = maths::combine(&[(1.0, x), (spread, &drawn)])?;
        Ok(raised)
    }
}
