//! The GITS schedule (Chen et al. 2024, "On the Trajectory Regularity of ODE-based Diffusion Sampling", section 4):
//! levels found by dynamic programming on trajectories of Stable Diffusion 1.5, for each number of steps.
//!
//! The larger the coefficient, the more of the steps lie at little noise. The numbers are those published at
//! github.com/zju-pi/diff-sampler (gits-main), for the coefficients of ComfyUI's node.

use std::fmt;
use std::str::FromStr;

use super::tables::log_linear;
use super::{NoiseSchedule, ScheduleKind};
use crate::error::{Error, Result};

/// Which levels lie between the largest and the smallest.
const TABLES: &str = include_str!("gits.txt");

/// Most steps that have a row of their own.
const MAX_STEPS: usize = 20;

/// Every level that a table has, the largest and the smallest of all runs first and last.
const LEVELS: [f64; 98] = [
    14.614_641_19,
    13.760_787_96,
    12.967_848_78,
    12.230_897_9,
    11.545_418_74,
    10.907_320_02,
    10.312_849_04,
    9.758_595_47,
    9.241_425_51,
    8.758_491_52,
    8.307_172_78,
    7.885_078_91,
    7.490_016_46,
    7.119_966_98,
    6.773_090_84,
    6.447_690_01,
    6.142_204_76,
    5.855_200_77,
    5.585_360_53,
    5.092_408_18,
    4.867_146_02,
    4.654_727_94,
    4.454_275_61,
    4.264_977_46,
    3.916_895_63,
    3.756_775_86,
    3.605_126_62,
    3.461_394_55,
    3.325_070_86,
    3.195_679_9,
    3.072_779_66,
    2.955_964_09,
    2.844_849_82,
    2.638_338_8,
    2.542_307_14,
    2.450_702_67,
    2.363_260_75,
    2.279_731_75,
    2.199_885_37,
    2.123_506_07,
    2.050_390_96,
    1.980_351_45,
    1.913_211_58,
    1.848_806_62,
    1.786_980_75,
    1.727_590_56,
    1.670_500_16,
    1.615_581_51,
    1.562_716_36,
    1.511_792_66,
    1.462_703_94,
    1.415_352_46,
    1.369_644_64,
    1.325_492_86,
    1.282_814_62,
    1.241_532_44,
    1.201_572_66,
    1.162_866,
    1.125_346_78,
    1.088_953_38,
    1.053_627_25,
    1.019_312_62,
    0.985_956_73,
    0.953_509_21,
    0.921_923_22,
    0.891_152_14,
    0.861_153_54,
    0.831_885_16,
    0.803_307,
    0.775_381_33,
    0.748_070_48,
    0.721_338_51,
    0.695_150_91,
    0.669_472_93,
    0.644_271_25,
    0.619_512_44,
    0.595_163_23,
    0.571_190_18,
    0.547_559_26,
    0.524_236_14,
    0.501_183_81,
    0.478_364_5,
    0.455_736_91,
    0.433_256_92,
    0.410_874_46,
    0.388_533_83,
    0.366_170_02,
    0.343_706_04,
    0.321_048_23,
    0.298_078_33,
    0.274_642_88,
    0.250_533_67,
    0.225_453_85,
    0.198_949_16,
    0.170_260_83,
    0.137_921_17,
    0.098_245_32,
    0.029_167_53,
];

/// A coefficient that there are tables for: 0.80 to 1.50 by 0.05.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GitsCoefficient {
    hundredths: u32,
}

impl GitsCoefficient {
    /// That of ComfyUI's node unless told.
    pub const DEFAULT: Self = Self { hundredths: 120 };

    const FIRST: u32 = 80;
    const LAST: u32 = 150;
    const STEP: u32 = 5;

    /// Every one of them, the smallest first.
    pub fn all() -> impl Iterator<Item = Self> {
        let all = (Self::FIRST..=Self::LAST).step_by(Self::STEP as usize);
        all.map(|hundredths| Self { hundredths })
    }

    /// What lies between the largest level and the smallest in runs of so many steps, 2 to [`MAX_STEPS`].
    fn between(self, steps: usize) -> impl Iterator<Item = f64> {
        let head = self.to_string();
        let mut lines = TABLES.lines().skip_while(move |line| *line != head);
        let row = lines.nth(steps - 1).unwrap_or_default();
        row.split_whitespace().filter_map(level)
    }

    /// The levels of so many steps, 2 to [`MAX_STEPS`], and the smallest of training, where ComfyUI puts 0.
    fn levels(self, steps: usize) -> Vec<f64> {
        let mut levels = vec![LEVELS[0]];
        levels.extend(self.between(steps));
        levels.push(LEVELS[LEVELS.len() - 1]);
        levels
    }
}

impl FromStr for GitsCoefficient {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wanted: Option<f64> = text.trim().parse().ok();
        let is_it = |known: &Self| {
            wanted.is_some_and(|wanted| (wanted * 100.0 - f64::from(known.hundredths)).abs() < 1e-6)
        };
        Self::all().find(is_it).ok_or_else(|| {
            Error::invalid(format!(
                "the coefficient of gits is {text:?}, expected one of 0.80 to 1.50 by 0.05"
            ))
            .with_hint("gits alone takes 1.20")
        })
    }
}

impl fmt::Display for GitsCoefficient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.hundredths / 100, self.hundredths % 100);
        write!(f, "{whole}.{rest:02}")
    }
}

/// The level of so many whole hundredths.
fn level(hundredths: &str) -> Option<f64> {
    let hundredths: u32 = hundredths.parse().ok()?;
    let is_it = |level: &f64| (level * 100.0) as u32 == hundredths;
    LEVELS.into_iter().find(is_it)
}

/// As ComfyUI reads it; one step starts where the others do.
pub(super) fn gits(schedule: &NoiseSchedule, count: usize) -> Vec<f32> {
    let coefficient = match schedule.settings().sigmas {
        ScheduleKind::Gits(coefficient) => coefficient,
        _ => GitsCoefficient::DEFAULT,
    };
    let mut sigmas = if count <= MAX_STEPS {
        let levels = coefficient.levels(count.max(2));
        levels.into_iter().map(|level| level as f32).collect()
    } else {
        log_linear(&coefficient.levels(MAX_STEPS), count + 1)
    };
    sigmas.truncate(count);
    sigmas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_every_coefficient_is_whole() {
        let coefficients: Vec<_> = GitsCoefficient::all().collect();
        assert_eq!(coefficients.len(), 15);
        let heads = TABLES
            .lines()
            .filter(|line| line.contains('.') && !line.starts_with('#'));
        assert_eq!(heads.count(), 15);
        for coefficient in coefficients {
            assert_eq!(
                coefficient.to_string().parse::<GitsCoefficient>().unwrap(),
                coefficient
            );
            for steps in 2..=MAX_STEPS {
                let levels = coefficient.levels(steps);
                assert_eq!(levels.len(), steps + 1, "{coefficient} {steps}");
                assert!(
                    levels.windows(2).all(|pair| pair[0] > pair[1]),
                    "{coefficient} {steps}"
                );
            }
        }
    }

    #[test]
    fn a_coefficient_without_a_table_names_the_range() {
        for text in ["0.75", "1.55", "1.22", "", "NaN", "many", "1e9"] {
            let error = text.parse::<GitsCoefficient>().unwrap_err();
            assert!(error.message().contains("0.80 to 1.50 by 0.05"), "{error}");
        }
        assert_eq!(
            "1.2".parse::<GitsCoefficient>().unwrap(),
            GitsCoefficient::DEFAULT
        );
    }
}
