//! 16-bit and Winograd kernels beside the f32 ones at Stable Diffusion 1.5's shapes, run in turn so that both see the same
//! machine; best of several runs and the ratio of the bests.
//!
//! `cargo bench -p tintype-kernels --bench fast [-- FILTER [RUNS]]`; `RAYON_NUM_THREADS` and `TINTYPE_ISA` apply.

#![expect(clippy::print_stdout, reason = "a benchmark reports on stdout")]

use std::time::Instant;

use tintype_kernels::{
    Attention, Causality, Conv2d, ConvKernel, ConvShape, ConvWeight, Isa, Linear, LinearGeglu,
    PackedGeglu, PackedMatrix, Padding, ShapeError, WinogradTile, attention, attention_bf16,
    conv2d, geglu, linear, linear_geglu,
};

/// What a benchmark can fail with.
type Outcome = Result<(), ShapeError>;
/// A kernel under its name.
type Contender<'a> = (&'a str, &'a mut dyn FnMut() -> Outcome);

fn main() -> Outcome {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    let bench = Bench {
        filter: words.first().cloned().unwrap_or_default(),
        runs: words.get(1).and_then(|word| word.parse().ok()).unwrap_or(7),
    };
    println!(
        "isa {}, {} threads, best of {}",
        Isa::current().name(),
        rayon::current_num_threads(),
        bench.runs
    );
    for (batch, size, from, to) in [
        (2, 64, 320, 320),
        (2, 64, 640, 320),
        (2, 32, 640, 640),
        (2, 16, 1280, 1280),
        (2, 8, 1280, 1280),
        (1, 128, 512, 512),
        (1, 256, 256, 256),
        (1, 256, 128, 128),
    ] {
        bench.conv(batch, size, from, to)?;
    }
    for (rows, k, n) in [
        (8192, 320, 320),
        (8192, 1280, 320),
        (2048, 640, 1920),
        (512, 5120, 1280),
        (154, 768, 640),
    ] {
        bench.linear(rows, k, n)?;
    }
    for (rows, k, inner) in [(8192, 320, 1280), (2048, 640, 2560)] {
        bench.gated(rows, k, inner)?;
    }
    for (heads, queries, keys, dim) in [
        (8, 4096, 4096, 40),
        (8, 1024, 1024, 80),
        (8, 256, 256, 160),
        (8, 4096, 77, 40),
        (1, 4096, 4096, 512),
    ] {
        bench.attention([heads, queries, keys, dim])?;
    }
    Ok(())
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

impl Bench {
    fn wants(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    /// Runs the contenders in turn; the first is what the others are compared with.
    fn compare(&self, name: &str, flop: f64, contenders: &mut [Contender<'_>]) -> Outcome {
        let mut best = vec![f64::INFINITY; contenders.len()];
        for _ in 0..self.runs {
            for (best, (_, kernel)) in best.iter_mut().zip(contenders.iter_mut()) {
                let start = Instant::now();
                kernel()?;
                *best = best.min(start.elapsed().as_secs_f64());
            }
        }
        print!("{name:28}");
        for (best_one, (label, _)) in best.iter().zip(contenders.iter()) {
            print!(
                " | {label} {:.2} ms {:.0} GF/s x{:.2}",
                best_one * 1e3,
                flop / best_one / 1e9,
                best[0] / best_one
            );
        }
        println!();
        Ok(())
    }

    fn conv(&self, batch: usize, size: usize, from: usize, to: usize) -> Outcome {
        let name = format!("conv {batch}x{size}x{size} {from}>{to}");
        if !self.wants(&name) {
            return Ok(());
        }
        let shape = ConvShape {
            out_channels: to,
            in_channels: from,
            kernel_h: 3,
            kernel_w: 3,
        };
        let x = values(batch * size * size * from);
        let raw = values(9 * from * to);
        let mut out = vec![0.0; batch * size * size * to];
        let weights = [
            ConvKernel::DirectF32,
            ConvKernel::WinogradF32(WinogradTile::F4),
            ConvKernel::DirectBf16,
            ConvKernel::WinogradI16(WinogradTile::F2),
            ConvKernel::WinogradI16(WinogradTile::F4),
        ]
        .map(|kernel| ConvWeight::pack(&raw, shape, kernel));
        let flop = 18.0 * (batch * size * size * from * to) as f64;
        let cell = std::cell::RefCell::new(&mut out);
        let mut runs = Vec::new();
        for weight in &weights {
            let weight = weight.as_ref().map_err(Clone::clone)?;
            let mut call = Conv2d::new(&x, (batch, size, size), weight);
            call.padding = Padding::symmetric(1);
            let cell = &cell;
            runs.push((weight.kernel().name(), move || {
                conv2d(&call, &mut cell.borrow_mut())
            }));
        }
        let mut contenders: Vec<Contender<'_>> = runs
            .iter_mut()
            .map(|(name, run)| (*name, run as &mut dyn FnMut() -> Outcome))
            .collect();
        self.compare(&name, flop, &mut contenders)
    }

    fn linear(&self, rows: usize, k: usize, n: usize) -> Outcome {
        let name = format!("linear {rows}x{k}x{n}");
        if !self.wants(&name) {
            return Ok(());
        }
        let (x, raw) = (values(rows * k), values(n * k));
        let exact = PackedMatrix::from_out_in(&raw, n, k)?;
        let half = PackedMatrix::bf16_from_out_in(&raw, n, k)?;
        let (mut out, mut other) = (vec![0.0; rows * n], vec![0.0; rows * n]);
        self.compare(
            &name,
            2.0 * (rows * k * n) as f64,
            &mut [
                ("f32", &mut || {
                    linear(&Linear::new(&x, rows, &exact), &mut out)
                }),
                ("bf16", &mut || {
                    linear(&Linear::new(&x, rows, &half), &mut other)
                }),
            ],
        )
    }

    fn gated(&self, rows: usize, k: usize, inner: usize) -> Outcome {
        let name = format!("geglu {rows}x{k}x{inner}");
        if !self.wants(&name) {
            return Ok(());
        }
        let (x, raw) = (values(rows * k), values(2 * inner * k));
        let exact = PackedMatrix::from_out_in(&raw, 2 * inner, k)?;
        let half = PackedGeglu::from_out_in(&raw, inner, k)?;
        let mut wide = vec![0.0; rows * 2 * inner];
        let (mut out, mut other) = (vec![0.0; rows * inner], vec![0.0; rows * inner]);
        let call = LinearGeglu {
            x: x.as_slice().into(),
            rows,
            weight: &half,
            bias: None,
        };
        self.compare(
            &name,
            4.0 * (rows * k * inner) as f64,
            &mut [
                ("f32", &mut || {
                    linear(&Linear::new(&x, rows, &exact), &mut wide)?;
                    geglu(&wide, inner, &mut out)
                }),
                ("bf16", &mut || linear_geglu(&call, &mut other)),
            ],
        )
    }

    fn attention(&self, [heads, queries, keys, dim]: [usize; 4]) -> Outcome {
        let name = format!("attention {heads}x{queries}x{keys}x{dim}");
        if !self.wants(&name) {
            return Ok(());
        }
        let inner = heads * dim;
        let (q, kv) = (values(queries * inner), values(keys * inner));
        let call = Attention {
            q: &q,
            k: &kv,
            v: &kv,
            q_stride: inner,
            k_stride: inner,
            v_stride: inner,
            batch: 1,
            queries,
            keys,
            heads,
            head_dim: dim,
            scale: 1.0 / (dim as f32).sqrt(),
            causality: Causality::Full,
        };
        let (mut out, mut other) = (vec![0.0; q.len()], vec![0.0; q.len()]);
        self.compare(
            &name,
            4.0 * (queries * keys * inner) as f64,
            &mut [
                ("f32", &mut || attention(&call, &mut out)),
                ("bf16", &mut || attention_bf16(&call, &mut other)),
            ],
        )
    }
}
