//! Rows of samplers on training timesteps.

use crate::samplers::noise_options::Takes;
use crate::samplers::plan::Coordinates;
use crate::samplers::registry::{SamplerKind, SamplerSpec};
use crate::samplers::schedule::{BetaSchedule, Defaults, Ignored, ScheduleKind, TimestepSpacing};
use crate::samplers::{Ddim, DdimCfgPp, Ddpm, Lcm, Pndm, Tcd};

pub(super) const DDIM: SamplerSpec = SamplerSpec {
    kind: SamplerKind::Ddim,
    name: "ddim",
    label: "DDIM",
    aliases: &[],
    class_names: &["DDIMScheduler"],
    help: "deterministic, or with --eta up to as random as DDPM; 20 to 50 steps",
    coordinates: Coordinates::VariancePreserving,
    unconditional: false,
    evaluations: 1,
    takes: Takes {
        eta: Some(0.0),
        ..Takes::NOTHING
    },
    defaults: Defaults {
        schedule: ScheduleKind::DdimUniform,
        timestep_spacing: TimestepSpacing::Leading,
        clip_sample: true,
        ignores: &[Ignored::Sigmas],
        ..Defaults::COMMON
    },
    plan: Ddim::plan,
    build: Ddim::build,
    of_checkpoint: None,
};

pub(super) const PNDM: SamplerSpec = SamplerSpec {
    kind: SamplerKind::Pndm,
    name: "pndm",
    label: "PLMS",
    aliases: &["plms"],
    class_names: &["PNDMScheduler"],
    help: "the sampler SD1.x was published with; 50 steps",
    coordinates: Coordinates::VariancePreserving,
    unconditional: false,
    evaluations: 1,
    takes: Takes::NOTHING,
    defaults: Defaults {
        schedule: ScheduleKind::DdimUniform,
        timestep_spacing: TimestepSpacing::Leading,
        set_alpha_to_one: false,
        ignores: &[
            Ignored::ZeroSnr,
            Ignored::Clip,
            Ignored::Thresholding,
            Ignored::Sigmas,
        ],
        ..Defaults::COMMON
    },
    plan: Pndm::plan,
    build: Pndm::build,
    of_checkpoint: None,
};

pub(super) const LCM: SamplerSpec = SamplerSpec {
    kind: SamplerKind::Lcm,
    name: "lcm",
    label: "LCM",
    aliases: &["latent_consistency"],
    class_names: &["LCMScheduler"],
    help: "for models distilled to few steps; 4 to 8 steps, guidance 1 to 2",
    coordinates: Coordinates::VariancePreserving,
    unconditional: false,
    evaluations: 1,
    takes: Takes::NOTHING,
    defaults: Defaults {
        beta_start: 0.00085,
        beta_end: 0.012,
        beta_schedule: BetaSchedule::ScaledLinear,
        timestep_spacing: TimestepSpacing::Leading,
        ignores: &[Ignored::Sigmas],
        ..Defaults::COMMON
    },
    plan: Lcm::plan,
    build: Lcm::build,
    of_checkpoint: None,
};

pub(super) const DDIM_CFG_PP: SamplerSpec = SamplerSpec {
    kind: SamplerKind::DdimCfgPp,
    name: "ddim_cfg_pp",
    label: "DDIM CFG++",
    aliases: &[],
    class_names: &[],
    help: "DDIM that stays closer to the model's own pictures; guidance 0.4 to 1, 20 steps",
    coordinates: Coordinates::VariancePreserving,
    unconditional: true,
    evaluations: 1,
    takes: Takes {
        eta: Some(0.0),
        ..Takes::NOTHING
    },
    defaults: Defaults {
        schedule: ScheduleKind::DdimUniform,
        timestep_spacing: TimestepSpacing::Leading,
        clip_sample: false,
        ignores: &[Ignored::Clip, Ignored::Thresholding, Ignored::Sigmas],
        ..Defaults::COMMON
    },
    plan: Ddim::plan,
    build: DdimCfgPp::build,
    of_checkpoint: None,
};

pub(super) const DDPM: SamplerSpec = SamplerSpec {
    kind: SamplerKind::Ddpm,
    name: "ddpm",
    label: "DDPM",
    aliases: &[],
    class_names: &["DDPMScheduler"],
    help: "the training's own way back, all noise new; 100 steps and more",
    coordinates: Coordinates::VariancePreserving,
    unconditional: false,
    evaluations: 1,
    takes: Takes::NOTHING,
    defaults: Defaults {
        timestep_spacing: TimestepSpacing::Leading,
        clip_sample: true,
        ignores: &[Ignored::Sigmas],
        ..Defaults::COMMON
    },
    plan: Ddpm::plan,
    build: Ddpm::build,
    of_checkpoint: None,
};

pub(super) const TCD: SamplerSpec = SamplerSpec {
    kind: SamplerKind::Tcd,
    name: "tcd",
    label: "TCD",
    aliases: &[],
    class_names: &["TCDScheduler"],
    help: "for models distilled by TCD; 4 to 8 steps, guidance 1 to 2",
    coordinates: Coordinates::VariancePreserving,
    unconditional: false,
    evaluations: 1,
    takes: Takes {
        eta: Some(0.3),
        ..Takes::NOTHING
    },
    defaults: Defaults {
        beta_start: 0.00085,
        beta_end: 0.012,
        beta_schedule: BetaSchedule::ScaledLinear,
        timestep_spacing: TimestepSpacing::Leading,
        ignores: &[Ignored::Clip, Ignored::Thresholding, Ignored::Sigmas],
        ..Defaults::COMMON
    },
    plan: Tcd::plan,
    build: Tcd::build,
    of_checkpoint: None,
};
