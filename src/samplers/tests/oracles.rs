//! The full loops of diffusers' own scheduler tests (tests/schedulers/), which need no weights.
//!
//! A ramp of 768 values goes through `model(x, t) = x t / (t + 1)` for ten steps; what is compared is the
//! sum or mean of magnitudes upstream asserts. Upstream's tests of the Euler schedulers hand the *scaled*
//! latents to `step`, which is not how pipelines run; here each step is run by itself on scaled latents.

use serde_json::{Value, json};

use super::{Dummy, OneGenerator, scheduler};
use crate::HostTensor;
use crate::backend::scheduler::Scheduler;
use crate::rng::TorchGenerator;
use crate::samplers::{Coordinates, Guided, Plan, Run};

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
        oracle("uni_pc_bh2", Plain, Mean(0.2464), &uni_pc(&json!({}))),
        oracle("uni_pc_bh2", Plain, Mean(0.1014), &uni_pc(&v)),
        oracle(
            "uni_pc_bh2",
            Plain,
            Mean(0.2925),
            &uni_pc(&json!({"use_karras_sigmas": true})),
        ),
        Oracle {
            steps: 1,
            ..oracle("lcm", Plain, Sum(18.7097), &lcm)
        },
        oracle("lcm", Plain, Sum(197.7616), &lcm),
    ]
}

#[test]
fn full_loops_give_the_sums_upstream_asserts() {
    let mut failures = Vec::new();
    let oracles = oracles();
    for oracle in &oracles {
        let found = play(oracle);
        let sum: f64 = found.data().iter().map(|&x| f64::from(x.abs())).sum();
        // Upstream's own tolerances: 1e-2 for sums, 1e-3 for means; f32 sums of 57062 have 2e-3 alone.
        let (found, expected, tolerance) = match oracle.expected {
            Expected::Sum(expected) => (sum, expected, 1e-2),
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

fn network(x: &HostTensor, timestep: f64) -> HostTensor {
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
        Loop::Scaled => {
            for step in plan.steps() {
                let alone = Plan::new(vec![*step], Coordinates::VarianceExploding, 1.0).unwrap();
                x = scheduler.schedule().model_input(&x, step.at.sigma);
                // The network is given what `step` is given, not scaled again.
                x = run_unscaled(&scheduler, &alone, x, &mut noise);
            }
            x
        }
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
    let settings = scheduler.schedule().settings();
    (scheduler.kind().spec().build)(settings)
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

fn run_unscaled(
    scheduler: &Scheduler,
    plan: &Plan,
    x: HostTensor,
    noise: &mut OneGenerator,
) -> HostTensor {
    struct Unscaled<'a>(&'a Scheduler, f64);
    impl crate::samplers::Denoiser for Unscaled<'_> {
        fn denoise(&mut self, x: &HostTensor, sigma: f64) -> crate::Result<HostTensor> {
            self.0.schedule().denoised(x, network(x, self.1), sigma)
        }
        fn denoise_at(&mut self, _: &HostTensor, timestep: usize) -> crate::Result<HostTensor> {
            panic!("a sampler in sigmas asked at timestep {timestep}")
        }
        fn denoise_guided(&mut self, _: &HostTensor, sigma: f64) -> crate::Result<Guided> {
            panic!("an unguided sampler asked for guidance at sigma {sigma}")
        }
        fn denoise_guided_at(&mut self, _: &HostTensor, t: usize) -> crate::Result<Guided> {
            panic!("an unguided sampler asked for guidance at timestep {t}")
        }
    }
    let settings = scheduler.schedule().settings();
    (scheduler.kind().spec().build)(settings)
        .sample(
            x,
            &mut Run {
                plan,
                denoiser: &mut Unscaled(scheduler, plan.steps()[0].at.timestep),
                noise,
                on_step: &mut |_, _, _| Ok(()),
            },
        )
        .unwrap()
}
