//! Steps of DPM-Solver of orders 1 to 3, singlestep, on the noise (Lu et al. 2022, "DPM-Solver",
//! algorithms 1 and 2), as k-diffusion's `DPMSolver` has them. Time is `t = -ln σ`.

use super::{Denoiser, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// Where the second-order and third-order steps ask the model, as shares of the step.
pub(super) const R2: f64 = 1.0 / 2.0;
/// The first of the third-order step's two.
pub(super) const R3: f64 = 1.0 / 3.0;

/// One step's start: latents, time, and the noise found there.
pub(super) struct Start<'a> {
    pub(super) x: &'a HostTensor,
    pub(super) t: f64,
    pub(super) eps: &'a HostTensor,
}

/// Sigma at time `t`.
pub(super) fn sigma(t: f64) -> f64 {
    (-t).exp()
}

/// The model's estimate of the clean latents and of the noise in `x` at time `t`.
pub(super) fn ask(
    denoiser: &mut dyn Denoiser,
    x: &HostTensor,
    t: f64,
) -> Result<(HostTensor, HostTensor)> {
    // In f32, as upstream tells it the model.
    let sigma = f64::from(sigma(t) as f32);
    let denoised = denoiser.denoise(x, sigma)?;
    let eps = maths::slope(x, &denoised, sigma)?;
    Ok((denoised, eps))
}

impl Start<'_> {
    /// The latents at the share `r` of a step of width `h`, by the first-order rule.
    pub(super) fn first(&self, h: f64, r: f64) -> Result<HostTensor> {
        let a = -sigma(self.t + r * h) * (r * h).exp_m1();
        maths::combine(&[(1.0, self.x), (a, self.eps)])
    }

    /// The end of a step of width `h` by the second-order rule, with `eps_r1` found at the share `r1`.
    pub(super) fn second(&self, h: f64, r1: f64, eps_r1: &HostTensor) -> Result<HostTensor> {
        let a = -sigma(self.t + h) * h.exp_m1();
        let b = a / (2.0 * r1);
        maths::combine(&[(1.0, self.x), (a - b, self.eps), (b, eps_r1)])
    }

    /// The latents at two thirds of a third-order step of width `h`, with `eps_r1` found at one third.
    pub(super) fn two_thirds(&self, h: f64, eps_r1: &HostTensor) -> Result<HostTensor> {
        let (r1, r2) = (R3, 2.0 * R3);
        let at = sigma(self.t + r2 * h);
        let a = -at * (r2 * h).exp_m1();
        let b = -at * (r2 / r1) * ((r2 * h).exp_m1() / (r2 * h) - 1.0);
        maths::combine(&[(1.0, self.x), (a - b, self.eps), (b, eps_r1)])
    }

    /// The end of a third-order step of width `h`, with `eps_r2` found at two thirds.
    pub(super) fn third(&self, h: f64, eps_r2: &HostTensor) -> Result<HostTensor> {
        let at = sigma(self.t + h);
        let a = -at * h.exp_m1();
        let b = -at / (2.0 * R3) * (h.exp_m1() / h - 1.0);
        maths::combine(&[(1.0, self.x), (a - b, self.eps), (b, eps_r2)])
    }
}
