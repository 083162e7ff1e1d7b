//! How fast the deterministic samplers converge, on a model whose solution is known.
//!
//! The data are Gaussian, so that the best estimate of the clean latents and the path of the probability flow are
//! formulas: `x(σ) - mean` falls as `sqrt(spread² + σ²)`, with another spread for each value of the latents, as else
//! all their errors would change sign at one number of steps. Errors are those at the end of the run, over a range of
//! sigmas that does not reach 0, where every method's last step is of first order.

use std::fmt::Write as _;

use serde_json::json;

use super::OneGenerator;
use super::plot::{Curve, svg};
use crate::HostTensor;
use crate::backend::scheduler::{Scheduler, SchedulerConfig, SchedulerRequest};
use crate::rng::TorchGenerator;
use crate::samplers::schedule::{LevelOptions, NoiseSchedule, StepTable, karras_between};
use crate::samplers::{
    Coordinates, Denoiser, Guided, NoiseLevel, NoiseOptions, Plan, Run, SAMPLERS, SamplerKind,
};

const MEAN: f64 = 0.2;

/// Values of the latents.
const VALUES: usize = 64;

/// Spread of the data at each of them: from 0.2 to 2.
fn spread(index: usize) -> f64 {
    0.2 * 10.0_f64.powf(index as f64 / (VALUES - 1) as f64)
}

/// The range of sigmas of those who do not choose their own.
const RANGE: (f64, f64) = (14.6, 0.1);

/// Numbers of steps.
const STEPS: [usize; 5] = [16, 32, 64, 128, 256];

/// Where runs on training timesteps end.
const LAST_TIMESTEP: f64 = 201.0;

/// Those that divide the timesteps of training, for who runs on these.
const STEPS_OF_TRAINING: [usize; 5] = [20, 40, 50, 100, 200];

/// Those at which the last step of `dpm_fast`, which is of lower order, is of the same one.
const STEPS_OF_DPM_FAST: [usize; 5] = [16, 31, 61, 121, 241];

/// Errors below this are f32's own.
const FLOOR: f64 = 5e-6;

/// By how much a measured order may stay below the expected one.
const TOLERANCE: f64 = 0.25;

/// The deterministic samplers, with eta 0 where they take one, and the order each has. Methods that remember
/// earlier estimates begin with Euler's step, whose error is of second order, so that is theirs at least.
const ORDERS: &[(&str, f64)] = &[
    ("ddim", 1.0),
    ("ddim_cfg_pp", 1.0),
    ("euler", 1.0),
    ("euler_a", 1.0),
    ("euler_cfg_pp", 1.0),
    ("euler_a_cfg_pp", 1.0),
    ("gradient_estimation", 1.0),
    ("heunpp2", 1.0),
    // Upstream's weights of fourth order do not add up to 1 on uneven steps.
    ("ipndm_v", 1.0),
    ("pndm", 2.0),
    ("heun", 2.0),
    ("dpm_2", 2.0),
    ("dpm_2_a", 2.0),
    ("dpmpp_2s", 2.0),
    ("dpmpp_2s_a", 2.0),
    ("dpmpp_2m", 2.0),
    ("dpmpp_sde", 2.0),
    ("dpmpp_2m_sde", 2.0),
    ("dpmpp_2m_sde_heun", 2.0),
    ("dpmpp_3m_sde", 2.0),
    ("lms", 2.0),
    ("ipndm", 2.0),
    ("deis", 2.0),
    ("deis_multistep", 2.0),
    ("res_multistep", 2.0),
    ("sa_solver", 2.0),
    ("sa_solver_comfy", 2.0),
    ("sa_solver_pece", 2.0),
    ("uni_pc", 2.0),
    ("uni_pc_bh2", 2.0),
    ("uni_pc_comfy", 2.0),
    ("uni_pc_bh2_comfy", 2.0),
    ("dpm_fast", 2.0),
];

/// Where two terms of the error are opposed, and it passes through 0 at some number of steps.
const CHANGES_SIGN: &[&str] = &["ipndm_v"];

/// Those that draw noise whatever eta is, choose their own steps, or take the model's answers for exact.
const WITHOUT_ORDER: &[&str] = &[
    "ddpm",
    "lcm",
    "lcm_sigmas",
    "lcm_webui",
    "tcd",
    "er_sde",
    "restart",
    "dpm_adaptive",
];

/// The best estimate for Gaussian data.
struct Exact<'a> {
    schedule: &'a NoiseSchedule,
    evaluations: usize,
}

fn estimate(x: &HostTensor, sigma: f64, scale: f64) -> HostTensor {
    let mut estimate = x.clone();
    for (index, x) in estimate.data_mut().iter_mut().enumerate() {
        let variance = spread(index).powi(2);
        let share = variance / (variance + sigma * sigma);
        *x = (MEAN + (f64::from(*x) / scale - MEAN) * share) as f32;
    }
    estimate
}

impl Denoiser for Exact<'_> {
    fn denoise(&mut self, x: &HostTensor, sigma: f64) -> crate::Result<HostTensor> {
        self.evaluations += 1;
        Ok(estimate(x, sigma, 1.0))
    }

    fn denoise_at(&mut self, x: &HostTensor, timestep: usize) -> crate::Result<HostTensor> {
        self.evaluations += 1;
        let level = self.schedule.level(timestep)?;
        Ok(estimate(x, level.sigma, level.alpha_bar.sqrt()))
    }

    fn denoise_guided(&mut self, x: &HostTensor, sigma: f64) -> crate::Result<Guided> {
        let denoised = self.denoise(x, sigma)?;
        Ok(Guided {
            unconditional: denoised.clone(),
            denoised,
        })
    }

    fn denoise_guided_at(&mut self, x: &HostTensor, timestep: usize) -> crate::Result<Guided> {
        let denoised = self.denoise_at(x, timestep)?;
        Ok(Guided {
            unconditional: denoised.clone(),
            denoised,
        })
    }
}

fn scheduler_of(kind: SamplerKind, steps: usize) -> Scheduler {
    let config = json!({
        "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "steps_offset": 1, "clip_sample": false, "skip_prk_steps": true, "set_alpha_to_one": false,
        "timestep_spacing": "leading", "lower_order_final": false,
    });
    Scheduler::new(
        &SchedulerConfig::from_json(&config).unwrap(),
        &SchedulerRequest {
            sampler: Some(kind.spec().name),
            schedule: None,
            steps,
            noise: NoiseOptions {
                eta: kind.spec().takes.eta.map(|_| 0.0),
                ..NoiseOptions::default()
            },
            levels: None,
            options: LevelOptions::default(),
            step_table: StepTable::Sd15,
        },
    )
    .unwrap()
}

fn plan_of(scheduler: &Scheduler, steps: usize) -> Plan {
    if scheduler.kind() == SamplerKind::DpmFast {
        return scheduler.plan().clone();
    }
    if scheduler.plan().coordinates() == Coordinates::VariancePreserving {
        // Up to a timestep that all these numbers of steps visit; near timestep 0 sigma falls as a root does.
        let steps = scheduler.plan().steps().iter().copied();
        let steps = steps.filter(|step| step.to.timestep >= LAST_TIMESTEP);
        return Plan::new(steps.collect(), Coordinates::VariancePreserving, 1.0).unwrap();
    }
    let levels: Vec<NoiseLevel> = karras_between(RANGE.0, RANGE.1, steps + 1)
        .into_iter()
        .map(|sigma| {
            let sigma = f64::from(sigma);
            NoiseLevel::from_sigma(scheduler.schedule().sigma_to_timestep(sigma), sigma)
        })
        .collect();
    Plan::through(&levels, 1.0).unwrap()
}

/// What a latent that ends at `level` is multiplied with.
fn scale_at(kind: SamplerKind, level: NoiseLevel, is_end: bool) -> f64 {
    // The latents of these stay variance-preserving where they do not end at sigma 0.
    let at_end = matches!(
        kind,
        SamplerKind::Dpmpp2m
            | SamplerKind::Dpmpp2s
            | SamplerKind::DeisMultistep
            | SamplerKind::SaSolver
            | SamplerKind::UniPc
            | SamplerKind::UniPcBh2
            | SamplerKind::UniPcComfy
            | SamplerKind::UniPcBh2Comfy
    );
    if kind.spec().coordinates == Coordinates::VariancePreserving || (is_end && at_end) {
        level.alpha_bar.sqrt()
    } else {
        1.0
    }
}

/// Evaluations of a run of `steps`, and the root of its mean squared error.
fn measure(kind: SamplerKind, steps: usize) -> (usize, f64) {
    let scheduler = scheduler_of(kind, steps);
    let plan = plan_of(&scheduler, steps);
    let (first, last) = (plan.steps()[0].from, plan.last());
    let mut x = TorchGenerator::new(1).randn([1, 1, 8, VALUES / 8]);
    let noise = x.data().to_vec();
    // The path of value `index` through its noise.
    let place = |level: NoiseLevel, is_end: bool, index: usize| {
        let deviation = spread(index).hypot(level.sigma);
        (MEAN + deviation * f64::from(noise[index])) * scale_at(kind, level, is_end)
    };
    for (index, x) in x.data_mut().iter_mut().enumerate() {
        *x = place(first, false, index) as f32;
    }
    let mut denoiser = Exact {
        schedule: scheduler.schedule(),
        evaluations: 0,
    };
    let found = (kind.spec().build)(scheduler.schedule().settings())
        .sample(
            x,
            &mut Run {
                plan: &plan,
                denoiser: &mut denoiser,
                noise: &mut OneGenerator(TorchGenerator::new(2)),
                on_step: &mut |_, _, _| Ok(()),
            },
        )
        .unwrap();
    let found = found.data().iter().enumerate();
    let sum: f64 = found
        .map(|(index, &found)| (f64::from(found) - place(last, true, index)).powi(2))
        .sum();
    let error = (sum / VALUES as f64).sqrt();
    (denoiser.evaluations, error)
}

/// Errors over evaluations of one sampler, and the order measured from them.
fn curve_of(kind: SamplerKind) -> (Vec<(usize, f64)>, f64) {
    let steps = match (kind.spec().coordinates, kind) {
        (Coordinates::VariancePreserving, _) => STEPS_OF_TRAINING,
        (_, SamplerKind::DpmFast) => STEPS_OF_DPM_FAST,
        _ => STEPS,
    };
    let points: Vec<(usize, f64)> = steps.map(|steps| measure(kind, steps)).to_vec();
    // The steepness where rounding does not yet count, from the last two errors above it.
    let above = points.iter().filter(|(_, error)| *error > FLOOR).count();
    let upto = above.max(2);
    let (from, to) = (points[upto - 2], points[upto - 1]);
    let order = (from.1 / to.1).ln() / (to.0 as f64 / from.0 as f64).ln();
    (points, order)
}

fn kind_of(name: &str) -> SamplerKind {
    SAMPLERS.iter().find(|row| row.name == name).unwrap().kind
}

#[test]
fn samplers_have_their_orders_and_more_steps_converge() {
    let mut faults = String::new();
    println!("\n| sampler | order | measured | error after evaluations |\n|---|---|---|---|");
    for &(name, expected) in ORDERS {
        let (points, order) = curve_of(kind_of(name));
        let (evaluations, error) = points[1];
        println!("| `{name}` | {expected} | {order:.2} | {error:.1e} after {evaluations} |");
        if order.partial_cmp(&(expected - TOLERANCE)) != Some(std::cmp::Ordering::Greater) {
            writeln!(faults, "{name} has order {order}: {points:?}").unwrap();
        }
        let apart = if CHANGES_SIGN.contains(&name) {
            points.len()
        } else {
            2
        };
        for pair in points.windows(apart) {
            let pair = [pair[0], pair[apart - 1]];
            let falls = pair[1].1 < pair[0].1;
            if !falls && pair[1].1 > FLOOR || !pair[1].1.is_finite() {
                writeln!(faults, "{name}: more steps are worse, {pair:?}").unwrap();
            }
        }
    }
    assert!(faults.is_empty(), "{faults}");
}

#[test]
fn every_sampler_has_an_order_or_none() {
    for row in SAMPLERS {
        let ordered = ORDERS.iter().any(|(name, _)| *name == row.name);
        let without = WITHOUT_ORDER.contains(&row.name);
        assert!(ordered != without, "{}", row.name);
    }
}

/// Writes `docs/images/convergence.svg`: `TINTYPE_BLESS=1 cargo test --workspace --lib convergence_plot`.
#[test]
fn the_convergence_plot_shows_every_deterministic_sampler() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/images/convergence.svg");
    if std::env::var_os("TINTYPE_BLESS").is_some() {
        let curves: Vec<Curve> = ORDERS
            .iter()
            .map(|&(name, expected)| Curve {
                name,
                panel: expected as usize,
                points: curve_of(kind_of(name)).0,
            })
            .collect();
        std::fs::write(path, svg(&curves, FLOOR)).unwrap();
    }
    let plot = std::fs::read_to_string(path).unwrap();
    for (name, _) in ORDERS {
        assert!(
            plot.contains(&format!(">{name}<")),
            "{name} is not in the plot"
        );
    }
}
