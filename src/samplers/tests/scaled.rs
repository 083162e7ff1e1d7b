//! The loop of upstream's tests of the schedulers on sigmas, which hands `step` the latents scaled for the model.
//!
//! That is not how pipelines run; here each evaluation sees scaled latents and goes on from them.

use crate::HostTensor;
use crate::backend::scheduler::Scheduler;
use crate::samplers::{Coordinates, Denoiser, Guided, Plan, Run, SamplerKind, lms};

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
        let mut denoiser = Multistep {
            scheduler,
            plan,
            known: Vec::new(),
        };
        return sample(scheduler, plan, x, (&mut denoiser, noise));
    }
    plan.steps().iter().fold(x, |x, step| {
        let alone = Plan::new(vec![*step], Coordinates::VarianceExploding, 1.0).unwrap();
        let x = scheduler.schedule().model_input(&x, step.at.sigma);
        let mut denoiser = Single {
            scheduler,
            plan,
            asked: false,
        };
        sample(scheduler, &alone, x, (&mut denoiser, noise))
    })
}

fn sample(
    scheduler: &Scheduler,
    plan: &Plan,
    x: HostTensor,
    (denoiser, noise): (&mut dyn Denoiser, &mut OneGenerator),
) -> HostTensor {
    (scheduler.kind().spec().build)(scheduler.schedule().settings())
        .sample(
            x,
            &mut Run {
                plan,
                denoiser,
                noise,
                on_step: &mut |_, _, _| Ok(()),
            },
        )
        .unwrap()
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

/// For one step of a method without memory, whose first latents are scaled already.
struct Single<'a> {
    scheduler: &'a Scheduler,
    plan: &'a Plan,
    asked: bool,
}

impl Denoiser for Single<'_> {
    fn denoise(&mut self, x: &HostTensor, sigma: f64) -> crate::Result<HostTensor> {
        if !std::mem::replace(&mut self.asked, true) {
            return Ok(estimate(self.scheduler, self.plan, x, sigma));
        }
        // Upstream takes the slope at the scaled latents; the sampler takes it at its own.
        let scaled = self.scheduler.schedule().model_input(x, sigma);
        let denoised = estimate(self.scheduler, self.plan, &scaled, sigma);
        x.clone()
            .zip_map(&scaled, |x, scaled| x - scaled)?
            .zip_map(&denoised, |moved, denoised| moved + denoised)
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

/// For LMS over a whole run: answers so that the sampler's step from its own latents ends where upstream's from
/// the scaled ones does.
struct Multistep<'a> {
    scheduler: &'a Scheduler,
    plan: &'a Plan,
    /// Sigma, upstream's slope and the sampler's of each evaluation, the latest first.
    known: Vec<(f64, HostTensor, HostTensor)>,
}

impl Denoiser for Multistep<'_> {
    fn denoise(&mut self, x: &HostTensor, sigma: f64) -> crate::Result<HostTensor> {
        let scaled = self.scheduler.schedule().model_input(x, sigma);
        let denoised = estimate(self.scheduler, self.plan, &scaled, sigma);
        let slope = scaled
            .clone()
            .zip_map(&denoised, |x, denoised| (x - denoised) / sigma as f32)?;
        self.known.truncate(3);
        let mut nodes = vec![sigma];
        nodes.extend(self.known.iter().map(|(sigma, ..)| *sigma));
        let step = self
            .plan
            .steps()
            .iter()
            .find(|step| step.from.sigma.to_bits() == sigma.to_bits());
        let weights = lms::weights(&nodes, sigma, step.unwrap().to.sigma);
        let mut answered = slope.clone();
        for (index, value) in answered.data_mut().iter_mut().enumerate() {
            let at = |tensor: &HostTensor| f64::from(tensor.data()[index]);
            let older: f64 = self
                .known
                .iter()
                .zip(&weights[1..])
                .map(|((_, theirs, ours), weight)| weight * (at(theirs) - at(ours)))
                .sum();
            let missing = at(&scaled) - at(x) + older;
            *value += (missing / weights[0]) as f32;
        }
        let answer = x
            .clone()
            .zip_map(&answered, |x, slope| x - sigma as f32 * slope)?;
        self.known.insert(0, (sigma, slope, answered));
        Ok(answer)
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
