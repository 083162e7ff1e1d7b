//! Final latents against those recorded by `tools/reference/k_sampler_cases.py` and `webui_timesteps.py`: from k-diffusion, from
//! definitions written out in Python where no package has the sampler, and from diffusers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Dummy, neighbour_network};
use crate::backend::scheduler::{Scheduler, SchedulerConfig, SchedulerRequest};
use crate::rng::{RngKind, SeededNoise};
use crate::samplers::schedule::{LevelOptions, LevelRules, SCHEDULES, StepTable, k_tests};
use crate::samplers::{NoiseOptions, NoiseSource, SAMPLERS, SamplerSpec};

/// The bar for final latents.
const TOLERANCE: f32 = 1e-4;

const RECORD: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/samplers/trajectories.json"
));

/// Those of the webui's samplers on training timesteps.
const OF_WEBUI: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/samplers/webui.json"
));

/// Samplers and levels as the webui, Forge and ComfyUI have them, by `program_cases.py`.
const OF_PROGRAMS: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/samplers/programs.json"
));

/// Where a sampler's reference comes from, for the table.
const K_DIFFUSION: &[&str] = &[
    "euler",
    "euler_a",
    "heun",
    "dpm_2",
    "dpm_2_a",
    "dpmpp_2m",
    "lms",
    "dpmpp_2s_a",
    "dpmpp_sde",
    "dpmpp_2m_sde",
    "dpmpp_2m_sde_heun",
    "dpmpp_3m_sde",
    "dpm_fast",
    "dpm_adaptive",
];

/// Worst difference and number of cases of each sampler in the record.
fn worst_differences() -> BTreeMap<String, (f32, usize)> {
    let records = [RECORD, OF_WEBUI, OF_PROGRAMS].map(|record| {
        let record: Value = serde_json::from_str(record).unwrap();
        record
    });
    let shape: Vec<usize> = serde_json::from_value(records[0]["shape"].clone()).unwrap();
    let mut worst = BTreeMap::new();
    let cases = records
        .iter()
        .map(|record| record["cases"].as_array().unwrap());
    for case in cases.flatten() {
        let name = case["sampler"].as_str().unwrap().to_owned();
        let difference = difference(case, &shape);
        if difference > TOLERANCE || difference.is_nan() {
            let mut shown = case.clone();
            shown.as_object_mut().unwrap().remove("latents");
            println!("{difference}: {shown}");
        }
        let entry = worst.entry(name).or_insert((0.0, 0));
        *entry = (super::worse(entry.0, difference), entry.1 + 1);
    }
    worst
}

fn difference(case: &Value, shape: &[usize]) -> f32 {
    let config = json!({
        "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "steps_offset": 1, "set_alpha_to_one": true, "prediction_type": case["prediction"],
    });
    let option = |name: &str| case[name].as_f64();
    let scheduler = Scheduler::new(
        &SchedulerConfig::from_json(&config).unwrap(),
        &SchedulerRequest {
            sampler: case["sampler"].as_str(),
            schedule: case["schedule"].as_str(),
            steps: usize::try_from(case["steps"].as_u64().unwrap()).unwrap(),
            noise: NoiseOptions {
                eta: option("eta"),
                s_churn: option("s_churn"),
                s_tmin: option("s_tmin"),
                s_tmax: option("s_tmax"),
                s_noise: option("s_noise"),
            },
            levels: None,
            options: level_options(case),
            step_table: StepTable::Sd15,
        },
    )
    .unwrap();
    let mut noise = SeededNoise::new(RngKind::TorchCpu, [case["seed"].as_u64().unwrap()]);
    let start = scheduler.plan().start(noise.noise(shape));
    let mut denoiser = Dummy {
        schedule: scheduler.schedule(),
        plan: scheduler.plan(),
        network: neighbour_network,
    };
    let found = scheduler
        .sample(start, &mut denoiser, &mut noise, &mut |_, _, _| Ok(()))
        .unwrap();
    let expected: Vec<f32> = serde_json::from_value(case["latents"].clone()).unwrap();
    found
        .data()
        .iter()
        .zip(expected)
        .map(|(found, expected)| (found - expected).abs())
        .fold(0.0, super::worse)
}

/// What a case says of levels beside its schedule.
fn level_options(case: &Value) -> LevelOptions {
    LevelOptions {
        rules: case["levels_as"]
            .as_str()
            .map_or(LevelRules::Checkpoint, |name| name.parse().unwrap()),
        rho: case["rho"].as_f64(),
        sigma_min: case["sigma_min"].as_f64(),
        sigma_max: case["sigma_max"].as_f64(),
        discard_penultimate: case["discard"].as_bool(),
        full_start: case["full_start"].as_bool().unwrap_or(false),
    }
}

#[test]
fn limits_and_powers_of_schedules_are_the_webuis() {
    let record: Value = serde_json::from_str(OF_PROGRAMS).unwrap();
    let cases = record["schedules"].as_array().unwrap();
    for case in cases {
        let config =
            json!({"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"});
        let scheduler = Scheduler::new(
            &SchedulerConfig::from_json(&config).unwrap(),
            &SchedulerRequest {
                sampler: Some("euler"),
                schedule: case["schedule"].as_str(),
                steps: usize::try_from(case["steps"].as_u64().unwrap()).unwrap(),
                noise: NoiseOptions::default(),
                levels: None,
                options: level_options(case),
                step_table: StepTable::Sd15,
            },
        )
        .unwrap();
        let plan = scheduler.plan();
        let mut found: Vec<f64> = plan.steps().iter().map(|step| step.at.sigma).collect();
        found.push(plan.last().sigma);
        let expected: Vec<f64> = serde_json::from_value(case["sigmas"].clone()).unwrap();
        assert_eq!(found.len(), expected.len(), "{case}");
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found}: {case}");
        }
    }
    assert!(cases.len() > 100);
}

#[test]
fn final_latents_are_those_of_the_webuis() {
    let worst = worst_differences();
    println!("worst differences: {worst:?}");
    let above: Vec<_> = worst
        .iter()
        .filter(|(_, (difference, _))| *difference > TOLERANCE || difference.is_nan())
        .collect();
    assert!(above.is_empty(), "{above:?}");
    let diffusers = super::trajectories::samplers_with_cases();
    for row in SAMPLERS {
        assert!(
            worst.contains_key(row.name) || diffusers.contains(row.name),
            "{} has no recorded case",
            row.name
        );
    }
}

/// Prints the tables of `docs/samplers.md`: `cargo test --workspace --lib tables_of_the_docs -- --nocapture`.
#[test]
fn the_tables_of_the_docs_name_every_row() {
    let docs = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/samplers.md"));
    let mut wanted = Vec::new();
    println!(
        "| sampler | webui's name | evaluations a step | options | when |\n|---|---|---|---|---|"
    );
    for row in SAMPLERS {
        let line = format!(
            "| `{}` | {} | {} | {} | {} |",
            row.name,
            row.label,
            row.evaluations,
            options(row),
            row.help
        );
        println!("{line}");
        wanted.push(line);
    }
    println!("\n| schedule | webui's name | what it does | worst difference |\n|---|---|---|---|");
    let schedules = k_tests::worst_differences();
    for row in SCHEDULES.iter().filter(|row| row.name != "automatic") {
        let line = format!("| `{}` | {} | {} |", row.name, row.label, row.help);
        println!("{line} {:.1e} |", schedules[row.name]);
        wanted.push(line);
    }
    println!("\n| sampler | reference | runs | worst difference |\n|---|---|---|---|");
    let (on_sigmas, of_diffusers) = (
        worst_differences(),
        super::trajectories::worst_differences(),
    );
    for row in SAMPLERS {
        let reference = if K_DIFFUSION.contains(&row.name) {
            "k-diffusion 0.1.1.post1"
        } else {
            "its definition, in torch"
        };
        let found = [
            ("diffusers 0.42.1", of_diffusers.get(row.name)),
            (reference, on_sigmas.get(row.name)),
        ];
        assert!(
            found.iter().any(|(_, worst)| worst.is_some()),
            "{} has no recorded case",
            row.name
        );
        for (reference, worst) in found {
            if let Some((difference, count)) = worst {
                let line = format!("| `{}` | {reference} | {count} |", row.name);
                println!("{line} {difference:.1e} |");
                wanted.push(line);
            }
        }
    }
    wanted.retain(|line| !docs.contains(line));
    assert!(wanted.is_empty(), "docs/samplers.md lacks {wanted:#?}");
}

/// The options of randomness that a sampler takes, with its own eta.
fn options(row: &SamplerSpec) -> String {
    let mut options = Vec::new();
    if let Some(eta) = row.takes.eta {
        options.push(format!("eta ({eta})"));
    }
    if row.takes.churn {
        options.push("s_churn, s_tmin, s_tmax".to_owned());
    }
    if row.takes.s_noise {
        options.push("s_noise".to_owned());
    }
    options.join(", ")
}
