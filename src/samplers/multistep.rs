//! The loop that linear multistep methods on slopes share: they differ in their weights only.

use std::collections::VecDeque;

use super::{Run, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// What the weights of one step depend on.
pub(super) struct History<'a> {
    /// Sigmas at which slopes are known, the latest first.
    pub(super) nodes: &'a [f64],
    /// Where the step ends.
    pub(super) to: f64,
}

/// Runs `x` over the plan: each step adds the known slopes, the latest first and at most `order`, times
/// `weights`; a step to sigma 0 takes the estimate itself.
pub(super) fn run_slopes(
    mut x: HostTensor,
    run: &mut Run<'_>,
    order: usize,
    weights: &dyn Fn(&History<'_>) -> Vec<f64>,
) -> Result<HostTensor> {
    let mut slopes: VecDeque<HostTensor> = VecDeque::new();
    let mut nodes: VecDeque<f64> = VecDeque::new();
    for (index, step) in run.plan.steps().iter().enumerate() {
        let (from, to) = (step.from.sigma, step.to.sigma);
        let denoised = run.denoiser.denoise(&x, from)?;
        slopes.truncate(order - 1);
        slopes.push_front(maths::slope(&x, &denoised, from)?);
        nodes.truncate(order - 1);
        nodes.push_front(from);
        if to <= 0.0 {
            x.clone_from(&denoised);
        } else {
            let nodes = nodes.make_contiguous();
            let mut terms = vec![(1.0, &x)];
            terms.extend(weights(&History { nodes, to }).into_iter().zip(&slopes));
            x = maths::combine(&terms)?;
        }
        run.report(index, &x, Some(&denoised))?;
    }
    Ok(x)
}
