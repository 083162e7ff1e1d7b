//! Channels and low frequencies turned up and down.

use super::Array;
use crate::error::Result;
use crate::nn::profile::Account;

/// The first `count` channels times `factor`.
pub(in crate::nn) fn scale_first_channels(x: &Array, count: usize, factor: f64) -> Result<Array> {
    let factor = factor as f32;
    let channels = x.channels().max(1);
    let account = || Account::moving("freeu", x.bhwc());
    Array::build(x.pool(), x.bhwc(), account, |out| {
        out.copy_from_slice(x.data());
        for row in out.chunks_mut(channels) {
            for value in &mut row[..count] {
                *value *= factor;
            }
        }
        Ok(())
    })
}

/// `x` plus `gain` times its projection on each of `waves`, which run over the positions.
pub(in crate::nn) fn add_waves(x: &Array, waves: &[f32], gain: f64) -> Result<Array> {
    let [_, positions, channels] = x.token_dims();
    let item = (positions * channels).max(1);
    let account = || Account::moving("freeu", x.bhwc());
    Array::build(x.pool(), x.bhwc(), account, |out| {
        out.copy_from_slice(x.data());
        // Sums over positions in f64, which a map of 64x64 needs.
        let mut sums = vec![0.0_f64; channels];
        for (out, x) in out.chunks_mut(item).zip(x.data().chunks(item)) {
            for wave in waves.chunks(positions.max(1)) {
                sums.fill(0.0);
                for (row, &height) in x.chunks(channels.max(1)).zip(wave) {
                    for (sum, &value) in sums.iter_mut().zip(row) {
                        *sum += f64::from(value) * f64::from(height);
                    }
                }
                for (row, &height) in out.chunks_mut(channels.max(1)).zip(wave) {
                    let gain = gain * f64::from(height);
                    for (value, &sum) in row.iter_mut().zip(&sums) {
                        *value += (gain * sum) as f32;
                    }
                }
            }
        }
        Ok(())
    })
}
