//! Arithmetic over whole latents that several samplers share.

use super::NoiseSource;
use super::plan::Step;
use crate::error::{Error, ErrorKind, Result};
use crate::host::HostTensor;

/// `x = f(x, a, b)` element by element, in place.
///
/// # Errors
/// When the shapes differ.
pub(super) fn update(
    x: &mut HostTensor,
    a: &HostTensor,
    b: &HostTensor,
    f: impl Fn(f32, f32, f32) -> f32,
) -> Result<()> {
    if x.shape() != a.shape() || x.shape() != b.shape() {
        return Err(Error::new(
            ErrorKind::Internal,
            format!(
                "shapes {:?}, {:?} and {:?} differ",
                x.shape(),
                a.shape(),
                b.shape()
            ),
        ));
    }
    for ((x, &a), &b) in x.data_mut().iter_mut().zip(a.data()).zip(b.data()) {
        *x = f(*x, a, b);
    }
    Ok(())
}

/// The sum of `terms`, each a factor and an array, element by element and in f64.
///
/// # Errors
/// When there is none or the shapes differ.
pub(super) fn combine(terms: &[(f64, &HostTensor)]) -> Result<HostTensor> {
    let Some(&(_, first)) = terms.first() else {
        return Err(Error::new(ErrorKind::Internal, "nothing to combine"));
    };
    if let Some((_, other)) = terms.iter().find(|(_, term)| term.shape() != first.shape()) {
        return Err(Error::new(
            ErrorKind::Internal,
            format!("shapes {:?} and {:?} differ", first.shape(), other.shape()),
        ));
    }
    let mut sum = HostTensor::zeros(first.shape());
    for (index, value) in sum.data_mut().iter_mut().enumerate() {
        *value = terms
            .iter()
            .map(|(factor, term)| factor * f64::from(term.data()[index]))
            .sum::<f64>() as f32;
    }
    Ok(sum)
}

/// `(x - denoised) / sigma`, the slope of the probability flow.
///
/// # Errors
/// When the shapes differ.
pub(super) fn slope(x: &HostTensor, denoised: &HostTensor, sigma: f64) -> Result<HostTensor> {
    combine(&[(1.0 / sigma, x), (-1.0 / sigma, denoised)])
}

/// `x + factor * noise` with fresh noise; draws none for a factor of 0.
///
/// # Errors
/// When the noise has another shape.
pub(super) fn add_noise(
    x: HostTensor,
    factor: f64,
    noise: &mut dyn NoiseSource,
) -> Result<HostTensor> {
    if factor <= 0.0 {
        return Ok(x);
    }
    let drawn = noise.noise(x.shape());
    combine(&[(1.0, &x), (factor, &drawn)])
}

/// An ancestral step: `(down, up)`, where the step ends and the noise that brings it back to `to`.
pub(super) fn ancestral(from: f64, to: f64, eta: f64) -> (f64, f64) {
    let up = (eta
        * (to * to * (from * from - to * to) / (from * from))
            .max(0.0)
            .sqrt())
    .min(to);
    ((to * to - up * up).max(0.0).sqrt(), up)
}

/// `x` with the share `keep` of its noise, the rest replaced by the estimate: `keep x + (1 - keep) denoised`.
/// With `keep = exp(-h)` that is the exponential integrator of first order.
///
/// # Errors
/// When the shapes differ.
pub(super) fn toward(x: &HostTensor, denoised: &HostTensor, keep: f64) -> Result<HostTensor> {
    combine(&[(keep, x), (1.0 - keep, denoised)])
}

/// Whether `step` has no width but for rounding: curves that end at the smallest sigma, then asked to end there.
pub(super) fn is_no_step(step: &Step) -> bool {
    step.to.sigma >= step.from.sigma * (1.0 - 1e-6)
}

/// The integral of `exp(rate u)` from `from` to `to` times each Lagrange polynomial through `places`, at most four.
pub(super) fn exponential_weights(places: &[f64], rate: f64, (from, to): (f64, f64)) -> Vec<f64> {
    // Moments: the integrals of u^k exp(rate u), each from the one before by parts.
    let mut moments: Vec<f64> = Vec::with_capacity(places.len());
    for power in 0..places.len() {
        let at = |u: f64| u.powi(power as i32) * (rate * u).exp();
        let moment = match moments.last() {
            None => ((rate * to).exp_m1() - (rate * from).exp_m1()) / rate,
            Some(before) => (at(to) - at(from) - power as f64 * before) / rate,
        };
        moments.push(moment);
    }
    (0..places.len())
        .map(|chosen| {
            let mut polynomial = vec![1.0];
            for (_, place) in places.iter().enumerate().filter(|(i, _)| *i != chosen) {
                // Times (u - place) / (chosen's place - place).
                let scale = places[chosen] - place;
                let mut raised = vec![0.0; polynomial.len() + 1];
                for (power, coefficient) in polynomial.iter().enumerate() {
                    raised[power + 1] += coefficient / scale;
                    raised[power] -= coefficient * place / scale;
                }
                polynomial = raised;
            }
            polynomial.iter().zip(&moments).map(|(c, m)| c * m).sum()
        })
        .collect()
}
