//! Adaptive projected guidance (Sadat et al. 2024, arXiv 2410.02416, algorithm 1).
//!
//! Follows `diffusers/guiders/adaptive_projected_guidance.py`, which projects what the model predicts; the difference
//! of the two predictions is split into the part along the conditional one, which raises contrast, and the rest.

use std::fmt;

use super::combine::difference;
use super::settings::Settings;
use super::within;
use crate::error::Result;
use crate::host::HostTensor;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Apg {
    /// Share of the earlier differences that is added to each, -1 to 1; negative ones push away from the direction
    /// taken so far, 0 is none.
    pub momentum: f64,
    /// Largest length of the difference, 0 (no limit) or more.
    pub threshold: f64,
    /// Share of the part along the conditional prediction that is kept, 0 to 10; 1 keeps it as it is.
    pub eta: f64,
}

impl Apg {
    /// The paper's settings for SDXL; diffusers' own defaults are `momentum=0,threshold=15,eta=1`.
    pub const PAPER: Self = Self {
        momentum: -0.5,
        threshold: 15.0,
        eta: 0.0,
    };

    pub(super) fn read(mut self, mut settings: Settings<'_>) -> Result<Self> {
        settings.number("momentum", &mut self.momentum)?;
        settings.number("threshold", &mut self.threshold)?;
        settings.number("eta", &mut self.eta)?;
        settings.finish(&["momentum", "threshold", "eta"])?;
        Ok(self)
    }

    pub(super) fn check(&self) -> Result<()> {
        within("apg momentum", self.momentum, -1.0, 1.0)?;
        within("apg threshold", self.threshold, 0.0, 1e6)?;
        within("apg eta", self.eta, 0.0, 10.0)
    }

    /// The guided prediction; `average` holds the differences of the run so far.
    pub(super) fn guide(
        &self,
        (uncond, cond): (&HostTensor, &HostTensor),
        scale: f64,
        average: &mut Option<HostTensor>,
    ) -> Result<HostTensor> {
        let mut guided = difference(cond, uncond)?;
        if self.momentum != 0.0 {
            if let Some(average) = average {
                let momentum = self.momentum as f32;
                guided = guided.zip_map(average, |own, average| own + momentum * average)?;
            }
            *average = Some(guided.clone());
        }
        let shrink = if self.threshold > 0.0 {
            (self.threshold / length(&guided)).min(1.0) as f32
        } else {
            1.0
        };
        // Torch's `normalize` divides by no less than this.
        let norm = length(cond).max(1e-12);
        let along: f64 = pairs(&guided, cond)
            .map(|(difference, cond)| f64::from(difference * shrink) * (cond / norm))
            .sum();
        let (scale, eta) = (scale as f32, self.eta as f32);
        let values = guided.data_mut().iter_mut();
        for ((value, &cond), &uncond) in values.zip(cond.data()).zip(uncond.data()) {
            let difference = f64::from(*value * shrink);
            let parallel = along * (f64::from(cond) / norm);
            let rest = (difference - parallel) as f32;
            *value = uncond + scale * (rest + eta * parallel as f32);
        }
        Ok(guided)
    }
}

fn pairs<'a>(a: &'a HostTensor, b: &'a HostTensor) -> impl Iterator<Item = (f32, f64)> {
    let b = b.data().iter().map(|&value| f64::from(value));
    a.data().iter().copied().zip(b)
}

fn length(values: &HostTensor) -> f64 {
    let squares = values.data().iter().map(|&value| f64::from(value).powi(2));
    squares.sum::<f64>().sqrt()
}

impl fmt::Display for Apg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            momentum,
            threshold,
            eta,
        } = self;
        write!(f, "momentum={momentum},threshold={threshold},eta={eta}")
    }
}
