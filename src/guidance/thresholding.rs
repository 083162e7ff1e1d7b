//! Dynamic thresholding with a mimicked scale: guidance with a high scale, its values brought back to the range that a
//! lower one gives.
//!
//! Follows mcmonkeyprojects/sd-dynamic-thresholding, `dynthres_core.py`, which works on estimates of the clean latents.
//! It shares no more than the idea with the thresholding of Imagen, which samplers do (`samplers::Clip`).

use std::fmt;

use super::combine::standard_deviation;
use super::course::{Course, CourseMode};
use super::settings::{Settings, name_of};
use super::within;
use crate::error::Result;
use crate::host::HostTensor;
use crate::samplers::quantile_of_magnitudes;

const KEYS: [&str; 11] = [
    "mimic",
    "percentile",
    "mimic-mode",
    "mimic-min",
    "cfg-mode",
    "cfg-min",
    "value",
    "channels",
    "start",
    "measure",
    "phi",
];
const CHANNELS: [(&str, Channels); 2] = [
    ("separate", Channels::Separate),
    ("together", Channels::Together),
];
const STARTS: [(&str, StartPoint); 2] = [("mean", StartPoint::Mean), ("zero", StartPoint::Zero)];
const MEASURES: [(&str, Measure); 2] = [("ad", Measure::Ad), ("std", Measure::Std)];

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholding {
    /// Scale whose range of values is taken, 0 to 100.
    pub mimic: f64,
    /// Percentile of the magnitudes that counts as their range, 0 to 100.
    pub percentile: f64,
    /// How the mimicked scale goes over the run.
    pub mimic_course: Course,
    /// How the scale of guidance goes over the run.
    pub cfg_course: Course,
    /// Power of the power courses, number of repeats of the repeating ones; 0 to 100.
    pub value: f64,
    /// Whether each channel has a range of its own.
    pub channels: Channels,
    /// Where values are scaled from.
    pub start: StartPoint,
    /// What their range is.
    pub measure: Measure,
    /// Share of the result, 0 to 1; the rest is guidance without thresholding.
    pub phi: f64,
}

/// Whether each channel has a range of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channels {
    /// Each has.
    Separate,
    /// One for all.
    Together,
}

/// Where values are scaled from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StartPoint {
    /// The mean of their channel.
    Mean,
    /// Zero.
    Zero,
}

/// What the range of values is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Largest distance from the mean.
    Ad,
    /// Standard deviation.
    Std,
}

impl Thresholding {
    /// The extension's own settings.
    pub const WEBUI: Self = Self {
        mimic: 7.0,
        percentile: 100.0,
        mimic_course: Course {
            mode: CourseMode::Constant,
            min: 0.0,
        },
        cfg_course: Course {
            mode: CourseMode::Constant,
            min: 0.0,
        },
        value: 4.0,
        channels: Channels::Separate,
        start: StartPoint::Mean,
        measure: Measure::Ad,
        phi: 1.0,
    };

    pub(super) fn read(mut self, mut settings: Settings<'_>) -> Result<Self> {
        let modes = &CourseMode::NAMES;
        settings.number("mimic", &mut self.mimic)?;
        settings.number("percentile", &mut self.percentile)?;
        settings.word("mimic-mode", &mut self.mimic_course.mode, modes)?;
        settings.number("mimic-min", &mut self.mimic_course.min)?;
        settings.word("cfg-mode", &mut self.cfg_course.mode, modes)?;
        settings.number("cfg-min", &mut self.cfg_course.min)?;
        settings.number("value", &mut self.value)?;
        settings.word("channels", &mut self.channels, &CHANNELS)?;
        settings.word("start", &mut self.start, &STARTS)?;
        settings.word("measure", &mut self.measure, &MEASURES)?;
        settings.number("phi", &mut self.phi)?;
        settings.finish(&KEYS)?;
        Ok(self)
    }

    pub(super) fn check(&self) -> Result<()> {
        within("dynthres phi", self.phi, 0.0, 1.0)?;
        let hundreds = [
            ("mimic", self.mimic),
            ("percentile", self.percentile),
            ("mimic-min", self.mimic_course.min),
            ("cfg-min", self.cfg_course.min),
            ("value", self.value),
        ];
        hundreds
            .into_iter()
            .try_for_each(|(key, found)| within(&format!("dynthres {key}"), found, 0.0, 100.0))
    }

    /// The guided estimate at evaluation `at` = (index, count), of estimates of the clean latents (1, C, H, W).
    pub(super) fn guide(
        &self,
        (uncond, cond): (&HostTensor, &HostTensor),
        scale: f64,
        at: (usize, usize),
    ) -> Result<HostTensor> {
        let guided = |scale: f64| {
            let scale = scale as f32;
            let step = |cond, uncond| uncond + (cond - uncond) * scale;
            cond.clone().zip_map(uncond, step)
        };
        let mut result = guided(self.cfg_course.at(scale, at, self.value))?;
        let mut mimic = guided(self.mimic_course.at(self.mimic, at, self.value))?;
        let (_, _, height, width) = result.dims4()?;
        let pixels = (height * width).max(1);
        let mut own = result.clone();
        let means = centre(&mut own, pixels);
        centre(&mut mimic, pixels);
        let part = match self.channels {
            Channels::Separate => pixels,
            Channels::Together => own.data().len().max(1),
        };
        let parts = own.data().chunks(part).zip(mimic.data().chunks(part));
        let ranges: Vec<Ranges> = parts.map(|(own, mimic)| self.ranges(own, mimic)).collect();
        let phi = self.phi as f32;
        let channels = result.data_mut().chunks_mut(pixels);
        for ((channel, values), mean) in channels.enumerate().zip(means) {
            let ranges = ranges[channel * pixels / part];
            for value in values {
                let back = self.bring_back(*value, mean, ranges);
                *value = if phi < 1.0 {
                    back * phi + *value * (1.0 - phi)
                } else {
                    back
                };
            }
        }
        Ok(result)
    }

    /// The ranges of values around their means.
    fn ranges(&self, own: &[f32], mimic: &[f32]) -> Ranges {
        match self.measure {
            Measure::Ad => Ranges {
                own: quantile_of_magnitudes(own, (self.percentile / 100.0) as f32),
                mimic: mimic.iter().fold(0.0, |most, value| value.abs().max(most)),
            },
            Measure::Std => Ranges {
                own: standard_deviation(own) as f32,
                mimic: standard_deviation(mimic) as f32,
            },
        }
    }

    fn bring_back(&self, value: f32, mean: f32, Ranges { own, mimic }: Ranges) -> f32 {
        let limit = match self.measure {
            Measure::Ad if self.start == StartPoint::Mean => mimic.max(own),
            _ => own,
        };
        if limit <= 0.0 {
            return value;
        }
        match (self.start, self.measure) {
            (StartPoint::Zero, _) => value * (mimic / limit),
            (StartPoint::Mean, Measure::Ad) => {
                (value - mean).clamp(-limit, limit) / limit * mimic + mean
            }
            (StartPoint::Mean, Measure::Std) => (value - mean) / limit * mimic + mean,
        }
    }
}

/// How far values lie from their mean under the scale of guidance and under the mimicked one.
#[derive(Clone, Copy)]
struct Ranges {
    own: f32,
    mimic: f32,
}

/// Takes the mean of each channel of `pixels` values out, and gives the means.
fn centre(values: &mut HostTensor, pixels: usize) -> Vec<f32> {
    let channels = values.data_mut().chunks_mut(pixels);
    let means = channels.map(|channel| {
        let sum: f64 = channel.iter().map(|&value| f64::from(value)).sum();
        let mean = (sum / channel.len() as f64) as f32;
        for value in channel.iter_mut() {
            *value -= mean;
        }
        mean
    });
    means.collect()
}

impl fmt::Display for Thresholding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let modes = &CourseMode::NAMES;
        let values = [
            self.mimic.to_string(),
            self.percentile.to_string(),
            name_of(modes, &self.mimic_course.mode).to_owned(),
            self.mimic_course.min.to_string(),
            name_of(modes, &self.cfg_course.mode).to_owned(),
            self.cfg_course.min.to_string(),
            self.value.to_string(),
            name_of(&CHANNELS, &self.channels).to_owned(),
            name_of(&STARTS, &self.start).to_owned(),
            name_of(&MEASURES, &self.measure).to_owned(),
            self.phi.to_string(),
        ];
        let pairs = KEYS.iter().zip(&values);
        let pairs: Vec<_> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
        f.write_str(&pairs.join(","))
    }
}
