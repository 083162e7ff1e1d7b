//! Group and layer norm.

use super::*;

/// The input's mean is 60 deviations from zero: subtracting it costs six bits.
const OFFSET: Tolerance = Tolerance {
    absolute: 5e-5,
    relative: 1e-5,
};

#[test]
fn group_norm_matches_torch() {
    let cases = Cases::load();
    for engine in engines() {
        let x = cases.map(&engine, "group_norm.x");
        for groups in [1, 3, 4, 12] {
            let scope = cases.scope(&engine, "group_norm");
            let layer = GroupNorm::load(&scope, groups, 12, 1e-6).unwrap();
            for (suffix, activation) in [("", Activation::None), ("_silu", Activation::Silu)] {
                let name = format!("group_norm.y_{groups}{suffix}");
                let y = layer.forward(&x, activation).unwrap().to_host().unwrap();
                assert_close(&name, &y, &cases.host(&name), OFFSET);
                // Parts cut through a group on purpose.
                let parts = [(0, 7), (7, 1), (8, 4)];
                let parts = parts.map(|(start, len)| x.narrow_channels(start, len).unwrap());
                let y = layer.forward_concat(&parts.each_ref(), activation).unwrap();
                assert_close(&name, &y.to_host().unwrap(), &cases.host(&name), OFFSET);
            }
        }
    }
}

#[test]
fn layer_norm_matches_torch() {
    let cases = Cases::load();
    for engine in engines() {
        let layer = LayerNorm::load(&cases.scope(&engine, "layer_norm"), 11, 1e-5).unwrap();
        let y = layer
            .forward(&cases.tokens(&engine, "layer_norm.x"))
            .unwrap();
        assert_close(
            "layer_norm.y",
            &y.to_host().unwrap(),
            &cases.host("layer_norm.y"),
            OFFSET,
        );
    }
}

#[test]
fn norms_name_what_does_not_fit() {
    let cases = Cases::load();
    for engine in engines() {
        let scope = cases.scope(&engine, "group_norm");
        for groups in [0, 5] {
            let (kind, message) = fault(GroupNorm::load(&scope, groups, 12, 1e-6));
            assert_eq!(kind, ErrorKind::InvalidConfig);
            assert!(
                message.contains("12 channels do not fall into"),
                "{message}"
            );
        }
        let layer = GroupNorm::load(&scope, 4, 12, 1e-6).unwrap();
        let x = FeatureMap::from_host(&engine, &noise(1, &[1, 8, 2, 2])).unwrap();
        assert!(
            fault(layer.forward(&x, Activation::None))
                .1
                .contains("expected 12 channels")
        );
        assert!(
            fault(layer.forward_concat(&[], Activation::None))
                .1
                .contains("one map or more")
        );
        let layer = LayerNorm::load(&cases.scope(&engine, "layer_norm"), 11, 1e-5).unwrap();
        let x = Tokens::from_host(&engine, &noise(1, &[1, 2, 8])).unwrap();
        assert!(fault(layer.forward(&x)).1.contains("expected 11 channels"));
    }
}

#[test]
fn a_layer_that_norms_what_it_reads_gives_the_bits_of_normed_values() {
    let tensors = Memory::default()
        .with("norm.weight", &[64], noise(1, &[64]).data())
        .with("norm.bias", &[64], noise(2, &[64]).data())
        .with("linear.weight", &[32, 64], noise(3, &[32, 64]).data())
        .with("linear.bias", &[32], noise(4, &[32]).data())
        .arc();
    let host = noise(5, &[2, 64, 9, 7]);
    for precision in [Precision::F32, Precision::Fast] {
        for memory in [MemoryUse::Normal, MemoryUse::Low] {
            let engine = Engine::cpu().with_precision(Some(precision)).unwrap();
            let engine = engine.with_memory(memory).unwrap();
            let scope = Scope::load(&engine, tensors.clone(), |_| Ok(()));
            let norm = GroupNorm::load(&scope.pp("norm"), 8, 64, 1e-6).unwrap();
            let linear = Linear::load(&scope.pp("linear"), 64, 32, Bias::With).unwrap();
            let x = FeatureMap::from_host(&engine, &host).unwrap();
            let profiler = engine.profiler().unwrap();
            profiler.start();
            let waiting = norm.forward(&x, Activation::None).unwrap();
            let tokens = waiting.into_tokens().unwrap();
            let found = linear.forward(&tokens).unwrap().to_host().unwrap();
            let rows = profiler.take();
            profiler.stop();
            let values = tokens.to_host().unwrap();
            let values = Tokens::from_host(&engine, &values).unwrap();
            let expected = linear.forward(&values).unwrap().to_host().unwrap();
            assert_eq!(found, expected, "{precision} {memory}");
            let norms = rows.iter().filter(|(work, _)| work.kind == "group norm");
            let passes: usize = norms.map(|(_, spent)| spent.calls as usize).sum();
            // Where a product is of plain values the norm is written, in a pass of its own if it waited.
            let plain = precision == Precision::F32 && memory == MemoryUse::Low;
            let waits = tintype_kernels::Normed::suits();
            assert_eq!(
                passes,
                1 + usize::from(plain && waits),
                "{precision} {memory}"
            );
        }
    }
}

#[test]
fn a_norm_of_what_a_layer_just_wrote_is_the_norm_of_its_values() {
    // 32 channels: what a kernel that takes the norm's sums while it writes must have.
    let tensors = Memory::default()
        .with(
            "conv.weight",
            &[32, 32, 3, 3],
            noise(1, &[32, 32, 3, 3]).data(),
        )
        .with("conv.bias", &[32], noise(2, &[32]).map(|v| 20.0 * v).data())
        .with("linear.weight", &[32, 32], noise(3, &[32, 32]).data())
        .with("linear.bias", &[32], noise(4, &[32]).data())
        .with("norm.weight", &[32], noise(5, &[32]).data())
        .with("norm.bias", &[32], noise(6, &[32]).data())
        .arc();
    let host = noise(7, &[2, 32, 16, 16]);
    for engine in engines() {
        let scope = Scope::load(&engine, tensors.clone(), |_| Ok(()));
        let norm = GroupNorm::load(&scope.pp("norm"), 4, 32, 1e-5).unwrap();
        let spec = Conv2dSpec::same3x3(32, 32);
        let conv = Conv2d::load(&scope.pp("conv"), spec).unwrap();
        let linear = Linear::load(&scope.pp("linear"), 32, 32, Bias::With)
            .unwrap()
            .before_group_norm();
        let x = FeatureMap::from_host(&engine, &host).unwrap();
        let tokens = x.clone().into_tokens().unwrap();
        let projected = linear.forward_add(&tokens, &tokens).unwrap();
        let written = [
            conv.forward(&x).unwrap(),
            projected.into_feature_map(16, 16).unwrap(),
        ];
        for map in &written {
            let again = FeatureMap::from_host(&engine, &map.to_host().unwrap()).unwrap();
            let [found, expected] = [map, &again].map(|map| {
                let normed = norm.forward(map, Activation::Silu).unwrap();
                normed.to_host().unwrap()
            });
            assert_close("norm", &found, &expected, OFFSET);
            // Beside a map that nobody took sums of.
            let wide = Memory::default()
                .with("weight", &[64], noise(8, &[64]).data())
                .with("bias", &[64], noise(9, &[64]).data());
            let scope = Scope::load(&engine, wide.arc(), |_| Ok(()));
            let wide = GroupNorm::load(&scope, 2, 64, 1e-5).unwrap();
            let [found, expected] = [map, &again].map(|map| {
                let normed = wide.forward_concat(&[map, &x], Activation::None).unwrap();
                normed.to_host().unwrap()
            });
            assert_close("norm of two", &found, &expected, OFFSET);
        }
    }
}
