//! Our kernels at Stable Diffusion 1.5's shapes (512x512, guidance: batch 2) beside the gemm crate's and Candle's.
//!
//! `cargo bench -p tintype-kernels-bench [-- FILTER]`; criterion's options, `RAYON_NUM_THREADS` and `TINTYPE_ISA` apply. An
//! element is a floating point operation of the plain algorithm, whatever a kernel makes of it, and a value for norms.

#![expect(clippy::unwrap_used, reason = "a bench may fail by panicking")]

mod attention;
mod convolution;
mod norms;
mod product;

use std::time::Duration;

use candle_core::{Device, Tensor};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots()
        .configure_from_args();
    product::run(&mut criterion);
    convolution::run(&mut criterion);
    attention::run(&mut criterion);
    norms::run(&mut criterion);
    criterion.final_summary();
}

/// A group for one shape, which takes `work` elements.
fn group(criterion: &mut Criterion, name: String, work: usize) -> BenchmarkGroup<'_, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(work as u64));
    // A run takes up to seconds: as many for each sample, and not one more each time.
    group.sampling_mode(SamplingMode::Flat);
    group
}

/// Candle's tensor of the same values.
fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}
