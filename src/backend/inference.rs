//! The denoiser that samplers see: UNet, guidance and prediction type behind `(x, sigma) -> denoised`.

use std::borrow::Cow;

use super::conditions::{Conditions, Told};
use super::scheduler::Scheduler;
use crate::error::{Error, ErrorKind, Result};
use crate::events::CancelToken;
use crate::guidance::{
    FreeU, Guide, Pag, Sag, SagRule, Turn, Weighted, add_difference, blurred, on_the_first,
};
use crate::host::HostTensor;
use crate::models::UNet2DCondition;
use crate::models::unet::{Attended, Blocks, Changes, PreparedConditioning};
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
    /// Perturbed attention guidance.
    pub(crate) pag: Option<Pag>,
    /// Self-attention guidance.
    pub(crate) sag: Option<Sag>,
    /// FreeU, in every prediction.
    pub(crate) freeu: Option<FreeU>,
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

    /// The share of the clean latents in these.
    fn signal(&self, scheduler: &Scheduler) -> Result<f64> {
        match self.place {
            Place::Sigma(_) => Ok(1.0),
            Place::Timestep(timestep) => Ok(scheduler.schedule().level(timestep)?.alpha_bar.sqrt()),
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

/// One question to the UNet.
#[derive(Clone, Copy)]
struct Ask {
    /// Number of the evaluation, by which texts change.
    index: usize,
    told: Told,
    /// Where self-attention is perturbed.
    identity: Option<Blocks>,
    /// Whether it shall say what the picture attends to.
    watch: bool,
}

impl Ask {
    fn of(index: usize, told: Told) -> Self {
        Self {
            index,
            told,
            identity: None,
            watch: false,
        }
    }
}

/// Predictions for the parts of the prompt with perturbed self-attention.
struct Perturbed {
    parts: Vec<Weighted>,
    scale: f64,
}

impl Perturbed {
    /// Moves `guided` away from them, from the predictions of the same `parts`.
    fn push_away(&self, guided: &mut HostTensor, parts: &[Weighted]) -> Result<()> {
        let pairs = parts.iter().zip(&self.parts);
        for ((part, weight), (perturbed, _)) in pairs {
            add_difference(guided, (weight * self.scale) as f32, (part, perturbed))?;
        }
        Ok(())
    }
}

/// What self-attention guidance found.
struct Degraded {
    /// Blurred clean latents.
    soft: HostTensor,
    /// What is predicted where they lie behind the noise: the UNet's output under diffusers' rule, clean latents under
    /// the other.
    found: HostTensor,
    sag: Sag,
}

impl Degraded {
    /// What is compared with the prediction itself, where that is the rule.
    fn prediction(&mut self) -> Option<&mut HostTensor> {
        (self.sag.rule == SagRule::Diffusers).then_some(&mut self.found)
    }

    /// Moves `guided` away from it, from `prediction`.
    fn push_away(&self, guided: &mut HostTensor, prediction: &HostTensor) -> Result<()> {
        match self.sag.rule {
            SagRule::Diffusers => {
                add_difference(guided, self.sag.scale as f32, (prediction, &self.found))
            }
            SagRule::Forge => Ok(()),
        }
    }

    /// Moves the guided clean latents away from what is predicted of the blurred ones.
    fn push_away_clean(&self, clean: &mut HostTensor) -> Result<()> {
        match self.sag.rule {
            SagRule::Diffusers => Ok(()),
            SagRule::Forge => {
                add_difference(clean, self.sag.scale as f32, (&self.soft, &self.found))
            }
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
            Turn::Prompt => self.prompted(question, index),
            Turn::Guided(scale) => self.guided(question, (index, scale)),
        }
    }

    /// With the prompt alone.
    fn prompted(&mut self, question: &Question<'_>, index: usize) -> Result<Estimates> {
        let scheduler = self.scheduler;
        let input = question.input(scheduler);
        let ask = Ask::of(index, Told::Prompt);
        let (parts, attended) = self.predict(&input, self.watched(ask))?;
        let perturbed = self.perturbed(&input, index)?;
        let mut degraded = None;
        let guided = if perturbed.is_none() && attended.is_none() {
            on_the_first(parts)?
        } else {
            let prompted = on_the_first(parts.clone())?;
            let mut guided = prompted.clone();
            if let Some(perturbed) = perturbed {
                perturbed.push_away(&mut guided, &parts)?;
            }
            degraded = self.degraded(question, ask, (&prompted, attended.as_ref()))?;
            if let Some(degraded) = &degraded {
                degraded.push_away(&mut guided, &prompted)?;
            }
            guided
        };
        self.require_finite(&guided, &input)?;
        Ok(Estimates {
            guided: cleaned(question.denoised(scheduler, guided)?, degraded.as_ref())?,
            unconditional: None,
        })
    }

    fn guided(&mut self, question: &Question<'_>, at: (usize, f64)) -> Result<Estimates> {
        let scheduler = self.scheduler;
        let input = question.input(scheduler);
        let ask = self.watched(Ask::of(at.0, Told::Both));
        let (mut parts, attended) = self.predict(&input, ask)?;
        let mut perturbed = self.perturbed(&input, at.0)?;
        let ask = Ask::of(at.0, Told::Negative);
        let mut degraded = self.degraded(question, ask, (&parts[0].0, attended.as_ref()))?;
        let estimates = self.guide.joins_estimates();
        if estimates {
            let perturbed = perturbed.iter_mut().flat_map(|it| &mut it.parts);
            let predictions = parts.iter_mut().chain(perturbed).map(|(part, _)| part);
            let compared = degraded.as_mut().and_then(Degraded::prediction);
            for part in predictions.chain(compared) {
                let output = std::mem::replace(part, HostTensor::zeros([0]));
                *part = question.denoised(scheduler, output)?;
            }
        }
        let (uncond, _) = parts.remove(0);
        let mut guided = self.guide.join(&uncond, &parts, at)?;
        if let Some(perturbed) = perturbed {
            perturbed.push_away(&mut guided, &parts)?;
        }
        if let Some(degraded) = &degraded {
            degraded.push_away(&mut guided, &uncond)?;
        }
        self.require_finite(&guided, &input)?;
        if estimates {
            return Ok(Estimates {
                guided: cleaned(guided, degraded.as_ref())?,
                unconditional: Some(uncond),
            });
        }
        let guided = self.guide.rescale(guided, &uncond, &parts)?;
        let unconditional = self.guide.plan.always_unconditional();
        Ok(Estimates {
            guided: cleaned(question.denoised(scheduler, guided)?, degraded.as_ref())?,
            unconditional: unconditional
                .then(|| question.denoised(scheduler, uncond))
                .transpose()?,
        })
    }

    /// What it predicts for the prompt where self-attention is perturbed.
    fn perturbed(&mut self, input: &Input<'_>, index: usize) -> Result<Option<Perturbed>> {
        let Some(pag) = self.pag else {
            return Ok(None);
        };
        let scale = pag.scale_at(input.timestep);
        if scale <= 0.0 {
            return Ok(None);
        }
        let ask = Ask {
            identity: Some(pag.blocks),
            ..Ask::of(index, Told::Prompt)
        };
        let (parts, _) = self.predict(input, ask)?;
        Ok(Some(Perturbed { parts, scale }))
    }

    /// What self-attention guidance makes of it: what it predicts where the latents behind `prediction` are blurred by what the picture attends to.
    fn degraded(
        &mut self,
        question: &Question<'_>,
        ask: Ask,
        (prediction, attended): (&HostTensor, Option<&Attended>),
    ) -> Result<Option<Degraded>> {
        let (Some(attended), Some(sag)) = (attended, self.sag) else {
            return Ok(None);
        };
        let scheduler = self.scheduler;
        let clean = question.denoised(scheduler, prediction.clone())?;
        let soft = blurred(clean.clone(), attended, &sag)?;
        // The noise stays what it was.
        let mut x = question.x.clone();
        let signal = question.signal(scheduler)? as f32;
        add_difference(&mut x, signal, (&soft, &clean))?;
        let question = Question {
            x: &x,
            place: question.place,
        };
        let (parts, _) = self.predict(&question.input(scheduler), ask)?;
        let mut found = on_the_first(parts)?;
        if sag.rule == SagRule::Forge {
            found = question.denoised(scheduler, found)?;
        }
        Ok(Some(Degraded { soft, found, sag }))
    }

    /// `ask`, watching what the picture attends to where self-attention guidance is on.
    fn watched(&self, ask: Ask) -> Ask {
        Ask {
            watch: self.sag.is_some(),
            ..ask
        }
    }

    /// What the UNet predicts for each text that holds at evaluation `index`, with its weight: the unconditional one
    /// first where it is told both, then the parts of the prompt; and if it is watched, what the first attends to.
    fn predict(
        &mut self,
        input: &Input<'_>,
        ask: Ask,
    ) -> Result<(Vec<Weighted>, Option<Attended>)> {
        let condition = self.conditions.at(ask.index, ask.told)?;
        let changes = Changes {
            freeu: self.freeu.filter(|freeu| {
                let steps = self.scheduler.plan().steps().len();
                let evaluations = self.scheduler.kind().spec().evaluations;
                freeu.holds_at(ask.index, steps, evaluations)
            }),
            identity: ask.identity,
            watch: ask.watch,
        };
        let mut attended = None;
        let mut items = Vec::with_capacity(condition.weights.len());
        for pass in &condition.passes {
            let (output, found) = self.forward(input, pass, &changes)?;
            attended = attended.or(found);
            self.passes += pass.batch();
            for item in 0..pass.batch() {
                items.push(output.item(item)?);
            }
        }
        let weights = condition.weights.iter().copied();
        Ok((items.into_iter().zip(weights).collect(), attended))
    }

    fn forward(
        &self,
        input: &Input<'_>,
        conditioning: &PreparedConditioning,
        changes: &Changes,
    ) -> Result<(HostTensor, Option<Attended>)> {
        let latents = HostTensor::concat(&vec![(*input.latents).clone(); conditioning.batch()])?;
        let sample = FeatureMap::from_host(self.engine, &latents)?;
        let timestep = input.timestep;
        let (output, attended) =
            self.unet
                .forward_changed(&sample, timestep, conditioning, changes)?;
        Ok((output.to_host()?, attended))
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

/// Guided clean latents, moved away from what self-attention guidance found where its rule is on them.
fn cleaned(mut clean: HostTensor, degraded: Option<&Degraded>) -> Result<HostTensor> {
    if let Some(degraded) = degraded {
        degraded.push_away_clean(&mut clean)?;
    }
    Ok(clean)
}
