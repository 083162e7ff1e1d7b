//! The levels a sampler visits, all known before the run begins.

use crate::error::{Error, Result};
use crate::host::HostTensor;

/// A point of the diffusion process in both coordinate systems.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoiseLevel {
    /// What the model is told: a training timestep, possibly between two.
    pub timestep: f64,
    /// Standard deviation of the noise relative to the clean latents, `sqrt((1 - ᾱ) / ᾱ)`.
    pub sigma: f64,
    /// `ᾱ`, the share of the clean latents' variance, 0 (pure noise) to 1 (clean).
    pub alpha_bar: f64,
}

impl NoiseLevel {
    /// The level of `sigma`, finite; the model is told `timestep`.
    pub fn from_sigma(timestep: f64, sigma: f64) -> Self {
        Self {
            timestep,
            sigma,
            alpha_bar: 1.0 / (sigma * sigma + 1.0),
        }
    }

    /// The level of `alpha_bar`, 0 to 1; the model is told `timestep`.
    pub fn from_alpha_bar(timestep: f64, alpha_bar: f64) -> Self {
        Self {
            timestep,
            sigma: ((1.0 - alpha_bar) / alpha_bar).sqrt(),
            alpha_bar,
        }
    }
}

/// One evaluation of the model and the update it serves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Where the model is asked.
    pub at: NoiseLevel,
    /// Where the update starts; differs from `at` in PNDM's Runge-Kutta and correction steps only.
    pub from: NoiseLevel,
    /// Where the update ends. Not always the next step's `from`: with linspace and trailing spacing
    /// diffusers' DDIM and PNDM go down by a fixed number of timesteps from wherever they are.
    pub to: NoiseLevel,
}

/// What a run visits.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    steps: Vec<Step>,
    coordinates: Coordinates,
    initial_scale: f64,
    skipped: Vec<Step>,
}

/// How a sampler writes noisy latents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coordinates {
    /// `x = x0 + sigma * noise`; the sampler calls [`Denoiser::denoise`](super::Denoiser::denoise).
    VarianceExploding,
    /// `x = sqrt(ᾱ) x0 + sqrt(1 - ᾱ) noise`; the sampler calls [`Denoiser::denoise_at`](super::Denoiser::denoise_at).
    VariancePreserving,
}

impl Plan {
    /// A plan over `levels`, each the end of the step before, in k-diffusion's coordinates.
    ///
    /// # Errors
    /// When there are fewer than two levels.
    pub fn through(levels: &[NoiseLevel], initial_scale: f64) -> Result<Self> {
        let steps = levels
            .windows(2)
            .map(|pair| Step {
                at: pair[0],
                from: pair[0],
                to: pair[1],
            })
            .collect();
        Self::new(steps, Coordinates::VarianceExploding, initial_scale)
    }

    /// A plan of given steps.
    ///
    /// # Errors
    /// When there is no step, or an infinite sigma in variance-exploding coordinates.
    pub fn new(steps: Vec<Step>, coordinates: Coordinates, initial_scale: f64) -> Result<Self> {
        if steps.is_empty() {
            return Err(Error::invalid("the plan has no step"));
        }
        let exploding = coordinates == Coordinates::VarianceExploding;
        if exploding && steps.iter().any(|step| !step.at.sigma.is_finite()) {
            return Err(Error::unsupported(
                "the schedule has infinite noise levels, which samplers in sigmas cannot visit",
            ));
        }
        Ok(Self {
            steps,
            coordinates,
            initial_scale,
            skipped: Vec::new(),
        })
    }

    /// The plan with every timestep the model is told rounded to a whole one.
    pub(super) fn with_whole_timesteps(mut self) -> Self {
        for step in &mut self.steps {
            for level in [&mut step.at, &mut step.from, &mut step.to] {
                level.timestep = level.timestep.round_ties_even();
            }
        }
        self
    }

    /// The steps in the order they are done.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How the sampler writes noisy latents.
    pub fn coordinates(&self) -> Coordinates {
        self.coordinates
    }

    /// What standard normal noise is multiplied with to make the first latents.
    pub fn initial_scale(&self) -> f64 {
        self.initial_scale
    }

    /// Where the run ends.
    pub fn last(&self) -> NoiseLevel {
        self.steps[self.steps.len() - 1].to
    }

    /// The timestep the model is told at exactly `sigma`, where the plan visits it.
    pub fn timestep_at(&self, sigma: f64) -> Option<f64> {
        self.steps
            .iter()
            .map(|step| step.at)
            .find(|level| level.sigma.to_bits() == sigma.to_bits())
            .map(|level| level.timestep)
    }

    /// The first latents of a run from nothing: `noise`, standard normal, at the first level.
    #[must_use]
    pub fn start(&self, noise: HostTensor) -> HostTensor {
        let scale = self.initial_scale as f32;
        noise.map(|value| value * scale)
    }

    /// The first latents of a run from a picture: `clean` with `noise`, standard normal, at the first
    /// level.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn start_from(&self, clean: HostTensor, noise: &HostTensor) -> Result<HostTensor> {
        let from = self.steps[0].from;
        let (signal, spread) = match self.coordinates {
            Coordinates::VarianceExploding => (1.0, from.sigma as f32),
            Coordinates::VariancePreserving => {
                let alpha_bar = from.alpha_bar as f32;
                (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt())
            }
        };
        clean.zip_map(noise, |clean, noise| signal * clean + spread * noise)
    }

    /// The plan without its first `count` steps, for runs that start from a picture.
    ///
    /// # Errors
    /// When nothing would be left.
    pub fn skip(&self, count: usize) -> Result<Self> {
        let (gone, left) = self.steps.split_at(count.min(self.steps.len()));
        let mut plan = Self::new(left.to_vec(), self.coordinates, self.initial_scale)?;
        plan.skipped = [&self.skipped, gone].concat();
        Ok(plan)
    }

    /// How many steps [`skip`](Self::skip) left out.
    pub fn skipped(&self) -> usize {
        self.skipped.len()
    }

    /// Where the steps begin that come before step `index` of the run, the nearest first, those left out included.
    pub(super) fn before(&self, index: usize) -> impl Iterator<Item = NoiseLevel> {
        let done = self.steps[..index].iter().rev();
        done.chain(self.skipped.iter().rev()).map(|step| step.from)
    }

    /// Steps of the whole plan, those left out included.
    pub fn full_len(&self) -> usize {
        self.skipped.len() + self.steps.len()
    }
}
