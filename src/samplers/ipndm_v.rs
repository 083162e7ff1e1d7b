//! IPNDM for steps of different widths (github.com/zju-pi/diff-sampler, solvers.py, `ipndm_v_sampler`).
//!
//! The weights are upstream's, which from order 3 on are not quite those of Adams and Bashforth on uneven
//! steps: a bracket is closed one factor later there.

use super::multistep::{History, run_slopes};
use super::schedule::Settings;
use super::{Run, Sampler};
use crate::error::Result;
use crate::host::HostTensor;

/// The IPNDM_V sampler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IpndmV;

impl IpndmV {
    pub(super) fn build(_settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self)
    }
}

impl Sampler for IpndmV {
    fn sample(&self, x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        run_slopes(x, run, 4, &weights)
    }
}

fn weights(history: &History<'_>) -> Vec<f64> {
    let nodes = history.nodes;
    let h = history.to - nodes[0];
    // Widths of the steps before, the latest first.
    let before: Vec<f64> = nodes.windows(2).map(|pair| pair[0] - pair[1]).collect();
    let relative = match before[..] {
        [] => vec![1.0],
        [h1] => {
            let r = h / h1;
            vec![1.0 + r / 2.0, -r / 2.0]
        }
        [h1, h2] => {
            let r = h / h1;
            let a = third_order(h, h1, h2);
            vec![
                1.0 + r / 2.0 + a,
                -r / 2.0 - (1.0 + h1 / h2) * a,
                a * h1 / h2,
            ]
        }
        [h1, h2, h3, ..] => {
            let r = h / h1;
            let a = third_order(h, h1, h2);
            let b = fourth_order(h, h1, h2, h3);
            let q = h1 / h2;
            let p = h1 * (h1 + h2) / (h2 * (h2 + h3));
            vec![
                1.0 + r / 2.0 + a + b,
                -r / 2.0 - (1.0 + q) * a - (1.0 + q + p) * b,
                a * q + (q + p * (1.0 + h2 / h3)) * b,
                -b * p * q,
            ]
        }
    };
    relative.into_iter().map(|weight| h * weight).collect()
}

fn third_order(h: f64, h1: f64, h2: f64) -> f64 {
    (1.0 - h * h / (3.0 * h1 * (h1 + h2))) / 2.0
}

fn fourth_order(h: f64, h1: f64, h2: f64, h3: f64) -> f64 {
    let first = (1.0 - h / (3.0 * (h + h1))) / 2.0;
    let second = (1.0 - h / (2.0 * (h + h1))) * h / (6.0 * (h + h1 + h2));
    let widths = h * (h + h1) * (h + h1 + h2) / (h1 * (h1 + h2) * (h1 + h2 + h3));
    (first + second) * widths
}
