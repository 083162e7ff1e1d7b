//! The denoiser that samplers see: UNet, guidance and prediction type behind `(x, sigma) -> denoised`.

use super::scheduler::Scheduler;
use crate::error::{Error, ErrorKind, Result};
use crate::events::CancelToken;
use crate::host::HostTensor;
use crate::models::UNet2DCondition;
use crate::models::unet::PreparedConditioning;
use crate::nn::{Engine, FeatureMap};
use crate::samplers::Denoiser;

/// How the conditional and the unconditional prediction become one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Guidance {
    /// One pass a step, with the prompt alone.
    None,
    /// Two predictions in one batch, unconditional first (Ho & Salimans 2022, "Classifier-Free Diffusion
    /// Guidance", equation 6).
    ClassifierFree {
        /// Weight of the conditional prediction, above 1.
        scale: f64,
        /// Share, 0 to 1, by which the result is brought back to the conditional prediction's standard
        /// deviation (Lin et al. 2023, equations 15 and 16).
        rescale: f64,
    },
}

/// A UNet with its conditioning, as one function from noisy to clean latents.
pub(crate) struct GuidedDenoiser<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) unet: &'a UNet2DCondition,
    /// Knows each level's exact timestep, and what the model predicts.
    pub(crate) scheduler: &'a Scheduler,
    /// For guidance: the unconditional half, then the conditional one.
    pub(crate) conditioning: &'a PreparedConditioning,
    pub(crate) guidance: Guidance,
    pub(crate) cancel: &'a CancelToken,
    /// Model evaluations so far, to name the place when something breaks.
    pub(crate) evaluations: usize,
}

impl Denoiser for GuidedDenoiser<'_> {
    fn denoise(&mut self, x: &HostTensor, sigma: f64) -> Result<HostTensor> {
        let schedule = self.scheduler.schedule();
        let planned = self.scheduler.plan().timestep_at(sigma);
        let timestep = planned.unwrap_or_else(|| schedule.sigma_to_timestep(sigma));
        let output = self.predict(&schedule.model_input(x, sigma), timestep)?;
        schedule.denoised(x, output, sigma)
    }

    fn denoise_at(&mut self, x: &HostTensor, timestep: usize) -> Result<HostTensor> {
        let output = self.predict(x, timestep as f64)?;
        self.scheduler.schedule().denoised_at(x, output, timestep)
    }
}

impl GuidedDenoiser<'_> {
    /// The guided prediction of the UNet for the scaled input, in whatever the model predicts.
    fn predict(&mut self, input: &HostTensor, timestep: f64) -> Result<HostTensor> {
        self.cancel.check()?;
        self.evaluations += 1;
        let guided = match self.guidance {
            Guidance::None => self.forward(input, timestep)?,
            Guidance::ClassifierFree { scale, rescale } => {
                let both = self.forward(
                    &HostTensor::concat(&[input.clone(), input.clone()])?,
                    timestep,
                )?;
                guide(both.item(0)?, &both.item(1)?, scale, rescale)?
            }
        };
        self.require_finite(&guided, timestep)?;
        Ok(guided)
    }

    fn forward(&self, input: &HostTensor, timestep: f64) -> Result<HostTensor> {
        let sample = FeatureMap::from_host(self.engine, input)?;
        self.unet
            .forward(&sample, timestep, self.conditioning)?
            .to_host()
    }

    fn require_finite(&self, prediction: &HostTensor, timestep: f64) -> Result<()> {
        let Some(index) = prediction.first_non_finite() else {
            return Ok(());
        };
        let found = prediction.data()[index];
        Err(Error::new(
            ErrorKind::NonFinite,
            format!(
                "the unet's prediction at evaluation {} (timestep {timestep}) holds {found} at element {index}, \
                 expected finite numbers",
                self.evaluations
            ),
        )
        .with_hint("try `--dtype f32`; if it persists the checkpoint's weights are damaged"))
    }
}

/// Classifier-free guidance on one picture's predictions.
fn guide(uncond: HostTensor, cond: &HostTensor, scale: f64, rescale: f64) -> Result<HostTensor> {
    let scale = scale as f32;
    let guided = uncond.zip_map(cond, |uncond, cond| uncond + scale * (cond - uncond))?;
    if rescale == 0.0 {
        return Ok(guided);
    }
    let rescale = rescale as f32;
    let ratio = (standard_deviation(cond) / standard_deviation(&guided)) as f32;
    if !ratio.is_finite() {
        return Ok(guided);
    }
    Ok(guided.map(|value| rescale * (value * ratio) + (1.0 - rescale) * value))
}

/// Standard deviation over all values, with Bessel's correction as torch has it.
fn standard_deviation(values: &HostTensor) -> f64 {
    let count = values.data().len() as f64;
    let mean = values
        .data()
        .iter()
        .map(|&value| f64::from(value))
        .sum::<f64>()
        / count;
    let squares: f64 = values
        .data()
        .iter()
        .map(|&value| (f64::from(value) - mean).powi(2))
        .sum();
    (squares / (count - 1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f32]) -> HostTensor {
        HostTensor::new([1, 1, 1, values.len()], values.to_vec()).unwrap()
    }

    #[test]
    fn guidance_moves_away_from_the_unconditional_prediction() {
        let guided = guide(row(&[1.0, 2.0]), &row(&[2.0, 0.0]), 7.5, 0.0).unwrap();
        assert_eq!(guided.data(), [8.5, -13.0]);
    }

    #[test]
    fn full_rescale_restores_the_conditional_deviation() {
        let cond = row(&[1.0, -1.0, 0.5, 2.0]);
        let guided = guide(row(&[0.2, 0.1, -0.4, 0.3]), &cond, 7.5, 1.0).unwrap();
        assert!((standard_deviation(&guided) - standard_deviation(&cond)).abs() < 1e-6);
    }

    #[test]
    fn rescale_of_a_flat_prediction_stays_finite() {
        let guided = guide(row(&[0.0, 0.0]), &row(&[0.0, 0.0]), 7.5, 0.7).unwrap();
        assert_eq!(guided.data(), [0.0, 0.0]);
    }
}
