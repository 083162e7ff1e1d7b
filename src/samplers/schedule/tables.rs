//! The schedules that are published tables, with interpolation to other numbers of steps.

use super::timesteps::linspace;
use super::{NoiseSchedule, StepTable};

/// Align Your Steps for SD1.5 (Sabour et al. 2024; research.nvidia.com/labs/toronto-ai/AlignYourSteps/howto.html).
const AYS_SD15: [f64; 11] = [
    14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029,
];

/// Align Your Steps for SDXL, from the same page.
const AYS_SDXL: [f64; 11] = [
    14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029,
];

/// Ten steps found by GITS (Chen et al. 2024) for SD1.5, as the webuis publish them.
const AYS_GITS_SD15: [f64; 11] = [
    14.615, 4.617, 2.507, 1.236, 0.702, 0.402, 0.240, 0.156, 0.104, 0.094, 0.029,
];

/// The same for SDXL.
const AYS_GITS_SDXL: [f64; 11] = [
    14.615, 4.734, 2.567, 1.529, 0.987, 0.652, 0.418, 0.268, 0.179, 0.127, 0.029,
];

/// The webui's reading: so many sigmas of the table, and then the 0.
pub(super) fn align_your_steps(schedule: &NoiseSchedule, count: usize) -> Vec<f32> {
    let table = match schedule.settings().step_table {
        StepTable::Sd15 => &AYS_SD15,
        StepTable::Sdxl => &AYS_SDXL,
    };
    log_linear(table, count)
}

/// The same reading of the tables found by GITS.
pub(super) fn align_your_steps_gits(schedule: &NoiseSchedule, count: usize) -> Vec<f32> {
    let table = match schedule.settings().step_table {
        StepTable::Sd15 => &AYS_GITS_SD15,
        StepTable::Sdxl => &AYS_GITS_SDXL,
    };
    log_linear(table, count)
}

/// `count` numbers whose logarithms lie on the lines between those of `table`, which falls.
pub(super) fn log_linear(table: &[f64], count: usize) -> Vec<f32> {
    if count == table.len() {
        return table.iter().map(|&sigma| sigma as f32).collect();
    }
    let last = table.len() - 1;
    linspace(0.0, 1.0, count)
        .into_iter()
        .map(|place| {
            let place = place * last as f64;
            let below = (place.floor() as usize).min(last - 1);
            let (low, high) = (table[below].ln(), table[below + 1].ln());
            (low + (place - below as f64) * (high - low)).exp() as f32
        })
        .collect()
}
