//! Refined exponential solver, multistep of second order (Zhang et al. 2023, "Improved Order Analysis and
//! Design of Exponential Integrator for Diffusion Models Sampling", as ComfyUI has it).

use super::schedule::Settings;
use super::{Run, Sampler, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// The RES multistep sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResMultistep {
    /// Share of each step's noise that is drawn afresh, 0 to 1.
    pub eta: f64,
    /// Factor on that noise.
    pub s_noise: f64,
}

impl ResMultistep {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            eta: settings.randomness.eta,
            s_noise: settings.randomness.s_noise,
        })
    }
}

/// What a step leaves for the next: its estimate, where it started and where it went before noise.
struct Last {
    denoised: HostTensor,
    from: f64,
    down: f64,
}

impl Sampler for ResMultistep {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        let mut last: Option<Last> = None;
        for (index, step) in run.plan.steps().iter().enumerate() {
            let (from, to) = (step.from.sigma, step.to.sigma);
            let denoised = run.denoiser.denoise(&x, from)?;
            let (down, up) = maths::ancestral(from, to, self.eta);
            x = match &last {
                Some(last) if down > 0.0 => {
                    let h = (from / down).ln();
                    let c2 = (last.down / last.from).ln() / h;
                    let phi_1 = (-h).exp_m1() / -h;
                    let phi_2 = (phi_1 - 1.0) / -h;
                    let b2 = if c2 == 0.0 { 0.0 } else { phi_2 / c2 };
                    maths::combine(&[
                        (down / from, &x),
                        (h * (phi_1 - b2), &denoised),
                        (h * b2, &last.denoised),
                    ])?
                }
                _ => maths::toward(&x, &denoised, down / from)?,
            };
            x = maths::add_noise(x, up * self.s_noise, run.noise)?;
            run.report(index, &x, Some(&denoised))?;
            last = Some(Last {
                denoised,
                from,
                down,
            });
        }
        Ok(x)
    }
}
