//! What the samplers are held to: diffusers' own numbers, and properties of all of them.

mod brownian;
mod checkpoints;
mod convergence;
mod k_trajectories;
mod oracles;
mod plot;
mod properties;
mod registry;
mod scaled;
mod trajectories;

use serde_json::Value;

use super::schedule::{LevelOptions, NoiseSchedule, StepTable};
use super::{Denoiser, Guided, NoiseOptions, NoiseSource, Plan};
use crate::backend::scheduler::{Scheduler, SchedulerConfig, SchedulerRequest};
use crate::error::Result;
use crate::host::HostTensor;
use crate::rng::{BrownianNoise, RngKind, SeededNoise, TorchGenerator};

/// The share of the network's output that the unconditional one has.
const WITHOUT_PROMPT: f32 = 0.9;

/// A network that is a function of its input, told the timestep as the backend tells it.
pub(super) struct Dummy<'a, F> {
    pub(super) schedule: &'a NoiseSchedule,
    pub(super) plan: &'a Plan,
    pub(super) network: F,
}

impl<F: FnMut(&HostTensor, f64) -> HostTensor> Denoiser for Dummy<'_, F> {
    fn denoise(&mut self, x: &HostTensor, sigma: f64) -> Result<HostTensor> {
        let timestep = self
            .plan
            .timestep_at(sigma)
            .unwrap_or_else(|| self.schedule.sigma_to_timestep(sigma));
        let output = (self.network)(&self.schedule.model_input(x, sigma), timestep);
        self.schedule.denoised(x, output, sigma)
    }

    fn denoise_at(&mut self, x: &HostTensor, timestep: usize) -> Result<HostTensor> {
        let output = (self.network)(x, timestep as f64);
        self.schedule.denoised_at(x, output, timestep)
    }

    fn denoise_guided(&mut self, x: &HostTensor, sigma: f64) -> Result<Guided> {
        let timestep = self
            .plan
            .timestep_at(sigma)
            .unwrap_or_else(|| self.schedule.sigma_to_timestep(sigma));
        let output = (self.network)(&self.schedule.model_input(x, sigma), timestep);
        let without = output.clone().map(|value| WITHOUT_PROMPT * value);
        Ok(Guided {
            denoised: self.schedule.denoised(x, output, sigma)?,
            unconditional: self.schedule.denoised(x, without, sigma)?,
        })
    }

    fn denoise_guided_at(&mut self, x: &HostTensor, timestep: usize) -> Result<Guided> {
        let output = (self.network)(x, timestep as f64);
        let without = output.clone().map(|value| WITHOUT_PROMPT * value);
        Ok(Guided {
            denoised: self.schedule.denoised_at(x, output, timestep)?,
            unconditional: self.schedule.denoised_at(x, without, timestep)?,
        })
    }
}

/// One generator for the whole batch, as a pipeline of diffusers with one generator.
pub(super) struct OneGenerator(pub(super) TorchGenerator);

/// The seed of paths where a test has no other.
const SEED_OF_PATHS: u64 = 0;

impl NoiseSource for OneGenerator {
    fn brownian(&self, shape: &[usize], sigma_min: f64, sigma_max: f64) -> BrownianNoise {
        BrownianNoise::new(
            (RngKind::TorchCpu, &vec![SEED_OF_PATHS; shape[0]]),
            shape,
            sigma_min,
            sigma_max,
        )
    }

    fn noise(&mut self, shape: &[usize]) -> HostTensor {
        self.0.randn(shape)
    }
}

/// The network of `tools/reference/sampler_cases.py`.
pub(super) fn neighbour_network(x: &HostTensor, timestep: f64) -> HostTensor {
    let t = timestep as f32;
    let width = x.shape()[x.shape().len() - 1];
    let mut output = x.clone();
    let rows = output
        .data_mut()
        .chunks_exact_mut(width)
        .zip(x.data().chunks_exact(width));
    for (row, input) in rows {
        for (index, value) in row.iter_mut().enumerate() {
            let neighbour = input[(index + width - 1) % width];
            *value = input[index] * (t / (t + 1.0)) + 0.2 * (neighbour / (1.0 + neighbour.abs()));
        }
    }
    output
}

/// The larger of two differences; NaN is larger than all.
fn worse(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// A scheduler made from JSON.
pub(super) fn scheduler(config: &Value, sampler: &str, steps: usize) -> Result<Scheduler> {
    Scheduler::new(
        &SchedulerConfig::from_json(config)?,
        &SchedulerRequest {
            sampler: Some(sampler),
            schedule: None,
            steps,
            noise: NoiseOptions::default(),
            levels: None,
            options: LevelOptions::default(),
            step_table: StepTable::Sd15,
        },
    )
}

/// A run from torch's noise of seed 5 never leaves the finite numbers.
#[track_caller]
fn stays_finite(scheduler: &Scheduler, what: &str) {
    let mut noise = SeededNoise::new(RngKind::TorchCpu, [5]);
    let start = scheduler.plan().start(noise.noise(&[1, 1, 4, 4]));
    let found = run(scheduler, start, &mut noise, neighbour_network);
    assert_eq!(found.first_non_finite(), None, "{what}");
}

/// Runs `scheduler` on `network` from `x`.
pub(super) fn run(
    scheduler: &Scheduler,
    x: HostTensor,
    noise: &mut dyn NoiseSource,
    network: impl FnMut(&HostTensor, f64) -> HostTensor,
) -> HostTensor {
    let mut denoiser = Dummy {
        schedule: scheduler.schedule(),
        plan: scheduler.plan(),
        network,
    };
    scheduler
        .sample(x, &mut denoiser, noise, &mut |_, _, _| Ok(()))
        .unwrap()
}
