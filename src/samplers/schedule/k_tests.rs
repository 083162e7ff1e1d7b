//! The webuis' schedules against those recorded by `tools/reference/k_sampler_cases.py`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::backend::scheduler::{Scheduler, SchedulerRequest};
use crate::samplers::NoiseOptions;

/// Worst difference that is let pass, in sigma's own unit.
const TOLERANCE: f64 = 1e-5;

fn schedule_of(kind: ScheduleKind, step_table: StepTable) -> NoiseSchedule {
    let config =
        json!({"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"});
    let mut settings = SchedulerConfig::from_json(&config)
        .unwrap()
        .resolve(&Defaults::COMMON)
        .unwrap();
    settings.sigmas = kind;
    settings.step_table = step_table;
    NoiseSchedule::new(settings)
}

/// Worst difference of each schedule to its record.
pub(in crate::samplers) fn worst_differences() -> BTreeMap<&'static str, f64> {
    let record: Value = serde_json::from_str(include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/samplers/schedules.json"
    )))
    .unwrap();
    let mut worst = BTreeMap::new();
    for case in record["cases"].as_array().unwrap() {
        let name = case["schedule"].as_str().unwrap();
        let (name, table) = match name.strip_suffix("_sdxl") {
            Some(name) => (name, StepTable::Sdxl),
            None => (name, StepTable::Sd15),
        };
        let kind: ScheduleKind = name.parse().unwrap();
        let steps = usize::try_from(case["steps"].as_u64().unwrap()).unwrap();
        let found = levels::sigmas(&schedule_of(kind, table), steps).unwrap();
        let expected: Vec<f64> = serde_json::from_value(case["sigmas"].clone()).unwrap();
        assert_eq!(found.len(), expected.len(), "{name} {steps}");
        let difference = found
            .iter()
            .zip(expected)
            .map(|(&found, expected)| (f64::from(found) - expected).abs())
            .fold(0.0_f64, |worst, each| {
                if each.is_nan() || each > worst {
                    each
                } else {
                    worst
                }
            });
        let entry = worst.entry(kind.spec().name).or_insert(0.0);
        // NaN must not pass for small.
        if difference.is_nan() || difference > *entry {
            *entry = difference;
        }
    }
    worst
}

#[test]
fn schedules_are_those_of_the_webuis() {
    let worst = worst_differences();
    for row in SCHEDULES.iter().filter(|row| row.sigmas.is_some()) {
        let difference = worst
            .get(row.name)
            .unwrap_or_else(|| panic!("{} has no recorded case", row.name));
        assert!(*difference <= TOLERANCE, "{}: {difference}", row.name);
    }
}

#[test]
fn gits_has_the_published_levels_of_every_coefficient() {
    let record: Value = serde_json::from_str(include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/samplers/gits.json"
    )))
    .unwrap();
    let cases = record["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 15 * 24);
    for case in cases {
        let name = format!("gits:{}", case["coefficient"].as_str().unwrap());
        let kind: ScheduleKind = name.parse().unwrap();
        let steps = usize::try_from(case["steps"].as_u64().unwrap()).unwrap();
        let found = levels::sigmas(&schedule_of(kind, StepTable::Sd15), steps).unwrap();
        assert_eq!(found.len(), steps + 1);
        let weights: [fn(usize) -> f64; 2] = [|_| 1.0, |place| (place + 1) as f64];
        for (weight, expected) in weights.iter().zip(case["sums"].as_array().unwrap()) {
            let terms = found.iter().enumerate();
            let sum: f64 = terms
                .map(|(place, &sigma)| weight(place) * f64::from(sigma))
                .sum();
            let difference = (sum - expected.as_f64().unwrap()).abs();
            assert!(
                difference < TOLERANCE * weight(steps),
                "{name} {steps}: {sum}"
            );
        }
    }
}

#[test]
fn every_schedule_falls_for_every_number_of_steps_or_says_why_not() {
    for row in SCHEDULES {
        let schedule = schedule_of(row.kind, StepTable::Sd15);
        for steps in 1..=120 {
            let sigmas = levels::sigmas(&schedule, steps).unwrap();
            assert!(sigmas.windows(2).all(|pair| pair[0] > pair[1]));
            assert!(sigmas.iter().all(|sigma| sigma.is_finite()));
            let exact = row.kind != ScheduleKind::DdimUniform;
            assert!(!exact || sigmas.len() == steps + 1, "{} {steps}", row.name);
        }
        match levels::sigmas(&schedule, 1000) {
            Ok(sigmas) => assert!(sigmas.windows(2).all(|pair| pair[0] > pair[1])),
            Err(error) => assert!(error.message().contains("1000 steps"), "{error}"),
        }
    }
}

#[test]
fn the_caller_chooses_levels_by_name_sigma_or_timestep() {
    let make = |schedule: Option<&str>, levels: Option<CustomLevels>| {
        Scheduler::new(
            &SchedulerConfig::default(),
            &SchedulerRequest {
                sampler: Some("euler"),
                schedule,
                steps: 3,
                noise: NoiseOptions::default(),
                levels: levels.as_ref(),
                options: LevelOptions::default(),
                step_table: StepTable::Sd15,
            },
        )
        .unwrap()
    };
    let timesteps = |scheduler: &Scheduler| -> Vec<f64> {
        let steps = scheduler.plan().steps();
        steps.iter().map(|step| step.at.timestep.round()).collect()
    };
    assert_eq!(
        timesteps(&make(Some("Simple"), None)),
        [999.0, 666.0, 333.0]
    );
    let own = make(None, Some(CustomLevels::Timesteps(vec![900, 500, 10])));
    assert_eq!(timesteps(&own), [900.0, 500.0, 10.0]);
    assert!(own.plan().last().sigma.abs() < 1e-12);
    let own = make(None, Some(CustomLevels::Sigmas(vec![10.0, 2.5, 0.0])));
    let sigmas: Vec<f64> = own
        .plan()
        .steps()
        .iter()
        .map(|step| step.at.sigma)
        .collect();
    assert_eq!(sigmas, [10.0, 2.5]);
}
