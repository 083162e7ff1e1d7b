//! The noise a picture starts from: its seed's own, mixed with another seed's, or that of another size, as the
//! webui has it (`modules/rng.py`).

use super::{RngKind, SeededNoise};
use crate::error::Result;
use crate::host::HostTensor;
use crate::samplers::NoiseSource;

/// Above this mean cosine two noises count as one direction, and are mixed linearly.
const PARALLEL: f32 = 0.9995;
/// Below this sine the arc between two columns has no direction, and they are mixed linearly.
const DEGENERATE: f32 = 1e-6;

/// A second seed whose noise is mixed in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Variation {
    /// The second seed.
    pub seed: u64,
    /// Its share, 0 (none of it) to 1 (nothing else).
    pub strength: f64,
}

/// Where the noise of one picture comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PictureSeeds {
    /// Whose random numbers.
    pub rng: RngKind,
    /// The picture's seed.
    pub seed: u64,
    /// Noise of another seed mixed into the start.
    pub variation: Option<Variation>,
    /// Height and width of the latents whose noise stands in the middle of the start, for a composition near that
    /// of the picture of that size.
    pub resize_from: Option<[usize; 2]>,
    /// Added to the seed for all noise but the start's; 0 goes on with the generator of the start.
    pub eta_delta: i64,
    /// Whose random numbers that noise is, from a generator of its own; `None` is as `eta_delta` says.
    pub fresh_rng: Option<RngKind>,
}

impl PictureSeeds {
    /// The noise that latents of `shape`, (1, C, H, W), start from, and the source of what is drawn later.
    ///
    /// # Errors
    /// None for shapes of four numbers.
    pub fn start(&self, shape: [usize; 4]) -> Result<(HostTensor, SeededNoise)> {
        let fresh = |seed| SeededNoise::new(self.rng, [seed]);
        let mut source = fresh(self.seed);
        let drawn = match self.resize_from {
            Some([height, width]) => [1, shape[1], height, width],
            None => shape,
        };
        let mut noise = if drawn == shape {
            source.noise(&shape)
        } else {
            fresh(self.seed).noise(&drawn)
        };
        if let Some(variation) = self.variation.filter(|variation| variation.strength > 0.0) {
            let other = fresh(variation.seed).noise(&drawn);
            noise = slerp(variation.strength as f32, &noise, &other)?;
        }
        if drawn != shape {
            let mut whole = source.noise(&shape);
            paste_centred(&mut whole, &noise)?;
            noise = whole;
        }
        if let Some(kind) = self.fresh_rng {
            source = SeededNoise::new(kind, [self.seed]);
        }
        if self.eta_delta != 0 {
            source.restart(self.eta_delta);
        }
        Ok((noise, source))
    }
}

/// The point `share` of the way from `low` to `high` on the arc between them (Shoemake 1985), for each channel and
/// column by itself, as the webui has it. Where they lie in one direction it mixes with the shares exchanged; so does
/// this, or pictures would differ.
///
/// # Errors
/// When the shapes differ or have not four numbers.
pub(super) fn slerp(share: f32, low: &HostTensor, high: &HostTensor) -> Result<HostTensor> {
    let cosines = cosines(low, high)?;
    let mean = cosines.iter().map(|&cosine| f64::from(cosine)).sum::<f64>() / cosines.len() as f64;
    if mean > f64::from(PARALLEL) {
        return low
            .clone()
            .zip_map(high, |low, high| low * share + high * (1.0 - share));
    }
    let (_, channels, height, width) = low.dims4()?;
    let mut mixed = HostTensor::zeros(low.shape());
    for (row, values) in mixed.data_mut().chunks_exact_mut(width).enumerate() {
        let channel = row / height % channels;
        for (column, value) in values.iter_mut().enumerate() {
            let at = row * width + column;
            let (of_low, of_high) = shares(share, cosines[channel * width + column]);
            *value = of_low * low.data()[at] + of_high * high.data()[at];
        }
    }
    Ok(mixed)
}

/// The factors on both ends of an arc whose cosine is `cosine`.
fn shares(share: f32, cosine: f32) -> (f32, f32) {
    let omega = cosine.clamp(-1.0, 1.0).acos();
    let sine = omega.sin();
    // The webui divides by zero here, which only latents of one row meet.
    if sine.abs() < DEGENERATE {
        return (1.0 - share, share);
    }
    (
        ((1.0 - share) * omega).sin() / sine,
        (share * omega).sin() / sine,
    )
}

/// The cosine of each channel's columns, (C, W).
fn cosines(low: &HostTensor, high: &HostTensor) -> Result<Vec<f32>> {
    let product = |a: &HostTensor, b: &HostTensor| a.clone().zip_map(b, |a, b| a * b);
    let dot = column_sums(&product(low, high)?)?;
    let low = column_sums(&product(low, low)?)?;
    let high = column_sums(&product(high, high)?)?;
    let columns = dot.iter().zip(low.iter().zip(&high));
    Ok(columns
        .map(|(dot, (low, high))| (dot / (low * high).sqrt()) as f32)
        .collect())
}

/// Sums over the rows of the first picture, (C, W).
fn column_sums(values: &HostTensor) -> Result<Vec<f64>> {
    let (_, channels, height, width) = values.dims4()?;
    let mut sums = vec![0.0; channels * width];
    for (index, &value) in values.data().iter().enumerate() {
        let channel = index / (height * width) % channels;
        sums[channel * width + index % width] += f64::from(value);
    }
    Ok(sums)
}

/// Puts `small` into the middle of `whole`; what lies beyond the border is cut off.
///
/// # Errors
/// When a shape has not four numbers.
fn paste_centred(whole: &mut HostTensor, small: &HostTensor) -> Result<()> {
    let (_, channels, height, width) = whole.dims4()?;
    let (_, _, small_height, small_width) = small.dims4()?;
    let rows = Overlap::new(height, small_height);
    let columns = Overlap::new(width, small_width);
    for channel in 0..channels {
        for row in 0..rows.length {
            let to = (channel * height + rows.to + row) * width + columns.to;
            let from = (channel * small_height + rows.from + row) * small_width + columns.from;
            whole.data_mut()[to..to + columns.length]
                .copy_from_slice(&small.data()[from..from + columns.length]);
        }
    }
    Ok(())
}

/// Where one length comes to lie on another, centre on centre.
#[derive(Debug, PartialEq)]
struct Overlap {
    to: usize,
    from: usize,
    length: usize,
}

impl Overlap {
    /// Of an odd surplus of `small` the webui cuts one more on both sides, which leaves `whole` one value of its own.
    fn new(whole: usize, small: usize) -> Self {
        if whole >= small {
            return Self {
                to: (whole - small) / 2,
                from: 0,
                length: small,
            };
        }
        let cut = (small - whole).div_ceil(2);
        Self {
            to: 0,
            from: cut,
            length: small.saturating_sub(2 * cut),
        }
    }
}
