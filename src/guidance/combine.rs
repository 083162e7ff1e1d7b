//! The predictions of one evaluation joined to one.

use super::plan::GuidancePlan;
use super::{GuidanceMethod, ZeroStar};
use crate::error::{Error, ErrorKind, Result};
use crate::host::HostTensor;

/// A prediction with a part of the prompt, and that part's weight.
pub(crate) type Weighted = (HostTensor, f64);

/// Guidance of one picture: the plan, and what the method keeps from one evaluation to the next.
#[derive(Debug)]
pub(crate) struct Guide<'a> {
    pub(crate) plan: &'a GuidancePlan,
    /// Of the differences so far, in adaptive projected guidance.
    average: Option<HostTensor>,
}

impl<'a> Guide<'a> {
    pub(crate) fn new(plan: &'a GuidancePlan) -> Self {
        Self {
            plan,
            average: None,
        }
    }

    /// Whether the method joins estimates of the clean latents, not what the model predicts.
    pub(crate) fn joins_estimates(&self) -> bool {
        matches!(self.plan.method(), GuidanceMethod::Thresholding(_))
    }

    /// The guided prediction of evaluation `index`, from 0, without its rescaling.
    pub(crate) fn join(
        &mut self,
        uncond: &HostTensor,
        parts: &[Weighted],
        (index, scale): (usize, f64),
    ) -> Result<HostTensor> {
        // At 1 guidance is nothing but the prediction with the prompt, whatever the method.
        let is_one = scale.to_bits() == 1.0_f64.to_bits();
        let method = self.plan.method();
        if is_one || *method == GuidanceMethod::Cfg {
            return compose(uncond, parts, scale);
        }
        let composed;
        let cond = match parts {
            [(cond, weight)] if weight.to_bits() == 1.0_f64.to_bits() => cond,
            _ => {
                composed = compose(uncond, parts, 1.0)?;
                &composed
            }
        };
        let both = (uncond, cond);
        match method {
            GuidanceMethod::Cfg => compose(uncond, parts, scale),
            GuidanceMethod::Apg(apg) => apg.guide(both, scale, &mut self.average),
            GuidanceMethod::ZeroStar(_) => ZeroStar::guide(uncond, cond, scale),
            GuidanceMethod::Thresholding(thresholding) => {
                thresholding.guide(both, scale, (index, self.plan.evaluations()))
            }
        }
    }

    /// Brings `guided` back to the contrast of the prediction with the prompt, by the plan's share (Lin et al. 2023,
    /// "Common Diffusion Noise Schedules and Sample Steps are Flawed", equations 15 and 16).
    pub(crate) fn rescale(
        &self,
        guided: HostTensor,
        uncond: &HostTensor,
        parts: &[Weighted],
    ) -> Result<HostTensor> {
        let share = self.plan.rescale();
        if share == 0.0 {
            return Ok(guided);
        }
        let contrast = match parts {
            [(cond, _)] => standard_deviation(cond.data()),
            _ => standard_deviation(compose(uncond, parts, 1.0)?.data()),
        };
        Ok(rescaled(guided, contrast, share))
    }
}

/// The parts of a prompt where there is no unconditional prediction: as in the webui, the first part stands for it.
pub(crate) fn on_the_first(mut parts: Vec<Weighted>) -> Result<HostTensor> {
    match parts.as_slice() {
        [] => Err(Error::new(
            ErrorKind::Internal,
            "the prompt has no part that was predicted",
        )),
        [_] => Ok(parts.remove(0).0),
        [(first, _), ..] => compose(first, &parts, 1.0),
    }
}

/// `uncond + scale * sum(weight * (cond - uncond))`: classifier-free guidance with the weighted parts of a prompt as in
/// Liu et al. 2022, "Compositional Visual Generation with Composable Diffusion Models", equation 11.
pub(super) fn compose(uncond: &HostTensor, parts: &[Weighted], scale: f64) -> Result<HostTensor> {
    let mut guided = uncond.clone();
    for (cond, weight) in parts {
        add_difference(&mut guided, (weight * scale) as f32, (cond, uncond))?;
    }
    Ok(guided)
}

/// Adds `factor * (a - b)` in place.
pub(crate) fn add_difference(
    target: &mut HostTensor,
    factor: f32,
    (a, b): (&HostTensor, &HostTensor),
) -> Result<()> {
    for other in [a, b] {
        if other.shape() != target.shape() {
            return Err(Error::new(
                ErrorKind::Internal,
                format!(
                    "predictions have the shapes {:?} and {:?}",
                    target.shape(),
                    other.shape()
                ),
            ));
        }
    }
    let values = target.data_mut().iter_mut();
    for ((value, a), b) in values.zip(a.data()).zip(b.data()) {
        *value += factor * (a - b);
    }
    Ok(())
}

/// `a - b`.
pub(super) fn difference(a: &HostTensor, b: &HostTensor) -> Result<HostTensor> {
    a.clone().zip_map(b, |a, b| a - b)
}

fn rescaled(guided: HostTensor, contrast: f64, share: f64) -> HostTensor {
    let share = share as f32;
    let ratio = (contrast / standard_deviation(guided.data())) as f32;
    if !ratio.is_finite() {
        return guided;
    }
    guided.map(|value| share * (value * ratio) + (1.0 - share) * value)
}

/// Standard deviation over all values, with Bessel's correction as torch has it.
pub(super) fn standard_deviation(values: &[f32]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let squares = values
        .iter()
        .map(|&value| (f64::from(value) - mean).powi(2));
    (squares.sum::<f64>() / (count - 1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f32]) -> HostTensor {
        HostTensor::new([1, 1, 1, values.len()], values.to_vec()).unwrap()
    }

    #[test]
    fn guidance_moves_away_from_the_unconditional_prediction() {
        let guided = compose(&row(&[1.0, 2.0]), &[(row(&[2.0, 0.0]), 1.0)], 7.5).unwrap();
        assert_eq!(guided.data(), [8.5, -13.0]);
    }

    #[test]
    fn parts_add_up_by_their_weights() {
        let parts = [(row(&[2.0, 0.0]), 0.5), (row(&[0.0, 4.0]), -1.0)];
        let guided = compose(&row(&[1.0, 2.0]), &parts, 2.0).unwrap();
        assert_eq!(guided.data(), [1.0 + 1.0 + 2.0, 2.0 - 2.0 - 4.0]);
    }

    #[test]
    fn the_first_part_stands_for_the_unconditional_prediction() {
        let parts = vec![(row(&[2.0, 0.0]), 0.5), (row(&[0.0, 4.0]), -1.0)];
        assert_eq!(on_the_first(parts).unwrap().data(), [2.0 + 2.0, -4.0]);
        let one = vec![(row(&[2.0, 1.0]), 0.5)];
        assert_eq!(on_the_first(one).unwrap().data(), [2.0, 1.0]);
        assert!(on_the_first(Vec::new()).is_err());
    }

    #[test]
    fn full_rescale_restores_the_conditional_deviation() {
        let cond = row(&[1.0, -1.0, 0.5, 2.0]);
        let uncond = row(&[0.2, 0.1, -0.4, 0.3]);
        let contrast = standard_deviation(cond.data());
        let guided = compose(&uncond, &[(cond, 1.0)], 7.5).unwrap();
        let guided = rescaled(guided, contrast, 1.0);
        assert!((standard_deviation(guided.data()) - contrast).abs() < 1e-6);
    }

    #[test]
    fn rescale_of_a_flat_prediction_stays_finite() {
        let guided = rescaled(row(&[0.0, 0.0]), 0.0, 0.7);
        assert_eq!(guided.data(), [0.0, 0.0]);
    }

    #[test]
    fn predictions_of_other_shapes_are_refused() {
        let error = compose(&row(&[1.0, 2.0]), &[(row(&[2.0]), 1.0)], 7.5).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
    }
}
