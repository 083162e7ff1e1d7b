//! The curves of sigmas as diffusers computes them, in f64 between the limits of a run's timesteps.

use super::timesteps::linspace;

/// `count` sigmas from `max` down to `min`, as Karras et al. 2022, equation 5; rho is the paper's 7.
pub(super) fn karras(max: f64, min: f64, count: usize) -> Vec<f64> {
    const RHO: f64 = 7.0;
    let (max, min) = (max.powf(1.0 / RHO), min.powf(1.0 / RHO));
    linspace(0.0, 1.0, count)
        .into_iter()
        .map(|share| (max + share * (min - max)).powf(RHO))
        .collect()
}

/// `count` sigmas from `max` down to `min`, evenly in the logarithm.
pub(super) fn exponential(max: f64, min: f64, count: usize) -> Vec<f64> {
    linspace(max.ln(), min.ln(), count)
        .into_iter()
        .map(f64::exp)
        .collect()
}
