//! Attention by signal-to-noise ratio against f64 loops: in bf16, and as precise as f32.

use tintype_kernels::{Attention, Causality, Isa, attention, attention_bf16, reference};

use crate::fast::{assert_snr, heavy};
use crate::{on_each_isa, values};

/// A kernel and the ratios it reaches, on most shapes and where rows are sharp or few.
type Kind = (fn(&Attention<'_>, &mut [f32]), [f64; 2]);

const BF16: Kind = (|call, out| attention_bf16(call, out).unwrap(), [47.0, 36.0]);
const EXACT: Kind = (|call, out| attention(call, out).unwrap(), [120.0, 110.0]);

/// Attention of normally distributed rows against the reference.
fn check_attention(
    isa: Isa,
    (compute, bars): Kind,
    [batch, queries, keys, heads, dim]: [usize; 5],
    spread: f32,
    causality: Causality,
) {
    let (inner, gap) = (heads * dim, 3);
    let (q_stride, k_stride, v_stride) = (inner + gap, inner + 2 * gap, inner);
    let mut q = heavy(batch * queries * q_stride, 1, 1);
    for q in &mut q {
        *q *= spread;
    }
    let (k, v) = (
        heavy(batch * keys * k_stride, 1, 2),
        heavy(batch * keys * v_stride, 1, 3),
    );
    let call = Attention {
        q: &q,
        k: &k,
        v: &v,
        q_stride,
        k_stride,
        v_stride,
        batch,
        queries,
        keys,
        heads,
        head_dim: dim,
        scale: 1.0 / (dim as f32).sqrt(),
        causality,
    };
    let mut out = vec![f32::NAN; batch * queries * inner];
    compute(&call, &mut out);
    // Sharp rows multiply the rounding of their logits, and few outputs have an uncertain mean.
    let bar = bars[usize::from(spread > 1.0 || out.len() < 64)];
    let what =
        format!("{isa:?} attention {batch} {queries} {keys} {heads} {dim} {spread} {causality:?}");
    assert_snr(&what, &out, &reference::attention(&call), bar);
}

#[test]
fn attention_reaches_its_ratio() {
    let full = Causality::Full;
    on_each_isa(|isa| {
        for sizes in [
            [1, 0, 5, 1, 8],
            [0, 3, 5, 1, 8],
            [1, 1, 1, 1, 1],
            [1, 5, 7, 1, 8],
            [2, 97, 33, 3, 40],
            [1, 13, 77, 2, 64],
            [1, 96, 256, 1, 80],
            [1, 12, 257, 2, 160],
            [1, 25, 601, 1, 3],
            [1, 7, 300, 1, 512],
            [1, 130, 1024, 2, 40],
        ] {
            check_attention(isa, BF16, sizes, 1.0, full);
            check_attention(isa, EXACT, sizes, 1.0, full);
        }
        check_attention(isa, BF16, [1, 30, 700, 2, 16], 12.0, full);
        check_attention(isa, EXACT, [1, 30, 700, 2, 16], 12.0, full);
    });
}

#[test]
fn causal_attention_reaches_its_ratio() {
    on_each_isa(|isa| {
        for sizes in [
            [2, 77, 77, 3, 16],
            [1, 300, 300, 1, 64],
            [1, 4, 9, 2, 8],
            [1, 9, 4, 2, 8],
        ] {
            check_attention(isa, BF16, sizes, 1.0, Causality::Causal);
            check_attention(isa, EXACT, sizes, 1.0, Causality::Causal);
        }
    });
}

#[test]
fn a_nan_shows_in_its_row_of_bf16_attention_and_nowhere_else() {
    on_each_isa(|isa| {
        let mut q = values(3 * 4, 1);
        q[5] = f32::NAN;
        let (k, v) = (values(20, 2), values(20, 3));
        let call = Attention {
            q: &q,
            k: &k,
            v: &v,
            q_stride: 4,
            k_stride: 4,
            v_stride: 4,
            batch: 1,
            queries: 3,
            keys: 5,
            heads: 1,
            head_dim: 4,
            scale: 0.5,
            causality: Causality::Full,
        };
        let mut out = vec![0.0; 12];
        attention_bf16(&call, &mut out).unwrap();
        let nan: Vec<bool> = out.iter().map(|x| x.is_nan()).collect();
        let want: Vec<bool> = (0..12).map(|i| (4..8).contains(&i)).collect();
        assert_eq!(nan, want, "{isa:?}");
    });
}
