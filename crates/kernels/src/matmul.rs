//! Linear layers: `out[rows, n] = x[rows, k] . W^T (+ bias) (+ residual)`, W given as torch stores it, `[n, k]`.

use crate::error::{Result, check, check_len, product};

/// A weight matrix prepared once, at load.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    data: Vec<f32>,
    out_features: usize,
    in_features: usize,
}

impl PackedMatrix {
    /// Packs a torch Linear weight: `weight: (out_features, in_features)`, contiguous.
    ///
    /// # Errors
    /// The length of `weight` is not `out_features * in_features`.
    pub fn from_out_in(weight: &[f32], out_features: usize, in_features: usize) -> Result<Self> {
        let len = product("pack_matrix", "weight", &[out_features, in_features])?;
        check_len("pack_matrix", "weight", weight.len(), len)?;
        Ok(Self {
            data: weight.to_vec(),
            out_features,
            in_features,
        })
    }

    /// Columns of the product.
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    /// Length of each sum.
    pub fn in_features(&self) -> usize {
        self.in_features
    }
}

/// One call of [`linear`].
#[derive(Clone, Copy, Debug)]
pub struct Linear<'a> {
    /// `(rows, in_features)`, rows `x_stride` apart.
    pub x: &'a [f32],
    /// Number of rows.
    pub rows: usize,
    /// Elements from one row of `x` to the next; at least `in_features`.
    pub x_stride: usize,
    /// Packed `(out_features, in_features)`.
    pub weight: &'a PackedMatrix,
    /// `(out_features)`, added to every row.
    pub bias: Option<&'a [f32]>,
    /// `(rows, out_features)`, contiguous, added to the result.
    pub residual: Option<&'a [f32]>,
}

/// Computes `out = x . W^T + bias + residual`; `out: (rows, out_features)`, contiguous.
///
/// # Errors
/// A length does not fit the sizes.
pub fn linear(call: &Linear<'_>, out: &mut [f32]) -> Result<()> {
    const OP: &str = "linear";
    let (n, k) = (call.weight.out_features, call.weight.in_features);
    check(
        OP,
        "x_stride",
        call.x_stride >= k,
        "at least in_features",
        call.x_stride,
    )?;
    let len = product(OP, "out", &[call.rows, n])?;
    check_len(OP, "out", out.len(), len)?;
    let needed = if call.rows == 0 {
        0
    } else {
        product(OP, "x", &[call.rows - 1, call.x_stride])?.saturating_add(k)
    };
    check(
        OP,
        "x",
        call.x.len() >= needed,
        "at least (rows - 1) * x_stride + in_features elements",
        call.x.len(),
    )?;
    if let Some(bias) = call.bias {
        check_len(OP, "bias", bias.len(), n)?;
    }
    if let Some(residual) = call.residual {
        check_len(OP, "residual", residual.len(), len)?;
    }
    if len == 0 {
        return Ok(());
    }
    match call.residual {
        Some(residual) => out.copy_from_slice(residual),
        None => out.fill(0.0),
    }
    if let Some(bias) = call.bias {
        for row in out.chunks_exact_mut(n) {
            row.iter_mut().zip(bias).for_each(|(o, b)| *o += b);
        }
    }
    // SAFETY: the checks above bound every index: x by (rows-1)*x_stride+k, W by n*k, out by rows*n.
    unsafe {
        gemm::gemm(
            call.rows,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            true,
            call.x.as_ptr(),
            1,
            call.x_stride as isize,
            call.weight.data.as_ptr(),
            k as isize,
            1,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::Rayon(0),
        );
    }
    Ok(())
}
