//! Noise levels that the caller gives one by one.

use std::fmt;

use crate::error::{Error, Result};

/// Most levels a caller can give; no training has more timesteps.
const MAX_LEVELS: usize = 1000;

/// Largest sigma taken; beyond it f32 latents have lost every digit of the picture.
const MAX_SIGMA: f64 = 1e5;

/// Noise levels in place of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub enum CustomLevels {
    /// Falling sigmas; a 0 is put behind them if they do not end with one.
    Sigmas(Vec<f64>),
    /// Falling training timesteps; the run ends at the clean latents behind the last.
    Timesteps(Vec<usize>),
}

impl CustomLevels {
    /// Refuses what cannot be a run's levels.
    ///
    /// # Errors
    /// `InvalidConfig` naming the first level that does not fit.
    pub fn check(&self) -> Result<()> {
        let (name, values): (&str, Vec<f64>) = match self {
            Self::Sigmas(sigmas) => ("sigmas", sigmas.clone()),
            Self::Timesteps(timesteps) => (
                "timesteps",
                timesteps.iter().map(|&value| value as f64).collect(),
            ),
        };
        if values.is_empty() || values.len() > MAX_LEVELS {
            return Err(Error::invalid(format!(
                "{} {name} are given, expected 1 to {MAX_LEVELS}",
                values.len()
            )));
        }
        for value in &values {
            if !(0.0..=MAX_SIGMA).contains(value) {
                return Err(Error::invalid(format!(
                    "{name} hold {value}, expected numbers from 0 to {MAX_SIGMA}"
                )));
            }
        }
        if let Some((before, after)) = values
            .iter()
            .zip(&values[1..])
            .find(|(before, after)| before <= after)
        {
            return Err(
                Error::invalid(format!("{name} do not fall: {after} follows {before}"))
                    .with_hint("give the largest first"),
            );
        }
        if matches!(self, Self::Sigmas(_)) && values[0] as f32 <= 0.0 {
            return Err(Error::invalid(
                "sigmas begin with 0 or too near it, which leaves nothing to do",
            ));
        }
        Ok(())
    }
}

impl fmt::Display for CustomLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<String> = match self {
            Self::Sigmas(sigmas) => sigmas.iter().map(ToString::to_string).collect(),
            Self::Timesteps(timesteps) => timesteps.iter().map(ToString::to_string).collect(),
        };
        f.write_str(&values.join(", "))
    }
}
