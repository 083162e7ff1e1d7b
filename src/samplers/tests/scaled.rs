//! The loop of upstream's tests of the schedulers on sigmas, which hands `step` the latents scaled for the model.
//!
//! That is not how pipelines run; here each evaluation sees scaled latents and goes on from them.

use std::collections::VecDeque;

use crate::HostTensor;
use crate::backend::scheduler::Scheduler;
use crate::samplers::{Coordinates, Denoiser, Guided, Lms, Plan, Run, SamplerKind, Step, lms};

use super::OneGenerator;
use super::oracles::network;

/// Runs `plan` from `x` as upstream's loop.
pub(super) fn play(
    scheduler: &Scheduler,
    plan: &Plan,
    x: HostTensor,
    noise: &mut OneGenerator,
) -> HostTensor {
    if scheduler.kind() == SamplerKind::Lms {
        let mut memory = Memory::default();
        let mut answer = |x: &HostTensor, sigma| memory.answer((scheduler, plan), x, sigma);
        return sample(scheduler, plan, x, (&mut answer, noise));
    }
    plan.steps().iter().fold(x, |x, step| {
        let alone = Plan::new(vec![*step], Coordinates::VarianceExploding, 1.0).unwrap();
        let x = scheduler.schedule().model_input(&x, step.at.sigma);
        let mut asked = false;
        let mut answer = |x: &HostTensor, sigma| {
            let first = !std::mem::replace(&mut asked, true);
            answer_of_step((scheduler, plan), x, sigma, first)
        };
        sample(scheduler, &alone, x, (&mut answer, noise))
    })
}

/// A denoiser in sigmas.
type Answer<'a> = dyn FnMut(&HostTensor, f64) -> HostTensor + 'a;

fn sample(
    scheduler: &Scheduler,
    plan: &Plan,
    x: HostTensor,
    (answer, noise): (&mut Answer<'_>, &mut OneGenerator),
) -> HostTensor {
    let mut run = Run {
        plan,
        denoiser: &mut InSigmas(answer),
        noise,
        on_step: &mut |_, _, _| Ok(()),
    };
    scheduler.sampler().sample(x, &mut run).unwrap()
}

/// For samplers that ask in sigmas and without guidance.
struct InSigmas<'a, 'b>(&'a mut Answer<'b>);

impl Denoiser for InSigmas<'_, '_> {
    fn denoise(&mut self, x: &HostTensor, sigma: f64) -> crate::Result<HostTensor> {
        Ok((self.0)(x, sigma))
    }
    fn denoise_at(&mut self, _: &HostTensor, timestep: usize) -> crate::Result<HostTensor> {
        panic!("a sampler in sigmas asked at timestep {timestep}")
    }
    fn denoise_guided(&mut self, _: &HostTensor, sigma: f64) -> crate::Result<Guided> {
        panic!("an unguided sampler asked for guidance at sigma {sigma}")
    }
    fn denoise_guided_at(&mut self, _: &HostTensor, timestep: usize) -> crate::Result<Guided> {
        panic!("an unguided sampler asked for guidance at timestep {timestep}")
    }
}

/// The estimate from latents that are scaled already.
fn estimate(scheduler: &Scheduler, plan: &Plan, scaled: &HostTensor, sigma: f64) -> HostTensor {
    let timestep = plan
        .timestep_at(sigma)
        .unwrap_or_else(|| scheduler.schedule().sigma_to_timestep(sigma));
    let output = network(scaled, timestep);
    scheduler
        .schedule()
        .denoised(scaled, output, sigma)
        .unwrap()
}

/// For one step of a method without memory, whose `first` latents are scaled already.
fn answer_of_step(
    (scheduler, plan): (&Scheduler, &Plan),
    x: &HostTensor,
    sigma: f64,
    first: bool,
) -> HostTensor {
    if first {
        return estimate(scheduler, plan, x, sigma);
    }
    // Upstream takes the slope at the scaled latents; the sampler takes it at its own.
    let scaled = scheduler.schedule().model_input(x, sigma);
    let denoised = estimate(scheduler, plan, &scaled, sigma);
    x.clone()
        .zip_map(&scaled, |x, scaled| x - scaled)
        .unwrap()
        .zip_map(&denoised, |moved, denoised| moved + denoised)
        .unwrap()
}

/// For LMS over a whole run: answers so that the sampler's step from its own latents ends where upstream's from
/// the scaled ones does.
#[derive(Default)]
struct Memory {
    /// Upstream's slope and the sampler's of each evaluation, the latest first.
    known: VecDeque<(HostTensor, HostTensor)>,
}

impl Memory {
    fn answer(
        &mut self,
        (scheduler, plan): (&Scheduler, &Plan),
        x: &HostTensor,
        sigma: f64,
    ) -> HostTensor {
        let scaled = scheduler.schedule().model_input(x, sigma);
        let denoised = estimate(scheduler, plan, &scaled, sigma);
        let slope = scaled
            .clone()
            .zip_map(&denoised, |x, denoised| (x - denoised) / sigma as f32)
            .unwrap();
        self.known.truncate(3);
        let is_it = |step: &Step| step.from.sigma.to_bits() == sigma.to_bits();
        let index = plan.steps().iter().position(is_it).unwrap();
        let of_checkpoint = Lms {
            counts_skipped: true,
        };
        let nodes = of_checkpoint.nodes(plan, index, self.known.len() + 1);
        let weights = lms::weights(&nodes, sigma, plan.steps()[index].to.sigma);
        let mut answered = slope.clone();
        for (index, value) in answered.data_mut().iter_mut().enumerate() {
            let at = |tensor: &HostTensor| f64::from(tensor.data()[index]);
            let older: f64 = self
                .known
                .iter()
                .zip(&weights[1..])
                .map(|((theirs, ours), weight)| weight * (at(theirs) - at(ours)))
                .sum();
            let missing = at(&scaled) - at(x) + older;
            *value += (missing / weights[0]) as f32;
        }
        let answer = x
            .clone()
            .zip_map(&answered, |x, slope| x - sigma as f32 * slope)
            .unwrap();
        self.known.push_front((slope, answered));
        answer
    }
}
