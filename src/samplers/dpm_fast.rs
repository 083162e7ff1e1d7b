//! DPM-Solver-fast (Lu et al. 2022, "DPM-Solver", section 3.4; k-diffusion's `sample_dpm_fast`): steps of
//! third order, as many as the number of evaluations allows, then one or two of lower order. It ends at the
//! smallest sigma of training, not at 0.

use super::dpm_solver::{R2, R3, Start, ask, sigma};
use super::plan::{Coordinates, Plan, Step};
use super::schedule::{NoiseSchedule, Settings, levels};
use super::{Run, Sampler, maths};
use crate::error::{Error, Result};
use crate::host::HostTensor;

/// The DPM fast sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DpmFast {
    /// Share of each step's noise that is drawn afresh, 0 to 1.
    pub eta: f64,
    /// Factor on that noise.
    pub s_noise: f64,
}

impl DpmFast {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            eta: settings.randomness.eta,
            s_noise: settings.randomness.s_noise,
        })
    }

    /// One step of the plan for each evaluation; those of one solver step share their start and end.
    pub(super) fn plan(schedule: &NoiseSchedule, evaluations: usize) -> Result<Plan> {
        refuse_levels(schedule)?;
        let (t_start, t_end) = limits(schedule);
        let count = evaluations / 3 + 1;
        let time = |index: usize| {
            if index == count {
                t_end
            } else {
                t_start + (t_end - t_start) * index as f64 / count as f64
            }
        };
        let level = |t: f64| levels::level(schedule, sigma(t) as f32);
        let eta = schedule.settings().randomness.eta;
        let mut steps = Vec::with_capacity(evaluations);
        for (index, order) in orders(evaluations).into_iter().enumerate() {
            let (t, t_next) = (time(index), time(index + 1));
            let h = down_to(t, t_next, t_end, eta) - t;
            let (from, to) = (level(t), level(t_next));
            let shares: &[f64] = match order {
                1 => &[0.0],
                2 => &[0.0, R2],
                _ => &[0.0, R3, 2.0 * R3],
            };
            steps.extend(shares.iter().map(|share| Step {
                at: if *share > 0.0 {
                    level(t + share * h)
                } else {
                    from
                },
                from,
                to,
            }));
        }
        let start = schedule.start_scale(steps[0].from.sigma);
        Plan::new(steps, Coordinates::VarianceExploding, start)
    }
}

/// The orders of the solver steps that make `evaluations` in all.
fn orders(evaluations: usize) -> Vec<usize> {
    let thirds = evaluations / 3;
    match evaluations % 3 {
        0 => {
            let mut orders = vec![3; thirds - 1];
            orders.extend([2, 1]);
            orders
        }
        rest => {
            let mut orders = vec![3; thirds];
            orders.push(rest);
            orders
        }
    }
}

/// Where a step from `t` to `t_next` goes before noise brings it back.
pub(super) fn down_to(t: f64, t_next: f64, t_end: f64, eta: f64) -> f64 {
    if eta <= 0.0 {
        return t_next;
    }
    let (down, _) = maths::ancestral(sigma(t), sigma(t_next), eta);
    (-down.ln()).min(t_end)
}

/// The first and the last time: those of the largest and smallest sigma of training.
pub(super) fn limits(schedule: &NoiseSchedule) -> (f64, f64) {
    let sigmas = schedule.sigmas();
    let time = |sigma: f32| -f64::from(sigma).ln();
    (time(sigmas[sigmas.len() - 1]), time(sigmas[0]))
}

/// These methods choose their levels themselves.
pub(super) fn refuse_levels(schedule: &NoiseSchedule) -> Result<()> {
    let options = &schedule.settings().options;
    options.refuse_all("a sampler that chooses its noise levels itself")?;
    if schedule.settings().custom.is_none() && !schedule.is_scheduled() {
        return Ok(());
    }
    Err(
        Error::invalid("this sampler chooses its noise levels itself and takes no schedule")
            .with_hint("leave the schedule out or choose another sampler"),
    )
}

impl Sampler for DpmFast {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        let steps = run.plan.steps();
        let t_end = -run.plan.last().sigma.ln();
        let mut index = 0;
        while index < steps.len() {
            let from = steps[index].from;
            let order = steps[index..]
                .iter()
                .take_while(|step| step.from == from)
                .count();
            let (t, t_next) = (-from.sigma.ln(), -steps[index].to.sigma.ln());
            let down = down_to(t, t_next, t_end, self.eta);
            let h = down - t;
            let (denoised, eps) = ask(run.denoiser, &x, t)?;
            let start = Start {
                x: &x,
                t,
                eps: &eps,
            };
            let mut latest = denoised;
            let next = if order == 1 {
                start.first(h, 1.0)?
            } else {
                let share = if order == 2 { R2 } else { R3 };
                let u1 = start.first(h, share)?;
                run.report(index, &u1, Some(&latest))?;
                let (denoised_1, eps_1) = ask(run.denoiser, &u1, t + share * h)?;
                latest = denoised_1;
                if order == 2 {
                    start.second(h, share, &eps_1)?
                } else {
                    let u2 = start.two_thirds(h, &eps_1)?;
                    run.report(index + 1, &u2, Some(&latest))?;
                    let (denoised_2, eps_2) = ask(run.denoiser, &u2, t + 2.0 * R3 * h)?;
                    latest = denoised_2;
                    start.third(h, &eps_2)?
                }
            };
            x = next;
            if self.eta > 0.0 {
                let up = (sigma(t_next).powi(2) - sigma(down).powi(2))
                    .max(0.0)
                    .sqrt();
                let noise = run.noise.noise(x.shape());
                x = maths::combine(&[(1.0, &x), (up * self.s_noise, &noise)])?;
            }
            index += order;
            run.report(index - 1, &x, Some(&latest))?;
        }
        Ok(x)
    }
}
