//! FreeU (Si et al. 2023, arXiv 2309.11497): on the way up the backbone is strengthened and the low frequencies of the
//! skips are weakened.

use super::config::UNetConfig;
use crate::error::{Error, Result};
use crate::host::HostTensor;
use crate::nn::{Engine, FeatureMap};

/// Its factors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FreeU {
    /// Factors of half of the backbone's channels, innermost first.
    pub backbone: [f64; 2],
    /// Factors of the skips' low frequencies, innermost first.
    pub skip: [f64; 2],
    /// Where they hold and what exactly they do.
    pub version: FreeUVersion,
    /// Part of the run in which they hold, from 0, its first step, to 1, its last; as in Forge the first
    /// evaluation of a step counts to the step before.
    pub share: [f64; 2],
}

/// Which of its authors' two rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FreeUVersion {
    /// The first, which diffusers has: in the two innermost blocks, everywhere alike.
    #[default]
    First,
    /// The second, which ComfyUI and Forge have: wherever the backbone has four times the channels of the outermost
    /// block, or twice as many, and the stronger the higher a position's mean over the channels is.
    Second,
    /// The first as ComfyUI's `FreeU` node has it: everywhere alike, but in the places of the second.
    FirstByChannels,
}

impl FreeU {
    /// The whole run.
    pub const WHOLE: [f64; 2] = [0.0, 1.0];

    /// Whether it holds at an evaluation of a run of `steps` with `evaluations` of the model each. As in Forge
    /// (`extensions-builtin/sd_forge_freeu`), whose scripts learn of a step when its first evaluation is done, that one
    /// counts to the step before.
    pub(crate) fn holds_at(&self, evaluation: usize, steps: usize, evaluations: usize) -> bool {
        let evaluations = evaluations.max(1);
        let step = evaluation / evaluations;
        let seen = match evaluation % evaluations {
            0 => step.saturating_sub(1),
            _ => step,
        };
        let place = seen as f64 / steps.saturating_sub(1).max(1) as f64;
        (self.share[0]..=self.share[1]).contains(&place)
    }

    /// Refuses models that have no place for it.
    ///
    /// # Errors
    /// `Unsupported`, naming the numbers of channels.
    pub fn check(&self, config: &UNetConfig) -> Result<()> {
        let outermost = config.down[0].out_channels;
        let found: Vec<usize> = config.up.iter().map(|block| block.out_channels).collect();
        let wanted = TIMES.map(|times| times * outermost);
        if self.version == FreeUVersion::First || wanted.iter().any(|count| found.contains(count)) {
            return Ok(());
        }
        Err(Error::unsupported(format!(
            "this version of freeu changes maps of {} and {} channels, and this model's have {found:?}",
            wanted[0], wanted[1]
        ))
        .with_hint("leave the version out"))
    }
}

/// Where the second version holds, in channels of the outermost block.
const TIMES: [usize; 2] = [4, 2];

/// It in one block of the way up.
#[derive(Clone, Copy)]
pub(super) struct FreeUAt<'a> {
    pub(super) freeu: &'a FreeU,
    /// Number of the block, the innermost first.
    pub(super) block: usize,
    /// Channels of the outermost block.
    pub(super) outermost: usize,
    pub(super) engine: &'a Engine,
}

impl FreeUAt<'_> {
    /// The backbone and the skip it is about to be joined with, changed where that is due.
    pub(super) fn apply(
        &self,
        backbone: FeatureMap,
        skip: FeatureMap,
    ) -> Result<(FeatureMap, FeatureMap)> {
        let channels = backbone.channels();
        let index = match self.freeu.version {
            FreeUVersion::First => Some(self.block).filter(|&block| block < 2),
            FreeUVersion::Second | FreeUVersion::FirstByChannels => TIMES
                .iter()
                .position(|times| channels == times * self.outermost),
        };
        let Some(index) = index else {
            return Ok((backbone, skip));
        };
        let factor = self.freeu.backbone[index];
        let backbone = match self.freeu.version {
            FreeUVersion::First | FreeUVersion::FirstByChannels => {
                backbone.scale_first_channels(channels / 2, factor)?
            }
            FreeUVersion::Second => {
                let strengthened = by_the_mean(backbone.to_host()?, factor)?;
                FeatureMap::from_host(self.engine, &strengthened)?
            }
        };
        Ok((
            backbone,
            skip.scale_low_frequencies(self.freeu.skip[index])?,
        ))
    }
}

/// The first half of the channels of (B, C, H, W), times `factor` where the mean over all channels is highest, times 1
/// where it is lowest, and accordingly between.
pub(crate) fn by_the_mean(mut map: HostTensor, factor: f64) -> Result<HostTensor> {
    let (_, channels, height, width) = map.dims4()?;
    let plane = height * width;
    for picture in map.data_mut().chunks_mut(channels * plane) {
        let mut mean = vec![0.0_f32; plane];
        for channel in picture.chunks(plane) {
            for (sum, value) in mean.iter_mut().zip(channel) {
                *sum += value;
            }
        }
        for sum in &mut mean {
            *sum /= channels as f32;
        }
        let low = mean.iter().copied().fold(f32::INFINITY, f32::min);
        let high = mean.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // A flat map has no highest place.
        let range = if high > low {
            high - low
        } else {
            f32::INFINITY
        };
        let gains: Vec<f32> = mean
            .iter()
            .map(|mean| (factor - 1.0) as f32 * ((mean - low) / range) + 1.0)
            .collect();
        for channel in picture.chunks_mut(plane).take(channels / 2) {
            for (value, gain) in channel.iter_mut().zip(&gains) {
                *value *= gain;
            }
        }
    }
    Ok(map)
}
