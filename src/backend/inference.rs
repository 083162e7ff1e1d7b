//! The denoiser that samplers see: UNet, guidance and prediction type behind `(x, sigma) -> denoised`.

use std::borrow::Cow;

use super::conditions::{Conditions, Told};
use super::scheduler::Scheduler;
use crate::error::{Error, ErrorKind, Result};
use crate::events::CancelToken;
use crate::guidance::{Guide, Turn, Weighted, on_the_first};
use crate::host::HostTensor;
use crate::models::UNet2DCondition;
use crate::models::unet::PreparedConditioning;
use crate::nn::{Engine, FeatureMap};
use crate::samplers::{Denoiser, Guided};

/// A UNet with its conditioning, as one function from noisy to clean latents.
pub(crate) struct GuidedDenoiser<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) unet: &'a UNet2DCondition,
    /// Knows each level's exact timestep, and what the model predicts.
    pub(crate) scheduler: &'a Scheduler,
    /// What the UNet is told, by evaluation.
    pub(crate) conditions: Conditions<'a>,
    /// How its predictions become one.
    pub(crate) guide: Guide<'a>,
    pub(crate) cancel: &'a CancelToken,
    /// Model evaluations so far, by which guidance and prompts are timed.
    pub(crate) evaluations: usize,
    /// Predictions of the UNet so far: one for each item of each batch.
    pub(crate) passes: usize,
}

impl Denoiser for GuidedDenoiser<'_> {
    fn denoise(&mut self, x: &HostTensor, sigma: f64) -> Result<HostTensor> {
        Ok(self.estimate(&Question::at_sigma(x, sigma))?.guided)
    }

    fn denoise_guided(&mut self, x: &HostTensor, sigma: f64) -> Result<Guided> {
        self.estimate(&Question::at_sigma(x, sigma))?.both()
    }

    fn denoise_guided_at(&mut self, x: &HostTensor, timestep: usize) -> Result<Guided> {
        self.estimate(&Question::at_timestep(x, timestep))?.both()
    }

    fn denoise_at(&mut self, x: &HostTensor, timestep: usize) -> Result<HostTensor> {
        Ok(self.estimate(&Question::at_timestep(x, timestep))?.guided)
    }
}

/// Noisy latents and where they are.
#[derive(Clone, Copy)]
struct Question<'x> {
    x: &'x HostTensor,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    Sigma(f64),
    Timestep(usize),
}

impl<'x> Question<'x> {
    fn at_sigma(x: &'x HostTensor, sigma: f64) -> Self {
        let place = Place::Sigma(sigma);
        Self { x, place }
    }

    fn at_timestep(x: &'x HostTensor, timestep: usize) -> Self {
        let place = Place::Timestep(timestep);
        Self { x, place }
    }

    fn sigma(&self, scheduler: &Scheduler) -> Result<f64> {
        match self.place {
            Place::Sigma(sigma) => Ok(sigma),
            Place::Timestep(timestep) => Ok(scheduler.schedule().level(timestep)?.sigma),
        }
    }

    /// What the UNet is given: the scaled latents and the timestep.
    fn input(&self, scheduler: &Scheduler) -> Input<'x> {
        let schedule = scheduler.schedule();
        match self.place {
            Place::Sigma(sigma) => Input {
                latents: Cow::Owned(schedule.model_input(self.x, sigma)),
                timestep: scheduler
                    .plan()
                    .timestep_at(sigma)
                    .unwrap_or_else(|| schedule.sigma_to_timestep(sigma)),
            },
            Place::Timestep(timestep) => Input {
                latents: Cow::Borrowed(self.x),
                timestep: timestep as f64,
            },
        }
    }

    /// The clean latents, from what the UNet predicts.
    fn denoised(&self, scheduler: &Scheduler, output: HostTensor) -> Result<HostTensor> {
        let schedule = scheduler.schedule();
        match self.place {
            Place::Sigma(sigma) => schedule.denoised(self.x, output, sigma),
            Place::Timestep(timestep) => schedule.denoised_at(self.x, output, timestep),
        }
    }
}

struct Input<'x> {
    latents: Cow<'x, HostTensor>,
    timestep: f64,
}

/// Estimates of the clean latents.
struct Estimates {
    guided: HostTensor,
    /// Only where the sampler asks for it.
    unconditional: Option<HostTensor>,
}

impl Estimates {
    fn both(self) -> Result<Guided> {
        match self.unconditional {
            Some(unconditional) => Ok(Guided {
                denoised: self.guided,
                unconditional,
            }),
            None => Err(Error::new(
                ErrorKind::Unsupported,
                "this sampler needs an unconditional estimate, which this model does not make",
            )
            .with_hint("choose a sampler without CFG++")),
        }
    }
}

impl GuidedDenoiser<'_> {
    fn estimate(&mut self, question: &Question<'_>) -> Result<Estimates> {
        self.cancel.check()?;
        let scheduler = self.scheduler;
        let index = self.evaluations;
        self.evaluations += 1;
        match self.guide.plan.turn(index, question.sigma(scheduler)?) {
            Turn::Zero => {
                let zeros = HostTensor::zeros(question.x.shape());
                let guided = question.denoised(scheduler, zeros)?;
                Ok(Estimates {
                    unconditional: Some(guided.clone()),
                    guided,
                })
            }
            Turn::Prompt => {
                let input = question.input(scheduler);
                let parts = self.predict(&input, index, Told::Prompt)?;
                let guided = on_the_first(parts)?;
                self.require_finite(&guided, &input)?;
                Ok(Estimates {
                    guided: question.denoised(scheduler, guided)?,
                    unconditional: None,
                })
            }
            Turn::Guided(scale) => self.guided(question, (index, scale)),
        }
    }

    fn guided(&mut self, question: &Question<'_>, at: (usize, f64)) -> Result<Estimates> {
        let scheduler = self.scheduler;
        let input = question.input(scheduler);
        let mut parts = self.predict(&input, at.0, Told::Both)?;
        let estimates = self.guide.joins_estimates();
        if estimates {
            for (part, _) in &mut parts {
                let output = std::mem::replace(part, HostTensor::zeros([0]));
                *part = question.denoised(scheduler, output)?;
            }
        }
        let (uncond, _) = parts.remove(0);
        let guided = self.guide.join(&uncond, &parts, at)?;
        self.require_finite(&guided, &input)?;
        if estimates {
            return Ok(Estimates {
                guided,
                unconditional: Some(uncond),
            });
        }
        let guided = self.guide.rescale(guided, &uncond, &parts)?;
        let unconditional = self.guide.plan.always_unconditional();
        Ok(Estimates {
            guided: question.denoised(scheduler, guided)?,
            unconditional: unconditional
                .then(|| question.denoised(scheduler, uncond))
                .transpose()?,
        })
    }

    /// What the UNet predicts for each text that holds at evaluation `index`, with its weight: the unconditional one
    /// first where it is told both, then the parts of the prompt.
    fn predict(&mut self, input: &Input<'_>, index: usize, told: Told) -> Result<Vec<Weighted>> {
        let condition = self.conditions.at(index, told)?;
        let mut items = Vec::with_capacity(condition.weights.len());
        for pass in &condition.passes {
            let output = self.forward(input, pass)?;
            self.passes += pass.batch();
            for item in 0..pass.batch() {
                items.push(output.item(item)?);
            }
        }
        Ok(items
            .into_iter()
            .zip(condition.weights.iter().copied())
            .collect())
    }

    fn forward(
        &self,
        input: &Input<'_>,
        conditioning: &PreparedConditioning,
    ) -> Result<HostTensor> {
        let latents = HostTensor::concat(&vec![(*input.latents).clone(); conditioning.batch()])?;
        let sample = FeatureMap::from_host(self.engine, &latents)?;
        self.unet
            .forward(&sample, input.timestep, conditioning)?
            .to_host()
    }

    fn require_finite(&self, prediction: &HostTensor, input: &Input<'_>) -> Result<()> {
        let Some(index) = prediction.first_non_finite() else {
            return Ok(());
        };
        let found = prediction.data()[index];
        let timestep = input.timestep;
        Err(Error::new(
            ErrorKind::NonFinite,
            format!(
                "the unet's prediction at evaluation {} (timestep {timestep}) holds {found} at element {index}, \
                 expected finite numbers",
                self.evaluations
            ),
        )
        .with_hint("try `--dtype f32`; if it persists the checkpoint's weights are damaged"))
    }
}
