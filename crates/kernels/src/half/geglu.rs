//! The gated linear layer of diffusers' transformers in one kernel: `(x . V^T + v) * gelu(x . G^T + g)`.
//!
//! Values and gates of a tile lie in work memory, so the twice as wide product is never written out.

use rayon::prelude::*;

use super::pack::{HalfMatrix, Order};
use super::product::{HalfProduct, Place, ROWS, multiply};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use crate::amx;
use crate::elementwise::Geglu;
use crate::error::{Result, check, check_len, product};
use crate::isa::{Isa, dispatch};
use crate::lanes::Zip;
use crate::matmul::{Contiguous, Epilogue, Input, PANEL, Store, Strided, order_of_rows};
use crate::scratch;
use crate::shared::SharedMut;

/// Columns of a task: values and gates of 96 rows are 192 KiB.
const COLUMNS: usize = 8 * PANEL;

/// The weight of a gated layer as bf16, prepared once, at load.
#[derive(Clone, Debug)]
pub struct PackedGeglu {
    value: HalfMatrix,
    gate: HalfMatrix,
    in_features: usize,
    /// Whether their values are three parts.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    values: amx::Values,
}

impl PackedGeglu {
    /// Packs diffusers' `proj.weight`: `weight: (2 * inner, in_features)`, values first, then gates.
    ///
    /// # Errors
    /// The length of `weight` is not `2 * inner * in_features`.
    pub fn from_out_in(weight: &[f32], inner: usize, in_features: usize) -> Result<Self> {
        let half = product("pack_geglu", "weight", &[inner, in_features])?;
        check_len("pack_geglu", "weight", weight.len(), half.saturating_mul(2))?;
        let order = order_of_rows();
        let pack = |weight| {
            HalfMatrix::from_columns(inner, in_features, &Contiguous(weight, in_features), order)
        };
        let (value, gate) = weight.split_at(half);
        Ok(Self {
            value: pack(value),
            gate: pack(gate),
            in_features,
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            values: amx::Values::Bf16,
        })
    }

    /// Whether [`PackedGeglu::exact_from_out_in`] is for this processor.
    pub fn suits_exact() -> bool {
        order_of_rows() == Order::Tiles
    }

    /// The same for products as precise as f32's, in up to three parts of bf16.
    ///
    /// # Errors
    /// The length of `weight` is not `2 * inner * in_features`, or there is no AMX.
    pub fn exact_from_out_in(weight: &[f32], inner: usize, in_features: usize) -> Result<Self> {
        let half = product("pack_geglu", "weight", &[inner, in_features])?;
        check_len("pack_geglu", "weight", weight.len(), half.saturating_mul(2))?;
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if Isa::current() == Isa::Amx {
            let (value, gate) = weight.split_at(half);
            let parts = amx::parts_of(2 * inner, in_features, &Contiguous(weight, in_features));
            let pack = |weight| {
                let columns = Contiguous(weight, in_features);
                amx::split_matrix(inner, in_features, &columns, parts)
            };
            return Ok(Self {
                value: pack(value),
                gate: pack(gate),
                in_features,
                values: amx::Values::Split,
            });
        }
        check("pack_geglu", "weight", false, "a processor with AMX", half)?;
        Self::from_out_in(weight, inner, in_features)
    }

    /// Name of the kernel, used by logs and benches.
    pub fn kernel(&self) -> &'static str {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self.values == amx::Values::Split {
            return "geglu-3xbf16";
        }
        "geglu-bf16"
    }

    fn on_amx(&self) -> bool {
        self.value.order == Order::Tiles
    }

    /// Whether a product with this weight reads such rows.
    pub fn takes(&self, input: &Input<'_>) -> bool {
        match input {
            Input::Values(_) => true,
            Input::Normed(_) => self.on_amx(),
            Input::Halves(_) => self.writes_halves(),
            Input::Joined(_) | Input::GroupNormed(_) => false,
        }
    }

    /// Whether [`linear_geglu_halves`] takes this weight.
    pub fn writes_halves(&self) -> bool {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self.values == amx::Values::Split {
            return false;
        }
        self.on_amx() && self.inner().is_multiple_of(PANEL)
    }

    /// Columns of the result.
    pub fn inner(&self) -> usize {
        self.value.columns
    }

    /// Length of each sum.
    pub fn in_features(&self) -> usize {
        self.in_features
    }

    /// Bytes it takes in memory.
    pub fn bytes(&self) -> usize {
        self.value.bytes() + self.gate.bytes()
    }
}

const OP: &str = "linear_geglu";

/// One call of [`linear_geglu`].
#[derive(Clone, Copy, Debug)]
pub struct LinearGeglu<'a> {
    /// `(rows, in_features)`, contiguous.
    pub x: Input<'a>,
    /// Number of rows.
    pub rows: usize,
    /// Packed weight.
    pub weight: &'a PackedGeglu,
    /// `(2 * inner)`, the values' first.
    pub bias: Option<&'a [f32]>,
}

/// Computes `out = value * gelu(gate)` of the two products; `out: (rows, inner)`, contiguous.
///
/// # Errors
/// A length does not fit the sizes.
pub fn linear_geglu(call: &LinearGeglu<'_>, out: &mut [f32]) -> Result<()> {
    let (inner, k) = (call.weight.inner(), call.weight.in_features());
    let len = product(OP, "out", &[call.rows, inner])?;
    check_len(OP, "out", out.len(), len)?;
    call.check()?;
    match call.x {
        _ if out.is_empty() => {}
        Input::Values(x) if !call.weight.on_amx() => {
            let (stride, len) = (k, k);
            compute(call, Strided { x, stride, len }, out);
        }
        _ => call.run_on_amx::<false>(out),
    }
    Ok(())
}

/// The same with `out` as bf16, two values in each place, for a reader that would round them. Weights that
/// [write](PackedGeglu::writes_halves) them only.
///
/// # Errors
/// As [`linear_geglu`], and the weight does not write halves.
pub fn linear_geglu_halves(call: &LinearGeglu<'_>, out: &mut [f32]) -> Result<()> {
    let inner = call.weight.inner();
    let writes = call.weight.writes_halves();
    check(OP, "weight", writes, "one that writes halves", inner)?;
    let len = product(OP, "out", &[call.rows, inner])?;
    check_len(OP, "out", out.len(), len / 2)?;
    call.check()?;
    if !out.is_empty() {
        call.run_on_amx::<true>(out);
    }
    Ok(())
}

impl LinearGeglu<'_> {
    /// Checks all but the output.
    fn check(&self) -> Result<()> {
        let (inner, k) = (self.weight.inner(), self.weight.in_features());
        if let Input::Values(x) = self.x {
            check_len(OP, "x", x.len(), product(OP, "x", &[self.rows, k])?)?;
        }
        self.x.check(OP, (self.rows, k), k)?;
        let takes = self.weight.takes(&self.x);
        check(OP, "x", takes, "plain values for this weight", k)?;
        match self.bias {
            Some(bias) => check_len(OP, "bias", bias.len(), 2 * inner),
            None => Ok(()),
        }
    }

    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    fn run_on_amx<const HALVES: bool>(&self, out: &mut [f32]) {
        let weight = self.weight;
        let (inner, k, values) = (weight.inner(), weight.in_features(), weight.values);
        amx::with_lines(&self.x, (k, k), |lines| {
            let work = amx::Work {
                left: &amx::RowBlocks::new(lines, self.rows, (k, 2 * inner), values).whole(),
                weights: [weight.value.panels(), weight.gate.panels()],
            };
            let bias = self.bias.map(|bias| bias.split_at(inner).into());
            let exact = values == amx::Values::Split;
            amx::run(&work, &amx::Gates::<HALVES> { bias, exact }, out);
        });
    }

    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    fn run_on_amx<const HALVES: bool>(&self, _: &mut [f32]) {
        unreachable!("a weight for AMX without AMX, this is a bug");
    }
}

/// Values and gates tile by tile, on vectors.
fn compute(call: &LinearGeglu<'_>, left: Strided<'_>, out: &mut [f32]) {
    let isa = Isa::current();
    let (inner, k) = (call.weight.inner(), call.weight.in_features());
    let across = inner.div_ceil(COLUMNS);
    let shared = SharedMut::new(out);
    let tasks = call.rows.div_ceil(ROWS) * across;
    (0..tasks).into_par_iter().for_each(|task| {
        let (first, start) = (task / across * ROWS, task % across * COLUMNS);
        let rows = first..call.rows.min(first + ROWS);
        let columns = start..inner.min(start + COLUMNS);
        let (count, width) = (rows.len(), columns.len());
        scratch::with(2 * count * width, |sums| {
            let (values, gates) = sums.split_at_mut(count * width);
            for (weight, sums, offset) in [
                (&call.weight.value, &mut *values, 0),
                (&call.weight.gate, &mut *gates, inner),
            ] {
                match call.bias {
                    Some(bias) => sums.chunks_exact_mut(width).for_each(|row| {
                        row.copy_from_slice(&bias[offset + start..][..width]);
                    }),
                    None => sums.fill(0.0),
                }
                let product = HalfProduct {
                    rows: call.rows,
                    taps: 1,
                    len: k,
                    weight,
                    epilogue: Epilogue::default(),
                };
                let place = Place {
                    isa,
                    rows: rows.clone(),
                    columns: columns.clone(),
                    c: sums.as_mut_ptr(),
                    c_step: width,
                    store: Store::Add,
                };
                // SAFETY: the sums have these rows and columns and are this task's own.
                unsafe { multiply(&product, &left, &place) };
            }
            for (i, (value, gate)) in values
                .chunks_exact(width)
                .zip(gates.chunks_exact(width))
                .enumerate()
            {
                // SAFETY: tasks cover disjoint rows and columns.
                let out = unsafe { shared.part((first + i) * inner + start, width) };
                let zip = Zip {
                    f: Geglu,
                    a: Some(value),
                    b: Some(gate),
                    out,
                };
                dispatch(isa, zip);
            }
        });
    });
}
