//! Group normalisation (Wu and He, arXiv:1803.08494) in two passes: sums a channel, then one multiply-add a value.
//!
//! The sums are those of [`super::moments`], taken here or by the layer that wrote the map.

use super::Activation;
use super::moments::{ChannelSums, Moments, sums_of};
use super::normed::{Normed, STREAMED};
use crate::error::{Result, check, check_len, product};
use crate::shared::SharedMut;

pub(super) const OP: &str = "group_norm";

/// One call of [`group_norm`].
#[derive(Clone, Copy, Debug)]
pub struct GroupNorm<'a> {
    /// One or more inputs `(batch, pixels, channels)` with their channel counts; more than one is read as their concatenation
    /// over channels.
    pub parts: &'a [(&'a [f32], usize)],
    /// Pictures.
    pub batch: usize,
    /// Pixels of one picture.
    pub pixels: usize,
    /// Groups the channels (of all parts) are divided into.
    pub groups: usize,
    /// `(channels)`.
    pub weight: &'a [f32],
    /// `(channels)`.
    pub bias: &'a [f32],
    /// Added to the variance.
    pub eps: f32,
    /// Applied to the result.
    pub activation: Activation,
}

/// Normalises each group of channels of each picture over its pixels; `out: (batch, pixels, channels)`.
///
/// # Errors
/// A length does not fit, or `groups` does not divide the channels.
pub fn group_norm(call: &GroupNorm<'_>, out: &mut [f32]) -> Result<()> {
    let channels = check_sizes(call)?;
    let len = product(OP, "out", &[call.batch, call.pixels, channels])?;
    check_len(OP, "out", out.len(), len)?;
    if len == 0 {
        return Ok(());
    }
    let shared = SharedMut::new(out);
    for picture in 0..call.batch {
        let (factor, offset) = affine(call, &sums_of(call.parts, picture, call.pixels), channels);
        let normed = Normed {
            parts: call.parts,
            pixels: call.pixels,
            factor: &factor,
            offset: &offset,
            activation: call.activation,
        };
        normed.write_picture(picture, (0, len > STREAMED), &shared);
    }
    Ok(())
}

/// What a group norm makes of each channel of each picture: a factor and an offset.
#[derive(Clone, Debug)]
pub struct GroupAffine {
    factor: Vec<f32>,
    offset: Vec<f32>,
    batch: usize,
    pixels: usize,
}

impl GroupAffine {
    /// Finds it; the activation and the values stay as they are.
    ///
    /// # Errors
    /// As [`group_norm`].
    pub fn of(call: &GroupNorm<'_>) -> Result<Self> {
        Self::with_moments(call, &vec![None; call.parts.len()])
    }

    /// The same where the moments of some of the parts are known.
    ///
    /// # Errors
    /// As [`group_norm`], or moments are another map's.
    pub fn with_moments(call: &GroupNorm<'_>, known: &[Option<&Moments>]) -> Result<Self> {
        let channels = check_sizes(call)?;
        check_len(OP, "known", known.len(), call.parts.len())?;
        for (&(_, c), moments) in call.parts.iter().zip(known) {
            if let Some(moments) = moments {
                moments.check(OP, [call.batch, call.pixels, c])?;
            }
        }
        let (mut factor, mut offset) = (Vec::new(), Vec::new());
        for picture in 0..call.batch {
            let affine = affine(call, &sums_with(call, known, picture), channels);
            factor.extend(affine.0);
            offset.extend(affine.1);
        }
        Ok(Self {
            factor,
            offset,
            batch: call.batch,
            pixels: call.pixels,
        })
    }

    /// The norm of `parts`, those it was found for.
    ///
    /// # Errors
    /// A length does not fit.
    pub fn normed<'a>(
        &'a self,
        parts: &'a [(&'a [f32], usize)],
        activation: Activation,
    ) -> Result<Normed<'a>> {
        let channels: usize = parts.iter().map(|&(_, c)| c).sum();
        check_len(OP, "parts", channels * self.batch, self.factor.len())?;
        for &(part, c) in parts {
            let len = product(OP, "part", &[self.batch, self.pixels, c])?;
            check_len(OP, "part", part.len(), len)?;
        }
        Ok(Normed {
            parts,
            pixels: self.pixels,
            factor: &self.factor,
            offset: &self.offset,
            activation,
        })
    }
}

/// Checks a call; its channels.
fn check_sizes(call: &GroupNorm<'_>) -> Result<usize> {
    let channels: usize = call.parts.iter().map(|&(_, c)| c).sum();
    let divides = call.groups > 0 && channels.is_multiple_of(call.groups);
    check(
        OP,
        "groups",
        divides,
        "a divisor of the channels",
        call.groups,
    )?;
    for &(part, c) in call.parts {
        check_len(
            OP,
            "part",
            part.len(),
            product(OP, "part", &[call.batch, call.pixels, c])?,
        )?;
    }
    check_len(OP, "weight", call.weight.len(), channels)?;
    check_len(OP, "bias", call.bias.len(), channels)?;
    Ok(channels)
}

/// Sums of a picture's channels, those that are not known taken in one pass where none is.
fn sums_with(call: &GroupNorm<'_>, known: &[Option<&Moments>], picture: usize) -> Vec<ChannelSums> {
    if known.iter().all(Option::is_none) {
        return sums_of(call.parts, picture, call.pixels);
    }
    let of_part = |(part, moments): (_, Option<&Moments>)| match moments {
        Some(moments) => moments.of(picture).to_vec(),
        None => sums_of(std::slice::from_ref(part), picture, call.pixels),
    };
    let known = known.iter().copied();
    call.parts.iter().zip(known).flat_map(of_part).collect()
}

/// Factor and offset of each channel of a picture: `y = x * factor + offset`.
fn affine(call: &GroupNorm<'_>, sums: &[ChannelSums], channels: usize) -> (Vec<f32>, Vec<f32>) {
    let count = call.pixels as f64;
    let (mut factor, mut offset) = (vec![0.0; channels], vec![0.0; channels]);
    let width = channels / call.groups;
    for start in (0..channels).step_by(width) {
        let group = start..start + width;
        let mean = group.clone().map(|c| sums[c].mean(count)).sum::<f64>() / width as f64;
        // Variance inside each channel, plus that of the channels' means.
        let variance = group
            .clone()
            .map(|c| sums[c].variance(count) + (sums[c].mean(count) - mean).powi(2))
            .sum::<f64>()
            / width as f64;
        let rstd = 1.0 / (variance + f64::from(call.eps)).sqrt();
        for c in group {
            let scale = rstd * f64::from(call.weight[c]);
            factor[c] = scale as f32;
            offset[c] = (f64::from(call.bias[c]) - mean * scale) as f32;
        }
    }
    (factor, offset)
}
