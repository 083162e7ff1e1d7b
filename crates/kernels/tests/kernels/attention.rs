//! Attention.

use tintype_kernels::{Attention, Causality, attention, reference};

use crate::{EPS, assert_close, on_each_isa, values};

/// Sizes of a check.
#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    queries: usize,
    keys: usize,
    heads: usize,
    head_dim: usize,
    causality: Causality,
    /// Spread of the logits: makes rows sharp.
    spread: f32,
    /// Values between rows.
    gap: usize,
}

const PLAIN: Case = Case {
    batch: 1,
    queries: 5,
    keys: 7,
    heads: 1,
    head_dim: 8,
    causality: Causality::Full,
    spread: 1.0,
    gap: 0,
};

fn check_case(case: Case) {
    let dim = case.heads * case.head_dim;
    let (q_stride, k_stride, v_stride) = (dim + case.gap, dim + 2 * case.gap, dim + 3 * case.gap);
    let q: Vec<f32> = values(case.batch * case.queries * q_stride, 1)
        .iter()
        .map(|x| x * case.spread)
        .collect();
    let k = values(case.batch * case.keys * k_stride, 2);
    let v = values(case.batch * case.keys * v_stride, 3);
    let call = Attention {
        q: &q,
        k: &k,
        v: &v,
        q_stride,
        k_stride,
        v_stride,
        batch: case.batch,
        queries: case.queries,
        keys: case.keys,
        heads: case.heads,
        head_dim: case.head_dim,
        scale: 1.0 / (case.head_dim as f32).sqrt(),
        causality: case.causality,
    };
    let mut out = vec![f32::NAN; case.batch * case.queries * dim];
    attention(&call, &mut out).unwrap();
    // A logit is off by at most EPS * head_dim * spread, which changes a weight by that factor; the weighted mean of values below 1
    // adds about EPS for each power of two of keys.
    let tolerance = EPS * (f64::from(case.spread) * case.head_dim as f64 + 32.0);
    assert_close(
        &format!("{case:?}"),
        &out,
        &reference::attention(&call),
        tolerance,
        0.0,
    );
}

#[test]
fn agrees_at_head_sizes_and_edges_of_blocks() {
    let cases = [
        PLAIN,
        Case {
            queries: 1,
            keys: 1,
            head_dim: 1,
            ..PLAIN
        },
        Case {
            queries: 0,
            ..PLAIN
        },
        Case { batch: 0, ..PLAIN },
        Case { heads: 0, ..PLAIN },
        Case {
            batch: 2,
            queries: 97,
            keys: 33,
            heads: 3,
            head_dim: 40,
            ..PLAIN
        },
        Case {
            queries: 13,
            keys: 77,
            heads: 2,
            head_dim: 64,
            gap: 5,
            ..PLAIN
        },
        Case {
            queries: 96,
            keys: 256,
            heads: 1,
            head_dim: 80,
            ..PLAIN
        },
        Case {
            queries: 12,
            keys: 257,
            heads: 2,
            head_dim: 160,
            gap: 1,
            ..PLAIN
        },
        Case {
            queries: 25,
            keys: 600,
            heads: 1,
            head_dim: 3,
            ..PLAIN
        },
        Case {
            queries: 7,
            keys: 300,
            heads: 1,
            head_dim: 512,
            ..PLAIN
        },
    ];
    on_each_isa(|_| cases.into_iter().for_each(check_case));
}

#[test]
fn agrees_when_rows_are_sharp_and_the_largest_score_comes_late() {
    on_each_isa(|_| {
        check_case(Case {
            queries: 30,
            keys: 700,
            heads: 2,
            head_dim: 16,
            spread: 60.0,
            ..PLAIN
        });
    });
}

#[test]
fn agrees_around_panels_of_queries_and_shares_of_keys() {
    let sizes = [
        (113, 252, 1, 17, 0),
        (80, 253, 2, 24, 3),
        (96, 11, 3, 40, 1),
        (49, 520, 1, 520, 0),
        (33, 505, 2, 7, 2),
        (16, 12, 1, 16, 0),
    ];
    on_each_isa(|_| {
        for (queries, keys, heads, head_dim, gap) in sizes {
            check_case(Case {
                batch: 2,
                queries,
                keys,
                heads,
                head_dim,
                gap,
                ..PLAIN
            });
        }
    });
}

#[test]
fn causal_queries_see_no_later_key() {
    let causal = Case {
        causality: Causality::Causal,
        ..PLAIN
    };
    let cases = [
        Case {
            batch: 2,
            queries: 77,
            keys: 77,
            heads: 3,
            head_dim: 16,
            ..causal
        },
        Case {
            queries: 300,
            keys: 300,
            heads: 1,
            head_dim: 5,
            ..causal
        },
        Case {
            queries: 4,
            keys: 9,
            ..causal
        },
        Case {
            queries: 9,
            keys: 4,
            ..causal
        },
    ];
    on_each_isa(|_| cases.into_iter().for_each(check_case));
}

#[test]
fn a_nan_shows_in_its_row_and_nowhere_else() {
    on_each_isa(|_| {
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
        attention(&call, &mut out).unwrap();
        let nan: Vec<bool> = out.iter().map(|x| x.is_nan()).collect();
        let want: Vec<bool> = (0..12).map(|i| (4..8).contains(&i)).collect();
        assert_eq!(nan, want);
    });
}

#[test]
fn refuses_what_does_not_fit() {
    let x = values(64, 1);
    let good = Attention {
        q: &x,
        k: &x,
        v: &x,
        q_stride: 8,
        k_stride: 8,
        v_stride: 8,
        batch: 2,
        queries: 4,
        keys: 4,
        heads: 2,
        head_dim: 4,
        scale: 1.0,
        causality: Causality::Full,
    };
    let mut out = vec![0.0; 64];
    assert!(attention(&good, &mut out).is_ok());
    assert!(attention(&good, &mut out[1..]).is_err());
    assert_eq!(
        attention(&Attention { q: &x[1..], ..good }, &mut out)
            .unwrap_err()
            .argument,
        "q"
    );
    assert_eq!(
        attention(&Attention { k: &x[1..], ..good }, &mut out)
            .unwrap_err()
            .argument,
        "k"
    );
    assert_eq!(
        attention(&Attention { v: &x[1..], ..good }, &mut out)
            .unwrap_err()
            .argument,
        "v"
    );
    assert_eq!(
        attention(
            &Attention {
                k_stride: 7,
                ..good
            },
            &mut out
        )
        .unwrap_err()
        .argument,
        "k"
    );
    assert_eq!(
        attention(&Attention { keys: 0, ..good }, &mut out)
            .unwrap_err()
            .argument,
        "keys"
    );
    assert!(
        attention(
            &Attention {
                heads: usize::MAX,
                ..good
            },
            &mut out
        )
        .is_err()
    );
}
