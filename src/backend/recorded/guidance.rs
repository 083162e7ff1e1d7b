//! Guidance as pictures record it: our own keys, and those of the extension sd-dynamic-thresholding.

use std::str::FromStr;

use super::keys::read;
use crate::backend::sampling::SamplingConfig;
use crate::error::{Error, Result};
use crate::guidance::{
    Channels, CourseMode, GuidanceMethod, Measure, Skips, StartPoint, Thresholding,
};

fn parse_some<T: FromStr<Err = Error>>(place: &mut Option<T>, value: &str) -> Result<()> {
    *place = Some(value.trim().parse()?);
    Ok(())
}

fn method(config: &mut SamplingConfig, value: &str) -> Result<()> {
    config.guidance.method = value.trim().parse()?;
    Ok(())
}

fn skips(config: &mut SamplingConfig, value: &str) -> Result<()> {
    config.guidance.min_sigma_skips = choose(
        value,
        &[("True", Skips::All), ("False", Skips::EverySecond)],
    )?;
    Ok(())
}

/// What `names` calls `value`.
pub(super) fn choose<T: Copy>(value: &str, names: &[(&str, T)]) -> Result<T> {
    let value = value.trim();
    let found = names
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(value));
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        Error::invalid(format!("found {value:?}, expected {}", names.join(" or ")))
    })
}

fn thresholding(config: &mut SamplingConfig, value: &str) -> Result<()> {
    if choose(value, &[("True", true), ("False", false)])? {
        of(config, |_| Ok(()))?;
    }
    Ok(())
}

/// Changes the settings of dynamic thresholding, which this turns on.
fn of(
    config: &mut SamplingConfig,
    change: impl FnOnce(&mut Thresholding) -> Result<()>,
) -> Result<()> {
    let method = &mut config.guidance.method;
    let mut settings = match method {
        GuidanceMethod::Thresholding(settings) => *settings,
        _ => Thresholding::WEBUI,
    };
    change(&mut settings)?;
    *method = GuidanceMethod::Thresholding(settings);
    Ok(())
}

type Set = fn(&mut SamplingConfig, &str) -> Result<()>;

/// The keys of guidance.
pub(super) const KEYS: [(&str, Set); 22] = [
    ("NGMS", |config, value| {
        put(&mut config.guidance.min_sigma, value)
    }),
    ("NGMS all steps", skips),
    ("Skip Early CFG", |config, value| {
        put(&mut config.guidance.skip_early, value)
    }),
    ("CFG schedule", |config, value| {
        parse_some(&mut config.guidance.schedule, value)
    }),
    ("CFG interval", |config, value| {
        parse_some(&mut config.guidance.interval, value)
    }),
    ("CFG method", method),
    ("PAG", |config, value| {
        parse_some(&mut config.guidance.pag, value)
    }),
    ("SAG", |config, value| {
        parse_some(&mut config.guidance.sag, value)
    }),
    ("FreeU", |config, value| {
        parse_some(&mut config.guidance.freeu, value)
    }),
    ("Dynamic thresholding enabled", thresholding),
    ("Mimic scale", |config, value| {
        of(config, |own| put(&mut own.mimic, value))
    }),
    ("Threshold percentile", |config, value| {
        of(config, |own| put(&mut own.percentile, value))
    }),
    ("Mimic mode", |config, value| {
        of(config, |own| mode(&mut own.mimic_course.mode, value))
    }),
    ("Mimic scale minimum", |config, value| {
        of(config, |own| put(&mut own.mimic_course.min, value))
    }),
    ("CFG mode", |config, value| {
        of(config, |own| mode(&mut own.cfg_course.mode, value))
    }),
    ("CFG scale minimum", |config, value| {
        of(config, |own| put(&mut own.cfg_course.min, value))
    }),
    ("Separate Feature Channels", |config, value| {
        let names = [("True", Channels::Separate), ("False", Channels::Together)];
        of(config, |own| set(&mut own.channels, choose(value, &names)?))
    }),
    ("Scaling Startpoint", |config, value| {
        let names = [("MEAN", StartPoint::Mean), ("ZERO", StartPoint::Zero)];
        of(config, |own| set(&mut own.start, choose(value, &names)?))
    }),
    ("Variability Measure", |config, value| {
        let names = [("AD", Measure::Ad), ("STD", Measure::Std)];
        of(config, |own| set(&mut own.measure, choose(value, &names)?))
    }),
    ("Power scheduler value", |config, value| {
        of(config, |own| put(&mut own.value, value))
    }),
    ("Scheduler value", |config, value| {
        of(config, |own| put(&mut own.value, value))
    }),
    ("Interpolate Phi", |config, value| {
        of(config, |own| put(&mut own.phi, value))
    }),
];

fn put(place: &mut f64, value: &str) -> Result<()> {
    *place = read(value)?;
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "the end of a chain of results")]
fn set<T>(place: &mut T, value: T) -> Result<()> {
    *place = value;
    Ok(())
}

/// The extension writes its modes in words.
fn mode(place: &mut CourseMode, value: &str) -> Result<()> {
    *place = choose(&value.trim().replace(' ', "-"), &CourseMode::NAMES)?;
    Ok(())
}
