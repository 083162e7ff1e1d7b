//! Checkpoints whose own scheduler the webuis run otherwise than diffusers, and what is refused of them.

use serde_json::{Value, json};

use super::stays_finite;
use crate::backend::scheduler::{Scheduler, SchedulerConfig, SchedulerRequest};
use crate::error::{ErrorKind, Result};
use crate::samplers::schedule::{CustomLevels, LevelOptions, StepTable};
use crate::samplers::{NoiseOptions, SAMPLERS, SamplerKind};

const OWN: [(&str, SamplerKind); 7] = [
    ("HeunDiscreteScheduler", SamplerKind::Heun),
    ("LMSDiscreteScheduler", SamplerKind::Lms),
    ("KDPM2DiscreteScheduler", SamplerKind::Dpm2),
    (
        "KDPM2AncestralDiscreteScheduler",
        SamplerKind::Dpm2Ancestral,
    ),
    ("DPMSolverSinglestepScheduler", SamplerKind::Dpmpp2s),
    ("DEISMultistepScheduler", SamplerKind::DeisMultistep),
    ("SASolverScheduler", SamplerKind::SaSolver),
];

fn make(
    config: &Value,
    (sampler, schedule): (Option<&str>, Option<&str>),
    steps: usize,
) -> Result<Scheduler> {
    with_levels(config, (sampler, schedule), steps, None)
}

fn with_levels(
    config: &Value,
    (sampler, schedule): (Option<&str>, Option<&str>),
    steps: usize,
    levels: Option<&CustomLevels>,
) -> Result<Scheduler> {
    Scheduler::new(
        &SchedulerConfig::from_json(config)?,
        &SchedulerRequest {
            sampler,
            schedule,
            steps,
            noise: NoiseOptions::default(),
            levels,
            options: LevelOptions::default(),
            step_table: StepTable::Sd15,
        },
    )
}

fn sd15(class_name: &str) -> Value {
    json!({
        "_class_name": class_name, "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "timestep_spacing": "leading", "steps_offset": 1,
    })
}

fn sigmas(scheduler: &Scheduler) -> Vec<u64> {
    let steps = scheduler.plan().steps().iter();
    steps.map(|step| step.from.sigma.to_bits()).collect()
}

#[test]
fn the_checkpoints_own_scheduler_is_taken_and_runs_for_any_number_of_steps() {
    for (class_name, kind) in OWN {
        for spacing in ["leading", "linspace", "trailing"] {
            let mut config = sd15(class_name);
            config["timestep_spacing"] = json!(spacing);
            config["num_train_timesteps"] = json!(60);
            for curve in [
                None,
                Some("use_karras_sigmas"),
                Some("use_exponential_sigmas"),
            ] {
                let mut config = config.clone();
                if let Some(curve) = curve {
                    config[curve] = json!(true);
                }
                for steps in 1..=60 {
                    let scheduler = match make(&config, (None, None), steps) {
                        Ok(scheduler) => scheduler,
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
                            assert!(error.message().contains("step"), "{error}");
                            continue;
                        }
                    };
                    assert_eq!(scheduler.kind(), kind);
                    stays_finite(&scheduler, &format!("{class_name} {config} {steps}"));
                }
            }
        }
    }
}

#[test]
fn named_or_not_the_checkpoints_own_scheduler_has_its_own_levels() {
    for row in SAMPLERS.iter().filter(|row| row.of_checkpoint.is_some()) {
        let own = sd15(row.of_checkpoint.unwrap().class_names[0]);
        let chosen = sigmas(&make(&own, (None, None), 8).unwrap());
        let named = sigmas(&make(&own, (Some(row.name), None), 8).unwrap());
        assert_eq!(chosen, named, "{}", row.name);
        // On another checkpoint, or another schedule, the webui's.
        let other = sigmas(&make(&sd15("PNDMScheduler"), (Some(row.name), None), 8).unwrap());
        assert_ne!(chosen, other, "{}", row.name);
        let simple = |config: &Value| make(config, (Some(row.name), Some("simple")), 8).unwrap();
        assert_eq!(
            sigmas(&simple(&own)),
            sigmas(&simple(&sd15("PNDMScheduler"))),
            "{}",
            row.name
        );
        // Its own curve by name is its own curve.
        let mut karras = own.clone();
        karras["use_karras_sigmas"] = json!(true);
        let chosen = sigmas(&make(&karras, (None, None), 8).unwrap());
        let named = sigmas(&make(&karras, (Some(row.name), Some("karras")), 8).unwrap());
        assert_eq!(chosen, named, "{}", row.name);
        let levels = CustomLevels::Sigmas(vec![9.0, 3.0, 1.0]);
        let given = with_levels(&karras, (None, None), 8, Some(&levels)).unwrap();
        assert_eq!(given.plan().steps().len(), 3, "{}", row.name);
    }
}

#[test]
fn what_cannot_be_served_is_refused_by_name() {
    let cases = [
        (
            "HeunDiscreteScheduler",
            json!({"clip_sample": true}),
            "clip_sample",
        ),
        (
            "LMSDiscreteScheduler",
            json!({"use_karras_sigmas": true, "sigma_min": 0.1}),
            "sigma_min",
        ),
        (
            "SASolverScheduler",
            json!({"algorithm_type": "noise_prediction"}),
            "noise_prediction",
        ),
        (
            "SASolverScheduler",
            json!({"predictor_order": 5}),
            "predictor_order is 5",
        ),
        (
            "SASolverScheduler",
            json!({"corrector_order": 0}),
            "corrector_order is 0",
        ),
        (
            "DPMSolverSinglestepScheduler",
            json!({"algorithm_type": "sde-dpmsolver++"}),
            "sde-dpmsolver++",
        ),
        (
            "DPMSolverSinglestepScheduler",
            json!({"algorithm_type": "dpmsolver"}),
            "\"dpmsolver\"",
        ),
        (
            "DEISMultistepScheduler",
            json!({"use_flow_sigmas": true}),
            "use_flow_sigmas",
        ),
        (
            "KDPM2DiscreteScheduler",
            json!({"use_beta_sigmas": true}),
            "use_beta_sigmas",
        ),
    ];
    for (class_name, more, message) in cases {
        let mut config = sd15(class_name);
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        let error = make(&config, (None, None), 8).unwrap_err();
        assert!(error.message().contains(message), "{class_name}: {error}");
    }
    // diffusers reads these as what they run.
    for (class_name, algorithm) in [
        ("SASolverScheduler", "data_prediction"),
        ("DEISMultistepScheduler", "deis"),
        ("DEISMultistepScheduler", "dpmsolver"),
        ("DPMSolverSinglestepScheduler", "dpmsolver++"),
    ] {
        let mut config = sd15(class_name);
        config["algorithm_type"] = json!(algorithm);
        make(&config, (None, None), 8).unwrap();
    }
}
