//! Activations, linear layers and what moves values around.

use super::*;

#[test]
fn linear_matches_torch() {
    let cases = Cases::load();
    for engine in engines() {
        let scope = cases.scope(&engine, "linear");
        let (x, residual) = (
            cases.tokens(&engine, "linear.x"),
            cases.tokens(&engine, "linear.residual"),
        );
        let layer = Linear::load(&scope, 7, 3, Bias::With).unwrap();
        cases.expect_tokens("linear.y", &layer.forward(&x).unwrap());
        cases.expect_tokens(
            "linear.y_residual",
            &layer.forward_add(&x, &residual).unwrap(),
        );
        let layer = Linear::load(&scope, 7, 3, Bias::Without).unwrap();
        cases.expect_tokens("linear.y_no_bias", &layer.forward(&x).unwrap());
    }
}

#[test]
fn activations_match_torch_into_the_tails() {
    let cases = Cases::load();
    for engine in engines() {
        let x = cases.tokens(&engine, "activations.x");
        cases.expect_tokens("activations.silu", &x.silu().unwrap());
        cases.expect_tokens("activations.gelu", &x.gelu().unwrap());
        cases.expect_tokens("activations.quick_gelu", &x.quick_gelu().unwrap());
        let map = x.into_feature_map(1, 3).unwrap().silu().unwrap();
        cases.expect_tokens("activations.silu", &map.into_tokens().unwrap());
    }
}

#[test]
fn geglu_matches_torch() {
    let cases = Cases::load();
    for engine in engines() {
        let layer = Geglu::load(&cases.scope(&engine, "geglu"), 7, 5).unwrap();
        let y = layer.forward(&cases.tokens(&engine, "geglu.x")).unwrap();
        cases.expect_tokens("geglu.y", &y);
    }
}

#[test]
fn host_round_trip_keeps_every_bit() {
    for engine in engines() {
        for shape in [[2, 3, 5, 4], [1, 1, 1, 1], [1, 7, 3, 1], [2, 4, 0, 3]] {
            let host = noise(1, &shape);
            let map = FeatureMap::from_host(&engine, &host).unwrap();
            assert_eq!(
                [map.batch(), map.channels(), map.height(), map.width()],
                shape
            );
            assert_eq!(map.to_host().unwrap(), host);
        }
        let host = noise(2, &[2, 3, 5]);
        let tokens = Tokens::from_host(&engine, &host).unwrap();
        assert_eq!(
            [tokens.batch(), tokens.tokens(), tokens.channels()],
            [2, 3, 5]
        );
        assert_eq!(tokens.to_host().unwrap(), host);
    }
}

#[test]
fn maps_become_tokens_row_by_row_and_back() {
    for engine in engines() {
        let host = noise(3, &[2, 3, 4, 5]);
        let map = FeatureMap::from_host(&engine, &host).unwrap();
        let tokens = map.into_tokens().unwrap();
        let found = tokens.to_host().unwrap();
        assert_eq!(found.shape(), [2, 20, 3]);
        // Token 7 of item 1 is row 1, column 2.
        let channels = [0, 1, 2].map(|c| host.data()[((3 + c) * 4 + 1) * 5 + 2]);
        assert_eq!(found.data()[(20 + 7) * 3..][..3], channels);
        assert_eq!(
            tokens.into_feature_map(4, 5).unwrap().to_host().unwrap(),
            host
        );
    }
}

#[test]
fn maps_add_scale_join_and_narrow() {
    for engine in engines() {
        let (a, b) = (noise(4, &[2, 3, 2, 2]), noise(5, &[2, 2, 2, 2]));
        let [x, y] = [&a, &b].map(|host| FeatureMap::from_host(&engine, host).unwrap());
        let sum = x.add(&x).unwrap().to_host().unwrap();
        assert_eq!(sum, a.clone().map(|v| v + v));
        assert_eq!(
            x.scale(-0.5).unwrap().to_host().unwrap(),
            a.clone().map(|v| v * -0.5)
        );
        let joined = FeatureMap::concat_channels(&[&x, &y, &x]).unwrap();
        assert_eq!(joined.channels(), 8);
        assert_eq!(joined.narrow_channels(0, 3).unwrap().to_host().unwrap(), a);
        assert_eq!(joined.narrow_channels(3, 2).unwrap().to_host().unwrap(), b);
        let twice = FeatureMap::concat_batch(&[&x, &x])
            .unwrap()
            .to_host()
            .unwrap();
        assert_eq!(twice, HostTensor::concat(&[a.clone(), a]).unwrap());
    }
}

#[test]
fn tokens_add_with_one_item_or_one_token() {
    for engine in engines() {
        let host = noise(6, &[2, 3, 4]);
        let x = Tokens::from_host(&engine, &host).unwrap();
        for shape in [[2, 3, 4], [1, 3, 4], [2, 1, 4], [1, 1, 4]] {
            let other = noise(7, &shape);
            let expected = (0..24).map(|i| {
                let (item, token, channel) = (i / 12 % shape[0], i / 4 % 3 % shape[1], i % 4);
                host.data()[i] + other.data()[(item * shape[1] + token) * 4 + channel]
            });
            let sum = x.add(&Tokens::from_host(&engine, &other).unwrap()).unwrap();
            assert_eq!(sum.to_host().unwrap().data(), expected.collect::<Vec<_>>());
        }
    }
}

#[test]
fn tokens_join_repeat_narrow_and_select() {
    for engine in engines() {
        let (a, b) = (noise(8, &[1, 3, 2]), noise(9, &[1, 3, 2]));
        let [x, y] = [&a, &b].map(|host| Tokens::from_host(&engine, host).unwrap());
        let both = Tokens::concat_batch(&[&x, &y]).unwrap();
        let host = |tokens: Result<Tokens>| tokens.unwrap().to_host().unwrap();
        assert_eq!(host(both.narrow_batch(1, 1)), b);
        let repeated = [a.clone(), b.clone(), a.clone(), b.clone()];
        assert_eq!(
            host(both.repeat_batch(2)),
            HostTensor::concat(&repeated).unwrap()
        );
        let picked = [&a.data()[4..6], &b.data()[0..2]].concat();
        assert_eq!(
            host(both.select(&[2, 0])),
            HostTensor::new([2, 1, 2], picked).unwrap()
        );
        let wide = host(Tokens::concat_channels(&[&x, &y]));
        assert_eq!(
            wide.data()[..4],
            [a.data()[0], a.data()[1], b.data()[0], b.data()[1]]
        );
        assert_eq!(wide.shape(), [1, 3, 4]);
    }
}

#[test]
fn embedding_looks_vectors_up() {
    let table = noise(10, &[5, 3]);
    for engine in engines() {
        let tensors = Memory::default().with_host("weight", &table).arc();
        let layer = Embedding::load(&Scope::load(&engine, tensors, |_| Ok(())), 5, 3).unwrap();
        let found = layer
            .forward(&[vec![4, 0], vec![1, 1]])
            .unwrap()
            .to_host()
            .unwrap();
        let rows = [4, 0, 1, 1]
            .map(|row| &table.data()[row * 3..][..3])
            .concat();
        assert_eq!(found, HostTensor::new([2, 2, 3], rows).unwrap());
        let (kind, message) = fault(layer.forward(&[vec![0, 5]]));
        assert_eq!(kind, ErrorKind::Internal);
        assert!(
            message.contains("found index 5, expected less than 5"),
            "{message}"
        );
        assert!(
            fault(layer.forward(&[vec![0], vec![0, 1]]))
                .1
                .contains("rows of 1")
        );
    }
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let cases = Cases::load();
    for engine in engines() {
        let map = |shape: [usize; 4]| FeatureMap::from_host(&engine, &noise(1, &shape)).unwrap();
        let tokens = |shape: [usize; 3]| Tokens::from_host(&engine, &noise(1, &shape)).unwrap();
        let (x, t) = (map([2, 3, 4, 5]), tokens([2, 6, 3]));
        let linear = Linear::load(&cases.scope(&engine, "linear"), 7, 3, Bias::With).unwrap();
        let faults = [
            fault(x.add(&map([2, 3, 4, 4]))),
            fault(FeatureMap::concat_channels(&[&x, &map([2, 3, 5, 5])])),
            fault(FeatureMap::concat_batch(&[&x, &map([2, 4, 4, 5])])),
            fault(FeatureMap::concat_batch(&[])),
            fault(x.narrow_channels(2, 2)),
            fault(x.narrow_channels(usize::MAX, 2)),
            fault(x.upsample_nearest(0, 3)),
            fault(t.add(&tokens([2, 6, 1]))),
            fault(t.add(&tokens([3, 6, 3]))),
            fault(Tokens::concat_channels(&[&t, &tokens([2, 5, 3])])),
            fault(t.narrow_batch(1, 2)),
            fault(t.repeat_batch(0)),
            fault(t.select(&[0])),
            fault(t.select(&[0, 6])),
            fault(t.clone().into_feature_map(2, 2)),
            fault(t.clone().into_feature_map(usize::MAX, 2)),
            fault(Tokens::from_host(&engine, &noise(1, &[2, 3]))),
            fault(linear.forward(&t)),
            fault(linear.forward_add(&tokens([1, 2, 7]), &tokens([1, 2, 7]))),
        ];
        for (kind, message) in faults {
            assert_eq!(kind, ErrorKind::Internal, "{message}");
            assert!(
                message.contains("found shape") && message.contains("expected"),
                "{message}"
            );
        }
        let (_, message) = fault(linear.forward(&t));
        assert_eq!(
            message,
            "linear linear: found shape [2, 6, 3], expected 7 channels"
        );
    }
}

#[test]
fn engines_do_not_mix() {
    let [cpu, candle] = engines();
    let host = noise(1, &[1, 2, 3]);
    let [a, b] = [&cpu, &candle].map(|engine| Tokens::from_host(engine, &host).unwrap());
    assert!(fault(a.add(&b)).1.contains("two engines"));
    assert!(
        fault(Tokens::concat_batch(&[&b, &a]))
            .1
            .contains("two engines")
    );
}
