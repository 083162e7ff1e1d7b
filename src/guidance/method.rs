//! The rules by which two predictions become one, and their text.

use std::fmt;
use std::str::FromStr;

use super::settings::Settings;
use super::{Apg, Thresholding, ZeroStar};
use crate::error::{Error, Result};

/// How the predictions with and without the prompt become one.
///
/// As text it is the method's name, then a colon and settings where they are not the default:
/// `apg:momentum=-0.5,threshold=15,eta=0`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum GuidanceMethod {
    /// Classifier-free guidance (Ho & Salimans 2022, "Classifier-Free Diffusion Guidance", equation 6).
    #[default]
    Cfg,
    /// Adaptive projected guidance.
    Apg(Apg),
    /// CFG-Zero*.
    ZeroStar(ZeroStar),
    /// Dynamic thresholding with a mimicked scale.
    Thresholding(Thresholding),
}

impl GuidanceMethod {
    /// Every method by its name, with its defaults and what it does.
    pub const ALL: [(&'static str, Self, &'static str); 4] = [
        (
            "cfg",
            Self::Cfg,
            "away from the negative prompt by the scale",
        ),
        (
            "apg",
            Self::Apg(Apg::PAPER),
            "what only raises contrast is taken out: high scales without burnt colours",
        ),
        (
            "cfg-zero",
            Self::ZeroStar(ZeroStar { zero_steps: 0 }),
            "the unconditional prediction is scaled to fit the other before the two are compared",
        ),
        (
            "dynthres",
            Self::Thresholding(Thresholding::WEBUI),
            "values are brought back to the range that a lower scale gives",
        ),
    ];

    /// The method's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cfg => "cfg",
            Self::Apg(_) => "apg",
            Self::ZeroStar(_) => "cfg-zero",
            Self::Thresholding(_) => "dynthres",
        }
    }

    /// Checks the settings' ranges.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Cfg => Ok(()),
            Self::Apg(method) => method.check(),
            Self::ZeroStar(method) => method.check(),
            Self::Thresholding(method) => method.check(),
        }
    }
}

impl FromStr for GuidanceMethod {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let settings = Settings::parse(text)?;
        let known = Self::ALL
            .iter()
            .find(|(name, ..)| name.eq_ignore_ascii_case(settings.name));
        match known.map(|(_, method, _)| *method) {
            Some(Self::Cfg) => settings.finish(&[]).map(|()| Self::Cfg),
            Some(Self::Apg(defaults)) => defaults.read(settings).map(Self::Apg),
            Some(Self::ZeroStar(defaults)) => defaults.read(settings).map(Self::ZeroStar),
            Some(Self::Thresholding(defaults)) => defaults.read(settings).map(Self::Thresholding),
            None => {
                let names = Self::ALL.map(|(name, ..)| name).join(", ");
                Err(Error::invalid(format!(
                    "unknown guidance method {:?}, expected one of {names}",
                    settings.name
                )))
            }
        }
    }
}

impl fmt::Display for GuidanceMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Cfg => Ok(()),
            Self::Apg(method) => write!(f, ":{method}"),
            Self::ZeroStar(method) => write!(f, ":{method}"),
            Self::Thresholding(method) => write!(f, ":{method}"),
        }
    }
}
