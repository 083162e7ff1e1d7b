//! Speed of the kernels at Stable Diffusion 1.5's shapes (512x512, guidance: batch 2), best of several runs.
//!
//! `cargo bench -p tintype-kernels [-- FILTER [RUNS]]`; the matrix products have the gemm crate beside them.

#![expect(clippy::print_stdout, reason = "a benchmark reports on stdout")]

use std::time::{Duration, Instant};

use tintype_kernels::{
    Activation, Attention, Causality, Conv2d, ConvShape, ConvWeight, GroupNorm, Isa, LayerNorm,
    Linear, PackedMatrix, Padding, attention, conv2d, geglu, group_norm, layer_norm, linear,
};

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    let filter = words.first().cloned().unwrap_or_default();
    let runs = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(7);
    let bench = Bench { filter, runs };
    println!(
        "isa {}, {} threads, best and median of {runs}",
        Isa::current().name(),
        rayon::current_num_threads()
    );
    for (batch, size, from, to) in [
        (2, 64, 320, 320),
        (2, 32, 640, 640),
        (2, 16, 1280, 1280),
        (2, 8, 1280, 1280),
        (2, 64, 4, 320),
        (2, 64, 320, 4),
        (1, 512, 128, 128),
        (1, 256, 256, 256),
        (1, 512, 128, 3),
    ] {
        bench.conv(batch, size, from, to);
    }
    for (rows, k, n) in [
        (8192, 320, 320),
        (8192, 320, 1280),
        (8192, 1280, 320),
        (2048, 640, 5120),
        (512, 1280, 10240),
        (154, 768, 320),
        (2, 1280, 1280),
    ] {
        bench.linear(rows, k, n);
    }
    for (batch, heads, queries, keys, dim) in [
        (2, 8, 4096, 4096, 40),
        (2, 8, 1024, 1024, 80),
        (2, 8, 256, 256, 160),
        (2, 8, 4096, 77, 40),
        (1, 1, 4096, 4096, 512),
    ] {
        bench.attention([batch, heads, queries, keys, dim]);
    }
    bench.memory_bound();
}

struct Bench {
    filter: String,
    runs: usize,
}

/// Values that neither vanish nor overflow.
fn values(n: usize) -> Vec<f32> {
    (0..n as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as f32 / 32768.0 - 1.0)
        .collect()
}

/// Time this process' threads have run, where the system says: on a busy machine a fairer measure than the clock.
fn cpu_seconds() -> Option<f64> {
    let mut nanoseconds = 0.0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        let line = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        nanoseconds += line.split_whitespace().next()?.parse::<f64>().ok()?;
    }
    Some(nanoseconds / 1e9)
}

impl Bench {
    /// Times `body` if the name fits the filter; `work` is in floating point operations, or bytes.
    fn time(&self, name: &str, work: f64, unit: &str, mut body: impl FnMut()) {
        if !name.contains(&self.filter) {
            return;
        }
        body();
        let cpu = cpu_seconds();
        let mut times: Vec<Duration> = (0..self.runs)
            .map(|_| {
                let start = Instant::now();
                body();
                start.elapsed()
            })
            .collect();
        times.sort();
        let (best, median) = (times[0].as_secs_f64(), times[times.len() / 2].as_secs_f64());
        print!(
            "{name:44} {:9.2} ms {:7.1} G{unit}/s   median {:7.1}",
            best * 1e3,
            work / best / 1e9,
            work / median / 1e9
        );
        match cpu.zip(cpu_seconds()) {
            Some((before, after)) => println!(
                "   a core {:7.1}",
                work * self.runs as f64 / (after - before) / 1e9
            ),
            None => println!(),
        }
    }

    fn conv(&self, batch: usize, size: usize, from: usize, to: usize) {
        let name = format!("conv-f32 3x3 {batch}x{size}x{size} {from}>{to}");
        if !name.contains(&self.filter) {
            return;
        }
        let shape = ConvShape {
            out_channels: to,
            in_channels: from,
            kernel_h: 3,
            kernel_w: 3,
        };
        let weight = ConvWeight::from_oihw(&values(to * from * 9), shape).expect("sizes fit");
        let x = values(batch * size * size * from);
        let mut out = vec![0.0; batch * size * size * to];
        let mut call = Conv2d::new(&x, (batch, size, size), &weight);
        call.padding = Padding::symmetric(1);
        let work = 2.0 * (out.len() * from * 9) as f64;
        self.time(&name, work, "FLOP", || {
            conv2d(&call, &mut out).expect("sizes fit");
        });
    }

    fn linear(&self, rows: usize, k: usize, n: usize) {
        let name = format!("linear-f32 {rows}x{k}x{n}");
        if !name.contains(&self.filter) {
            return;
        }
        let (x, raw) = (values(rows * k), values(n * k));
        let weight = PackedMatrix::from_out_in(&raw, n, k).expect("sizes fit");
        let mut out = vec![0.0; rows * n];
        let work = 2.0 * (rows * n * k) as f64;
        let call = Linear::new(&x, rows, &weight);
        self.time(&name, work, "FLOP", || {
            linear(&call, &mut out).expect("sizes fit");
        });
        self.time(&format!("  gemm crate: {name}"), work, "FLOP", || {
            // SAFETY: x is (rows, k), raw (n, k) and out (rows, n), all contiguous.
            unsafe {
                gemm::gemm(
                    rows,
                    n,
                    k,
                    out.as_mut_ptr(),
                    1,
                    n as isize,
                    false,
                    x.as_ptr(),
                    1,
                    k as isize,
                    raw.as_ptr(),
                    k as isize,
                    1,
                    0.0,
                    1.0,
                    false,
                    false,
                    false,
                    gemm::Parallelism::Rayon(0),
                );
            }
        });
    }

    fn attention(&self, [batch, heads, queries, keys, head_dim]: [usize; 5]) {
        let name = format!("attention-f32 B{batch} H{heads} {queries}x{keys} d{head_dim}");
        if !name.contains(&self.filter) {
            return;
        }
        let dim = heads * head_dim;
        let (q, k, v) = (
            values(batch * queries * dim),
            values(batch * keys * dim),
            values(batch * keys * dim),
        );
        let mut out = vec![0.0; q.len()];
        let call = Attention {
            q: &q,
            k: &k,
            v: &v,
            q_stride: dim,
            k_stride: dim,
            v_stride: dim,
            batch,
            queries,
            keys,
            heads,
            head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            causality: Causality::Full,
        };
        let work = 4.0 * (batch * queries * keys * dim) as f64;
        self.time(&name, work, "FLOP", || {
            attention(&call, &mut out).expect("sizes fit");
        });
    }

    fn memory_bound(&self) {
        let (pixels, channels) = (4096, 320);
        let x = values(2 * pixels * 4 * channels * 2);
        let w = values(channels);
        let map = &x[..2 * pixels * channels];
        let mut out = vec![0.0; 2 * pixels * 4 * channels];
        let bytes = 2.0 * 4.0 * map.len() as f64;
        for activation in [Activation::None, Activation::Silu] {
            let parts = [(map, channels)];
            let call = GroupNorm {
                parts: &parts,
                batch: 2,
                pixels,
                groups: 32,
                weight: &w,
                bias: &w,
                eps: 1e-5,
                activation,
            };
            self.time(
                &format!("group-norm-f32 2x64x64x320 {activation:?}"),
                bytes,
                "B",
                || {
                    group_norm(&call, &mut out[..map.len()]).expect("sizes fit");
                },
            );
        }
        self.time("layer-norm-f32 8192x320", bytes, "B", || {
            layer_norm(
                &LayerNorm {
                    x: map,
                    weight: &w,
                    bias: &w,
                    eps: 1e-5,
                },
                &mut out[..map.len()],
            )
            .expect("sizes fit");
        });
        self.time(
            "geglu-f32 8192x2x1280",
            3.0 * 4.0 * out.len() as f64,
            "B",
            || {
                geglu(&x, 4 * channels, &mut out).expect("sizes fit");
            },
        );
    }
}
