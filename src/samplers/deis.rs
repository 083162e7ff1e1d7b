//! DEIS of order 3, tabulated (Zhang and Chen 2022, "Fast Sampling of Diffusion Models with Exponential
//! Integrator", equation 15), as ComfyUI and Forge have it after github.com/zju-pi/diff-sampler: slopes are
//! interpolated over the time of a linear variance-preserving process, whose betas follow from sigmas 0.002
//! and 80 whatever the model's are.

use super::multistep::{History, run_slopes};
use super::schedule::Settings;
use super::{Run, Sampler};
use crate::error::Result;
use crate::host::HostTensor;

/// Points of upstream's sum; its error, a few in ten thousand, belongs to the method's numbers.
const POINTS: usize = 10_000;

/// The DEIS sampler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deis;

impl Deis {
    pub(super) fn build(_settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self)
    }
}

impl Sampler for Deis {
    fn sample(&self, x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        let process = Process::new();
        run_slopes(x, run, 3, &|history: &History<'_>| process.weights(history))
    }
}

/// `σ(τ)² = exp(d τ² / 2 + b τ) - 1`.
struct Process {
    d: f64,
    b: f64,
}

impl Process {
    fn new() -> Self {
        const EPSILON: f64 = 1e-3;
        let (low, high) = ((0.002_f64.powi(2)).ln_1p(), (80.0_f64.powi(2)).ln_1p());
        let d = 2.0 * (low / EPSILON - high) / (EPSILON - 1.0);
        Self {
            d,
            b: high - 0.5 * d,
        }
    }

    fn time(&self, sigma: f64) -> f64 {
        let root = (self.b * self.b + 2.0 * self.d * (sigma * sigma).ln_1p()).sqrt();
        (root - self.b) / self.d
    }

    /// `dσ / dτ`.
    fn speed(&self, time: f64) -> f64 {
        let exponent = 0.5 * self.d * time * time + self.b * time;
        let slope = self.d * time + self.b;
        0.5 * slope * exponent.exp() / exponent.exp_m1().sqrt()
    }

    /// The integral over the step of each Lagrange polynomial through the known times.
    fn weights(&self, history: &History<'_>) -> Vec<f64> {
        if history.nodes.len() == 1 {
            return vec![history.to - history.nodes[0]];
        }
        let times: Vec<f64> = history
            .nodes
            .iter()
            .map(|&sigma| self.time(sigma))
            .collect();
        let (from, to) = (times[0], self.time(history.to));
        let mut sums = vec![0.0; times.len()];
        for point in 0..POINTS {
            let at = from + (to - from) * point as f64 / (POINTS - 1) as f64;
            let speed = self.speed(at);
            for (chosen, sum) in sums.iter_mut().enumerate() {
                let polynomial: f64 = (0..times.len())
                    .filter(|&other| other != chosen)
                    .map(|other| (at - times[other]) / (times[chosen] - times[other]))
                    .product();
                *sum += speed * polynomial;
            }
        }
        let width = (to - from) / POINTS as f64;
        sums.into_iter().map(|sum| sum * width).collect()
    }
}
