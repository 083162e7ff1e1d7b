//! What a caller may say about a sampler's randomness, and what a sampler takes of it.

use crate::error::{Error, Result};

/// The caller's wishes; `None` is the sampler's own value.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct NoiseOptions {
    /// Share of each step's noise that is drawn afresh, 0 (deterministic) to 1.
    pub eta: Option<f64>,
    /// Noise put back before steps, over the whole run (Karras et al. 2022, algorithm 2), 0 to 100.
    pub s_churn: Option<f64>,
    /// Smallest sigma at which noise is put back.
    pub s_tmin: Option<f64>,
    /// Largest sigma at which noise is put back.
    pub s_tmax: Option<f64>,
    /// Factor on all noise that is put back or drawn afresh, 0 to 10.
    pub s_noise: Option<f64>,
}

/// Which options a sampler takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Takes {
    /// Its own eta, where it takes one.
    pub eta: Option<f64>,
    /// Whether it takes `s_churn`, `s_tmin` and `s_tmax`.
    pub churn: bool,
    /// Whether it takes `s_noise`.
    pub s_noise: bool,
}

impl Takes {
    /// Deterministic methods without options.
    pub const NOTHING: Self = Self {
        eta: None,
        churn: false,
        s_noise: false,
    };
    /// Methods of Karras et al. that put noise back before each step.
    pub const CHURN: Self = Self {
        eta: None,
        churn: true,
        s_noise: true,
    };
    /// Ancestral and SDE methods.
    pub const FRESH_NOISE: Self = Self {
        eta: Some(1.0),
        churn: false,
        s_noise: true,
    };
}

/// The options of one run, every value decided.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Randomness {
    /// Share of each step's noise that is drawn afresh.
    pub eta: f64,
    /// Noise put back before steps, over the whole run.
    pub s_churn: f64,
    /// Smallest sigma at which noise is put back.
    pub s_tmin: f64,
    /// Largest sigma at which noise is put back; infinite unless set.
    pub s_tmax: f64,
    /// Factor on noise that is put back or drawn afresh.
    pub s_noise: f64,
}

impl Default for Randomness {
    fn default() -> Self {
        Self {
            eta: 0.0,
            s_churn: 0.0,
            s_tmin: 0.0,
            s_tmax: f64::INFINITY,
            s_noise: 1.0,
        }
    }
}

impl NoiseOptions {
    /// Name, value and largest value of each.
    fn each(&self) -> [(&'static str, Option<f64>, f64); 5] {
        [
            ("eta", self.eta, 1.0),
            ("s_churn", self.s_churn, 100.0),
            ("s_tmin", self.s_tmin, 1e5),
            ("s_tmax", self.s_tmax, 1e5),
            ("s_noise", self.s_noise, 10.0),
        ]
    }

    /// Refuses values out of range.
    ///
    /// # Errors
    /// `InvalidConfig` naming the option.
    pub fn check(&self) -> Result<()> {
        for (name, value, limit) in self.each() {
            if let Some(value) = value.filter(|value| !(0.0..=limit).contains(value)) {
                return Err(Error::invalid(format!(
                    "{name} is {value}, expected a number from 0 to {limit}"
                )));
            }
        }
        Ok(())
    }

    /// Decides every value for the sampler called `sampler`.
    ///
    /// # Errors
    /// `InvalidConfig` for values out of range and for options the sampler does not take.
    pub fn resolve(&self, takes: &Takes, sampler: &str) -> Result<Randomness> {
        self.check()?;
        for (name, value, _) in self.each() {
            let taken = match name {
                "eta" => takes.eta.is_some(),
                "s_noise" => takes.s_noise,
                _ => takes.churn,
            };
            if let Some(value) = value.filter(|_| !taken) {
                return Err(
                    Error::invalid(format!("{name} is {value}, but {sampler} takes none"))
                        .with_hint(format!("leave {name} out or choose another sampler")),
                );
            }
        }
        let own = Randomness::default();
        Ok(Randomness {
            eta: self.eta.or(takes.eta).unwrap_or(own.eta),
            s_churn: self.s_churn.unwrap_or(own.s_churn),
            s_tmin: self.s_tmin.unwrap_or(own.s_tmin),
            s_tmax: self.s_tmax.unwrap_or(own.s_tmax),
            s_noise: self.s_noise.unwrap_or(own.s_noise),
        })
    }
}
