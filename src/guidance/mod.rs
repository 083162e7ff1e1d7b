//! Guidance: how the predictions with and without the prompt become one, how strongly, and at which evaluations.
//!
//! All of it is arithmetic over host latents. [`GuidancePlan`] decides what an evaluation needs before the model is
//! asked, so that an evaluation without guidance takes no unconditional pass; then the predictions are joined by the
//! [`GuidanceMethod`].

mod apg;
mod combine;
mod course;
mod freeu;
mod image;
mod method;
mod pag;
mod plan;
mod sag;
mod schedule;
mod settings;
#[cfg(test)]
mod tests;
mod thresholding;
mod zero_star;

pub use apg::Apg;
pub(crate) use combine::{Guide, Weighted, add_difference, on_the_first};
pub use course::{Course, CourseMode};
pub use image::{ImageGuidance, ImagePredictions};
pub use method::GuidanceMethod;
pub use pag::Pag;
pub use plan::GuidancePlan;
pub(crate) use plan::{Needs, RunLength, Turn};
pub(crate) use sag::blurred;
pub use sag::{Sag, SagRule};
pub use schedule::{Interval, ScaleSchedule, Shape};
pub use thresholding::{Channels, Measure, StartPoint, Thresholding};
pub use zero_star::ZeroStar;

use crate::error::{Error, Result};
pub use crate::models::unet::{Blocks, FreeU, FreeUVersion};

/// What a caller says about guidance beside its scale.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GuidanceOptions {
    /// The scale over the steps, in place of one for all.
    pub schedule: Option<ScaleSchedule>,
    /// The part of the run that is guided; `None` is all of it.
    pub interval: Option<Interval>,
    /// The webui's `s_min_uncond` (NGMS): below this sigma, 0 or more, guidance is left out of the evaluations that
    /// `min_sigma_skips` names.
    pub min_sigma: f64,
    /// What is left out below `min_sigma`.
    pub min_sigma_skips: Skips,
    /// The webui's skip early CFG: guidance is left out of this share, 0 to 1, of the evaluations from the start.
    pub skip_early: f64,
    /// How the two predictions become one.
    pub method: GuidanceMethod,
    /// Perturbed attention guidance, with or without the other.
    pub pag: Option<Pag>,
    /// Self-attention guidance, with or without the other.
    pub sag: Option<Sag>,
    /// FreeU, which changes the UNet in every prediction.
    pub freeu: Option<FreeU>,
    /// InstructPix2Pix' scale of the picture that is changed ([`ImageGuidance`]). No request has such a picture yet, so
    /// that any value is refused.
    pub image_scale: Option<f64>,
}

/// Which evaluations below a sigma are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Skips {
    /// Every second one of the run, as the webui does it by default.
    #[default]
    EverySecond,
    /// All.
    All,
}

impl GuidanceOptions {
    /// Checks what can be checked without a model.
    ///
    /// # Errors
    /// Naming the setting, what was found and what is allowed.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(schedule) = &self.schedule {
            schedule.check()?;
        }
        if let Some(interval) = &self.interval {
            interval.check()?;
        }
        within("guidance min_sigma", self.min_sigma, 0.0, 1e6)?;
        within("guidance skip_early", self.skip_early, 0.0, 1.0)?;
        self.pag.as_ref().map_or(Ok(()), Pag::check)?;
        self.freeu.as_ref().map_or(Ok(()), freeu::check)?;
        self.sag.as_ref().map_or(Ok(()), Sag::check)?;
        if let Some(scale) = self.image_scale {
            return Err(Error::unsupported(format!(
                "guidance image_scale is {scale}, and there is no picture to guide by: changing pictures is not \
                 supported yet"
            ))
            .with_hint("leave it out"));
        }
        self.method.check()
    }

    /// Whether it asks for nothing but the prompt's weight and changes of the UNet.
    pub(crate) fn is_plain(&self) -> bool {
        let changes = Self {
            pag: self.pag,
            sag: self.sag,
            freeu: self.freeu,
            ..Self::default()
        };
        *self == changes
    }
}

pub(crate) fn within(name: &str, found: f64, low: f64, high: f64) -> Result<()> {
    if (low..=high).contains(&found) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{name} is {found}, expected a number from {low} to {high}"
    )))
}
