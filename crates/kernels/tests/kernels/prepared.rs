//! Inputs and outputs that spare a pass over memory give the bits of the plain ones.

use tintype_kernels::{
    Activation, Attention, Causality, GroupAffine, GroupNorm, Input, Isa, LayerNorm, Linear,
    LinearGeglu, PackedGeglu, PackedMatrix, attention_bf16, attention_halves, concat_channels,
    layer_norm, linear, linear_geglu, linear_geglu_halves, linear_halves, widen_halves,
};

use crate::fast::heavy;
use crate::{on_each_isa, values};

/// To bf16, two in each place.
fn halves(values: &[f32]) -> Vec<f32> {
    let round = |x: f32| {
        let bits = x.to_bits();
        (bits + 0x7fff + (bits >> 16 & 1)) >> 16
    };
    let pair = |pair: &[f32]| f32::from_bits(round(pair[0]) | round(pair[1]) << 16);
    values.chunks_exact(2).map(pair).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Rows, columns and length: few and many blocks, one piece and several of a sum, plain rows and odd ones.
const SIZES: [(usize, usize, usize); 7] = [
    (1, 32, 32),
    (3, 64, 34),
    (70, 96, 320),
    (600, 64, 1280),
    (2100, 32, 40),
    (64, 32, 2600),
    (130, 320, 5120),
];

#[test]
fn rows_to_be_normed_give_the_bits_of_normed_rows() {
    on_each_isa(|isa| {
        for (rows, n, k) in SIZES {
            let (x, raw) = (heavy(rows * k, k, 1), heavy(n * k, 1, 2));
            let (weight, bias) = (values(k, 3), values(k, 4));
            let norm = LayerNorm {
                x: &x,
                weight: &weight,
                bias: &bias,
                eps: 1e-5,
            };
            let mut normed = vec![f32::NAN; rows * k];
            layer_norm(&norm, &mut normed).unwrap();
            for pack in [
                PackedMatrix::from_out_in,
                PackedMatrix::bf16_from_out_in,
                PackedMatrix::exact_from_out_in,
            ] {
                let packed = pack(&raw, n, k).unwrap();
                let plain = Linear::new(&normed, rows, &packed);
                let call = Linear {
                    x: Input::Normed(norm),
                    ..plain
                };
                let mut want = vec![f32::NAN; rows * n];
                linear(&plain, &mut want).unwrap();
                let mut found = vec![f32::NAN; rows * n];
                if packed.takes(&call.x) {
                    linear(&call, &mut found).unwrap();
                    assert_eq!(bits(&found), bits(&want), "{rows} {n} {k}");
                } else {
                    assert!(isa != Isa::Amx || packed.kernel() == "product-f32");
                    assert!(linear(&call, &mut found).is_err());
                }
            }
        }
    });
}

#[test]
fn no_rows_give_nothing() {
    on_each_isa(|_| {
        let ones = [1.0; 32];
        let layer = LayerNorm {
            x: &[],
            weight: &ones,
            bias: &ones,
            eps: 1e-5,
        };
        let parts = [(&[][..], 32)];
        let group = GroupNorm {
            parts: &parts,
            batch: 0,
            pixels: 4,
            groups: 4,
            weight: &ones,
            bias: &ones,
            eps: 1e-5,
            activation: Activation::None,
        };
        let affine = GroupAffine::of(&group).unwrap();
        let pixels = affine.normed(&parts, Activation::None).unwrap();
        let packed = PackedMatrix::bf16_from_out_in(&values(32 * 32, 1), 32, 32).unwrap();
        for x in [
            Input::Normed(layer),
            Input::GroupNormed(pixels),
            Input::Halves(&[]),
            Input::Joined(&parts),
        ] {
            let call = Linear {
                x,
                ..Linear::new(&[], 0, &packed)
            };
            assert_eq!(linear(&call, &mut []).is_ok(), packed.takes(&x));
            assert!(linear(&call, &mut [0.0]).is_err());
        }
    });
}

/// Maps of so many channels each, of `rows` pixels.
fn parts_of(rows: usize, widths: &[usize]) -> Vec<(Vec<f32>, usize)> {
    let part = |&c: &usize| (heavy(rows * c, c, c as u64), c);
    widths.iter().map(part).collect()
}

#[test]
fn pixels_to_be_normed_give_the_bits_of_normed_pixels() {
    on_each_isa(|isa| {
        for (batch, pixels, n, widths) in [
            (1, 1, 32, vec![32]),
            (2, 35, 96, vec![320]),
            (3, 700, 64, vec![32, 64]),
            (2, 1050, 32, vec![40]),
            (5, 13, 33, vec![24, 10]),
            (2, 65, 64, vec![2560, 2560]),
        ] {
            let (rows, k) = (batch * pixels, widths.iter().sum::<usize>());
            let parts = parts_of(rows, &widths);
            let parts: Vec<_> = parts.iter().map(|(x, c)| (&x[..], *c)).collect();
            let (raw, factor, offset) = (heavy(n * k, 1, 2), values(k, 3), values(k, 4));
            for activation in [Activation::None, Activation::Silu] {
                let norm = GroupNorm {
                    parts: &parts,
                    batch,
                    pixels,
                    groups: k / 2,
                    weight: &factor,
                    bias: &offset,
                    eps: 1e-5,
                    activation,
                };
                let affine = GroupAffine::of(&norm).unwrap();
                let waiting = affine.normed(&parts, activation).unwrap();
                let mut normed = vec![f32::NAN; rows * k];
                waiting.write(&mut normed).unwrap();
                for pack in [
                    PackedMatrix::from_out_in,
                    PackedMatrix::bf16_from_out_in,
                    PackedMatrix::exact_from_out_in,
                ] {
                    let packed = pack(&raw, n, k).unwrap();
                    let plain = Linear::new(&normed, rows, &packed);
                    let call = Linear {
                        x: Input::GroupNormed(waiting),
                        ..plain
                    };
                    let mut found = vec![f32::NAN; rows * n];
                    if !packed.takes(&call.x) {
                        assert!(isa != Isa::Amx || packed.kernel() == "product-f32");
                        assert!(linear(&call, &mut found).is_err());
                        continue;
                    }
                    let mut want = vec![f32::NAN; rows * n];
                    linear(&plain, &mut want).unwrap();
                    linear(&call, &mut found).unwrap();
                    let name = format!("{batch}x{pixels} {n} {widths:?} {activation:?}");
                    assert_eq!(bits(&found), bits(&want), "{name}");
                    let others = rows - 1;
                    let fewer = Linear {
                        rows: others,
                        ..call
                    };
                    assert!(linear(&fewer, &mut found[..others * n]).is_err(), "{name}");
                    if packed.writes_halves() && k <= 2560 {
                        linear_halves(&call, &mut found[..rows * n / 2]).unwrap();
                        let found = bits(&found[..rows * n / 2]);
                        assert_eq!(found, bits(&halves(&want)), "{name}");
                    }
                }
            }
        }
    });
}

#[test]
fn halves_in_and_out_give_the_bits_of_rounding_before_and_after() {
    on_each_isa(|isa| {
        for (rows, n, k) in SIZES {
            let raw = heavy(n * k, 1, 2);
            let x = halves(&heavy(rows * k, k, 1));
            let mut wide = vec![f32::NAN; rows * k];
            widen_halves(&x, &mut wide).unwrap();
            let packed = PackedMatrix::bf16_from_out_in(&raw, n, k).unwrap();
            let (bias, residual) = (values(n, 3), values(rows * n, 4));
            let plain = Linear {
                bias: Some(&bias),
                residual: Some(&residual),
                ..Linear::new(&wide, rows, &packed)
            };
            let call = Linear {
                x: Input::Halves(&x),
                ..plain
            };
            let mut found = vec![f32::NAN; rows * n];
            assert_eq!(packed.takes(&call.x), isa == Isa::Amx);
            if isa != Isa::Amx {
                assert!(linear(&call, &mut found).is_err());
                assert!(linear_halves(&plain, &mut found[..rows * n / 2]).is_err());
                continue;
            }
            let mut want = vec![f32::NAN; rows * n];
            linear(&plain, &mut want).unwrap();
            linear(&call, &mut found).unwrap();
            assert_eq!(bits(&found), bits(&want), "{rows} {n} {k}");
            if k <= 2560 {
                linear_halves(&call, &mut found[..rows * n / 2]).unwrap();
                let found = bits(&found[..rows * n / 2]);
                assert_eq!(found, bits(&halves(&want)), "{rows} {n} {k}");
            }
        }
    });
}

#[test]
fn gates_of_prepared_rows_give_the_bits_of_plain_ones() {
    on_each_isa(|isa| {
        for (rows, inner, k) in [(1, 32, 32), (70, 96, 320), (600, 64, 1280), (2100, 32, 40)] {
            let (x, raw) = (heavy(rows * k, k, 1), heavy(2 * inner * k, 1, 2));
            let (ones, zeros) = (vec![1.0; k], vec![0.0; k]);
            let norm = LayerNorm {
                x: &x,
                weight: &ones,
                bias: &zeros,
                eps: 1e-5,
            };
            let mut normed = vec![f32::NAN; rows * k];
            layer_norm(&norm, &mut normed).unwrap();
            let weight = PackedGeglu::from_out_in(&raw, inner, k).unwrap();
            let bias = values(2 * inner, 3);
            let plain = LinearGeglu {
                x: Input::Values(&normed),
                rows,
                weight: &weight,
                bias: Some(&bias),
            };
            let call = LinearGeglu {
                x: Input::Normed(norm),
                ..plain
            };
            let mut found = vec![f32::NAN; rows * inner];
            if isa != Isa::Amx {
                assert!(!weight.takes(&call.x) && !weight.writes_halves());
                assert!(linear_geglu(&call, &mut found).is_err());
                assert!(linear_geglu_halves(&plain, &mut found[..rows * inner / 2]).is_err());
                continue;
            }
            let mut want = vec![f32::NAN; rows * inner];
            linear_geglu(&plain, &mut want).unwrap();
            linear_geglu(&call, &mut found).unwrap();
            assert_eq!(bits(&found), bits(&want), "{rows} {inner} {k}");
            let rounded = &mut found[..rows * inner / 2];
            linear_geglu_halves(&call, rounded).unwrap();
            assert_eq!(bits(rounded), bits(&halves(&want)), "{rows} {inner} {k}");
        }
    });
}

#[test]
fn attention_of_halves_gives_the_bits_of_rounding_before_and_after() {
    on_each_isa(|isa| {
        for (batch, heads, queries, keys, head_dim) in [
            (1, 1, 1, 1, 2),
            (2, 3, 33, 77, 40),
            (1, 2, 70, 70, 80),
            (2, 2, 40, 129, 34),
            (1, 3, 64, 64, 30),
            (1, 2, 64, 96, 32),
            (1, 2, 96, 64, 160),
        ] {
            let inner = heads * head_dim;
            let stride = inner + 6;
            let tensor = |rows: usize, seed| halves(&values(batch * rows * stride, seed));
            let parts = [tensor(queries, 1), tensor(keys, 2), tensor(keys, 3)];
            let wide = parts.each_ref().map(|part| {
                let mut wide = vec![f32::NAN; 2 * part.len()];
                widen_halves(part, &mut wide).unwrap();
                wide
            });
            let plain = Attention {
                q: &wide[0],
                k: &wide[1],
                v: &wide[2],
                q_stride: stride,
                k_stride: stride,
                v_stride: stride,
                batch,
                queries,
                keys,
                heads,
                head_dim,
                scale: 0.3,
                causality: Causality::Full,
            };
            // The last row ends with its last head.
            let [q, k, v] = parts.each_ref().map(|part| &part[..part.len() - 3]);
            let call = Attention { q, k, v, ..plain };
            let mut found = vec![f32::NAN; batch * queries * inner / 2];
            if isa != Isa::Amx {
                assert!(attention_halves(&call, &mut found).is_err());
                continue;
            }
            let mut want = vec![f32::NAN; batch * queries * inner];
            attention_bf16(&plain, &mut want).unwrap();
            attention_halves(&call, &mut found).unwrap();
            assert_eq!(
                bits(&found),
                bits(&halves(&want)),
                "{queries} {keys} {head_dim}"
            );
            assert!(
                attention_halves(
                    &Attention {
                        q_stride: 1,
                        ..call
                    },
                    &mut found
                )
                .is_err()
            );
            assert!(
                attention_halves(
                    &Attention {
                        scale: -1.0,
                        ..call
                    },
                    &mut found
                )
                .is_err()
            );
        }
    });
}

#[test]
fn rows_side_by_side_give_the_bits_of_joined_ones() {
    on_each_isa(|isa| {
        for (rows, n, widths) in [
            (3, 40, vec![32, 64]),
            (600, 32, vec![640, 320, 2560]),
            (70, 33, vec![32]),
        ] {
            let k: usize = widths.iter().sum();
            let parts: Vec<_> = widths
                .iter()
                .map(|&c| (heavy(rows * c, c, c as u64), c))
                .collect();
            let sources: Vec<_> = parts
                .iter()
                .map(|(data, c)| (data.as_slice(), *c))
                .collect();
            let mut joined = vec![f32::NAN; rows * k];
            concat_channels(&sources, rows, &mut joined).unwrap();
            let raw = heavy(n * k, 1, 2);
            for pack in [
                PackedMatrix::bf16_from_out_in,
                PackedMatrix::exact_from_out_in,
            ] {
                let packed = pack(&raw, n, k).unwrap();
                let plain = Linear::new(&joined, rows, &packed);
                let call = Linear {
                    x: Input::Joined(&sources),
                    ..plain
                };
                let (mut want, mut found) = (vec![f32::NAN; rows * n], vec![f32::NAN; rows * n]);
                assert_eq!(packed.takes(&call.x), isa == Isa::Amx);
                if isa != Isa::Amx {
                    assert!(linear(&call, &mut found).is_err());
                    continue;
                }
                linear(&plain, &mut want).unwrap();
                linear(&call, &mut found).unwrap();
                assert_eq!(bits(&found), bits(&want), "{rows} {n} {widths:?}");
                let short = Input::Joined(&sources[1..]);
                assert!(linear(&Linear { x: short, ..plain }, &mut found).is_err());
            }
        }
    });
}
