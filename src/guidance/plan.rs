//! What each evaluation of a run needs, decided before the model is asked.

use super::{GuidanceMethod, GuidanceOptions, Skips};
use crate::error::Result;

/// Why an unconditional prediction is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// It is not: the model is told the scale instead.
    Nothing,
    /// For guidance, where the scale is above 1.
    Scale,
    /// And to weigh the parts of the prompt against, at any scale.
    Weights,
    /// The sampler asks for it at every evaluation.
    Always,
}

/// How long a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunLength {
    /// Steps.
    pub(crate) steps: usize,
    /// Evaluations of the model a step, at most.
    pub(crate) evaluations: usize,
}

/// What an evaluation needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Turn {
    /// No prediction at all: zeros stand for it.
    Zero,
    /// The prompt alone.
    Prompt,
    /// The prompt and the unconditional prediction, joined with this scale.
    Guided(f64),
}

/// Guidance of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct GuidancePlan {
    scale: f64,
    rescale: f64,
    options: GuidanceOptions,
    length: RunLength,
    needs: Needs,
}

impl GuidancePlan {
    /// A plan for a run of `length`, guided by `scale` where `options` have no schedule.
    ///
    /// # Errors
    /// When the schedule is a list of another length.
    pub(crate) fn new(
        (scale, rescale): (f64, f64),
        options: &GuidanceOptions,
        length: RunLength,
        needs: Needs,
    ) -> Result<Self> {
        if let Some(schedule) = &options.schedule {
            schedule.check_steps(length.steps)?;
        }
        Ok(Self {
            scale,
            rescale,
            options: options.clone(),
            length,
            needs,
        })
    }

    /// What evaluation `index`, from 0, at `sigma` needs.
    pub(crate) fn turn(&self, index: usize, sigma: f64) -> Turn {
        if self.needs == Needs::Nothing {
            return Turn::Prompt;
        }
        if let GuidanceMethod::ZeroStar(method) = &self.options.method
            && index < method.zero_steps
            && self.may_guide()
        {
            return Turn::Zero;
        }
        if self.is_left_out(index, sigma) {
            return match self.needs {
                Needs::Always => Turn::Guided(1.0),
                _ => Turn::Prompt,
            };
        }
        let scale = self.scale_at(index);
        match self.needs {
            Needs::Always => Turn::Guided(scale),
            Needs::Weights => Turn::Guided(scale.max(1.0)),
            _ if scale > 1.0 => Turn::Guided(scale),
            _ => Turn::Prompt,
        }
    }

    /// Whether an unconditional prediction may be needed, so that its text must be encoded.
    pub(crate) fn may_guide(&self) -> bool {
        let interval = self.options.interval.as_ref();
        let highest = self
            .options
            .schedule
            .as_ref()
            .map(super::ScaleSchedule::highest);
        match self.needs {
            Needs::Nothing => false,
            Needs::Weights | Needs::Always => true,
            Needs::Scale => {
                highest.unwrap_or(self.scale) > 1.0
                    && !interval.is_some_and(super::Interval::is_empty)
            }
        }
    }

    /// Whether the sampler asks for the unconditional estimate at every evaluation.
    pub(crate) fn always_unconditional(&self) -> bool {
        self.needs == Needs::Always
    }

    /// How the predictions are joined.
    pub(crate) fn method(&self) -> &GuidanceMethod {
        &self.options.method
    }

    /// Share by which the result is brought back to the contrast of the prediction with the prompt.
    pub(crate) fn rescale(&self) -> f64 {
        self.rescale
    }

    /// Evaluations of the whole run, at most.
    pub(crate) fn evaluations(&self) -> usize {
        self.length.steps * self.length.evaluations
    }

    fn scale_at(&self, index: usize) -> f64 {
        let step = index / self.length.evaluations.max(1);
        let schedule = self.options.schedule.as_ref();
        schedule.map_or(self.scale, |schedule| {
            schedule.scale(step, self.length.steps)
        })
    }

    /// The webui's two rules (stable-diffusion-webui 1.10.1, `modules/sd_samplers_cfg_denoiser.py`) and the interval.
    fn is_left_out(&self, index: usize, sigma: f64) -> bool {
        let count = self.evaluations();
        let GuidanceOptions {
            interval,
            min_sigma,
            min_sigma_skips,
            skip_early,
            ..
        } = &self.options;
        let early = *skip_early > 0.0 && index as f64 / count as f64 <= *skip_early;
        let second = *min_sigma_skips == Skips::All || index % 2 == 1;
        let outside = interval.is_some_and(|interval| !interval.holds(index, count, sigma));
        early || (second && sigma < *min_sigma) || outside
    }
}
