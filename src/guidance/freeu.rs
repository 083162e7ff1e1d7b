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
    share: FreeU::WHOLE,
};

/// Those they give for the second version, which ComfyUI's node starts from.
const SECOND: FreeU = FreeU {
    backbone: [1.3, 1.4],
    version: FreeUVersion::Second,
    ..SD15
};

const VERSIONS: [(&str, FreeUVersion); 3] = [
    ("1", FreeUVersion::First),
    ("2", FreeUVersion::Second),
    ("1-comfy", FreeUVersion::FirstByChannels),
];

pub(super) fn check(freeu: &FreeU) -> Result<()> {
    let factors = freeu.backbone.iter().chain(&freeu.skip);
    factors
        .copied()
        .try_for_each(|factor| within("a factor of freeu", factor, 0.0, 10.0))?;
    let [start, end] = freeu.share;
    within("the start of freeu", start, 0.0, 1.0)?;
    within("the end of freeu", end, start, 1.0)
}

impl FromStr for FreeU {
    type Err = Error;

    /// Reads `b1=1.5,b2=1.6,s1=0.9,s2=0.2,version=1,start=0,end=1`; what is not there is the version's own, and `on` is all of the
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
            // The node's own values are those of the authors for SD2.
            FreeUVersion::FirstByChannels => FreeU {
                backbone: [1.1, 1.2],
                version,
                ..SD15
            },
        };
        settings.number("b1", &mut freeu.backbone[0])?;
        settings.number("b2", &mut freeu.backbone[1])?;
        settings.number("s1", &mut freeu.skip[0])?;
        settings.number("s2", &mut freeu.skip[1])?;
        settings.number("start", &mut freeu.share[0])?;
        settings.number("end", &mut freeu.share[1])?;
        settings.finish(&["b1", "b2", "s1", "s2", "version", "start", "end"])?;
        Ok(freeu)
    }
}

impl fmt::Display for FreeU {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([b1, b2], [s1, s2]) = (self.backbone, self.skip);
        write!(f, "b1={b1},b2={b2},s1={s1},s2={s2}")?;
        if self.version != FreeUVersion::First {
            write!(f, ",version={}", name_of(&VERSIONS, &self.version))?;
        }
        let [start, end] = self.share;
        if start > 0.0 {
            write!(f, ",start={start}")?;
        }
        if end < 1.0 {
            write!(f, ",end={end}")?;
        }
        Ok(())
    }
}
