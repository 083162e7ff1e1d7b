//! Improved pseudo numerical methods of order 4 (Zhang and Chen 2022, "Fast Sampling of Diffusion Models
//! with Exponential Integrator", section 3.3, on sigmas; github.com/zju-pi/diff-sampler, solvers.py): the
//! linear multistep weights of even steps.

use super::multistep::{History, run_slopes};
use super::schedule::Settings;
use super::{Run, Sampler};
use crate::error::Result;
use crate::host::HostTensor;

/// The IPNDM sampler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ipndm;

impl Ipndm {
    pub(super) fn build(_settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self)
    }
}

impl Sampler for Ipndm {
    fn sample(&self, x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        run_slopes(x, run, 4, &|history: &History<'_>| {
            let h = history.to - history.nodes[0];
            let weights: &[f64] = match history.nodes.len() {
                1 => &[1.0],
                2 => &[3.0 / 2.0, -1.0 / 2.0],
                3 => &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
                _ => &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
            };
            weights.iter().map(|weight| h * weight).collect()
        })
    }
}
