//! Rows of samplers in sigmas that remember nothing, or one slope.

use super::{K_DIFFUSION, ON_SIGMAS};
use crate::samplers::noise_options::Takes;
use crate::samplers::plan::Coordinates;
use crate::samplers::registry::{OfCheckpoint, SamplerKind, SamplerSpec};
use crate::samplers::schedule::{Defaults, Ignored, ScheduleKind, levels};
use crate::samplers::{
    Dpm2, Dpm2Ancestral, Euler, EulerAncestral, EulerCfgPp, GradientEstimation, Heun, HeunPp2,
    LcmSigmas, Restart,
};

pub(super) const EULER: SamplerSpec = SamplerSpec {
    kind: SamplerKind::Euler,
    name: "euler",
    label: "Euler",
    aliases: &[],
    class_names: &["EulerDiscreteScheduler"],
    help: "the simplest, deterministic; 20 to 30 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::CHURN,
    defaults: Defaults {
        ignores: &[Ignored::Clip, Ignored::Thresholding, Ignored::LuLambdas],
        ..Defaults::COMMON
    },
    plan: Euler::plan,
    build: Euler::build,
    of_checkpoint: None,
};

pub(super) const EULER_A: SamplerSpec = SamplerSpec {
    kind: SamplerKind::EulerAncestral,
    name: "euler_a",
    label: "Euler a",
    aliases: &["euler_ancestral"],
    class_names: &["EulerAncestralDiscreteScheduler"],
    help: "new noise after each step, so pictures change with the number of steps; 20 to 40 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::FRESH_NOISE,
    defaults: Defaults {
        ignores: &[Ignored::Clip, Ignored::Thresholding, Ignored::Sigmas],
        ..Defaults::COMMON
    },
    plan: Euler::plan,
    build: EulerAncestral::build,
    of_checkpoint: None,
};

pub(super) const HEUN: SamplerSpec = SamplerSpec {
    kind: SamplerKind::Heun,
    name: "heun",
    label: "Heun",
    aliases: &[],
    class_names: &["HeunDiscreteScheduler"],
    help: "Euler's method corrected, twice the work a step; 10 to 30 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 2,
    takes: Takes::CHURN,
    defaults: K_DIFFUSION,
    plan: levels::plan,
    build: Heun::build,
    of_checkpoint: Some(OfCheckpoint {
        class_names: &["HeunDiscreteScheduler"],
        defaults: Defaults {
            ignores: &[
                Ignored::ZeroSnr,
                Ignored::Thresholding,
                Ignored::LuLambdas,
                Ignored::Interpolation,
                Ignored::FinalSigmas,
            ],
            ..ON_SIGMAS
        },
        plan: Heun::plan_of_checkpoint,
        build: Heun::build,
    }),
};

pub(super) const DPM_2: SamplerSpec = SamplerSpec {
    kind: SamplerKind::Dpm2,
    name: "dpm_2",
    label: "DPM2",
    aliases: &["dpm2"],
    class_names: &["KDPM2DiscreteScheduler"],
    help: "midpoint steps in the logarithm of sigma, twice the work; 15 to 30 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 2,
    takes: Takes::CHURN,
    defaults: Defaults {
        schedule: ScheduleKind::Karras,
        discard_penultimate: true,
        ..K_DIFFUSION
    },
    plan: levels::plan,
    build: Dpm2::build,
    of_checkpoint: Some(OfCheckpoint {
        class_names: &["KDPM2DiscreteScheduler"],
        defaults: ON_SIGMAS,
        plan: Dpm2::plan_of_checkpoint,
        build: Dpm2::build,
    }),
};

pub(super) const DPM_2_A: SamplerSpec = SamplerSpec {
    kind: SamplerKind::Dpm2Ancestral,
    name: "dpm_2_a",
    label: "DPM2 a",
    aliases: &["dpm_2_ancestral", "dpm2_ancestral"],
    class_names: &["KDPM2AncestralDiscreteScheduler"],
    help: "DPM2 with new noise after each step; 20 to 40 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 2,
    takes: Takes::FRESH_NOISE,
    defaults: Defaults {
        schedule: ScheduleKind::Karras,
        discard_penultimate: true,
        ..K_DIFFUSION
    },
    plan: levels::plan,
    build: Dpm2Ancestral::build,
    of_checkpoint: Some(OfCheckpoint {
        class_names: &["KDPM2AncestralDiscreteScheduler"],
        defaults: ON_SIGMAS,
        plan: Dpm2::plan_of_checkpoint,
        build: Dpm2Ancestral::build,
    }),
};

pub(super) const RESTART: SamplerSpec = SamplerSpec {
    kind: SamplerKind::Restart,
    name: "restart",
    label: "Restart",
    aliases: &[],
    class_names: &[],
    help: "Heun's method that goes part of the way twice; 20 steps and more",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 2,
    takes: Takes {
        s_noise: true,
        ..Takes::NOTHING
    },
    defaults: Defaults {
        schedule: ScheduleKind::Karras,
        ..K_DIFFUSION
    },
    plan: Restart::plan,
    build: Restart::build,
    of_checkpoint: None,
};

pub(super) const HEUNPP2: SamplerSpec = SamplerSpec {
    kind: SamplerKind::HeunPp2,
    name: "heunpp2",
    label: "HeunPP2",
    aliases: &["heun++"],
    class_names: &[],
    help: "Heun's method with three slopes, up to three times the work; 8 to 20 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 3,
    takes: Takes::CHURN,
    defaults: K_DIFFUSION,
    plan: levels::plan,
    build: HeunPp2::build,
    of_checkpoint: None,
};

pub(super) const GRADIENT_ESTIMATION: SamplerSpec = SamplerSpec {
    kind: SamplerKind::GradientEstimation,
    name: "gradient_estimation",
    label: "Gradient Estimation",
    aliases: &["euler_ge"],
    class_names: &[],
    help: "Euler's method with momentum, deterministic; 10 to 20 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::NOTHING,
    defaults: K_DIFFUSION,
    plan: levels::plan,
    build: GradientEstimation::build,
    of_checkpoint: None,
};

pub(super) const EULER_CFG_PP: SamplerSpec = SamplerSpec {
    kind: SamplerKind::EulerCfgPp,
    name: "euler_cfg_pp",
    label: "Euler CFG++",
    aliases: &[],
    class_names: &[],
    help: "Euler that stays closer to the model's own pictures; guidance 1 to 2, 20 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: true,
    evaluations: 1,
    takes: Takes {
        eta: Some(0.0),
        ..Takes::FRESH_NOISE
    },
    defaults: K_DIFFUSION,
    plan: levels::plan,
    build: EulerCfgPp::build,
    of_checkpoint: None,
};

pub(super) const EULER_A_CFG_PP: SamplerSpec = SamplerSpec {
    kind: SamplerKind::EulerAncestralCfgPp,
    name: "euler_a_cfg_pp",
    label: "Euler a CFG++",
    aliases: &["euler_ancestral_cfg_pp", "euler_ancestral_cfg++"],
    class_names: &[],
    help: "the same with new noise after each step; guidance 1 to 2, 20 steps",
    coordinates: Coordinates::VarianceExploding,
    unconditional: true,
    evaluations: 1,
    takes: Takes::FRESH_NOISE,
    defaults: K_DIFFUSION,
    plan: levels::plan,
    build: EulerCfgPp::build,
    of_checkpoint: None,
};

pub(super) const LCM_SIGMAS: SamplerSpec = SamplerSpec {
    kind: SamplerKind::LcmSigmas,
    name: "lcm_sigmas",
    label: "LCM Sigmas",
    aliases: &["lcm_comfy"],
    class_names: &[],
    help: "ComfyUI's lcm: the same through a schedule's sigmas; 4 to 8 steps, guidance 1 to 2",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::NOTHING,
    defaults: K_DIFFUSION,
    plan: levels::plan,
    build: LcmSigmas::build,
    of_checkpoint: None,
};

pub(super) const LCM_WEBUI: SamplerSpec = SamplerSpec {
    kind: SamplerKind::LcmWebui,
    name: "lcm_webui",
    label: "LCM Webui",
    aliases: &[],
    class_names: &[],
    help: "the webui's LCM: a schedule over the levels of the distillation; 4 to 8 steps, guidance 1 to 2",
    coordinates: Coordinates::VarianceExploding,
    unconditional: false,
    evaluations: 1,
    takes: Takes::NOTHING,
    defaults: K_DIFFUSION,
    plan: LcmSigmas::plan_webui,
    build: LcmSigmas::build_webui,
    of_checkpoint: None,
};
