//! Rows of the DPM-Solvers.

use super::K_DIFFUSION;
use crate::samplers::noise_options::Takes;
use crate::samplers::plan::Coordinates;
use crate::samplers::registry::{SamplerKind, SamplerSpec};
use crate::samplers::schedule::{Defaults, Ignored, ScheduleKind, levels};
use crate::samplers::{
    DpmAdaptive, DpmFast, Dpmpp2m, Dpmpp2mSde, Dpmpp2s, Dpmpp2sAncestral, Dpmpp3mSde, DpmppSde,
};

pub(super) const DPMPP_2M: SamplerSpec = SamplerSpec {
    kind: SamplerKind::Dpmpp2m,
    name: "dpmpp_2m",
    label: "DPM++ 2M",
    aliases: &["dpm++2m", "dpm_solver_multistep"],
    class_names: &["DPMSolverMultistepScheduler"],
    help: "second order, deterministic, good from 15 steps; best with karras",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::NOTHING,
    defaults: Defaults {
        ignores: &[Ignored::Clip],
        ..Defaults::COMMON
    },
    plan: Dpmpp2m::plan,
    build: Dpmpp2m::build,
    of_checkpoint: None,
};

pub(super) const DPMPP_2S_A: SamplerSpec = SamplerSpec {
    kind: SamplerKind::Dpmpp2sAncestral,
    name: "dpmpp_2s_a",
    label: "DPM++ 2S a",
    aliases: &["dpmpp_2s_ancestral", "dpm++2sa", "dpm++ 2s ancestral"],
    class_names: &[],
    help: "second order with new noise after each step, twice the work; 15 to 30 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 2,
    takes: Takes::FRESH_NOISE,
    defaults: Defaults {
        schedule: ScheduleKind::Karras,
        ..K_DIFFUSION
    },
    plan: levels::plan,
    build: Dpmpp2sAncestral::build,
    of_checkpoint: None,
};

pub(super) const DPMPP_SDE: SamplerSpec = SamplerSpec {
    kind: SamplerKind::DpmppSde,
    name: "dpmpp_sde",
    label: "DPM++ SDE",
    aliases: &["dpm++sde"],
    class_names: &[],
    help: "stochastic, much detail in few steps, twice the work; 8 to 20 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 2,
    takes: Takes::FRESH_NOISE,
    defaults: Defaults {
        schedule: ScheduleKind::Karras,
        ..K_DIFFUSION
    },
    plan: levels::plan,
    build: DpmppSde::build,
    of_checkpoint: None,
};

pub(super) const DPMPP_2M_SDE: SamplerSpec = SamplerSpec {
    kind: SamplerKind::Dpmpp2mSde,
    name: "dpmpp_2m_sde",
    label: "DPM++ 2M SDE",
    aliases: &["dpm++2msde"],
    class_names: &[],
    help: "stochastic, much detail at one evaluation a step; 20 to 40 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::FRESH_NOISE,
    defaults: Defaults {
        schedule: ScheduleKind::Exponential,
        ..K_DIFFUSION
    },
    plan: levels::plan,
    build: Dpmpp2mSde::build,
    of_checkpoint: None,
};

pub(super) const DPMPP_2M_SDE_HEUN: SamplerSpec = SamplerSpec {
    kind: SamplerKind::Dpmpp2mSdeHeun,
    name: "dpmpp_2m_sde_heun",
    label: "DPM++ 2M SDE Heun",
    aliases: &["dpm++2msdeheun"],
    class_names: &[],
    help: "the same with Heun's rule, a little softer; 20 to 40 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::FRESH_NOISE,
    defaults: Defaults {
        schedule: ScheduleKind::Exponential,
        ..K_DIFFUSION
    },
    plan: levels::plan,
    build: Dpmpp2mSde::build_heun,
    of_checkpoint: None,
};

pub(super) const DPMPP_3M_SDE: SamplerSpec = SamplerSpec {
    kind: SamplerKind::Dpmpp3mSde,
    name: "dpmpp_3m_sde",
    label: "DPM++ 3M SDE",
    aliases: &["dpm++3msde"],
    class_names: &[],
    help: "stochastic, third order; wants 30 steps and more",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::FRESH_NOISE,
    defaults: Defaults {
        schedule: ScheduleKind::Exponential,
        discard_penultimate: true,
        ..K_DIFFUSION
    },
    plan: levels::plan,
    build: Dpmpp3mSde::build,
    of_checkpoint: None,
};

pub(super) const DPM_FAST: SamplerSpec = SamplerSpec {
    kind: SamplerKind::DpmFast,
    name: "dpm_fast",
    label: "DPM fast",
    aliases: &[],
    class_names: &[],
    help: "third-order steps, steps count evaluations; superseded by dpmpp_2m",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::FRESH_NOISE,
    defaults: K_DIFFUSION,
    plan: DpmFast::plan,
    build: DpmFast::build,
    of_checkpoint: None,
};

pub(super) const DPM_ADAPTIVE: SamplerSpec = SamplerSpec {
    kind: SamplerKind::DpmAdaptive,
    name: "dpm_adaptive",
    label: "DPM adaptive",
    aliases: &[],
    class_names: &[],
    help: "chooses its own steps, whatever --steps says; for a reference picture",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::FRESH_NOISE,
    defaults: K_DIFFUSION,
    plan: DpmAdaptive::plan,
    build: DpmAdaptive::build,
    of_checkpoint: None,
};

pub(super) const DPMPP_2S: SamplerSpec = SamplerSpec {
    kind: SamplerKind::Dpmpp2s,
    name: "dpmpp_2s",
    label: "DPM++ 2S",
    aliases: &["dpm++2s", "dpm_solver_singlestep"],
    class_names: &["DPMSolverSinglestepScheduler"],
    help: "DPM-Solver++ in single steps, deterministic; an odd number of steps, 15 to 25",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::NOTHING,
    defaults: Defaults {
        lower_order_final: false,
        ignores: &[
            Ignored::ZeroSnr,
            Ignored::Clip,
            Ignored::LuLambdas,
            Ignored::Spacing,
        ],
        ..Defaults::COMMON
    },
    plan: Dpmpp2m::plan,
    build: Dpmpp2s::build,
    of_checkpoint: None,
};
