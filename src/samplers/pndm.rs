//! Pseudo linear multistep (Liu et al. 2022, "Pseudo Numerical Methods for Diffusion Models on
//! Manifolds"), in variance-preserving coordinates: the sampler that SD1.x was published with.
//!
//! Follows diffusers' `PNDMScheduler`. With `skip_prk_steps`, as every published configuration has it,
//! the first step is done twice (Euler, then corrected by the mean of two slopes), so n steps ask the model
//! n + 1 times; without, three steps of Runge-Kutta come first and ask it twelve times.

use std::collections::VecDeque;

use super::plan::{Coordinates, NoiseLevel, Plan, Step};
use super::prediction::PredictionType;
use super::schedule::{NoiseSchedule, ScheduleKind, Settings, timesteps};
use super::{Run, Sampler};
use crate::error::{Error, Result};
use crate::host::HostTensor;

/// Evaluations of the three Runge-Kutta steps.
const RUNGE_KUTTA: usize = 12;

/// The PNDM sampler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pndm {
    /// Whether Runge-Kutta steps are left out at the start.
    pub skip_prk_steps: bool,
    /// What the network predicts: upstream combines the outputs of several steps as they are.
    pub prediction_type: PredictionType,
}

impl Pndm {
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        if settings.sigmas == ScheduleKind::DdimUniform {
            // The webui combines what the outputs say of the noise.
            return Box::new(Self {
                skip_prk_steps: true,
                prediction_type: PredictionType::Epsilon,
            });
        }
        Box::new(Self {
            skip_prk_steps: settings.skip_prk_steps,
            prediction_type: settings.prediction_type,
        })
    }

    pub(super) fn plan(schedule: &NoiseSchedule, steps: usize) -> Result<Plan> {
        if schedule.settings().custom.is_some() {
            return Err(Error::invalid(
                "pndm needs evenly spread timesteps and takes neither sigmas nor timesteps",
            )
            .with_hint("choose another sampler"));
        }
        if let Some(levels) = schedule.levels_of_the_webui(steps)? {
            return Plan::new(corrected(&levels), Coordinates::VariancePreserving, 1.0);
        }
        let settings = schedule.settings();
        let distance = settings.num_train_timesteps / steps;
        let timesteps: Vec<usize> = timesteps::whole(
            settings.timestep_spacing,
            settings.num_train_timesteps,
            steps,
            settings.steps_offset,
        )
        .into_iter()
        .map(|timestep| timestep as usize)
        .collect();
        let steps = if settings.skip_prk_steps {
            multistep(schedule, &timesteps, distance, FirstStep::Corrected)?
        } else if timesteps.len() < 4 {
            return Err(Error::invalid(format!(
                "steps is {}, but pndm with Runge-Kutta steps takes 4 or more",
                timesteps.len()
            )));
        } else {
            let mut steps = runge_kutta(schedule, &timesteps, distance)?;
            steps.extend(multistep(
                schedule,
                &timesteps[3..],
                distance,
                FirstStep::Plain,
            )?);
            steps
        };
        Plan::new(steps, Coordinates::VariancePreserving, 1.0)
    }
}

/// How a multistep run begins.
#[derive(Clone, Copy, PartialEq)]
enum FirstStep {
    /// With slopes of earlier steps at hand.
    Plain,
    /// Without; the step is done a second time.
    Corrected,
}

/// Each timestep asks once and goes down by `distance`.
fn multistep(
    schedule: &NoiseSchedule,
    timesteps: &[usize],
    distance: usize,
    first: FirstStep,
) -> Result<Vec<Step>> {
    let mut steps = Vec::with_capacity(timesteps.len() + 1);
    for (index, &timestep) in timesteps.iter().enumerate() {
        let at = schedule.level(timestep)?;
        if index == 1 && first == FirstStep::Corrected {
            steps.push(Step {
                at,
                from: schedule.level(timestep + distance)?,
                to: at,
            });
        }
        steps.push(Step {
            at,
            from: at,
            to: schedule.level_below(timestep, distance)?,
        });
    }
    Ok(steps)
}

/// Each level but the last asks once and goes to the next; the first step is done a second time from there.
fn corrected(levels: &[NoiseLevel]) -> Vec<Step> {
    let step = |pair: &[NoiseLevel]| Step {
        at: pair[0],
        from: pair[0],
        to: pair[1],
    };
    let mut steps: Vec<Step> = levels.windows(2).map(step).collect();
    let again = Step {
        at: levels[1],
        from: levels[0],
        to: levels[1],
    };
    steps.insert(1, again);
    steps
}

/// Each of the first three timesteps asks there, twice halfway and once at the next.
fn runge_kutta(
    schedule: &NoiseSchedule,
    timesteps: &[usize],
    distance: usize,
) -> Result<Vec<Step>> {
    let half = distance / 2;
    let mut steps = Vec::with_capacity(RUNGE_KUTTA);
    for pair in timesteps.windows(2).take(3) {
        let (from, next) = (schedule.level(pair[0])?, schedule.level(pair[1])?);
        let middle = schedule.level(pair[1] + half)?;
        let step = |at: NoiseLevel, to: NoiseLevel| Step { at, from, to };
        // Upstream goes to half a distance below where it asks first and third, which is `next` or `middle`
        // but for odd distances.
        steps.push(step(from, schedule.level_below(pair[0], half)?));
        steps.push(step(middle, middle));
        steps.push(step(middle, schedule.level_below(pair[1] + half, half)?));
        steps.push(step(next, next));
    }
    Ok(steps)
}

impl Sampler for Pndm {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        let warm_up = if self.skip_prk_steps {
            0
        } else {
            RUNGE_KUTTA.saturating_sub(run.plan.skipped())
        };
        // The latest output last.
        let mut outputs: VecDeque<HostTensor> = VecDeque::new();
        let mut slope = HostTensor::zeros(x.shape());
        let mut base = x.clone();
        for (index, step) in run.plan.steps().iter().enumerate() {
            let denoised = run.denoiser.denoise_at(&x, step.at.timestep as usize)?;
            let output = self.output(&x, &denoised, step.at)?;
            let combined = if index < warm_up {
                let stage = index % 4;
                if stage == 0 {
                    base.clone_from(&x);
                    remember(&mut outputs, output.clone());
                }
                runge_kutta_slope(&mut slope, output, stage)?
            } else if step.from == step.at {
                base = x;
                remember(&mut outputs, output);
                linear_multistep(&outputs)?
            } else {
                // The first step again, with the mean of the slopes at its two ends.
                let first = outputs.back().unwrap_or(&output);
                output.clone().zip_map(first, f32::midpoint)?
            };
            x = self.transfer(base.clone(), combined, step)?;
            run.report(index, &x, Some(&denoised))?;
        }
        Ok(x)
    }
}

fn remember(outputs: &mut VecDeque<HostTensor>, output: HostTensor) {
    if outputs.len() == 4 {
        outputs.pop_front();
    }
    outputs.push_back(output);
}

/// Gathers the four slopes of a Runge-Kutta step (equation 12): the first three are used as they are,
/// the last with the others.
fn runge_kutta_slope(
    slope: &mut HostTensor,
    output: HostTensor,
    stage: usize,
) -> Result<HostTensor> {
    let weight = [1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0][stage];
    let sum = std::mem::replace(slope, HostTensor::zeros(output.shape()))
        .zip_map(&output, |sum, output| sum + weight * output)?;
    if stage == 3 {
        return Ok(sum);
    }
    *slope = sum;
    Ok(output)
}

/// Adams-Bashforth over up to four outputs (equation 9 and section 3.3).
fn linear_multistep(outputs: &VecDeque<HostTensor>) -> Result<HostTensor> {
    let weights: &[f32] = match outputs.len() {
        1 => &[1.0],
        2 => &[3.0 / 2.0, -1.0 / 2.0],
        3 => &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
        _ => &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
    };
    let mut combined: Option<HostTensor> = None;
    for (output, &weight) in outputs.iter().rev().zip(weights) {
        combined = Some(match combined {
            None => output.clone().map(|value| weight * value),
            Some(sum) => sum.zip_map(output, |sum, output| sum + weight * output)?,
        });
    }
    combined.ok_or_else(|| Error::new(crate::ErrorKind::Internal, "no output to combine"))
}

impl Pndm {
    /// The network's output (or, for those that predict the clean latents, the noise it implies).
    fn output(self, x: &HostTensor, denoised: &HostTensor, at: NoiseLevel) -> Result<HostTensor> {
        let alpha_bar = at.alpha_bar as f32;
        let (signal, spread) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
        let output = denoised.clone();
        match self.prediction_type {
            PredictionType::Epsilon | PredictionType::Sample => {
                output.zip_map(x, |denoised, x| (x - signal * denoised) / spread)
            }
            PredictionType::VPrediction => {
                output.zip_map(x, |denoised, x| (signal * x - denoised) / spread)
            }
        }
    }

    /// Equation 9: takes `x` over `step` along `output`.
    fn transfer(self, x: HostTensor, output: HostTensor, step: &Step) -> Result<HostTensor> {
        let (from, to) = (step.from.alpha_bar as f32, step.to.alpha_bar as f32);
        let keep = (to / from).sqrt();
        let denominator = from * (1.0 - to).sqrt() + (from * (1.0 - from) * to).sqrt();
        let (signal, spread) = (from.sqrt(), (1.0 - from).sqrt());
        let noise = match self.prediction_type {
            PredictionType::Epsilon | PredictionType::Sample => output,
            PredictionType::VPrediction => output.zip_map(&x, |v, x| signal * v + spread * x)?,
        };
        x.zip_map(&noise, |x, noise| {
            keep * x - (to - from) * noise / denominator
        })
    }
}
