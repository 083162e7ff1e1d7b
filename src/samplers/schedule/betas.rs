//! The noise the network was trained with: betas and the running product of their complements.
//!
//! f32 where torch computes in f32, with torch's own roundings (its linspace fuses multiply and add, its
//! cumprod accumulates in f64), so that `ᾱ` is diffusers' to the last bit; to 4 units in the last place where
//! betas are rescaled, because MKL's square roots, which torch takes there, are not always the nearest.

use serde::Deserialize;

use super::settings::Settings;

/// How betas run from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
pub enum BetaSchedule {
    /// Evenly (Ho et al. 2020).
    #[serde(rename = "linear")]
    Linear,
    /// Their square roots evenly (Rombach et al. 2022).
    #[serde(rename = "scaled_linear")]
    ScaledLinear,
    /// So that `ᾱ` is a squared cosine (Nichol and Dhariwal 2021, equation 17); betas are at most 0.999.
    #[serde(rename = "squaredcos_cap_v2")]
    SquaredCosine,
}

/// `ᾱ` of every training timestep.
pub(super) fn alphas_cumprod(settings: &Settings) -> Vec<f32> {
    let count = settings.num_train_timesteps;
    let mut betas = match (&settings.trained_betas, settings.beta_schedule) {
        (Some(betas), _) => betas.iter().map(|&beta| beta as f32).collect(),
        (None, BetaSchedule::Linear) => linspace(settings.beta_start, settings.beta_end, count),
        (None, BetaSchedule::ScaledLinear) => {
            linspace(settings.beta_start.sqrt(), settings.beta_end.sqrt(), count)
                .into_iter()
                .map(|root| root * root)
                .collect()
        }
        (None, BetaSchedule::SquaredCosine) => squared_cosine(count),
    };
    if settings.rescale_betas_zero_snr {
        rescale_zero_terminal_snr(&mut betas);
    }
    running_product(&betas)
}

/// `torch.linspace` in f32; `count` is 2 or more.
pub(super) fn linspace(start: f64, end: f64, count: usize) -> Vec<f32> {
    let (start, end) = (start as f32, end as f32);
    let step = (end - start) / (count - 1) as f32;
    (0..count)
        .map(|index| {
            if index < count / 2 {
                step.mul_add(index as f32, start)
            } else {
                (-step).mul_add((count - index - 1) as f32, end)
            }
        })
        .collect()
}

fn squared_cosine(count: usize) -> Vec<f32> {
    let alpha_bar = |t: f64| {
        ((t + 0.008) / 1.008 * std::f64::consts::PI / 2.0)
            .cos()
            .powi(2)
    };
    (0..count)
        .map(|index| {
            let from = alpha_bar(index as f64 / count as f64);
            let to = alpha_bar((index + 1) as f64 / count as f64);
            (1.0 - to / from).min(0.999) as f32
        })
        .collect()
}

fn running_product(betas: &[f32]) -> Vec<f32> {
    let mut product = 1.0_f64;
    betas
        .iter()
        .map(|beta| {
            product *= f64::from(1.0 - beta);
            product as f32
        })
        .collect()
}

/// Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1.
fn rescale_zero_terminal_snr(betas: &mut [f32]) {
    let roots: Vec<f32> = running_product(betas).into_iter().map(f32::sqrt).collect();
    let (first, last) = (roots[0], roots[roots.len() - 1]);
    let factor = first / (first - last);
    let rescaled: Vec<f32> = roots
        .into_iter()
        .map(|root| {
            let root = (root - last) * factor;
            root * root
        })
        .collect();
    betas[0] = 1.0 - rescaled[0];
    for (beta, pair) in betas[1..].iter_mut().zip(rescaled.windows(2)) {
        *beta = 1.0 - pair[1] / pair[0];
    }
}
