//! The denoiser that samplers see: UNet, guidance and prediction type behind `(x, sigma) -> denoised`.

use super::conditions::Conditions;
use super::scheduler::Scheduler;
use crate::error::{Error, ErrorKind, Result};
use crate::events::CancelToken;
use crate::host::HostTensor;
use crate::models::UNet2DCondition;
use crate::models::unet::PreparedConditioning;
use crate::nn::{Engine, FeatureMap};
use crate::samplers::{Denoiser, Guided};

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
    /// What the UNet is told, by evaluation.
    pub(crate) conditions: Conditions<'a>,
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
        let output = self
            .predict(&schedule.model_input(x, sigma), timestep)?
            .guided;
        schedule.denoised(x, output, sigma)
    }

    fn denoise_guided(&mut self, x: &HostTensor, sigma: f64) -> Result<Guided> {
        let schedule = self.scheduler.schedule();
        let planned = self.scheduler.plan().timestep_at(sigma);
        let timestep = planned.unwrap_or_else(|| schedule.sigma_to_timestep(sigma));
        let output = self.predict(&schedule.model_input(x, sigma), timestep)?;
        let (guided, unconditional) = output.both()?;
        Ok(Guided {
            denoised: schedule.denoised(x, guided, sigma)?,
            unconditional: schedule.denoised(x, unconditional, sigma)?,
        })
    }

    fn denoise_guided_at(&mut self, x: &HostTensor, timestep: usize) -> Result<Guided> {
        let (guided, unconditional) = self.predict(x, timestep as f64)?.both()?;
        let schedule = self.scheduler.schedule();
        Ok(Guided {
            denoised: schedule.denoised_at(x, guided, timestep)?,
            unconditional: schedule.denoised_at(x, unconditional, timestep)?,
        })
    }

    fn denoise_at(&mut self, x: &HostTensor, timestep: usize) -> Result<HostTensor> {
        let output = self.predict(x, timestep as f64)?.guided;
        self.scheduler.schedule().denoised_at(x, output, timestep)
    }
}

/// What one evaluation of the UNet gives.
struct Prediction {
    guided: HostTensor,
    /// Only where guidance needs it.
    unconditional: Option<HostTensor>,
}

impl Prediction {
    fn both(self) -> Result<(HostTensor, HostTensor)> {
        match self.unconditional {
            Some(unconditional) => Ok((self.guided, unconditional)),
            None => Err(Error::new(
                ErrorKind::Unsupported,
                "this sampler needs an unconditional estimate, which this model does not make",
            )
            .with_hint("choose a sampler without CFG++")),
        }
    }
}

impl GuidedDenoiser<'_> {
    /// The guided prediction of the UNet for the scaled input, in whatever the model predicts.
    fn predict(&mut self, input: &HostTensor, timestep: f64) -> Result<Prediction> {
        self.cancel.check()?;
        let condition = self.conditions.at(self.evaluations)?;
        self.evaluations += 1;
        let mut items = Vec::with_capacity(condition.weights.len() + 1);
        for pass in &condition.passes {
            let output = self.forward(&repeated(input, pass.batch())?, timestep, pass)?;
            for item in 0..pass.batch() {
                items.push(output.item(item)?);
            }
        }
        let prediction = match self.guidance {
            Guidance::None => Prediction {
                guided: items.swap_remove(0),
                unconditional: None,
            },
            Guidance::ClassifierFree { scale, rescale } => {
                let uncond = items.remove(0);
                let parts: Vec<_> = items
                    .iter()
                    .zip(condition.weights.iter().copied())
                    .collect();
                Prediction {
                    guided: guide(&uncond, &parts, scale, rescale)?,
                    unconditional: Some(uncond),
                }
            }
        };
        self.require_finite(&prediction.guided, timestep)?;
        Ok(prediction)
    }

    fn forward(
        &self,
        input: &HostTensor,
        timestep: f64,
        conditioning: &PreparedConditioning,
    ) -> Result<HostTensor> {
        let sample = FeatureMap::from_host(self.engine, input)?;
        self.unet
            .forward(&sample, timestep, conditioning)?
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

/// The input once for each item of a batch.
fn repeated(input: &HostTensor, count: usize) -> Result<HostTensor> {
    HostTensor::concat(&vec![input.clone(); count])
}

/// Classifier-free guidance on one picture's predictions, with the weighted parts of the prompt composed as in Liu et
/// al. 2022, "Compositional Visual Generation with Composable Diffusion Models", equation 11.
fn guide(
    uncond: &HostTensor,
    parts: &[(&HostTensor, f64)],
    scale: f64,
    rescale: f64,
) -> Result<HostTensor> {
    let guided = compose(uncond, parts, scale)?;
    if rescale == 0.0 {
        return Ok(guided);
    }
    let contrast = match parts {
        [(cond, _)] => standard_deviation(cond),
        _ => standard_deviation(&compose(uncond, parts, 1.0)?),
    };
    let rescale = rescale as f32;
    let ratio = (contrast / standard_deviation(&guided)) as f32;
    if !ratio.is_finite() {
        return Ok(guided);
    }
    Ok(guided.map(|value| rescale * (value * ratio) + (1.0 - rescale) * value))
}

/// `uncond + scale * sum(weight * (cond - uncond))`.
fn compose(uncond: &HostTensor, parts: &[(&HostTensor, f64)], scale: f64) -> Result<HostTensor> {
    let mut guided = uncond.clone();
    for &(cond, weight) in parts {
        let factor = (weight * scale) as f32;
        let step = cond
            .clone()
            .zip_map(uncond, |cond, uncond| factor * (cond - uncond))?;
        guided = guided.zip_map(&step, |guided, step| guided + step)?;
    }
    Ok(guided)
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
        let guided = guide(&row(&[1.0, 2.0]), &[(&row(&[2.0, 0.0]), 1.0)], 7.5, 0.0).unwrap();
        assert_eq!(guided.data(), [8.5, -13.0]);
    }

    #[test]
    fn parts_add_up_by_their_weights() {
        let (uncond, a, b) = (row(&[1.0, 2.0]), row(&[2.0, 0.0]), row(&[0.0, 4.0]));
        let guided = guide(&uncond, &[(&a, 0.5), (&b, -1.0)], 2.0, 0.0).unwrap();
        assert_eq!(guided.data(), [1.0 + 1.0 + 2.0, 2.0 - 2.0 - 4.0]);
    }

    #[test]
    fn full_rescale_restores_the_conditional_deviation() {
        let cond = row(&[1.0, -1.0, 0.5, 2.0]);
        let guided = guide(&row(&[0.2, 0.1, -0.4, 0.3]), &[(&cond, 1.0)], 7.5, 1.0).unwrap();
        assert!((standard_deviation(&guided) - standard_deviation(&cond)).abs() < 1e-6);
    }

    #[test]
    fn rescale_of_a_flat_prediction_stays_finite() {
        let guided = guide(&row(&[0.0, 0.0]), &[(&row(&[0.0, 0.0]), 1.0)], 7.5, 0.7).unwrap();
        assert_eq!(guided.data(), [0.0, 0.0]);
    }
}
