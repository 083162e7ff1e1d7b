//! The scheduler: a sampler joined with the levels of one run.

use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::samplers::registry::{self, SamplerKind};
use crate::samplers::schedule::ScheduleKind;
use crate::samplers::{Denoiser, NoiseSource, OnStep, Plan, PredictionType, Run, Sampler};

pub use crate::samplers::schedule::{NoiseSchedule, SchedulerConfig, Settings};

/// What the caller says about sampling; everything else is the checkpoint's.
#[derive(Debug, Clone, PartialEq)]
pub struct SchedulerRequest<'a> {
    /// Name of a sampler, maybe with that of a schedule behind it; `None` is the checkpoint's own.
    pub sampler: Option<&'a str>,
    /// Name of a schedule; `None` is the sampler's own.
    pub schedule: Option<&'a str>,
    /// Denoising steps, 1 to the number of training steps.
    pub steps: usize,
    /// Stochasticity of DDIM, 0 to 1.
    pub eta: f64,
}

/// A sampler and the levels it visits, ready to run.
#[derive(Debug)]
pub struct Scheduler {
    kind: SamplerKind,
    schedule: NoiseSchedule,
    plan: Plan,
    sampler: Box<dyn Sampler>,
}

impl Scheduler {
    /// Chooses the sampler, reads the checkpoint's configuration for it and decides every level.
    ///
    /// # Errors
    /// `InvalidConfig` for unknown names, a schedule or eta the sampler does not take and a number of steps
    /// it cannot make; `Unsupported` for what the checkpoint asks and cannot be served.
    pub fn new(config: &SchedulerConfig, request: &SchedulerRequest<'_>) -> Result<Self> {
        let (kind, joined) = choose_sampler(config, request)?;
        let named = request.schedule.map(str::parse).transpose()?;
        let spec = kind.spec();
        let mut settings = config.resolve(&spec.defaults)?;
        settings.eta = check_eta(kind, request.eta)?;
        if let Some(sigmas) = agree(joined, named)? {
            check_schedule(kind, sigmas)?;
            settings.sigmas = sigmas;
        }
        check_steps(request.steps, settings.num_train_timesteps)?;
        let sampler = (spec.build)(&settings);
        let schedule = NoiseSchedule::new(settings);
        let plan = (spec.plan)(&schedule, request.steps)?;
        refuse_noise_from_noise(&schedule, &plan)?;
        Ok(Self {
            kind,
            schedule,
            plan,
            sampler,
        })
    }

    /// Which sampler.
    pub fn kind(&self) -> SamplerKind {
        self.kind
    }

    /// The levels of training.
    pub fn schedule(&self) -> &NoiseSchedule {
        &self.schedule
    }

    /// The levels of this run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes `x`, (B, C, H, W) at the plan's first level, to clean latents.
    ///
    /// # Errors
    /// Whatever the denoiser or `on_step` fails with.
    pub fn sample(
        &self,
        x: HostTensor,
        denoiser: &mut dyn Denoiser,
        noise: &mut dyn NoiseSource,
        on_step: &mut OnStep<'_>,
    ) -> Result<HostTensor> {
        let mut run = Run {
            plan: &self.plan,
            denoiser,
            noise,
            on_step,
        };
        self.sampler.sample(x, &mut run)
    }
}

fn choose_sampler(
    config: &SchedulerConfig,
    request: &SchedulerRequest<'_>,
) -> Result<(SamplerKind, Option<ScheduleKind>)> {
    let class_name = config.class_name.as_deref().unwrap_or("");
    // These classes say how the network's input and output are scaled, not only how it is sampled.
    if class_name.starts_with("EDM") || class_name.starts_with("FlowMatch") {
        return Err(Error::unsupported(format!(
            "the checkpoint was trained for {class_name}, whose preconditioning is not supported"
        )));
    }
    match request.sampler {
        Some(name) => registry::parse_sampler(name),
        None if class_name.is_empty() => Ok((SamplerKind::Ddim, None)),
        None => Ok((registry::sampler_for_scheduler_class(class_name)?, None)),
    }
}

/// One schedule out of a joined name's and an explicit one.
fn agree(
    joined: Option<ScheduleKind>,
    named: Option<ScheduleKind>,
) -> Result<Option<ScheduleKind>> {
    match (joined, named) {
        (Some(joined), Some(named)) if joined != named => Err(Error::invalid(format!(
            "the sampler's name asks for the {joined} schedule, the schedule setting for {named}"
        ))),
        (joined, named) => Ok(named
            .or(joined)
            .filter(|kind| *kind != ScheduleKind::Automatic)),
    }
}

fn check_schedule(kind: SamplerKind, sigmas: ScheduleKind) -> Result<()> {
    use crate::samplers::Coordinates;
    if kind.spec().coordinates == Coordinates::VarianceExploding {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{kind} runs on the timesteps of training and takes no schedule, found {sigmas}"
    ))
    .with_hint("leave the schedule out or choose another sampler"))
}

fn check_eta(kind: SamplerKind, eta: f64) -> Result<f64> {
    if kind != SamplerKind::Ddim && eta != 0.0 {
        return Err(Error::invalid(format!(
            "eta is {eta}, but {kind} takes none"
        )));
    }
    if !(0.0..=1.0).contains(&eta) {
        return Err(Error::invalid(format!(
            "eta is {eta}, expected a number from 0 to 1"
        )));
    }
    Ok(eta)
}

fn check_steps(steps: usize, limit: usize) -> Result<()> {
    if (1..=limit).contains(&steps) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "steps is {steps}, expected 1 to {limit}, the number of training steps"
    )))
}

/// A network that predicts the noise cannot say anything about latents that are nothing else.
fn refuse_noise_from_noise(schedule: &NoiseSchedule, plan: &Plan) -> Result<()> {
    let settings = schedule.settings();
    let starts_at_noise = plan.steps().iter().any(|step| step.at.alpha_bar <= 0.0);
    if starts_at_noise && settings.prediction_type == PredictionType::Epsilon {
        return Err(Error::unsupported(
            "the schedule begins at pure noise (rescale_betas_zero_snr), where a network that predicts epsilon says nothing",
        )
        .with_hint("choose a sampler that works in sigmas, such as euler"));
    }
    Ok(())
}
