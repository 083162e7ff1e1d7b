//! DPM-Solver++ for the stochastic equation, multistep of third order (k-diffusion's
//! `sample_dpmpp_3m_sde`). Noise is that of a Brownian path.

use std::collections::VecDeque;

use super::schedule::Settings;
use super::{Run, Sampler, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// The DPM++ 3M SDE sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dpmpp3mSde {
    /// Share of each step's noise that is drawn afresh, 0 to 1.
    pub eta: f64,
    /// Factor on that noise.
    pub s_noise: f64,
}

impl Dpmpp3mSde {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            eta: settings.randomness.eta,
            s_noise: settings.randomness.s_noise,
        })
    }

    /// Factors on the estimates, the latest first, for a step of width `h` after steps of widths `known`.
    fn weights(&self, h: f64, known: &[f64]) -> [f64; 3] {
        let wide = h * (1.0 + self.eta);
        let e = -(-wide).exp_m1();
        let phi_2 = 1.0 - e / wide;
        match *known {
            [h_1, h_2, ..] => {
                let phi_3 = phi_2 / wide - 0.5;
                let (r0, r1) = (h_1 / h, h_2 / h);
                // D1 = D1_0 + r0 / (r0 + r1) (D1_0 - D1_1), D2 = (D1_0 - D1_1) / (r0 + r1), with
                // D1_0 = (m0 - m1) / r0 and D1_1 = (m1 - m2) / r1.
                let on_difference = (phi_2 * r0 - phi_3) / (r0 + r1);
                let on_d10 = (phi_2 + on_difference) / r0;
                let on_d11 = -on_difference / r1;
                [e + on_d10, on_d11 - on_d10, -on_d11]
            }
            [h_1] => {
                let b = phi_2 * h / h_1;
                [e + b, -b, 0.0]
            }
            [] => [e, 0.0, 0.0],
        }
    }
}

impl Sampler for Dpmpp3mSde {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        let mut path = run.brownian(&x);
        // Estimates and widths of the steps before, the latest first.
        let mut estimates: VecDeque<HostTensor> = VecDeque::new();
        let mut widths: VecDeque<f64> = VecDeque::new();
        for (index, step) in run.plan.steps().iter().enumerate() {
            let (from, to) = (step.from.sigma, step.to.sigma);
            estimates.truncate(2);
            estimates.push_front(run.denoiser.denoise(&x, from)?);
            if to <= 0.0 {
                x.clone_from(&estimates[0]);
                run.report(index, &x, estimates.front())?;
                continue;
            }
            let h = (from / to).ln();
            let weights = self.weights(h, widths.make_contiguous());
            let mut terms = vec![((-h * (1.0 + self.eta)).exp(), &x)];
            terms.extend(weights.into_iter().zip(&estimates));
            x = maths::combine(&terms)?;
            let spread = to * (-(-2.0 * self.eta * h).exp_m1()).sqrt() * self.s_noise;
            if spread > 0.0 {
                let noise = path.between(from as f32, to as f32);
                x = maths::combine(&[(1.0, &x), (spread, &noise)])?;
            }
            run.report(index, &x, estimates.front())?;
            widths.truncate(1);
            widths.push_front(h);
        }
        Ok(x)
    }
}
