//! Perturbed attention guidance (Ahn et al. 2024, arXiv 2403.17377): away from a prediction whose self-attention sees
//! nothing but each token itself.
//!
//! Follows `diffusers/pipelines/pag/pag_utils.py`.

use std::fmt;
use std::str::FromStr;

use super::settings::Settings;
use super::within;
use crate::error::{Error, Result};
use crate::models::unet::Blocks;

/// Its settings; as text `scale=3,adaptive=0,blocks=mid`, or the scale alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pag {
    /// Weight of the difference, 0 to 100.
    pub scale: f64,
    /// What the weight loses with each training timestep below 1000, 0 to 1.
    pub adaptive: f64,
    /// Where self-attention is perturbed.
    pub blocks: Blocks,
}

impl Pag {
    /// diffusers' defaults.
    pub const DEFAULT: Self = Self {
        scale: 3.0,
        adaptive: 0.0,
        blocks: Blocks::MID,
    };

    /// The weight at `timestep`, 0 and more.
    pub(crate) fn scale_at(&self, timestep: f64) -> f64 {
        (self.scale - self.adaptive * (1000.0 - timestep)).max(0.0)
    }

    pub(super) fn check(&self) -> Result<()> {
        within("pag scale", self.scale, 0.0, 100.0)?;
        within("pag adaptive", self.adaptive, 0.0, 1.0)
    }
}

impl FromStr for Pag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut pag = Self::DEFAULT;
        if let Ok(scale) = text.trim().parse() {
            return Ok(Self { scale, ..pag });
        }
        let mut settings = Settings::of("pag", text)?;
        settings.number("scale", &mut pag.scale)?;
        settings.number("adaptive", &mut pag.adaptive)?;
        settings.parsed("blocks", &mut pag.blocks)?;
        settings.finish(&["scale", "adaptive", "blocks"])?;
        Ok(pag)
    }
}

impl fmt::Display for Pag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scale,
            adaptive,
            blocks,
        } = self;
        write!(f, "scale={scale},adaptive={adaptive},blocks={blocks}")
    }
}
