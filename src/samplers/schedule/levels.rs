//! From a schedule's sigmas to the plan of a sampler in k-diffusion's coordinates.

use super::{CustomLevels, KlEnd, NoiseSchedule, ScheduleKind, curves};
use crate::error::{Error, Result};
use crate::samplers::plan::{NoiseLevel, Plan};

/// The levels of k-diffusion's samplers: those of the chosen schedule, of the sampler's own, or the
/// caller's; latents start at the first sigma.
pub(in crate::samplers) fn plan(schedule: &NoiseSchedule, steps: usize) -> Result<Plan> {
    let levels: Vec<NoiseLevel> = sigmas(schedule, steps)?
        .into_iter()
        .map(|sigma| level(schedule, sigma))
        .collect();
    let start = schedule.start_scale(levels[0].sigma);
    Plan::through(&levels, start)
}

/// The level of `sigma`, and the timestep the model is told there.
pub(in crate::samplers) fn level(schedule: &NoiseSchedule, sigma: f32) -> NoiseLevel {
    let sigma = f64::from(sigma);
    let timestep = if sigma > 0.0 {
        schedule.sigma_to_timestep(sigma)
    } else {
        0.0
    };
    NoiseLevel::from_sigma(timestep, sigma)
}

/// Falling sigmas, 0 at their end but where a schedule ends before.
pub(in crate::samplers) fn sigmas(schedule: &NoiseSchedule, steps: usize) -> Result<Vec<f32>> {
    let settings = schedule.settings();
    if let Some(custom) = &settings.custom {
        return custom_sigmas(schedule, custom);
    }
    let kind = match settings.sigmas {
        ScheduleKind::Automatic => settings.own_schedule,
        chosen => chosen,
    };
    settings.options.check_for(kind)?;
    check_limits(schedule)?;
    let spec = kind.spec();
    let formula = spec.sigmas.unwrap_or(curves::normal);
    // The webui makes one step more for these samplers and leaves out the last level above 0.
    let extra = usize::from(settings.discard_penultimate);
    let mut sigmas = formula(schedule, steps + extra);
    let end = if kind == ScheduleKind::KlOptimal(KlEnd::Smallest) {
        sigmas.pop().unwrap_or_default()
    } else {
        0.0
    };
    sigmas.truncate(sigmas.len() - extra);
    sigmas.push(end);
    if sigmas.windows(2).any(|pair| pair[0] <= pair[1]) {
        return Err(Error::invalid(format!(
            "{steps} steps of the {kind} schedule leave two with the same noise level"
        ))
        .with_hint("ask for fewer steps"));
    }
    Ok(sigmas)
}

/// The caller's limits, or one of them and training's other, must fall.
fn check_limits(schedule: &NoiseSchedule) -> Result<()> {
    let (min, max) = curves::limits(schedule);
    if min < max {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "sigmas go from {max} to {min}, expected the second to be smaller"
    )))
}

fn custom_sigmas(schedule: &NoiseSchedule, custom: &CustomLevels) -> Result<Vec<f32>> {
    let mut sigmas: Vec<f32> = match custom {
        CustomLevels::Sigmas(sigmas) => sigmas.iter().map(|&sigma| sigma as f32).collect(),
        CustomLevels::Timesteps(timesteps) => timesteps
            .iter()
            .map(|&timestep| {
                schedule.level(timestep)?;
                Ok(curves::sigma_of_timestep(schedule, timestep))
            })
            .collect::<Result<_>>()?,
    };
    if sigmas.last().is_none_or(|&last| last > 0.0) {
        sigmas.push(0.0);
    }
    if sigmas.windows(2).any(|pair| pair[0] <= pair[1]) {
        return Err(Error::invalid(
            "sigmas do not fall, expected each to be smaller than the one before",
        ));
    }
    Ok(sigmas)
}
