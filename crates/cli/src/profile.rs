//! Tables of where the time of layers went, for `bench` and `generate --profile`.

use std::collections::BTreeMap;

use serde::Serialize;
use tintype::nn::{Engine, Precision, Spent, Work};

use crate::output;

/// How finely a table is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// One line for each stage, layer and kernel.
    Kernels,
    /// One line for each shape.
    Shapes,
}

/// One kind of work, as programs read it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    stage: &'static str,
    layer: &'static str,
    kernel: &'static str,
    shape: String,
    calls: u64,
    ms: f64,
    gflops: f64,
    /// Of what products of this precision can reach; `None` for work that is not counted in operations.
    percent_of_peak: Option<f64>,
}

/// A profile with the machine's peak beside it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Profile {
    /// How products are formed.
    arithmetic: String,
    /// Peak of such products, in GFLOP/s of all threads.
    peak_gflops: f64,
    /// Peak of f32 products.
    peak_f32_gflops: f64,
    /// By shape, the longest first.
    rows: Vec<Row>,
    #[serde(skip)]
    layers: Vec<(Work, Spent)>,
}

impl Profile {
    /// What `layers` took on `engine`; probes the machine's peak.
    pub(crate) fn new(engine: &Engine, layers: &[(Work, Spent)]) -> Self {
        let peak = engine.peak_flops().unwrap_or(0.0);
        let f32_engine = engine.clone().with_precision(Some(Precision::F32)).ok();
        let peak_f32 = match engine.precision() {
            Some(Precision::F32) => peak,
            _ => f32_engine
                .and_then(|engine| engine.peak_flops())
                .unwrap_or(0.0),
        };
        Self::with_peaks(engine.arithmetic(), (peak, peak_f32), layers)
    }

    fn with_peaks(
        arithmetic: String,
        (peak, peak_f32): (f64, f64),
        layers: &[(Work, Spent)],
    ) -> Self {
        let mut profile = Self {
            arithmetic,
            peak_gflops: round(peak / 1e9),
            peak_f32_gflops: round(peak_f32 / 1e9),
            rows: Vec::new(),
            layers: layers.to_vec(),
        };
        profile.rows = profile.rows_of(layers);
        profile
    }

    fn rows_of(&self, layers: &[(Work, Spent)]) -> Vec<Row> {
        let of_peak = |work: &Work, spent: &Spent| {
            // Kernels have the precision of their products in their names.
            let peak = if work.kernel.contains("f32") {
                self.peak_f32_gflops
            } else {
                self.peak_gflops
            };
            (spent.flops > 0.0 && peak > 0.0).then(|| round(100.0 * spent.gflops() / peak))
        };
        let mut rows: Vec<Row> = layers
            .iter()
            .map(|(work, spent)| Row {
                stage: work.stage,
                layer: work.kind,
                kernel: work.kernel,
                shape: work.shape.clone(),
                calls: spent.calls,
                ms: round(1e3 * spent.time.as_secs_f64()),
                gflops: round(spent.gflops()),
                percent_of_peak: of_peak(work, spent),
            })
            .collect();
        rows.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        rows
    }

    /// The table for people.
    pub(crate) fn table(&self, detail: Detail) -> String {
        let mut cells = vec![
            [
                "STAGE", "LAYER", "KERNEL", "SHAPE", "CALLS", "MS", "GFLOP/S", "OF PEAK",
            ]
            .map(str::to_owned),
        ];
        match detail {
            Detail::Shapes => cells.extend(self.rows.iter().map(Row::cells)),
            Detail::Kernels => {
                let rows = self.rows_of(&merged(&self.layers));
                cells.extend(rows.iter().map(Row::cells));
            }
        }
        format!(
            "{}peak {:.0} GFLOP/s in {}, {:.0} in f32; a Winograd kernel may pass it, as it is counted as a direct one\n",
            output::columns(&cells),
            self.peak_gflops,
            self.arithmetic,
            self.peak_f32_gflops
        )
    }
}

impl Row {
    fn cells(&self) -> [String; 8] {
        let rate = format!("{:.0}", self.gflops);
        let percent = self.percent_of_peak;
        [
            self.stage.to_owned(),
            self.layer.to_owned(),
            self.kernel.to_owned(),
            self.shape.clone(),
            self.calls.to_string(),
            format!("{:.1}", self.ms),
            if self.gflops > 0.0 {
                rate
            } else {
                String::new()
            },
            percent.map_or(String::new(), |percent| format!("{percent:.0} %")),
        ]
    }
}

/// Adds up what differs in shape only.
fn merged(layers: &[(Work, Spent)]) -> Vec<(Work, Spent)> {
    let mut all: BTreeMap<Work, Spent> = BTreeMap::new();
    for (work, spent) in layers {
        let key = Work {
            shape: String::new(),
            ..work.clone()
        };
        all.entry(key).or_default().add(spent);
    }
    all.into_iter().collect()
}

/// To three places.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn layer(kernel: &'static str, shape: &str, ms: u64) -> (Work, Spent) {
        let work = Work {
            stage: "unet",
            kind: "linear",
            kernel,
            shape: shape.into(),
        };
        let spent = Spent {
            calls: 1,
            time: Duration::from_millis(ms),
            flops: 1e6 * ms as f64,
        };
        (work, spent)
    }

    #[test]
    fn each_kernel_is_held_against_its_own_peak() {
        let layers = [
            layer("product-bf16", "1 2>3", 4),
            layer("product-f32", "1 2>3", 9),
        ];
        let profile = Profile::with_peaks("fast".into(), (4e9, 2e9), &layers);
        let shares: Vec<_> = profile
            .rows
            .iter()
            .map(|row| (row.kernel, row.ms, row.gflops, row.percent_of_peak))
            .collect();
        assert_eq!(
            shares,
            [
                ("product-f32", 9.0, 1.0, Some(50.0)),
                ("product-bf16", 4.0, 1.0, Some(25.0))
            ]
        );
    }

    #[test]
    fn shapes_are_added_up() {
        let layers = [
            layer("product-f32", "1 2>3", 4),
            layer("product-f32", "5 2>3", 2),
        ];
        let all = merged(&layers);
        assert_eq!(all.len(), 1);
        assert_eq!(
            (all[0].1.calls, all[0].1.time),
            (2, Duration::from_millis(6))
        );
    }
}
