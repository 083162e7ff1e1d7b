//! The scheduler: a sampler joined with the levels of one run.

use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::samplers::registry::{self, SamplerKind, SamplerSpec};
use crate::samplers::schedule::{CustomLevels, LevelOptions, LevelRules, ScheduleKind, StepTable};
use crate::samplers::{
    Coordinates, Denoiser, NoiseOptions, NoiseSource, OnStep, Plan, PredictionType, Run, Sampler,
};

pub use crate::samplers::schedule::{NoiseSchedule, SchedulerConfig, Settings};
pub use crate::samplers::{Ddim, Euler};

/// What the caller says about sampling; everything else is the checkpoint's.
#[derive(Debug, Clone, PartialEq)]
pub struct SchedulerRequest<'a> {
    /// Name of a sampler, maybe with that of a schedule behind it; `None` is the checkpoint's own.
    pub sampler: Option<&'a str>,
    /// Name of a schedule; `None` is the sampler's own.
    pub schedule: Option<&'a str>,
    /// Denoising steps, 1 to the number of training steps; `levels` decide where they are given.
    pub steps: usize,
    /// The sampler's randomness.
    pub noise: NoiseOptions,
    /// The caller's own levels, in place of a schedule.
    pub levels: Option<&'a CustomLevels>,
    /// What else is said about levels.
    pub options: LevelOptions,
    /// Which published table a schedule that is one takes.
    pub step_table: StepTable,
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
        let chosen = agree(joined, named)?;
        let (mut settings, plan, build) = read(config, spec, chosen, request)?;
        settings.randomness = request.noise.resolve(&spec.takes, spec.name)?;
        settings.step_table = request.step_table;
        if let Some(sigmas) = chosen {
            check_schedule(kind, sigmas)?;
            settings.sigmas = sigmas;
        }
        apply_options(&mut settings, spec, request)?;
        if let Some(levels) = request.levels {
            levels.check()?;
            request.options.refuse_all("a run on levels of your own")?;
            if let Some(sigmas) = chosen {
                return Err(Error::invalid(format!(
                    "both the {sigmas} schedule and levels of your own are given, expected one"
                )));
            }
            settings.custom = Some(levels.clone());
        }
        check_steps(request.steps, settings.num_train_timesteps)?;
        let sampler = build(&settings);
        let schedule = NoiseSchedule::new(settings);
        let plan = plan(&schedule, request.steps)?;
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

    /// What takes latents through the plan.
    pub fn sampler(&self) -> &dyn Sampler {
        self.sampler.as_ref()
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
        None => {
            refuse_algorithm(config)?;
            let kind = registry::sampler_for_scheduler_class(class_name)?;
            let bh1 = config.solver_type.as_deref() == Some("bh1");
            match kind {
                SamplerKind::UniPcBh2 if bh1 => Ok((SamplerKind::UniPc, None)),
                kind => Ok((kind, None)),
            }
        }
    }
}

/// What decides the levels of a run of so many steps.
type MakePlan = fn(&NoiseSchedule, usize) -> Result<Plan>;

/// What makes the sampler.
type Build = fn(&Settings) -> Box<dyn Sampler>;

/// The checkpoint's configuration as the sampler reads it, and what makes its plan and the sampler. A checkpoint's own scheduler
/// runs as diffusers runs it, unless the caller wants other levels.
fn read(
    config: &SchedulerConfig,
    spec: &SamplerSpec,
    chosen: Option<ScheduleKind>,
    request: &SchedulerRequest<'_>,
) -> Result<(Settings, MakePlan, Build)> {
    let class_name = config.class_name.as_deref().unwrap_or("");
    if spec.coordinates == Coordinates::VarianceExploding && request.options.are_set() {
        let settings = config.of_training().resolve(&spec.defaults)?;
        return Ok((settings, spec.plan, spec.build));
    }
    let own = spec
        .of_checkpoint
        .filter(|own| own.class_names.contains(&class_name) && request.levels.is_none());
    if let Some(own) = own {
        let settings = config.resolve(&own.defaults)?;
        if chosen.is_none_or(|chosen| chosen == settings.sigmas) {
            return Ok((settings, own.plan, own.build));
        }
    }
    Ok((config.resolve(&spec.defaults)?, spec.plan, spec.build))
}

/// DPM-Solver's other algorithms share a class name with the one there is.
fn refuse_algorithm(config: &SchedulerConfig) -> Result<()> {
    let class_name = config.class_name.as_deref().unwrap_or("");
    match config.algorithm_type.as_deref() {
        // diffusers itself reads "deis" as dpmsolver++ here.
        None | Some("dpmsolver++" | "deis") => Ok(()),
        Some("data_prediction") if class_name == "SASolverScheduler" => Ok(()),
        // diffusers' DEIS reads this as its own.
        Some("dpmsolver") if class_name == "DEISMultistepScheduler" => Ok(()),
        Some(other) => Err(Error::unsupported(format!(
            "scheduler_config.json sets algorithm_type to {other:?}, which is not supported"
        ))
        .with_hint("name a sampler yourself; dpmpp_2m is the nearest")),
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
    let spec = kind.spec();
    if spec.takes_schedule(sigmas) {
        return Ok(());
    }
    let webui = ScheduleKind::DdimUniform;
    let but = if spec.takes_schedule(webui) {
        format!(" but {webui}, the webui's")
    } else {
        String::new()
    };
    Err(Error::invalid(format!(
        "{kind} runs on the timesteps of training and takes no schedule{but}, found {sigmas}"
    ))
    .with_hint("leave the schedule out or choose another sampler"))
}

/// Puts the caller's wishes about levels in force, or says why the sampler has no place for them.
fn apply_options(
    settings: &mut Settings,
    spec: &SamplerSpec,
    request: &SchedulerRequest<'_>,
) -> Result<()> {
    let options = request.options;
    options.check()?;
    settings.options = options;
    if let Some(discard) = options.discard_penultimate {
        settings.discard_penultimate = discard;
    }
    if spec.coordinates == Coordinates::VarianceExploding {
        return Ok(());
    }
    options.refuse_all(spec.name)?;
    if options.full_start {
        return Err(Error::invalid(format!(
            "full_start is set, but {} works on latents that keep their variance",
            spec.name
        )));
    }
    let webui = ScheduleKind::DdimUniform;
    match options.rules {
        LevelRules::Checkpoint => Ok(()),
        LevelRules::Webui | LevelRules::Forge if spec.takes_schedule(webui) => {
            if request.levels.is_none() {
                settings.sigmas = webui;
            }
            Ok(())
        }
        rules => Err(Error::invalid(format!(
            "levels_as is {rules}, but {} runs on training timesteps as diffusers does",
            spec.name
        ))
        .with_hint("leave levels_as out or choose another sampler")),
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ErrorKind;

    fn make(config: &serde_json::Value, request: &SchedulerRequest<'_>) -> Result<Scheduler> {
        Scheduler::new(&SchedulerConfig::from_json(config)?, request)
    }

    const NONE: NoiseOptions = NoiseOptions {
        eta: None,
        s_churn: None,
        s_tmin: None,
        s_tmax: None,
        s_noise: None,
    };

    const REQUEST: SchedulerRequest<'static> = SchedulerRequest {
        sampler: None,
        schedule: None,
        steps: 20,
        noise: NONE,
        levels: None,
        options: NO_OPTIONS,
        step_table: StepTable::Sd15,
    };

    const NO_OPTIONS: LevelOptions = LevelOptions {
        rules: LevelRules::Checkpoint,
        rho: None,
        sigma_min: None,
        sigma_max: None,
        discard_penultimate: None,
        full_start: false,
    };

    #[test]
    fn the_checkpoint_chooses_unless_the_user_does() {
        let config = json!({"_class_name": "PNDMScheduler", "skip_prk_steps": true});
        let own = make(&config, &REQUEST).unwrap();
        assert_eq!(own.kind(), SamplerKind::Pndm);
        let named = SchedulerRequest {
            sampler: Some("Euler a"),
            ..REQUEST
        };
        let named = make(&config, &named).unwrap();
        assert_eq!(named.kind(), SamplerKind::EulerAncestral);
    }

    #[test]
    fn an_unsupported_class_is_an_error_only_without_a_sampler() {
        let config = json!({"_class_name": "CogVideoXDDIMScheduler"});
        let error = make(&config, &REQUEST).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("CogVideoXDDIM"), "{error}");
        assert!(error.hint().unwrap().contains("dpmpp_2m"), "{error}");
        let named = SchedulerRequest {
            sampler: Some("dpmpp_2m"),
            ..REQUEST
        };
        assert!(make(&config, &named).is_ok());
    }

    #[test]
    fn another_algorithm_of_a_known_class_is_refused_only_without_a_sampler() {
        let config = json!({
            "_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++",
        });
        let error = make(&config, &REQUEST).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("algorithm_type"), "{error}");
        let named = SchedulerRequest {
            sampler: Some("dpmpp_2m"),
            ..REQUEST
        };
        assert!(make(&config, &named).is_ok());
    }

    #[test]
    fn another_preconditioning_is_refused_with_any_sampler() {
        for class_name in ["EDMEulerScheduler", "FlowMatchEulerDiscreteScheduler"] {
            let config = json!({"_class_name": class_name});
            let named = SchedulerRequest {
                sampler: Some("euler"),
                ..REQUEST
            };
            for request in [REQUEST, named] {
                let error = make(&config, &request).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                assert!(error.message().contains(class_name), "{error}");
            }
        }
    }

    fn eta(eta: f64) -> NoiseOptions {
        NoiseOptions {
            eta: Some(eta),
            ..NONE
        }
    }

    fn assert_invalid(cases: &[(SchedulerRequest<'_>, &str)]) {
        for (request, message) in cases {
            let error = make(&json!({"_class_name": "DDIMScheduler"}), request).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
            assert!(error.message().contains(message), "{error}");
        }
    }

    #[test]
    fn bad_numbers_are_named() {
        assert_invalid(&[
            (
                SchedulerRequest {
                    steps: 0,
                    ..REQUEST
                },
                "steps is 0",
            ),
            (
                SchedulerRequest {
                    steps: 1001,
                    ..REQUEST
                },
                "steps is 1001, expected 1 to 1000",
            ),
            (
                SchedulerRequest {
                    sampler: Some("lcm"),
                    steps: 51,
                    ..REQUEST
                },
                "50 steps",
            ),
            (
                SchedulerRequest {
                    sampler: Some("dpmpp_2m"),
                    noise: eta(0.5),
                    ..REQUEST
                },
                "eta is 0.5",
            ),
            (
                SchedulerRequest {
                    sampler: Some("ddim"),
                    noise: eta(1.5),
                    ..REQUEST
                },
                "eta is 1.5",
            ),
            (
                SchedulerRequest {
                    sampler: Some("ddim"),
                    noise: eta(f64::NAN),
                    ..REQUEST
                },
                "eta is NaN",
            ),
            (
                SchedulerRequest {
                    sampler: Some("euler_a"),
                    noise: NoiseOptions {
                        s_churn: Some(1.0),
                        ..NONE
                    },
                    ..REQUEST
                },
                "s_churn is 1, but euler_a takes none",
            ),
        ]);
    }

    #[test]
    fn bad_names_are_named() {
        assert_invalid(&[
            (
                SchedulerRequest {
                    sampler: Some("unipsi"),
                    ..REQUEST
                },
                "unknown sampler \"unipsi\"",
            ),
            (
                SchedulerRequest {
                    schedule: Some("kaas"),
                    ..REQUEST
                },
                "unknown schedule \"kaas\"",
            ),
            (
                SchedulerRequest {
                    schedule: Some("karras"),
                    ..REQUEST
                },
                "takes no schedule",
            ),
            (
                SchedulerRequest {
                    sampler: Some("DPM++ 2M Karras"),
                    schedule: Some("exponential"),
                    ..REQUEST
                },
                "asks for the karras schedule, the schedule setting for exponential",
            ),
        ]);
    }

    #[test]
    fn levels_of_ones_own_are_checked() {
        let sigmas = |values: &[f64]| CustomLevels::Sigmas(values.to_vec());
        let timesteps = |values: &[usize]| CustomLevels::Timesteps(values.to_vec());
        let cases = [
            ("euler", None, sigmas(&[]), "0 sigmas"),
            (
                "euler",
                None,
                sigmas(&[5.0, 7.0]),
                "sigmas do not fall: 7 follows 5",
            ),
            (
                "euler",
                None,
                sigmas(&[5.0, 5.0]),
                "sigmas do not fall: 5 follows 5",
            ),
            ("euler", None, sigmas(&[f64::NAN]), "sigmas hold NaN"),
            ("euler", None, sigmas(&[-1.0]), "sigmas hold -1"),
            ("euler", None, sigmas(&[0.0]), "begin with 0"),
            ("euler", None, sigmas(&[1e9]), "sigmas hold 1000000000"),
            (
                "euler",
                None,
                timesteps(&[1000, 5]),
                "timestep 1000 lies beyond",
            ),
            ("ddim", None, timesteps(&[5, 800]), "timesteps do not fall"),
            (
                "ddim",
                None,
                timesteps(&[1000]),
                "timestep 1000 lies beyond",
            ),
            ("ddim", None, sigmas(&[5.0]), "takes no sigmas"),
            ("pndm", None, timesteps(&[5]), "takes neither"),
            (
                "euler",
                Some("karras"),
                sigmas(&[5.0]),
                "both the karras schedule",
            ),
        ];
        for (sampler, schedule, levels, message) in &cases {
            let request = SchedulerRequest {
                sampler: Some(sampler),
                schedule: *schedule,
                levels: Some(levels),
                ..REQUEST
            };
            assert_invalid(&[(request, message)]);
        }
        for (sampler, levels) in [
            ("euler", sigmas(&[14.0, 5.0, 1.0])),
            ("dpmpp_2m", timesteps(&[999, 500, 20])),
            ("lcm", timesteps(&[999, 500, 20])),
            ("ddim", timesteps(&[999, 500, 20])),
        ] {
            let request = SchedulerRequest {
                sampler: Some(sampler),
                levels: Some(&levels),
                ..REQUEST
            };
            let made = make(&json!({"_class_name": "DDIMScheduler"}), &request).unwrap();
            assert_eq!(made.plan().steps().len(), 3, "{sampler}");
        }
    }

    #[test]
    fn epsilon_cannot_begin_at_pure_noise() {
        let mut config = json!({
            "_class_name": "DDIMScheduler", "rescale_betas_zero_snr": true, "timestep_spacing": "trailing",
        });
        let error = make(&config, &REQUEST).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        config["prediction_type"] = json!("v_prediction");
        let scheduler = make(&config, &REQUEST).unwrap();
        assert!(scheduler.plan().steps()[0].at.sigma.is_infinite());
    }
}
