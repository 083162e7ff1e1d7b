//! Elementwise kernels and softmax.

use tintype_kernels::{
    add, add_assign, geglu, gelu_erf, gelu_erf_inplace, quick_gelu, quick_gelu_inplace, reference,
    scale, scale_inplace, silu, silu_inplace, softmax_rows,
};

use crate::{EPS, assert_close, on_each_isa, values};

/// Lengths around vectors and around the chunk a task takes.
const LENGTHS: [usize; 12] = [
    0,
    1,
    3,
    4,
    7,
    8,
    15,
    16,
    17,
    33,
    16 * 1024 - 1,
    16 * 1024 + 5,
];

/// Values that cover -12..12, and the places where formulas change.
fn sample(n: usize) -> Vec<f32> {
    let special = [
        0.0, -0.0, 100.0, -100.0, 88.5, -88.5, 1e-30, -1e-30, 5.6, -5.6,
    ];
    let mut x: Vec<f32> = values(n, 7).iter().map(|x| x * 12.0).collect();
    x.iter_mut().zip(special).for_each(|(x, s)| *x = s);
    x
}

/// Checks a function and its in-place form: |got - want| <= 4 EPS |want| + 2 EPS max(1, |x|) (torch's own f32 formula cancels as much).
fn check(
    name: &str,
    f: impl Fn(&[f32], &mut [f32]),
    inplace: impl Fn(&mut [f32]),
    want: impl Fn(f64) -> f64,
) {
    on_each_isa(|isa| {
        for n in LENGTHS {
            let x = sample(n);
            let mut out = vec![f32::NAN; n];
            f(&x, &mut out);
            for (i, (&x, &got)) in x.iter().zip(&out).enumerate() {
                let want = want(f64::from(x));
                let bound = 6.0 * EPS * want.abs() + 2.0 * EPS * f64::from(x).abs().max(1.0);
                let off = (f64::from(got) - want).abs();
                assert!(
                    off <= bound,
                    "{name} {isa:?} element {i} of {n}: f({x}) = {got}, want {want}, off {off:e}"
                );
            }
            let mut same = x.clone();
            inplace(&mut same);
            assert_eq!(same, out, "{name} {isa:?}: in place");
        }
    });
}

#[test]
fn silu_agrees() {
    check(
        "silu",
        |x, out| silu(x, out).unwrap(),
        silu_inplace,
        |x| reference::swish(x, 1.0),
    );
}

#[test]
fn quick_gelu_agrees() {
    let f = |x: &[f32], out: &mut [f32]| quick_gelu(x, out).unwrap();
    check("quick_gelu", f, quick_gelu_inplace, |x| {
        reference::swish(x, f64::from(1.702f32))
    });
}

#[test]
fn gelu_agrees_with_the_error_function() {
    check(
        "gelu_erf",
        |x, out| gelu_erf(x, out).unwrap(),
        gelu_erf_inplace,
        reference::gelu,
    );
}

#[test]
fn the_reference_error_function_has_known_values() {
    // Abramowitz and Stegun, table 7.1, and the complement at 4 from its asymptotic series.
    for (x, want) in [
        (0.0, 0.0),
        (0.5, 0.520_499_877_8),
        (1.0, 0.842_700_792_9),
        (2.0, 0.995_322_265_0),
        (-1.0, -0.842_700_792_9),
    ] {
        assert!((reference::erf(x) - want).abs() < 1e-10, "erf({x})");
    }
    assert!((1.0 - reference::erf(4.0) - 1.541_725_79e-8).abs() < 1e-15);
}

#[test]
fn nan_stays_nan() {
    on_each_isa(|_| {
        for n in [1, 40] {
            let x = vec![f32::NAN; n];
            let mut out = vec![0.0; n];
            silu(&x, &mut out).unwrap();
            assert!(out.iter().all(|x| x.is_nan()));
            gelu_erf(&x, &mut out).unwrap();
            assert!(out.iter().all(|x| x.is_nan()));
        }
    });
}

#[test]
fn sums_and_multiples_are_exact() {
    on_each_isa(|_| {
        for n in LENGTHS {
            let (a, b) = (values(n, 1), values(n, 2));
            let want: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
            let mut out = vec![f32::NAN; n];
            add(&a, &b, &mut out).unwrap();
            assert_eq!(out, want);
            let mut sum = a.clone();
            add_assign(&mut sum, &b).unwrap();
            assert_eq!(sum, want);
            let want: Vec<f32> = a.iter().map(|a| a * 0.18215).collect();
            scale(&a, 0.18215, &mut out).unwrap();
            assert_eq!(out, want);
            let mut same = a.clone();
            scale_inplace(&mut same, 0.18215);
            assert_eq!(same, want);
        }
    });
}

#[test]
fn geglu_multiplies_by_the_gelu_of_the_second_half() {
    on_each_isa(|_| {
        for (rows, n) in [(0, 4), (1, 1), (3, 5), (7, 16), (3, 20_001)] {
            let x = values(rows * 2 * n, 3);
            let mut out = vec![f32::NAN; rows * n];
            geglu(&x, n, &mut out).unwrap();
            let want: Vec<f64> = (0..rows * n)
                .map(|i| {
                    let at = i / n * 2 * n + i % n;
                    f64::from(x[at]) * reference::gelu(f64::from(x[at + n]))
                })
                .collect();
            assert_close(
                &format!("geglu {rows} {n}"),
                &out,
                &want,
                2.0 * EPS,
                8.0 * EPS,
            );
        }
    });
}

#[test]
fn softmax_agrees() {
    on_each_isa(|_| {
        for (rows, cols) in [(0, 3), (1, 1), (5, 2), (3, 16), (4, 77), (2, 16 * 1024 + 3)] {
            let x: Vec<f32> = values(rows * cols, 4).iter().map(|x| x * 30.0).collect();
            let want: Vec<f64> = x
                .chunks_exact(cols)
                .flat_map(|row| {
                    reference::softmax(&row.iter().map(|&x| f64::from(x)).collect::<Vec<_>>())
                })
                .collect();
            let mut out = x.clone();
            softmax_rows(&mut out, cols).unwrap();
            // x - max is rounded at a size of 60, then exp to 2 ulp, then a sum and a division.
            assert_close(
                &format!("softmax {rows} {cols}"),
                &out,
                &want,
                1e-9,
                EPS * (60.0 + 8.0),
            );
        }
        let mut row = [f32::NEG_INFINITY, 0.0, 0.0];
        softmax_rows(&mut row, 3).unwrap();
        assert_close("hidden value", &row, &[0.0, 0.5, 0.5], 0.0, 0.0);
    });
}

#[test]
fn wrong_lengths_are_refused() {
    let (x, mut out) = (values(6, 1), vec![0.0; 5]);
    assert!(silu(&x, &mut out).is_err());
    assert!(gelu_erf(&x, &mut out).is_err());
    assert!(quick_gelu(&x, &mut out).is_err());
    assert!(scale(&x, 1.0, &mut out).is_err());
    assert!(add(&x, &x[1..], &mut out).is_err());
    assert!(add(&x, &x, &mut out).is_err());
    assert!(add_assign(&mut out, &x).is_err());
    assert!(geglu(&x, 3, &mut out).is_err());
    assert!(geglu(&x, 2, &mut out[..3]).is_err());
    assert!(geglu(&x, 0, &mut []).is_err());
    assert!(softmax_rows(&mut out, 2).is_err());
    assert!(softmax_rows(&mut out, 0).is_err());
}
