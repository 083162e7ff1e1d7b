//! The one table of samplers: each row in the file of its kind, and their order here.

mod dpm_solver;
mod multistep;
mod one_step;
mod timesteps;

use super::registry::SamplerSpec;
use super::schedule::{Defaults, FinalSigmas, Ignored};

/// Samplers that are k-diffusion's or came by its way: levels are the webuis', and what a checkpoint says
/// about diffusers' own does not bear on them.
const K_DIFFUSION: Defaults = Defaults {
    ignores: &[Ignored::Clip, Ignored::Thresholding, Ignored::Sigmas],
    ..Defaults::COMMON
};

/// What the schedulers of diffusers that came by k-diffusion's way do not know; they work on sigmas, ended at 0.
const ON_SIGMAS: Defaults = Defaults {
    beta_start: 0.00085,
    beta_end: 0.012,
    ignores: &[
        Ignored::ZeroSnr,
        Ignored::Clip,
        Ignored::Thresholding,
        Ignored::LuLambdas,
        Ignored::Interpolation,
        Ignored::FinalSigmas,
    ],
    ..Defaults::COMMON
};

/// Multistep schedulers of diffusers that end at the smallest noise of training.
const TO_SIGMA_MIN: Defaults = Defaults {
    final_sigmas: FinalSigmas::SigmaMin,
    ignores: &[
        Ignored::ZeroSnr,
        Ignored::Clip,
        Ignored::LuLambdas,
        Ignored::FinalSigmas,
    ],
    ..Defaults::COMMON
};

/// Every sampler, in the order help shows them.
pub const SAMPLERS: &[SamplerSpec] = &[
    timesteps::DDIM,
    timesteps::PNDM,
    one_step::EULER,
    one_step::EULER_A,
    dpm_solver::DPMPP_2M,
    timesteps::LCM,
    one_step::HEUN,
    one_step::DPM_2,
    one_step::DPM_2_A,
    multistep::LMS,
    dpm_solver::DPMPP_2S_A,
    dpm_solver::DPMPP_SDE,
    dpm_solver::DPMPP_2M_SDE,
    dpm_solver::DPMPP_2M_SDE_HEUN,
    dpm_solver::DPMPP_3M_SDE,
    dpm_solver::DPM_FAST,
    dpm_solver::DPM_ADAPTIVE,
    one_step::RESTART,
    one_step::HEUNPP2,
    multistep::IPNDM,
    multistep::IPNDM_V,
    multistep::DEIS,
    multistep::UNI_PC,
    multistep::UNI_PC_BH2,
    multistep::RES_MULTISTEP,
    one_step::GRADIENT_ESTIMATION,
    multistep::ER_SDE,
    one_step::EULER_CFG_PP,
    one_step::EULER_A_CFG_PP,
    timesteps::DDIM_CFG_PP,
    timesteps::DDPM,
    timesteps::TCD,
    dpm_solver::DPMPP_2S,
    multistep::DEIS_MULTISTEP,
    multistep::SA_SOLVER,
    multistep::SA_SOLVER_COMFY,
    multistep::SA_SOLVER_PECE,
    multistep::UNI_PC_COMFY,
    multistep::UNI_PC_BH2_COMFY,
    one_step::LCM_SIGMAS,
    one_step::LCM_WEBUI,
];
