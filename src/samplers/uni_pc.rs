//! UniPC (Zhao et al. 2023, "UniPC: A Unified Predictor-Corrector Framework", algorithms 5 to 8), with the
//! two functions B(h) of the paper.
//!
//! Follows the authors' code with `predict_x0`, which diffusers' `UniPCMultistepScheduler` and the webuis have, for orders 1
//! to 3. Its updates divided by `sqrt(ᾱ)` are the ones here.

use std::collections::VecDeque;

use super::plan::{NoiseLevel, Plan, Step};
use super::prediction::Clip;
use super::schedule::{NoiseSchedule, Settings, levels};
use super::{Run, Sampler, maths};
use crate::error::Result;
use crate::host::HostTensor;

/// Order of the webuis' UniPC.
const WEBUI_ORDER: usize = 3;

/// Where ComfyUI's ends in place of 0.
const COMFY_END: f32 = 0.001;

/// The paper's B(h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UniPcVariant {
    /// `B(h) = h`.
    Bh1,
    /// `B(h) = exp(h) - 1`.
    Bh2,
}

/// The UniPC sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UniPc {
    /// Which B(h).
    pub variant: UniPcVariant,
    /// Order of the predictor, 1 to 3; the corrector's is the same.
    pub order: usize,
    /// Whether the run ends with lower orders.
    pub lower_order_final: bool,
    /// What is done to each estimate of the clean latents.
    pub clip: Clip,
}

impl UniPc {
    /// The levels of the webui's: even steps in time, from the last of training to the first, where the run ends. By a
    /// schedule, and with levels of the caller's own, those of k-diffusion's samplers.
    pub(super) fn plan(schedule: &NoiseSchedule, steps: usize) -> Result<Plan> {
        if schedule.is_scheduled() || schedule.has_own_levels() {
            return levels::plan(schedule, steps);
        }
        let settings = schedule.settings();
        settings
            .options
            .refuse_all("uni_pc without a schedule, which has levels of its own,")?;
        let last = (settings.num_train_timesteps - 1) as f64;
        let levels: Vec<NoiseLevel> = (0..=steps)
            .map(|index| schedule.level_between(last - last * index as f64 / steps as f64))
            .collect();
        let first = levels[0].sigma;
        Plan::through(&levels, (first * first + 1.0).sqrt())
    }

    /// The levels of ComfyUI's (`comfy/extra_samplers/uni_pc.py`): those of k-diffusion's samplers, but the last is not 0.
    pub(super) fn plan_comfy(schedule: &NoiseSchedule, steps: usize) -> Result<Plan> {
        let mut sigmas = levels::sigmas(schedule, steps)?;
        if let Some(last) = sigmas.last_mut().filter(|last| **last <= 0.0) {
            *last = COMFY_END;
        }
        let levels: Vec<NoiseLevel> = sigmas
            .into_iter()
            .map(|sigma| levels::level(schedule, sigma))
            .collect();
        Plan::through(&levels, schedule.start_scale(levels[0].sigma))
    }

    /// ComfyUI's `uni_pc_bh2`.
    pub(super) fn build_comfy_bh2(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            variant: UniPcVariant::Bh2,
            order: WEBUI_ORDER,
            lower_order_final: settings.lower_order_final,
            clip: settings.clip,
        })
    }

    /// The webuis'.
    pub(super) fn build(settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            variant: UniPcVariant::Bh1,
            order: WEBUI_ORDER,
            lower_order_final: settings.lower_order_final,
            clip: settings.clip,
        })
    }

    /// diffusers' with `solver_type` bh1.
    pub(super) fn build_bh1(settings: &Settings) -> Box<dyn Sampler> {
        Self::with(UniPcVariant::Bh1, settings)
    }

    pub(super) fn build_bh2(settings: &Settings) -> Box<dyn Sampler> {
        Self::with(UniPcVariant::Bh2, settings)
    }

    fn with(variant: UniPcVariant, settings: &Settings) -> Box<dyn Sampler> {
        Box::new(Self {
            variant,
            order: settings.solver_order,
            lower_order_final: settings.lower_order_final,
            clip: settings.clip,
        })
    }
}

/// What predictor and corrector of one step have in common.
struct Weights {
    /// `exp(-h)`, on the latents at the start.
    keep: f64,
    /// `1 - exp(-h)`, on the estimate at the start.
    first: f64,
    /// `-B(h)`.
    minus_b_h: f64,
    /// The r of each known estimate, the latest first, without the new one's 1.
    ratios: Vec<f64>,
    /// Right-hand side of the linear equations.
    rights: Vec<f64>,
}

impl Weights {
    fn new(variant: UniPcVariant, steps: &[Step], order: usize) -> Self {
        let step = steps[steps.len() - 1];
        let h = (step.from.sigma / step.to.sigma).ln();
        let ratios = (1..order)
            .map(|back| {
                let earlier = steps[steps.len() - 1 - back].from.sigma;
                (step.from.sigma / earlier).ln() / h
            })
            .collect();
        let hh = -h;
        let b_h = match variant {
            UniPcVariant::Bh1 => hh,
            UniPcVariant::Bh2 => hh.exp_m1(),
        };
        let mut phi = hh.exp_m1() / hh - 1.0;
        let mut factorial = 1.0;
        let mut rights = Vec::with_capacity(order);
        for index in 1..=order {
            rights.push(phi * factorial / b_h);
            factorial *= (index + 1) as f64;
            phi = phi / hh - 1.0 / factorial;
        }
        Self {
            keep: step.to.sigma / step.from.sigma,
            first: 1.0 - step.to.sigma / step.from.sigma,
            minus_b_h: -b_h,
            ratios,
            rights,
        }
    }

    /// The end of the step from `x`, without the new estimate or with `newest` at the end.
    fn update(
        &self,
        x: &HostTensor,
        estimates: &VecDeque<HostTensor>,
        newest: Option<&HostTensor>,
    ) -> Result<HostTensor> {
        let known = self.ratios.len();
        let rhos = match newest {
            // As upstream simplifies the lowest orders.
            Some(_) if known == 0 => vec![0.5],
            None if known == 1 => vec![0.5],
            Some(_) => {
                let mut ratios = self.ratios.clone();
                ratios.push(1.0);
                solve(&ratios, &self.rights)
            }
            None => solve(&self.ratios, &self.rights[..known]),
        };
        let mut terms = vec![(self.keep, x)];
        let mut on_latest = self.first;
        for (place, ratio) in self.ratios.iter().enumerate() {
            let weight = self.minus_b_h * rhos[place] / ratio;
            on_latest -= weight;
            terms.push((weight, &estimates[place + 1]));
        }
        if let Some(newest) = newest {
            let weight = self.minus_b_h * rhos[known];
            on_latest -= weight;
            terms.push((weight, newest));
        }
        terms.push((on_latest, &estimates[0]));
        maths::combine(&terms)
    }
}

/// Solves `Σ_j ratios[j]^i ρ_j = rights[i]` for up to three unknowns, by elimination with pivots.
fn solve(ratios: &[f64], rights: &[f64]) -> Vec<f64> {
    let count = ratios.len();
    let mut rows: Vec<Vec<f64>> = (0..count)
        .map(|power| {
            let mut row: Vec<f64> = ratios.iter().map(|r| r.powi(power as i32)).collect();
            row.push(rights[power]);
            row
        })
        .collect();
    for column in 0..count {
        let pivot = (column..count)
            .max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()))
            .unwrap_or(column);
        rows.swap(column, pivot);
        let pivot = rows[column].clone();
        for (index, row) in rows.iter_mut().enumerate() {
            if index != column {
                let factor = row[column] / pivot[column];
                for (value, above) in row.iter_mut().zip(&pivot) {
                    *value -= factor * above;
                }
            }
        }
    }
    (0..count)
        .map(|index| rows[index][count] / rows[index][index])
        .collect()
}

impl Sampler for UniPc {
    fn sample(&self, mut x: HostTensor, run: &mut Run<'_>) -> Result<HostTensor> {
        let steps = run.plan.steps();
        // The latest estimate first.
        let mut estimates: VecDeque<HostTensor> = VecDeque::new();
        // Where the last step started, and its order.
        let mut last: Option<(HostTensor, usize)> = None;
        for (index, step) in steps.iter().enumerate() {
            let mut denoised = run.denoiser.denoise(&x, step.at.sigma)?;
            self.clip.apply(&mut denoised);
            if let Some((start, order)) = &last {
                let weights = Weights::new(self.variant, &steps[..index], *order);
                x = weights.update(start, &estimates, Some(&denoised))?;
            }
            estimates.truncate(self.order.saturating_sub(1));
            estimates.push_front(denoised);
            let left = if self.lower_order_final {
                steps.len() - index
            } else {
                self.order
            };
            let order = self.order.min(left).min(estimates.len());
            let start = x;
            x = if step.to.sigma <= 0.0 {
                estimates[0].clone()
            } else if step.to.sigma >= step.from.sigma {
                // A curve that ends at the smallest sigma, then asked to end there (`final_sigmas_type`).
                start.clone()
            } else {
                Weights::new(self.variant, &steps[..=index], order)
                    .update(&start, &estimates, None)?
            };
            last = Some((start, order));
            if index + 1 == steps.len() {
                // Where the end is not at sigma 0, upstream's latents stay variance-preserving.
                let scale = step.to.alpha_bar.sqrt() as f32;
                x = x.map(|value| value * scale);
            }
            run.report(index, &x, estimates.front())?;
        }
        Ok(x)
    }
}
