//! CFG-Zero* (Fan et al. 2025, arXiv 2503.18886): the unconditional prediction is scaled to fit the conditional one.
//!
//! Follows `diffusers/guiders/classifier_free_zero_star_guidance.py`, but for the number of zero steps: the paper's
//! are for flow matching, and a model that predicts noise gains nothing from taking none for the first step's.

use std::fmt;

use super::settings::Settings;
use crate::error::{Error, Result};
use crate::host::HostTensor;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZeroStar {
    /// Evaluations at the start that take zeros for the prediction, without asking the model; diffusers' default is 1.
    pub zero_steps: usize,
}

impl ZeroStar {
    pub(super) fn read(mut self, mut settings: Settings<'_>) -> Result<Self> {
        settings.count("zero-steps", &mut self.zero_steps)?;
        settings.finish(&["zero-steps"])?;
        Ok(self)
    }

    pub(super) fn check(self) -> Result<()> {
        if self.zero_steps > 1000 {
            return Err(Error::invalid(format!(
                "cfg-zero zero-steps is {}, expected 0 to 1000",
                self.zero_steps
            )));
        }
        Ok(())
    }

    /// The guided prediction.
    pub(super) fn guide(uncond: &HostTensor, cond: &HostTensor, scale: f64) -> Result<HostTensor> {
        let pairs = uncond.data().iter().zip(cond.data());
        let pairs = pairs.map(|(&uncond, &cond)| (f64::from(uncond), f64::from(cond)));
        let (mut dot, mut squares) = (0.0, 0.0);
        for (uncond, cond) in pairs {
            dot += uncond * cond;
            squares += uncond * uncond;
        }
        let alpha = (dot / (squares + 1e-8)) as f32;
        let scale = scale as f32;
        cond.clone().zip_map(uncond, |cond, uncond| {
            let uncond = uncond * alpha;
            uncond + scale * (cond - uncond)
        })
    }
}

impl fmt::Display for ZeroStar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "zero-steps={}", self.zero_steps)
    }
}
