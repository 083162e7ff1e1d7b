//! DPM-Solver of orders 2 and 3 with a step size of its own (Lu et al. 2022, "DPM-Solver", appendix C;
//! k-diffusion's `sample_dpm_adaptive`). The number of steps asked for only divides the progress shown. It
//! ends at the smallest sigma of training, not at 0.
//!
//! Upstream's controller looks at the whole batch; pictures are made one by one here, so it sees one.

use super::dpm_fast::{down_to, limits, refuse_levels};
use super::dpm_solver::{R3, Start, ask, sigma};
use super::plan::{NoiseLevel, Plan};
use super::schedule::{NoiseSchedule, Settings, levels};
use super::{Run, Sampler, maths};
use crate::error::{Error, ErrorKind, Result};
use crate::host::HostTensor;

/// Tolerances, first step and safety, k-diffusion's defaults.
const RELATIVE: f64 = 0.05;
const ABSOLUTE: f64 = 0.0078;
const FIRST_STEP: f64 = 0.05;
const SAFETY: f64 = 0.81;
const ORDER: f64 = 3.0;

/// Attempts after which a run is given up; real ones take tens.
const MAX_ATTEMPTS: usize = 10_000;

/// The DPM adaptive sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DpmAdaptive {
    /// Share of each step's noise that is drawn afresh, 0 to 1.
    pub eta: f64,
    /// Factor on that noise.
    pub s_noise: f64,
}

impl DpmAdaptive {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            eta: settings.randomness.eta,
            s_noise: settings.randomness.s_noise,
        })
    }

    /// Levels that progress is measured by, evenly in time.
    pub(super) fn plan(schedule: &NoiseSchedule, marks: usize) -> Result<Plan> {
        refuse_levels(schedule)?;
        let (t_start, t_end) = limits(schedule);
        let levels: Vec<NoiseLevel> = (0..=marks)
            .map(|index| {
                let t = t_start + (t_end - t_start) * index as f64 / marks as f64;
                levels::level(schedule, sigma(t) as f32)
            })
            .collect();
        let start = schedule.start_scale(levels[0].sigma);
        Plan::through(&levels, start)
    }
}

/// The step's two results, of second and third order, and the first estimate of the clean latents.
struct Attempt {
    low: HostTensor,
    high: HostTensor,
    denoised: HostTensor,
}

fn attempt(x: &HostTensor, t: f64, h: f64, run: &mut Run<'_>) -> Result<Attempt> {
    let (denoised, eps) = ask(run.denoiser, x, t)?;
    let start = Start { x, t, eps: &eps };
    let u1 = start.first(h, R3)?;
    let (_, eps_1) = ask(run.denoiser, &u1, t + R3 * h)?;
    let low = start.second(h, R3, &eps_1)?;
    let u2 = start.two_thirds(h, &eps_1)?;
    let (_, eps_2) = ask(run.denoiser, &u2, t + 2.0 * R3 * h)?;
    let high = start.third(h, &eps_2)?;
    Ok(Attempt {
        low,
        high,
        denoised,
    })
}

/// Root of the mean square of the difference in units of the tolerance.
fn error_of(attempt: &Attempt, previous: &HostTensor) -> f64 {
    let squares: f64 = attempt
        .low
        .data()
        .iter()
        .zip(attempt.high.data())
        .zip(previous.data())
        .map(|((&low, &high), &previous)| {
            let size = f64::from(low.abs().max(previous.abs()));
            let unit = ABSOLUTE.max(RELATIVE * size);
            (f64::from(low - high) / unit).powi(2)
        })
        .sum();
    (squares / attempt.low.data().len() as f64).sqrt()
}

impl Sampler for DpmAdaptive {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        let steps = run.plan.steps();
        let (mut t, t_end) = (-steps[0].from.sigma.ln(), -run.plan.last().sigma.ln());
        let order = if self.eta > 0.0 { 1.5 } else { ORDER };
        let (mut width, mut reported) = (FIRST_STEP, 0);
        let mut previous = x.clone();
        for _ in 0..MAX_ATTEMPTS {
            let t_next = t_end.min(t + width);
            let down = down_to(t, t_next, t_end, self.eta);
            let tried = attempt(&x, t, down - t, run)?;
            // An integral controller, its factor bent to at most 1 + π/2.
            let factor = (1.0 / (error_of(&tried, &previous) + 1e-8)).powf(1.0 / order);
            let factor = 1.0 + (factor - 1.0).atan();
            width *= factor;
            if factor < SAFETY {
                continue;
            }
            previous = tried.low;
            x = tried.high;
            if self.eta > 0.0 {
                let up = (sigma(t_next).powi(2) - sigma(down).powi(2))
                    .max(0.0)
                    .sqrt();
                let noise = run.noise.noise(x.shape());
                x = maths::combine(&[(1.0, &x), (up * self.s_noise, &noise)])?;
            }
            t = t_next;
            let done = t >= t_end - 1e-5;
            while reported < steps.len() && (done || t >= -steps[reported].to.sigma.ln()) {
                run.report(reported, &x, Some(&tried.denoised))?;
                reported += 1;
            }
            if done {
                return Ok(x);
            }
        }
        Err(Error::new(
            ErrorKind::NonFinite,
            format!("dpm_adaptive found no step small enough after {MAX_ATTEMPTS} attempts"),
        )
        .with_hint("choose another sampler"))
    }
}
