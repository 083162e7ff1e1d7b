//! Samplers: each its paper's algorithm in one file, with the loop inside.
//!
//! A sampler sees a [`Denoiser`], the levels of a [`Plan`], a noise source and an observer, nothing else.
//! Guidance, prediction type and conditioning live behind the denoiser (`backend::inference`); which
//! levels are visited is decided before the run by the rules in [`schedule`]. Names, aliases, help and
//! construction are rows of the one table in [`registry`].

use crate::error::Result;
use crate::host::HostTensor;
use crate::rng::BrownianNoise;

mod churn;
mod ddim;
mod ddim_cfg_pp;
mod ddpm;
mod deis;
mod deis_multistep;
mod dpm_2;
mod dpm_2_ancestral;
mod dpm_adaptive;
mod dpm_fast;
mod dpm_solver;
mod dpmpp_2m;
mod dpmpp_2m_sde;
mod dpmpp_2s;
mod dpmpp_2s_ancestral;
mod dpmpp_3m_sde;
mod dpmpp_sde;
mod er_sde;
mod euler;
mod euler_ancestral;
mod euler_cfg_pp;
mod gradient_estimation;
mod heun;
mod heunpp2;
mod ipndm;
mod ipndm_v;
mod lcm;
mod lcm_sigmas;
mod lms;
mod maths;
mod multistep;
mod noise_options;
mod plan;
mod pndm;
mod prediction;
pub mod registry;
mod res_multistep;
mod restart;
mod rows;
mod sa_solver;
mod sa_solver_comfy;
pub mod schedule;
mod tcd;
#[cfg(test)]
mod tests;
mod uni_pc;

pub use churn::Churn;
pub use ddim::Ddim;
pub use ddim_cfg_pp::DdimCfgPp;
pub use ddpm::Ddpm;
pub use deis::Deis;
pub use deis_multistep::DeisMultistep;
pub use dpm_2::Dpm2;
pub use dpm_2_ancestral::Dpm2Ancestral;
pub use dpm_adaptive::DpmAdaptive;
pub use dpm_fast::DpmFast;
pub use dpmpp_2m::Dpmpp2m;
pub use dpmpp_2m_sde::Dpmpp2mSde;
pub use dpmpp_2s::Dpmpp2s;
pub use dpmpp_2s_ancestral::Dpmpp2sAncestral;
pub use dpmpp_3m_sde::Dpmpp3mSde;
pub use dpmpp_sde::DpmppSde;
pub use er_sde::ErSde;
pub use euler::Euler;
pub use euler_ancestral::EulerAncestral;
pub use euler_cfg_pp::EulerCfgPp;
pub use gradient_estimation::GradientEstimation;
pub use heun::Heun;
pub use heunpp2::HeunPp2;
pub use ipndm::Ipndm;
pub use ipndm_v::IpndmV;
pub use lcm::Lcm;
pub use lcm_sigmas::LcmSigmas;
pub use lms::Lms;
pub use noise_options::{NoiseOptions, Randomness, Takes};
pub use plan::{Coordinates, NoiseLevel, Plan, Step};
pub use pndm::Pndm;
pub(crate) use prediction::quantile_of_magnitudes;
pub use prediction::{Clip, PredictionType};
pub use registry::{SAMPLERS, SamplerKind, SamplerSpec};
pub use res_multistep::ResMultistep;
pub use restart::Restart;
pub use sa_solver::SaSolver;
pub use sa_solver_comfy::{Evaluations, SaSolverComfy};
pub use tcd::Tcd;
pub use uni_pc::{UniPc, UniPcVariant};

/// The model as samplers see it: noisy latents in, its estimate of the clean latents out.
///
/// Two coordinate systems are in use. k-diffusion's samplers keep `x = x0 + sigma * noise` (variance
/// exploding); DDIM, PNDM and LCM keep `x = sqrt(ᾱ) x0 + sqrt(1 - ᾱ) noise` at an integer training
/// timestep (variance preserving), which also exists at zero terminal SNR, where sigma is infinite.
pub trait Denoiser {
    /// Estimates the clean latents from `x = x0 + sigma * noise`.
    ///
    /// # Errors
    /// Whatever the model fails with.
    fn denoise(&mut self, x: &HostTensor, sigma: f64) -> Result<HostTensor>;

    /// Estimates the clean latents from `x = sqrt(ᾱ_t) x0 + sqrt(1 - ᾱ_t) noise` at training timestep `timestep`.
    ///
    /// # Errors
    /// Whatever the model fails with.
    fn denoise_at(&mut self, x: &HostTensor, timestep: usize) -> Result<HostTensor>;

    /// As [`denoise`](Self::denoise), with the unconditional estimate beside the guided one.
    ///
    /// # Errors
    /// Whatever the model fails with, and when there is no unconditional estimate.
    fn denoise_guided(&mut self, x: &HostTensor, sigma: f64) -> Result<Guided>;

    /// As [`denoise_at`](Self::denoise_at), with the unconditional estimate beside the guided one.
    ///
    /// # Errors
    /// Whatever the model fails with, and when there is no unconditional estimate.
    fn denoise_guided_at(&mut self, x: &HostTensor, timestep: usize) -> Result<Guided>;
}

/// Two estimates of the clean latents from one evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Guided {
    /// The guided one, which is what other samplers see.
    pub denoised: HostTensor,
    /// That of the negative prompt alone.
    pub unconditional: HostTensor,
}

/// Where stochastic samplers get their noise from.
pub trait NoiseSource {
    /// Standard normal noise of `shape` = (batch, channels, height, width); each picture of the batch draws from its own generator.
    fn noise(&mut self, shape: &[usize]) -> HostTensor;

    /// The paths of SDE samplers for latents of `shape` between two sigmas, from the same seeds; what was
    /// drawn otherwise makes no difference to them.
    fn brownian(&self, shape: &[usize], sigma_min: f64, sigma_max: f64) -> BrownianNoise;
}

/// What an observer learns of a step that is just done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepInfo {
    /// Number of the step within the plan, from 0.
    pub index: usize,
    /// Steps in all.
    pub total: usize,
    /// Timestep the model saw.
    pub timestep: f64,
    /// Noise level before the step, relative to the clean latents; infinite at zero terminal SNR.
    pub sigma: f64,
}

/// Receives each finished step: what it was, the latents after it and the estimate of the clean latents
/// it used, where there is one. An error it returns ends the run and becomes the run's error.
pub type OnStep<'a> = dyn FnMut(&StepInfo, &HostTensor, Option<&HostTensor>) -> Result<()> + 'a;

/// Everything a sampler works with.
pub struct Run<'a> {
    /// The levels to visit.
    pub plan: &'a Plan,
    /// The model.
    pub denoiser: &'a mut dyn Denoiser,
    /// Noise for stochastic samplers, drawn in the order diffusers draws it.
    pub noise: &'a mut dyn NoiseSource,
    /// Called after each step.
    pub on_step: &'a mut OnStep<'a>,
}

impl std::fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("plan", self.plan)
            .finish_non_exhaustive()
    }
}

impl Run<'_> {
    /// The paths of SDE samplers over the whole plan: from its smallest sigma above 0 to its largest.
    fn brownian(&self, x: &HostTensor) -> BrownianNoise {
        let sigmas = || {
            let steps = self.plan.steps().iter();
            steps.flat_map(|step| [step.from.sigma, step.to.sigma])
        };
        let max = sigmas().fold(0.0, f64::max);
        let min = sigmas().filter(|sigma| *sigma > 0.0).fold(max, f64::min);
        self.noise.brownian(x.shape(), min, max)
    }

    /// Tells the observer that step `index` of the plan is done.
    fn report(
        &mut self,
        index: usize,
        x: &HostTensor,
        denoised: Option<&HostTensor>,
    ) -> Result<()> {
        let at = self.plan.steps()[index].at;
        let info = StepInfo {
            index,
            total: self.plan.steps().len(),
            timestep: at.timestep,
            sigma: at.sigma,
        };
        (self.on_step)(&info, x, denoised)
    }
}

/// A way from noise to a picture.
pub trait Sampler: std::fmt::Debug + Send + Sync {
    /// Takes `x`, (B, C, H, W) at the first level of the run's plan, to its last level.
    ///
    /// # Errors
    /// Whatever the denoiser or the observer fails with.
    fn sample(&self, x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor>;
}
