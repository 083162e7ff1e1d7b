//! FreeU's factors as text; what they do is the UNet's (`models::unet::FreeU`).

use std::fmt;
use std::str::FromStr;

use super::settings::Settings;
use super::within;
use crate::error::{Error, Result};
use crate::models::unet::FreeU;

/// The factors its authors give for SD1.5.
const SD15: FreeU = FreeU {
    backbone: [1.5, 1.6],
    skip: [0.9, 0.2],
};

pub(super) fn check(freeu: &FreeU) -> Result<()> {
    let factors = freeu.backbone.iter().chain(&freeu.skip);
    factors
        .copied()
        .try_for_each(|factor| within("a factor of freeu", factor, 0.0, 10.0))
}

impl FromStr for FreeU {
    type Err = Error;

    /// Reads `b1=1.5,b2=1.6,s1=0.9,s2=0.2`; what is not there is SD1.5's, and `on` is all of that.
    fn from_str(text: &str) -> Result<Self> {
        let mut freeu = SD15;
        if text.trim() == "on" {
            return Ok(freeu);
        }
        let mut settings = Settings::of("freeu", text)?;
        settings.number("b1", &mut freeu.backbone[0])?;
        settings.number("b2", &mut freeu.backbone[1])?;
        settings.number("s1", &mut freeu.skip[0])?;
        settings.number("s2", &mut freeu.skip[1])?;
        settings.finish(&["b1", "b2", "s1", "s2"])?;
        Ok(freeu)
    }
}

impl fmt::Display for FreeU {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([b1, b2], [s1, s2]) = (self.backbone, self.skip);
        write!(f, "b1={b1},b2={b2},s1={s1},s2={s2}")
    }
}
