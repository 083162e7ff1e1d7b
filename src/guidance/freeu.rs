//! FreeU's factors as text; what they do is the UNet's (`models::unet::FreeU`).

use std::fmt;
use std::str::FromStr;

use super::settings::{Settings, name_of};
use super::within;
use crate::error::{Error, Result};
use crate::models::unet::{FreeU, FreeUVersion};

/// The factors its authors give for SD1.5.
const SD15: FreeU = FreeU {
    backbone: [1.5, 1.6],
    skip: [0.9, 0.2],
    version: FreeUVersion::First,
};

/// Those they give for the second version, which ComfyUI's node starts from.
const SECOND: FreeU = FreeU {
    backbone: [1.3, 1.4],
    version: FreeUVersion::Second,
    ..SD15
};

const VERSIONS: [(&str, FreeUVersion); 2] =
    [("1", FreeUVersion::First), ("2", FreeUVersion::Second)];

pub(super) fn check(freeu: &FreeU) -> Result<()> {
    let factors = freeu.backbone.iter().chain(&freeu.skip);
    factors
        .copied()
        .try_for_each(|factor| within("a factor of freeu", factor, 0.0, 10.0))
}

impl FromStr for FreeU {
    type Err = Error;

    /// Reads `b1=1.5,b2=1.6,s1=0.9,s2=0.2,version=1`; what is not there is the version's own, and `on` is all of the
    /// first's.
    fn from_str(text: &str) -> Result<Self> {
        if text.trim() == "on" {
            return Ok(SD15);
        }
        let mut settings = Settings::of("freeu", text)?;
        let mut version = FreeUVersion::First;
        settings.word("version", &mut version, &VERSIONS)?;
        let mut freeu = match version {
            FreeUVersion::First => SD15,
            FreeUVersion::Second => SECOND,
        };
        settings.number("b1", &mut freeu.backbone[0])?;
        settings.number("b2", &mut freeu.backbone[1])?;
        settings.number("s1", &mut freeu.skip[0])?;
        settings.number("s2", &mut freeu.skip[1])?;
        settings.finish(&["b1", "b2", "s1", "s2", "version"])?;
        Ok(freeu)
    }
}

impl fmt::Display for FreeU {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([b1, b2], [s1, s2]) = (self.backbone, self.skip);
        write!(f, "b1={b1},b2={b2},s1={s1},s2={s2}")?;
        match self.version {
            FreeUVersion::First => Ok(()),
            FreeUVersion::Second => {
                write!(f, ",version={}", name_of(&VERSIONS, &self.version))
            }
        }
    }
}
