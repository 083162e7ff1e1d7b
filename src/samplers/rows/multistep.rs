//! Rows of the other samplers in sigmas that remember earlier steps.

use super::{K_DIFFUSION, ON_SIGMAS, TO_SIGMA_MIN};
use crate::samplers::noise_options::Takes;
use crate::samplers::plan::Coordinates;
use crate::samplers::registry::{OfCheckpoint, SamplerKind, SamplerSpec};
use crate::samplers::schedule::{Defaults, Ignored, levels};
use crate::samplers::{
    Deis, DeisMultistep, Dpmpp2m, ErSde, Ipndm, IpndmV, Lms, ResMultistep, SaSolver, SaSolverComfy,
    UniPc,
};

pub(super) const LMS: SamplerSpec = SamplerSpec {
    kind: SamplerKind::Lms,
    name: "lms",
    label: "LMS",
    aliases: &[],
    class_names: &["LMSDiscreteScheduler"],
    help: "linear multistep of order 4, rough below 30 steps; kept for old pictures",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::NOTHING,
    defaults: K_DIFFUSION,
    plan: levels::plan,
    build: Lms::build,
    of_checkpoint: Some(OfCheckpoint {
        class_names: &["LMSDiscreteScheduler"],
        defaults: Defaults {
            beta_start: Defaults::COMMON.beta_start,
            beta_end: Defaults::COMMON.beta_end,
            ..ON_SIGMAS
        },
        plan: Lms::plan_of_checkpoint,
        build: Lms::build_of_checkpoint,
    }),
};

pub(super) const IPNDM: SamplerSpec = SamplerSpec {
    kind: SamplerKind::Ipndm,
    name: "ipndm",
    label: "IPNDM",
    aliases: &[],
    class_names: &[],
    help: "linear multistep of order 4 for even steps; 10 to 20 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::NOTHING,
    defaults: K_DIFFUSION,
    plan: levels::plan,
    build: Ipndm::build,
    of_checkpoint: None,
};

pub(super) const IPNDM_V: SamplerSpec = SamplerSpec {
    kind: SamplerKind::IpndmV,
    name: "ipndm_v",
    label: "IPNDM_V",
    aliases: &[],
    class_names: &[],
    help: "the same for uneven steps, so for karras; 10 to 20 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::NOTHING,
    defaults: K_DIFFUSION,
    plan: levels::plan,
    build: IpndmV::build,
    of_checkpoint: None,
};

pub(super) const DEIS: SamplerSpec = SamplerSpec {
    kind: SamplerKind::Deis,
    name: "deis",
    label: "DEIS",
    aliases: &[],
    class_names: &[],
    help: "exponential integrator of third order, deterministic; 8 to 20 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::NOTHING,
    defaults: K_DIFFUSION,
    plan: levels::plan,
    build: Deis::build,
    of_checkpoint: None,
};

pub(super) const UNI_PC: SamplerSpec = SamplerSpec {
    kind: SamplerKind::UniPc,
    name: "uni_pc",
    label: "UniPC",
    aliases: &["unipc_bh1", "uni_pc_bh1"],
    class_names: &[],
    help: "predictor and corrector of order 3 at one evaluation a step; 8 to 20 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::NOTHING,
    defaults: K_DIFFUSION,
    plan: UniPc::plan,
    build: UniPc::build,
    of_checkpoint: Some(OfCheckpoint {
        class_names: &["UniPCMultistepScheduler"],
        defaults: Defaults {
            ignores: &[Ignored::Clip, Ignored::LuLambdas],
            ..Defaults::COMMON
        },
        plan: Dpmpp2m::plan,
        build: UniPc::build_bh1,
    }),
};

pub(super) const UNI_PC_BH2: SamplerSpec = SamplerSpec {
    kind: SamplerKind::UniPcBh2,
    name: "uni_pc_bh2",
    label: "UniPC BH2",
    aliases: &["unipc_bh2"],
    class_names: &["UniPCMultistepScheduler"],
    help: "UniPC in the form diffusers prefers; 8 to 20 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::NOTHING,
    defaults: Defaults {
        ignores: &[Ignored::Clip, Ignored::LuLambdas],
        ..Defaults::COMMON
    },
    plan: Dpmpp2m::plan,
    build: UniPc::build_bh2,
    of_checkpoint: None,
};

pub(super) const RES_MULTISTEP: SamplerSpec = SamplerSpec {
    kind: SamplerKind::ResMultistep,
    name: "res_multistep",
    label: "Res Multistep",
    aliases: &["res"],
    class_names: &[],
    help: "refined exponential solver, deterministic unless --eta; 15 to 30 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes {
        eta: Some(0.0),
        ..Takes::FRESH_NOISE
    },
    defaults: K_DIFFUSION,
    plan: levels::plan,
    build: ResMultistep::build,
    of_checkpoint: None,
};

pub(super) const ER_SDE: SamplerSpec = SamplerSpec {
    kind: SamplerKind::ErSde,
    name: "er_sde",
    label: "ER SDE",
    aliases: &["er sde solver"],
    class_names: &[],
    help: "stochastic of third order at one evaluation a step; 15 to 30 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes {
        s_noise: true,
        ..Takes::NOTHING
    },
    defaults: K_DIFFUSION,
    plan: levels::plan,
    build: ErSde::build,
    of_checkpoint: None,
};

pub(super) const DEIS_MULTISTEP: SamplerSpec = SamplerSpec {
    kind: SamplerKind::DeisMultistep,
    name: "deis_multistep",
    label: "DEIS Multistep",
    aliases: &[],
    class_names: &["DEISMultistepScheduler"],
    help: "diffusers' DEIS of second order, deterministic; 10 to 25 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::NOTHING,
    defaults: Defaults {
        ignores: &[
            Ignored::ZeroSnr,
            Ignored::Clip,
            Ignored::LuLambdas,
            Ignored::FinalSigmas,
            Ignored::LambdaMin,
        ],
        ..TO_SIGMA_MIN
    },
    plan: Dpmpp2m::plan_with_curve_end,
    build: DeisMultistep::build,
    of_checkpoint: None,
};

pub(super) const SA_SOLVER: SamplerSpec = SamplerSpec {
    kind: SamplerKind::SaSolver,
    name: "sa_solver",
    label: "SA Solver",
    aliases: &["sample_sa_solver", "stochastic_adams"],
    class_names: &["SASolverScheduler"],
    help: "stochastic Adams predictor and corrector, noise in the middle of the run; 15 to 30 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::FRESH_NOISE,
    defaults: TO_SIGMA_MIN,
    plan: Dpmpp2m::plan_with_curve_end,
    build: SaSolver::build,
    of_checkpoint: None,
};

/// Levels of ComfyUI's UniPC, which leaves out the last above 0.
const UNI_PC_OF_COMFY: Defaults = Defaults {
    discard_penultimate: true,
    ..K_DIFFUSION
};

pub(super) const UNI_PC_COMFY: SamplerSpec = SamplerSpec {
    kind: SamplerKind::UniPcComfy,
    name: "uni_pc_comfy",
    label: "UniPC Comfy",
    aliases: &[],
    class_names: &[],
    help: "ComfyUI's uni_pc: order 3 through a schedule's sigmas down to 0.001; 8 to 20 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::NOTHING,
    defaults: UNI_PC_OF_COMFY,
    plan: UniPc::plan_comfy,
    build: UniPc::build,
    of_checkpoint: None,
};

pub(super) const UNI_PC_BH2_COMFY: SamplerSpec = SamplerSpec {
    kind: SamplerKind::UniPcBh2Comfy,
    name: "uni_pc_bh2_comfy",
    label: "UniPC BH2 Comfy",
    aliases: &[],
    class_names: &[],
    help: "ComfyUI's uni_pc_bh2: the same with B(h) = exp(h) - 1; 8 to 20 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::NOTHING,
    defaults: UNI_PC_OF_COMFY,
    plan: UniPc::plan_comfy,
    build: UniPc::build_comfy_bh2,
    of_checkpoint: None,
};

pub(super) const SA_SOLVER_COMFY: SamplerSpec = SamplerSpec {
    kind: SamplerKind::SaSolverComfy,
    name: "sa_solver_comfy",
    label: "SA Solver Comfy",
    aliases: &[],
    class_names: &[],
    help: "ComfyUI's sa_solver: orders 3 and 4 through a schedule's sigmas; 15 to 30 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::FRESH_NOISE,
    defaults: K_DIFFUSION,
    plan: levels::plan,
    build: SaSolverComfy::build,
    of_checkpoint: None,
};

pub(super) const SA_SOLVER_PECE: SamplerSpec = SamplerSpec {
    kind: SamplerKind::SaSolverPece,
    name: "sa_solver_pece",
    label: "SA Solver PECE",
    aliases: &[],
    class_names: &[],
    help: "the same with a second estimate after each correction, twice the work; 10 to 20 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 2,
    takes: Takes::FRESH_NOISE,
    defaults: K_DIFFUSION,
    plan: levels::plan,
    build: SaSolverComfy::build_pece,
    of_checkpoint: None,
};
