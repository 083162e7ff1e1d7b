//! `bench --interactive`: one run for each line of stdin, in the lines that `bench/peers/README.md` describes.

use std::io::BufRead;

use anyhow::Context;
use serde_json::{Value, json};
use tintype::backend::bench::{Bench, Stage};
use tintype::nn::Engine;
use tintype::{CancelToken, HostTensor};

use crate::output;
use crate::report::Machine;

/// Says that the model is ready, then answers each line until stdin ends.
pub(crate) fn take(
    bench: &Bench<'_>,
    stage: Stage,
    (engine, machine): (&Engine, &Machine),
    cancel: &CancelToken,
) -> anyhow::Result<()> {
    let warm = bench.profile(stage)?;
    let gflop = warm.iter().map(|(_, spent)| spent.flops).sum::<f64>() / 1e9;
    let mut ready = json!({
        "ready": true,
        "name": "tintype",
        "version": env!("CARGO_PKG_VERSION"),
        "isa": tintype::nn::instruction_set(),
        "stage": stage.name(),
        "peak": engine.precision().is_some(),
    });
    if let (Value::Object(ready), Value::Object(machine)) =
        (&mut ready, serde_json::to_value(machine)?)
    {
        ready.extend(machine);
    }
    output::write_line(ready)?;
    for line in std::io::stdin().lock().lines() {
        let line = line.context("cannot read stdin")?;
        cancel.check()?;
        let answer = match line.trim() {
            "go" => match bench.run(stage) {
                Ok((time, output)) => {
                    let (mean, std) = moments(&output);
                    json!({"ms": 1e3 * time.as_secs_f64(), "gflop": gflop, "mean": mean, "std": std})
                }
                Err(error) => json!({"error": error.to_string()}),
            },
            "peak" => match engine.peak_flops() {
                Some(peak) => json!({"peak_gflops": peak / 1e9}),
                None => json!({"error": "peak with engine candle: there is no probe for it"}),
            },
            other => json!({"error": format!("found {other:?}, expected go or peak")}),
        };
        output::write_line(answer)?;
    }
    Ok(())
}

/// Mean and standard deviation of the population.
fn moments(values: &HostTensor) -> (f64, f64) {
    let count = values.data().len().max(1) as f64;
    let sum = |f: &dyn Fn(f64) -> f64| -> f64 {
        values.data().iter().map(|&value| f(f64::from(value))).sum()
    };
    let mean = sum(&|value| value) / count;
    let variance = sum(&|value| (value - mean).powi(2)) / count;
    (mean, variance.sqrt())
}
