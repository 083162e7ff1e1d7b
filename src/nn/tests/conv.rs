//! Convolutions.

use super::*;

fn spec(kernel: usize, stride: usize, padding: Padding) -> Conv2dSpec {
    Conv2dSpec {
        in_channels: 5,
        out_channels: 6,
        kernel,
        stride,
        padding,
    }
}

#[test]
fn conv_matches_torch() {
    let cases = Cases::load();
    for engine in engines() {
        let scope = cases.scope(&engine, "conv3");
        let x = cases.map(&engine, "conv3.x");
        for (name, spec) in [
            ("conv3.y", Conv2dSpec::same3x3(5, 6)),
            ("conv3.y_unpadded", spec(3, 1, Padding::Symmetric(0))),
            ("conv3.y_stride", spec(3, 2, Padding::Symmetric(1))),
            ("conv3.y_bottom_right", spec(3, 2, Padding::BottomRight)),
        ] {
            let layer = Conv2d::load(&scope, spec).unwrap();
            cases.expect_map(name, &layer.forward(&x).unwrap());
        }
    }
}

#[test]
fn conv_adds_time_embedding_and_residual() {
    let cases = Cases::load();
    for engine in engines() {
        let layer =
            Conv2d::load(&cases.scope(&engine, "conv3"), Conv2dSpec::same3x3(5, 6)).unwrap();
        let x = cases.map(&engine, "conv3.x");
        let channel_bias = cases.tokens(&engine, "conv3.channel_bias");
        let residual = cases.map(&engine, "conv3.residual");
        let fused = Fused {
            channel_bias: Some(&channel_bias),
            residual: Some(&residual),
        };
        cases.expect_map("conv3.y_fused", &layer.forward_fused(&x, fused).unwrap());

        // One embedding for the whole batch is that embedding for each item.
        let one = channel_bias.narrow_batch(0, 1).unwrap();
        let (one, repeated) = (&one, &one.repeat_batch(2).unwrap());
        let [one, repeated] = [one, repeated].map(|channel_bias| {
            let fused = Fused {
                channel_bias: Some(channel_bias),
                residual: None,
            };
            layer.forward_fused(&x, fused).unwrap().to_host().unwrap()
        });
        assert_eq!(one, repeated);
    }
}

#[test]
fn upsampling_picks_torchs_elements_at_any_size() {
    let cases = Cases::load();
    for engine in engines() {
        let layer =
            Conv2d::load(&cases.scope(&engine, "conv3"), Conv2dSpec::same3x3(5, 6)).unwrap();
        let x = cases.map(&engine, "conv3.x");
        for (height, width) in [(14, 18), (15, 19), (13, 29), (7, 9), (5, 4)] {
            let part = |map: FeatureMap| {
                // The fixture holds item 0 and two channels.
                let item = map
                    .narrow_channels(0, 2)
                    .unwrap()
                    .to_host()
                    .unwrap()
                    .item(0)
                    .unwrap();
                FeatureMap::from_host(&engine, &item).unwrap()
            };
            let up = x.upsample_nearest(height, width).unwrap();
            cases.expect_map(&format!("conv3.up_{height}_{width}"), &part(up));
            let y = layer.forward_upsampled(&x, height, width).unwrap();
            cases.expect_map(&format!("conv3.y_up_{height}_{width}"), &part(y));
        }
    }
}

#[test]
fn one_by_one_is_read_from_either_shape() {
    let cases = Cases::load();
    let (weight, bias) = (cases.host("conv1.weight"), cases.host("conv1.bias"));
    for engine in engines() {
        for shape in [&[7, 5, 1, 1][..], &[7, 5, 1], &[7, 5]] {
            let tensors = Memory::default().with("weight", shape, weight.data());
            let tensors = tensors.with_host("bias", &bias).arc();
            let scope = Scope::load(&engine, tensors, |_| Ok(()));
            let x = cases.map(&engine, "conv1.x");
            let layer = Conv2d::load(&scope, Conv2dSpec::pointwise(5, 7)).unwrap();
            cases.expect_map("conv1.y", &layer.forward(&x).unwrap());
            let layer = Linear::load(&scope, 5, 7, Bias::With).unwrap();
            let y = layer.forward(&x.into_tokens().unwrap()).unwrap();
            cases.expect_map("conv1.y", &y.into_feature_map(3, 4).unwrap());
        }
    }
}

#[test]
fn conv_names_shapes_that_do_not_fit() {
    let cases = Cases::load();
    for engine in engines() {
        let scope = cases.scope(&engine, "conv3");
        let layer = Conv2d::load(&scope, spec(3, 1, Padding::Symmetric(0))).unwrap();
        let map = |shape: [usize; 4]| FeatureMap::from_host(&engine, &noise(1, &shape)).unwrap();
        let x = map([2, 5, 4, 4]);
        let (_, message) = fault(layer.forward(&map([2, 4, 4, 4])));
        assert_eq!(
            message,
            "conv2d conv3: found shape [2, 4, 4, 4], expected 5 channels"
        );
        assert!(
            fault(layer.forward(&map([2, 5, 2, 4])))
                .1
                .contains("room for a 3 x 3 filter")
        );
        let residual = map([2, 6, 4, 4]);
        let fused = Fused {
            residual: Some(&residual),
            ..Fused::default()
        };
        let (_, message) = fault(layer.forward_fused(&x, fused));
        assert!(
            message.contains("residual: found shape [2, 6, 4, 4], expected [2, 6, 2, 2]"),
            "{message}"
        );
        let bias = Tokens::from_host(&engine, &noise(1, &[2, 1, 5])).unwrap();
        let fused = Fused {
            channel_bias: Some(&bias),
            ..Fused::default()
        };
        assert!(
            fault(layer.forward_fused(&x, fused))
                .1
                .contains("channel bias")
        );
        assert!(
            fault(layer.forward_upsampled(&x, 0, 4))
                .1
                .contains("no extent of zero")
        );
        assert!(
            fault(Conv2d::load(&scope, spec(3, 0, Padding::Symmetric(0))))
                .1
                .contains("stride 0")
        );
    }
}
