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
            [1, 40, 200, 1, 33],
            [1, 40, 200, 1, 96],
            [1, 40, 200, 1, 97],
        ] {
            check_attention(isa, BF16, sizes, 1.0, full);
            check_attention(isa, EXACT, sizes, 1.0, full);
        }
        check_attention(isa, BF16, [1, 30, 700, 2, 16], 12.0, full);
        check_attention(isa, BF16, [1, 30, 700, 2, 80], 12.0, full);
        // More keys than meet all queries at a time.
        check_attention(isa, BF16, [1, 70, 2900, 1, 96], 1.0, full);
        check_attention(isa, BF16, [1, 70, 2900, 1, 96], 12.0, full);
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
        check_attention(isa, BF16, [1, 1300, 1300, 1, 96], 1.0, Causality::Causal);
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

/// One head of 40 channels, one picture.
fn head<'a>(q: &'a [f32], k: &'a [f32], v: &'a [f32], causality: Causality) -> Attention<'a> {
    Attention {
        q,
        k,
        v,
        q_stride: 40,
        k_stride: 40,
        v_stride: 40,
        batch: 1,
        queries: q.len() / 40,
        keys: k.len() / 40,
        heads: 1,
        head_dim: 40,
        scale: 0.15,
        causality,
    }
}

#[test]
fn scores_that_keep_growing_change_no_weight() {
    on_each_isa(|isa| {
        for (growth, bar) in [(0.004, 44.0), (0.04, 38.0), (4.0, 30.0)] {
            let (q, v) = (heavy(70 * 40, 1, 1), heavy(700 * 40, 1, 3));
            let mut k = heavy(700 * 40, 1, 2);
            for (key, k) in k.chunks_exact_mut(40).enumerate() {
                for k in k {
                    *k *= 1.0 + growth * key as f32;
                }
            }
            let call = head(&q, &k, &v, Causality::Full);
            let mut out = vec![f32::NAN; q.len()];
            attention_bf16(&call, &mut out).unwrap();
            let what = format!("{isa:?} growth {growth}");
            assert_snr(&what, &out, &reference::attention(&call), bar);
        }
    });
}

#[test]
fn scores_below_0_and_far_apart_reach_their_ratio() {
    on_each_isa(|isa| {
        // One channel moves all scores of a query alike, far below 0 or above; 100 keys leave pads behind the last.
        for offset in [-300.0, -20.0, 20.0, 300.0] {
            let (mut q, mut k) = (heavy(33 * 40, 1, 1), heavy(100 * 40, 1, 2));
            let v = heavy(100 * 40, 1, 3);
            for q in q.chunks_exact_mut(40) {
                q[7] = 8.0;
            }
            for k in k.chunks_exact_mut(40) {
                k[7] = offset;
            }
            let call = head(&q, &k, &v, Causality::Full);
            let mut out = vec![f32::NAN; q.len()];
            attention_bf16(&call, &mut out).unwrap();
            let what = format!("{isa:?} offset {offset}");
            assert_snr(&what, &out, &reference::attention(&call), 46.0);
        }
    });
}

#[test]
fn a_hidden_key_adds_nothing() {
    on_each_isa(|isa| {
        let (q, k) = (heavy(150 * 40, 1, 1), heavy(150 * 40, 8, 2));
        let mut v = vec![1e30; 150 * 40];
        v[..40].fill(0.75);
        let call = head(&q, &k, &v, Causality::Causal);
        let mut out = vec![f32::NAN; q.len()];
        attention_bf16(&call, &mut out).unwrap();
        assert!(
            out[..40].iter().all(|x| (x - 0.75).abs() < 0.01),
            "{isa:?}: {:?}",
            &out[..40]
        );
    });
}

#[test]
fn a_key_or_query_that_is_no_number_is_not_passed_over() {
    on_each_isa(|isa| {
        for wrong in [f32::NAN, f32::INFINITY] {
            let (mut q, v) = (heavy(40 * 40, 1, 1), heavy(90 * 40, 1, 3));
            let mut k = heavy(90 * 40, 1, 2);
            k[70 * 40 + 3] = wrong;
            q.iter_mut()
                .skip(3)
                .step_by(40)
                .for_each(|q| *q = q.abs() + 0.1);
            let mut out = vec![0.0; q.len()];
            attention_bf16(&head(&q, &k, &v, Causality::Full), &mut out).unwrap();
            assert!(out.iter().all(|x| x.is_nan()), "{isa:?}: key {wrong}");

            k[70 * 40 + 3] = 1.0;
            q[5 * 40 + 3] = wrong;
            k.iter_mut()
                .skip(3)
                .step_by(40)
                .for_each(|k| *k = k.abs() + 0.1);
            attention_bf16(&head(&q, &k, &v, Causality::Full), &mut out).unwrap();
            let nan: Vec<usize> = (0..40).filter(|row| out[row * 40].is_nan()).collect();
            assert_eq!(nan, [5], "{isa:?}: query {wrong}");
        }
    });
}
