//! The noise schedule against torch's bits, published configurations, and what is refused.

use serde_json::{Value, json};

use super::*;
use crate::ErrorKind;
use crate::samplers::{Clip, PredictionType, SAMPLERS, SamplerKind};

fn settings(config: &Value, sampler: SamplerKind) -> Result<Settings> {
    SchedulerConfig::from_json(config)?.resolve(&sampler.spec().defaults)
}

fn schedule(config: &Value) -> NoiseSchedule {
    NoiseSchedule::new(settings(config, SamplerKind::Ddim).unwrap())
}

/// stable-diffusion-v1-5, scheduler/scheduler_config.json
fn sd15() -> Value {
    json!({
        "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0",
        "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
        "num_train_timesteps": 1000, "set_alpha_to_one": false, "skip_prk_steps": true,
        "steps_offset": 1, "trained_betas": null, "clip_sample": false
    })
}

/// With rescaling, torch takes square roots by MKL, which rounds 4 in 1000 of them wrongly.
const ULPS_WHEN_RESCALED: u64 = 4;

#[test]
fn alphas_cumprod_are_torchs_to_the_last_bit() {
    let fixture: Value = serde_json::from_str(include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/samplers/schedules.json"
    )))
    .unwrap();
    for case in fixture["cases"].as_array().unwrap() {
        let schedule = schedule(&case["config"]);
        let bits: Vec<u32> = schedule
            .alphas_cumprod()
            .iter()
            .map(|value| value.to_bits())
            .collect();
        let rescaled = case["config"]["rescale_betas_zero_snr"] == json!(true);
        let ulps = if rescaled { ULPS_WHEN_RESCALED } else { 0 };
        for (index, expected) in case["bits"].as_object().unwrap() {
            let found = u64::from(bits[index.parse::<usize>().unwrap()]);
            let expected = expected.as_u64().unwrap();
            assert!(
                found.abs_diff(expected) <= ulps,
                "{index} {}: {found}, expected {expected}",
                case["config"]
            );
        }
        if rescaled {
            continue;
        }
        let xor = bits.iter().fold(0, |xor, bits| xor ^ bits);
        let sum: u64 = bits.iter().map(|&bits| u64::from(bits)).sum();
        assert_eq!(
            u64::from(xor),
            case["xor"].as_u64().unwrap(),
            "{}",
            case["config"]
        );
        assert_eq!(sum, case["sum"].as_u64().unwrap(), "{}", case["config"]);
    }
}

#[test]
fn missing_keys_take_the_used_schedulers_defaults() {
    let of = |kind| settings(&sd15(), kind).unwrap();
    assert_eq!(
        of(SamplerKind::Pndm).timestep_spacing,
        TimestepSpacing::Leading
    );
    assert_eq!(
        of(SamplerKind::Ddim).timestep_spacing,
        TimestepSpacing::Leading
    );
    assert_eq!(
        of(SamplerKind::Euler).timestep_spacing,
        TimestepSpacing::Linspace
    );
    assert_eq!(
        of(SamplerKind::Dpmpp2m).timestep_spacing,
        TimestepSpacing::Linspace
    );
    let bare = |kind| settings(&json!({}), kind).unwrap();
    assert_eq!(bare(SamplerKind::Ddim).clip, Clip::Range(1.0));
    assert_eq!(bare(SamplerKind::Lcm).clip, Clip::None);
    assert!(bare(SamplerKind::Ddim).set_alpha_to_one);
    assert!(!bare(SamplerKind::Pndm).set_alpha_to_one);
    assert_eq!(
        bare(SamplerKind::Lcm).beta_schedule,
        BetaSchedule::ScaledLinear
    );
    assert_eq!(
        bare(SamplerKind::Euler).prediction_type,
        PredictionType::Epsilon
    );
}

#[test]
fn keys_a_scheduler_does_not_know_have_no_effect_on_it() {
    let config = json!({
        "rescale_betas_zero_snr": true, "thresholding": true, "use_karras_sigmas": true,
        "use_beta_sigmas": false, "final_sigmas_type": "sigma_min", "clip_sample": true,
    });
    let pndm = settings(&config, SamplerKind::Pndm).unwrap();
    assert!(!pndm.rescale_betas_zero_snr);
    assert_eq!(
        (pndm.clip, pndm.sigmas),
        (Clip::None, ScheduleKind::Automatic)
    );
    let euler = settings(&config, SamplerKind::Euler).unwrap();
    assert_eq!(
        (euler.clip, euler.sigmas),
        (Clip::None, ScheduleKind::Karras)
    );
    assert_eq!(euler.final_sigmas, FinalSigmas::SigmaMin);
}

#[test]
fn ddim_visits_upstreams_timesteps() {
    // test_steps_offset of diffusers' DDIM tests.
    let schedule = schedule(&json!({"steps_offset": 1}));
    let plan = (SamplerKind::Ddim.spec().plan)(&schedule, 5).unwrap();
    let timesteps: Vec<f64> = plan.steps().iter().map(|step| step.at.timestep).collect();
    assert_eq!(timesteps, [801.0, 601.0, 401.0, 201.0, 1.0]);
}

#[test]
fn the_last_level_of_zero_terminal_snr_is_pure_noise() {
    let mut config = sd15();
    config["rescale_betas_zero_snr"] = json!(true);
    let schedule = schedule(&config);
    assert_eq!(schedule.alphas_cumprod()[999].to_bits(), 0);
    assert!((schedule.sigmas()[999] - 4096.0).abs() < 0.01);
    let level = schedule.level(999).unwrap();
    assert!(level.sigma.is_infinite() && level.alpha_bar == 0.0);
    // Only v says something there: x0 = -v.
    let x = HostTensor::new([1, 1, 1, 2], vec![0.5, -3.0]).unwrap();
    let v = HostTensor::new([1, 1, 1, 2], vec![0.25, 2.0]).unwrap();
    let denoised = PredictionType::VPrediction.denoised_at(&x, v, 0.0).unwrap();
    assert_eq!(denoised.data(), [-0.25, -2.0]);
}

#[test]
fn a_sigma_finds_its_timestep() {
    let schedule = schedule(&sd15());
    for timestep in [0, 1, 77, 500, 998, 999] {
        let sigma = f64::from(schedule.sigmas()[timestep]);
        assert!((schedule.sigma_to_timestep(sigma) - timestep as f64).abs() < 1e-3);
        assert!((schedule.sigma_at(timestep as f64) - sigma).abs() < 1e-12);
    }
    let between = schedule.sigma_to_timestep(schedule.sigma_at(500.5));
    assert!((500.0..501.0).contains(&between), "{between}");
    for (sigma, expected) in [(0.0, 0.0), (1e9, 999.0), (f64::INFINITY, 999.0)] {
        assert!((schedule.sigma_to_timestep(sigma) - expected).abs() < 1e-9);
    }
    assert!((schedule.sigma_at(-5.0) - f64::from(schedule.sigmas()[0])).abs() < 1e-12);
    assert!((schedule.sigma_at(1e6) - f64::from(schedule.sigmas()[999])).abs() < 1e-12);
}

#[test]
fn what_cannot_be_served_is_refused_by_name() {
    let cases = [
        (json!({"use_flow_sigmas": true}), "use_flow_sigmas"),
        (json!({"use_beta_sigmas": true}), "use_beta_sigmas"),
        (json!({"variance_type": "learned_range"}), "variance_type"),
        (json!({"solver_type": "rk4"}), "solver_type"),
        (
            json!({"timestep_type": "continuous", "prediction_type": "v_prediction"}),
            "timestep_type",
        ),
    ];
    for (config, key) in cases {
        let error = settings(&config, SamplerKind::Dpmpp2m).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.message().contains(key), "{error}");
    }
}

#[test]
fn nonsense_is_refused_by_name_and_never_panics() {
    let cases = [
        (json!({"beta_schedule": "sigmoid"}), "sigmoid"),
        (json!({"prediction_type": "flow"}), "flow"),
        (json!({"timestep_spacing": 3}), "scheduler_config.json"),
        (json!("text"), "scheduler_config.json"),
        (json!({"num_train_timesteps": 0}), "num_train_timesteps"),
        (json!({"num_train_timesteps": 1}), "num_train_timesteps"),
        (
            json!({"num_train_timesteps": 1_000_000_000_u64}),
            "num_train_timesteps",
        ),
        (json!({"num_train_timesteps": -5}), "scheduler_config.json"),
        (json!({"beta_start": 0.0}), "beta_start"),
        (json!({"beta_end": 1.5}), "beta_end"),
        (json!({"trained_betas": [0.1]}), "trained_betas"),
        (
            json!({"num_train_timesteps": 2, "trained_betas": [0.1, 7.0]}),
            "trained_betas",
        ),
        (json!({"steps_offset": 5000}), "steps_offset"),
        (json!({"solver_order": 9}), "solver_order"),
        (
            json!({"clip_sample": true, "clip_sample_range": -1.0}),
            "clip_sample_range",
        ),
        (
            json!({"thresholding": true, "dynamic_thresholding_ratio": 7.0}),
            "dynamic_thresholding_ratio",
        ),
        (
            json!({"thresholding": true, "sample_max_value": 0.0}),
            "sample_max_value",
        ),
        (json!({"timestep_scaling": 0.0}), "timestep_scaling"),
        (json!({"sigma_min": -1.0}), "sigma_min"),
        (
            json!({"use_karras_sigmas": true, "use_exponential_sigmas": true}),
            "karras and exponential",
        ),
    ];
    for (config, key) in cases {
        let refused = SAMPLERS.iter().find_map(|row| {
            let error = settings(&config, row.kind).err()?;
            assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
            Some(error)
        });
        let error = refused.unwrap_or_else(|| panic!("{config} is taken"));
        assert!(error.message().contains(key), "{error}");
    }
    let rising = json!({"use_karras_sigmas": true, "sigma_min": 5.0, "sigma_max": 1.0});
    let schedule = NoiseSchedule::new(settings(&rising, SamplerKind::Euler).unwrap());
    let error = (SamplerKind::Euler.spec().plan)(&schedule, 5).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    let none_left = json!({"original_inference_steps": 0});
    let schedule = NoiseSchedule::new(settings(&none_left, SamplerKind::Lcm).unwrap());
    let error = (SamplerKind::Lcm.spec().plan)(&schedule, 5).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
}

#[test]
fn unknown_keys_are_tolerated() {
    let mut config = sd15();
    config["some_key_of_tomorrow"] = json!({"a": [1, 2, 3]});
    config["lambda_min_clipped"] = Value::Null;
    for row in SAMPLERS {
        assert!(settings(&config, row.kind).is_ok());
    }
}
