//! The schedules that are formulas, as k-diffusion and the webuis compute them.
//!
//! In f32 where upstream computes in f32: the paths of SDE samplers are asked at these very numbers, and at
//! sigma 14 the last bit of one moves the noise by a thousandth.

use super::beta::quantile;
use super::{BetaOf, KlEnd, NoiseSchedule, ScheduleKind, betas, timesteps};

/// The shape of the beta schedule, as the paper and the webui have it.
const BETA_SHAPE: f64 = 0.6;

/// `torch.linspace`, which for one value is its first.
fn linspace(start: f64, end: f64, count: usize) -> Vec<f32> {
    if count < 2 {
        return vec![start as f32; count];
    }
    betas::linspace(start, end, count)
}

/// Rho of Karras et al. 2022.
const KARRAS_RHO: f64 = 7.0;

/// Smallest and largest sigma: the caller's, or those of training.
pub(super) fn limits(schedule: &NoiseSchedule) -> (f64, f64) {
    let sigmas = schedule.sigmas();
    let options = &schedule.settings().options;
    (
        options.sigma_min.unwrap_or(f64::from(sigmas[0])),
        options
            .sigma_max
            .unwrap_or(f64::from(sigmas[sigmas.len() - 1])),
    )
}

/// Upstream's elementwise functions are the nearest f32 of the exact value but for rare last bits.
fn exp(value: f32) -> f32 {
    f64::from(value).exp() as f32
}

/// k-diffusion's `t_to_sigma`: between timesteps linear in the logarithm.
pub(super) fn at(schedule: &NoiseSchedule, timesteps: &[f32]) -> Vec<f32> {
    let logs = &schedule.log_sigmas;
    timesteps
        .iter()
        .map(|&timestep| {
            let share = timestep.fract();
            let low = logs[(timestep.floor() as usize).min(logs.len() - 1)];
            let high = logs[(timestep.ceil() as usize).min(logs.len() - 1)];
            exp((1.0 - share) * low + share * high)
        })
        .collect()
}

/// The sigma of a training timestep, as k-diffusion's tables give it.
pub(super) fn sigma_of_timestep(schedule: &NoiseSchedule, timestep: usize) -> f32 {
    at(schedule, &[timestep as f32])[0]
}

pub(super) fn normal(schedule: &NoiseSchedule, count: usize) -> Vec<f32> {
    let options = &schedule.settings().options;
    let (min, max) = limits(schedule);
    // The ends of training are whole timesteps; the caller's own may lie between two.
    let first = match options.sigma_max {
        None => (schedule.sigmas().len() - 1) as f64,
        Some(_) => schedule.sigma_to_timestep(max),
    };
    let last = match options.sigma_min {
        None => 0.0,
        Some(_) => schedule.sigma_to_timestep(min),
    };
    at(schedule, &linspace(first, last, count))
}

pub(super) fn sgm_uniform(schedule: &NoiseSchedule, count: usize) -> Vec<f32> {
    let mut sigmas = normal(schedule, count + 1);
    sigmas.truncate(count);
    sigmas
}

pub(super) fn simple(schedule: &NoiseSchedule, count: usize) -> Vec<f32> {
    let sigmas = schedule.sigmas();
    let distance = sigmas.len() as f64 / count as f64;
    (0..count)
        .map(|index| {
            let back = (index as f64 * distance) as usize;
            sigmas[sigmas.len() - 1 - back.min(sigmas.len() - 1)]
        })
        .collect()
}

pub(super) fn ddim_uniform(schedule: &NoiseSchedule, count: usize) -> Vec<f32> {
    let sigmas = schedule.sigmas();
    let distance = (sigmas.len() / count).max(1);
    let mut chosen: Vec<f32> = sigmas[1..].iter().copied().step_by(distance).collect();
    chosen.reverse();
    chosen
}

pub(super) fn turbo(schedule: &NoiseSchedule, count: usize) -> Vec<f32> {
    let sigmas = schedule.sigmas();
    let distance = (sigmas.len() as f64 / count as f64) as f32;
    (1..=count)
        .rev()
        .map(|index| {
            let timestep = (index as f32 * distance - 1.0).round_ties_even().max(0.0);
            sigmas[(timestep as usize).min(sigmas.len() - 1)]
        })
        .collect()
}

pub(super) fn karras(schedule: &NoiseSchedule, count: usize) -> Vec<f32> {
    let (min, max) = limits(schedule);
    let rho = schedule.settings().options.rho;
    karras_of((max, min), rho.unwrap_or(KARRAS_RHO), count)
}

/// Karras et al. 2022, equation 5, with the paper's rho.
pub(in crate::samplers) fn karras_between(max: f64, min: f64, count: usize) -> Vec<f32> {
    karras_of((max, min), KARRAS_RHO, count)
}

fn karras_of((max, min): (f64, f64), rho: f64, count: usize) -> Vec<f32> {
    let (max, min) = (max.powf(1.0 / rho), min.powf(1.0 / rho));
    linspace(0.0, 1.0, count)
        .into_iter()
        .map(|share| {
            let root = max as f32 + share * (min - max) as f32;
            f64::from(root).powf(rho) as f32
        })
        .collect()
}

pub(super) fn exponential(schedule: &NoiseSchedule, count: usize) -> Vec<f32> {
    let (min, max) = limits(schedule);
    linspace(max.ln(), min.ln(), count)
        .into_iter()
        .map(exp)
        .collect()
}

pub(super) fn polyexponential(schedule: &NoiseSchedule, count: usize) -> Vec<f32> {
    let (min, max) = limits(schedule);
    let rho = schedule.settings().options.rho.unwrap_or(1.0);
    linspace(1.0, 0.0, count)
        .into_iter()
        .map(|share| f64::from(share).powf(rho) as f32)
        .map(|share| exp(share * (max.ln() - min.ln()) as f32 + min.ln() as f32))
        .collect()
}

/// As the webui and diffusers have it, between the sigmas, or as ComfyUI has it, of timesteps.
pub(super) fn beta(schedule: &NoiseSchedule, count: usize) -> Vec<f32> {
    if schedule.settings().sigmas == ScheduleKind::Beta(BetaOf::Timesteps) {
        return beta_of_timesteps(schedule, count);
    }
    let (min, max) = limits(schedule);
    timesteps::linspace(0.0, 1.0, count)
        .into_iter()
        .map(|share| (min + quantile(1.0 - share, BETA_SHAPE) * (max - min)) as f32)
        .collect()
}

fn beta_of_timesteps(schedule: &NoiseSchedule, count: usize) -> Vec<f32> {
    let sigmas = schedule.sigmas();
    let last = sigmas.len() - 1;
    let mut timesteps: Vec<usize> = (0..count)
        .map(|index| {
            let share = 1.0 - index as f64 / count as f64;
            (quantile(share, BETA_SHAPE) * last as f64).round_ties_even() as usize
        })
        .collect();
    timesteps.dedup();
    timesteps
        .into_iter()
        .map(|timestep| sigmas[timestep])
        .collect()
}

/// As ComfyUI has it: half of the steps are linear and lead to the noise that 0.975 of the largest sigma is.
pub(super) fn linear_quadratic(schedule: &NoiseSchedule, count: usize) -> Vec<f32> {
    const THRESHOLD: f64 = 0.025;
    let (_, max) = limits(schedule);
    let scaled = |clean: f64| (1.0 - clean) as f32 * max as f32;
    if count < 2 {
        return vec![scaled(0.0); count];
    }
    let linear = count / 2;
    let (l, q, n) = (linear as f64, (count - linear) as f64, count as f64);
    // The parabola goes on with the line's slope and reaches 1 at n.
    let excess = l - THRESHOLD * n;
    let square = excess / (l * q * q);
    let slope = THRESHOLD / l - 2.0 * excess / (q * q);
    let constant = square * l * l;
    (0..count)
        .map(|index| {
            let i = index as f64;
            scaled(if index < linear {
                i * THRESHOLD / l
            } else {
                square * i * i + slope * i + constant
            })
        })
        .collect()
}

/// As ComfyUI has it, where the last of so many levels is the smallest of training and a 0 follows, or as the webui has
/// it, with one level more and no 0.
pub(super) fn kl_optimal(schedule: &NoiseSchedule, count: usize) -> Vec<f32> {
    let (min, max) = limits(schedule);
    let smallest = schedule.settings().sigmas == ScheduleKind::KlOptimal(KlEnd::Smallest);
    let count = count + usize::from(smallest);
    (0..count)
        .map(|index| {
            let share = index as f32 / count.saturating_sub(1).max(1) as f32;
            let angle = share * min.atan() as f32 + (1.0 - share) * max.atan() as f32;
            f64::from(angle).tan() as f32
        })
        .collect()
}
