//! The full loops of diffusers' own scheduler tests (tests/schedulers/), which need no weights.
//!
//! A ramp of 768 values goes through `model(x, t) = x t / (t + 1)` for ten steps; what is compared is the
//! sum or mean of magnitudes upstream asserts. Upstream's tests of the Euler schedulers hand the *scaled*
//! latents to `step`, which is not how pipelines run; `scaled` does so too.

use serde_json::{Value, json};

use super::{Dummy, OneGenerator, scaled, scheduler};
use crate::HostTensor;
use crate::backend::scheduler::Scheduler;
use crate::rng::TorchGenerator;
use crate::samplers::{Plan, Run};

#[derive(Clone, Copy)]
enum Expected {
    Sum(f64),
    Mean(f64),
}

/// What the latents of the loop go through.
#[derive(Clone, Copy, PartialEq)]
enum Loop {
    /// As a pipeline runs.
    Plain,
    /// The scaled latents are stepped.
    Scaled,
}

struct Oracle {
    sampler: &'static str,
    of: Loop,
    config: Value,
    steps: usize,
    /// Steps left out, with noise added to the ramp for it.
    skip: usize,
    expected: Expected,
}

fn oracle(sampler: &'static str, of: Loop, expected: Expected, more: &Value) -> Oracle {
    let train = if of == Loop::Scaled { 1100 } else { 1000 };
    let mut config = json!({
        "num_train_timesteps": train, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear",
    });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    Oracle {
        sampler,
        of,
        config,
        steps: 10,
        skip: 0,
        expected,
    }
}

/// The configuration of upstream's UniPC tests, with `more`.
fn uni_pc(more: &Value) -> Value {
    let mut config = json!({
        "solver_order": 2, "solver_type": "bh2", "final_sigmas_type": "sigma_min",
    });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn oracles() -> Vec<Oracle> {
    use Expected::{Mean, Sum};
    use Loop::{Plain, Scaled};
    let dpm = |more: Value| {
        let mut config = json!({
            "solver_order": 2, "lower_order_final": false, "final_sigmas_type": "sigma_min",
        });
        config
            .as_object_mut()
            .unwrap()
            .append(more.clone().as_object_mut().unwrap());
        config
    };
    let v = json!({"prediction_type": "v_prediction"});
    let one = json!({"set_alpha_to_one": true, "beta_start": 0.01});
    let not_one = json!({"set_alpha_to_one": false, "beta_start": 0.01});
    let lcm = json!({"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"});
    let thresholding =
        json!({"thresholding": true, "dynamic_thresholding_ratio": 0.87, "sample_max_value": 0.5});
    let skipping = |skip: usize, oracle: Oracle| Oracle { skip, ..oracle };
    let none = json!({});
    vec![
        oracle("ddim", Plain, Sum(172.0067), &none),
        oracle("ddim", Plain, Sum(52.5302), &v),
        oracle("ddim", Plain, Sum(149.8295), &one),
        oracle("ddim", Plain, Sum(149.0784), &not_one),
        skipping(8, oracle("ddim", Plain, Sum(354.5418), &none)),
        oracle("pndm", Plain, Sum(198.1318), &none),
        oracle("pndm", Plain, Sum(67.3986), &v),
        oracle("pndm", Plain, Sum(230.0399), &one),
        oracle("pndm", Plain, Sum(186.9482), &not_one),
        oracle("euler", Scaled, Sum(10.0807), &none),
        oracle("euler", Scaled, Sum(0.0002), &v),
        oracle(
            "euler",
            Scaled,
            Sum(124.522_995),
            &json!({"use_karras_sigmas": true}),
        ),
        skipping(8, oracle("euler", Scaled, Sum(57062.9297), &none)),
        oracle("euler_a", Scaled, Sum(152.3192), &none),
        oracle("euler_a", Scaled, Sum(108.4439), &v),
        oracle("dpmpp_2m", Plain, Mean(0.3301), &dpm(none.clone())),
        oracle("dpmpp_2m", Plain, Mean(0.2251), &dpm(v.clone())),
        oracle(
            "dpmpp_2m",
            Plain,
            Mean(0.2096),
            &dpm(json!({"prediction_type": "v_prediction", "use_karras_sigmas": true})),
        ),
        oracle(
            "dpmpp_2m",
            Plain,
            Mean(0.1554),
            &dpm(json!({"prediction_type": "v_prediction", "use_lu_lambdas": true})),
        ),
        oracle("dpmpp_2m", Plain, Mean(1.1364), &dpm(thresholding)),
        skipping(5, oracle("dpmpp_2m", Plain, Sum(318.4111), &dpm(none))),
        Oracle {
            steps: 1,
            ..oracle("lcm", Plain, Sum(18.7097), &lcm)
        },
        oracle("lcm", Plain, Sum(197.7616), &lcm),
    ]
}

fn oracles_of_uni_pc() -> Vec<Oracle> {
    use Expected::{Mean, Sum};
    let v = json!({"prediction_type": "v_prediction"});
    let karras = json!({"use_karras_sigmas": true});
    let both = json!({"prediction_type": "v_prediction", "use_karras_sigmas": true});
    let plain = |expected: Expected, more: &Value| {
        oracle("uni_pc_bh2", Loop::Plain, expected, &uni_pc(more))
    };
    vec![
        plain(Mean(0.2464), &json!({})),
        plain(Mean(0.1014), &v),
        plain(Mean(0.2925), &karras),
        plain(Mean(0.1966), &both),
        Oracle {
            skip: 8,
            ..plain(Sum(315.5757), &json!({}))
        },
    ]
}

/// Those of the schedulers that a checkpoint may name and the webuis run otherwise.
fn oracles_of_checkpoints() -> Vec<Oracle> {
    use Expected::{Mean, Sum};
    use Loop::{Plain, Scaled};
    let own = |class_name: &str, more: &Value| {
        let mut config = json!({"_class_name": class_name});
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    };
    let (none, v) = (json!({}), json!({"prediction_type": "v_prediction"}));
    let karras = json!({"use_karras_sigmas": true});
    let both = json!({"prediction_type": "v_prediction", "use_karras_sigmas": true});
    let heun = |more: &Value| own("HeunDiscreteScheduler", more);
    let lms = |more: &Value| own("LMSDiscreteScheduler", more);
    let kdpm2 = |more: &Value| own("KDPM2DiscreteScheduler", more);
    let kdpm2_a = |more: &Value| own("KDPM2AncestralDiscreteScheduler", more);
    let single = |more: &Value| {
        let mut config = own("DPMSolverSinglestepScheduler", more);
        config["final_sigmas_type"] = json!("sigma_min");
        config
    };
    let deis = |more: &Value| own("DEISMultistepScheduler", more);
    let sa = |more: &Value| {
        let mut config = own("SASolverScheduler", more);
        config["num_train_timesteps"] = json!(1100);
        config
    };
    let skipping = |skip: usize, oracle: Oracle| Oracle { skip, ..oracle };
    let long = |oracle: Oracle| Oracle {
        steps: 1000,
        ..oracle
    };
    vec![
        oracle("heun", Scaled, Sum(0.1233), &heun(&none)),
        oracle("heun", Scaled, Sum(4.69e-7), &heun(&v)),
        oracle("heun", Scaled, Sum(0.000_15), &heun(&karras)),
        skipping(8, oracle("heun", Scaled, Sum(75074.8906), &heun(&none))),
        oracle("lms", Scaled, Sum(1006.388), &lms(&none)),
        oracle("lms", Scaled, Sum(0.0017), &lms(&v)),
        oracle("lms", Scaled, Sum(3812.9927), &lms(&karras)),
        skipping(8, oracle("lms", Scaled, Sum(27663.6895), &lms(&none))),
        oracle("dpm_2", Scaled, Sum(20.4125), &kdpm2(&none)),
        oracle("dpm_2", Scaled, Sum(4.69e-7), &kdpm2(&v)),
        skipping(8, oracle("dpm_2", Scaled, Sum(70408.4062), &kdpm2(&none))),
        oracle("dpm_2_a", Scaled, Sum(13979.9433), &kdpm2_a(&none)),
        oracle("dpm_2_a", Scaled, Sum(331.8133), &kdpm2_a(&v)),
        skipping(
            8,
            oracle("dpm_2_a", Scaled, Sum(93087.3437), &kdpm2_a(&none)),
        ),
        oracle("dpmpp_2s", Plain, Mean(0.2791), &single(&none)),
        oracle("dpmpp_2s", Plain, Mean(0.1453), &single(&v)),
        oracle("dpmpp_2s", Plain, Mean(0.2248), &single(&karras)),
        oracle("dpmpp_2s", Plain, Mean(0.0649), &single(&both)),
        skipping(5, oracle("dpmpp_2s", Plain, Sum(269.2187), &single(&none))),
        oracle("deis_multistep", Plain, Mean(0.23916), &deis(&none)),
        oracle("deis_multistep", Plain, Mean(0.091), &deis(&v)),
        skipping(
            8,
            oracle("deis_multistep", Plain, Sum(315.3016), &deis(&none)),
        ),
        oracle("sa_solver", Plain, Sum(337.3943), &sa(&none)),
        oracle("sa_solver", Plain, Sum(193.1468), &sa(&v)),
        oracle("sa_solver", Plain, Sum(837.2554), &sa(&karras)),
        long(oracle("ddpm", Plain, Sum(258.9606), &none)),
        long(oracle("ddpm", Plain, Sum(202.0296), &v)),
    ]
}

#[test]
fn full_loops_give_the_sums_upstream_asserts() {
    let mut failures = Vec::new();
    let (own, of_uni_pc) = (oracles(), oracles_of_uni_pc());
    for oracle in own
        .iter()
        .chain(&of_uni_pc)
        .chain(&oracles_of_checkpoints())
    {
        let found = play(oracle);
        let sum: f64 = found.data().iter().map(|&x| f64::from(x.abs())).sum();
        // Upstream's own tolerances: 1e-2 for sums, 1e-3 for means, and the rounding of a sum in f32.
        let (found, expected, tolerance) = match oracle.expected {
            Expected::Sum(expected) => (sum, expected, 1e-2 + 1e-7 * expected),
            Expected::Mean(expected) => (sum / 768.0, expected, 1e-3),
        };
        println!("{}: {found:.4}, expected {expected}", oracle.sampler);
        if (found - expected).abs().partial_cmp(&tolerance) != Some(std::cmp::Ordering::Less) {
            failures.push(format!(
                "{} {}: {found}, expected {expected}",
                oracle.sampler, oracle.config
            ));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// `ramp[b, c, h, w] = (((c * 8 + h) * 8 + w) * 4 + b) / 768`, or backwards.
fn ramp(backwards: bool) -> HostTensor {
    let values = (0..768)
        .map(|index| {
            let (picture, inner) = (index / 192, index % 192);
            let place = inner * 4 + picture;
            (if backwards { 767 - place } else { place }) as f32 / 768.0
        })
        .collect();
    HostTensor::new([4, 3, 8, 8], values).unwrap()
}

pub(super) fn network(x: &HostTensor, timestep: f64) -> HostTensor {
    let t = timestep as f32;
    x.clone().map(|x| x * t / (t + 1.0))
}

fn play(oracle: &Oracle) -> HostTensor {
    let scheduler = scheduler(&oracle.config, oracle.sampler, oracle.steps).unwrap();
    let plan = scheduler.plan().skip(oracle.skip).unwrap();
    let mut x = ramp(false);
    if oracle.of == Loop::Scaled || oracle.skip == 0 {
        x = plan.start(x);
    }
    if oracle.skip > 0 {
        x = plan.start_from(x, &ramp(true)).unwrap();
    }
    let mut noise = OneGenerator(TorchGenerator::new(0));
    match oracle.of {
        Loop::Plain => run_plan(&scheduler, &plan, x, &mut noise),
        Loop::Scaled => scaled::play(&scheduler, &plan, x, &mut noise),
    }
}

fn run_plan(
    scheduler: &Scheduler,
    plan: &Plan,
    x: HostTensor,
    noise: &mut OneGenerator,
) -> HostTensor {
    let mut denoiser = Dummy {
        schedule: scheduler.schedule(),
        plan,
        network,
    };
    scheduler
        .sampler()
        .sample(
            x,
            &mut Run {
                plan,
                denoiser: &mut denoiser,
                noise,
                on_step: &mut |_, _, _| Ok(()),
            },
        )
        .unwrap()
}
