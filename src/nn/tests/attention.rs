//! Attention layers.

use super::*;

fn specs() -> [(&'static str, AttentionSpec); 4] {
    let base = |heads, head_dim| AttentionSpec {
        out_dim: 8,
        ..AttentionSpec::new(9, heads, head_dim)
    };
    [
        ("attention_self", base(2, 5)),
        (
            "attention_causal",
            AttentionSpec {
                qkv_bias: Bias::With,
                causal: true,
                ..base(3, 4)
            },
        ),
        (
            "attention_cross",
            AttentionSpec {
                context_dim: Some(11),
                ..base(2, 5)
            },
        ),
        (
            "attention_scale",
            AttentionSpec {
                qkv_bias: Bias::With,
                scale: Some(0.9),
                ..base(1, 6)
            },
        ),
    ]
}

#[test]
fn attention_matches_torch() {
    let cases = Cases::load();
    for engine in engines() {
        for (case, spec) in specs() {
            let layer = Attention::load(&cases.scope(&engine, case), &spec).unwrap();
            let x = cases.tokens(&engine, &format!("{case}.x"));
            let residual = cases.tokens(&engine, &format!("{case}.residual"));
            let context = spec
                .context_dim
                .map(|_| cases.tokens(&engine, &format!("{case}.context")));
            let y = layer
                .forward(&x, context.as_ref(), Some(&residual))
                .unwrap();
            cases.expect_tokens(&format!("{case}.y"), &y);

            let plain = layer.forward(&x, context.as_ref(), None).unwrap();
            cases.expect_tokens(&format!("{case}.y"), &plain.add(&residual).unwrap());

            if let Some(context) = context {
                let cached = layer.project_context(&context).unwrap();
                assert_eq!(cached.batch(), 2);
                let cached = layer.forward_cached(&x, &cached, Some(&residual)).unwrap();
                assert_eq!(cached.to_host().unwrap(), y.to_host().unwrap());
            }
        }
    }
}

#[test]
fn a_causal_token_does_not_see_later_ones() {
    let cases = Cases::load();
    let (case, spec) = specs()[1];
    for engine in engines() {
        let layer = Attention::load(&cases.scope(&engine, case), &spec).unwrap();
        let host = cases.host("attention_causal.x");
        let mut changed = host.clone();
        // The last token of item 0.
        changed.data_mut()[6 * 9..7 * 9].fill(50.0);
        let [a, b] = [host, changed].map(|host| {
            let x = Tokens::from_host(&engine, &host).unwrap();
            layer
                .forward(&x, None, None)
                .unwrap()
                .to_host()
                .unwrap()
                .into_data()
        });
        assert_eq!(a[..6 * 8], b[..6 * 8]);
        assert_ne!(a[6 * 8..7 * 8], b[6 * 8..7 * 8]);
    }
}

#[test]
fn attention_names_what_does_not_fit() {
    let cases = Cases::load();
    for engine in engines() {
        let [selfish, _, cross, _] = specs()
            .map(|(case, spec)| Attention::load(&cases.scope(&engine, case), &spec).unwrap());
        let tokens = |shape: [usize; 3]| Tokens::from_host(&engine, &noise(1, &shape)).unwrap();
        let (x, context) = (tokens([2, 7, 9]), tokens([2, 6, 11]));
        let cached = cross.project_context(&context).unwrap();
        let faults = [
            fault(selfish.forward(&tokens([2, 7, 8]), None, None)),
            fault(selfish.forward(&x, Some(&x), None)),
            fault(cross.forward(&x, None, None)),
            fault(cross.forward(&x, Some(&x), None)),
            fault(cross.forward(&tokens([1, 7, 9]), Some(&context), None)),
            fault(cross.forward(&x, Some(&tokens([2, 0, 11])), None)),
            fault(cross.forward(&x, Some(&context), Some(&x))),
            fault(cross.forward_cached(&tokens([3, 7, 9]), &cached, None)),
        ];
        for (kind, message) in faults {
            assert_eq!(kind, ErrorKind::Internal, "{message}");
            assert!(message.contains("found shape"), "{message}");
        }
        assert!(
            fault(selfish.project_context(&x))
                .1
                .contains("built for other inputs")
        );
        assert!(
            fault(selfish.forward_cached(&x, &cached, None))
                .1
                .contains("built for other inputs")
        );
        let none = AttentionSpec::new(9, 0, 4);
        let (kind, message) = fault(Attention::load(
            &cases.scope(&engine, "attention_self"),
            &none,
        ));
        assert_eq!(
            (kind, message.contains("0 heads")),
            (ErrorKind::InvalidConfig, true)
        );
    }
}
