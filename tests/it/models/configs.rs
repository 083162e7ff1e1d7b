//! Configurations: resolved as diffusers resolves them, refused by key where this crate cannot follow.

use serde_json::{Value, json};
use tintype::ErrorKind;
use tintype::models::clip::Pooling;
use tintype::models::unet::MidConfig;
use tintype::models::{ClipTextConfig, UNetConfig, VaeConfig};

/// SD 1.5's `unet/config.json`, as published.
fn sd15_unet() -> Value {
    json!({
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": "0.6.0",
        "act_fn": "silu",
        "attention_head_dim": 8,
        "block_out_channels": [320, 640, 1280, 1280],
        "center_input_sample": false,
        "cross_attention_dim": 768,
        "down_block_types": [
            "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"
        ],
        "downsample_padding": 1,
        "flip_sin_to_cos": true,
        "freq_shift": 0,
        "in_channels": 4,
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-05,
        "norm_num_groups": 32,
        "out_channels": 4,
        "sample_size": 64,
        "up_block_types": [
            "UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"
        ]
    })
}

fn with(mut config: Value, changes: &Value) -> Value {
    for (key, value) in changes.as_object().expect("changes are an object") {
        config[key] = value.clone();
    }
    config
}

#[test]
fn head_dim_is_the_number_of_heads_and_the_way_up_mirrors_the_way_down() {
    let changes = json!({
        "attention_head_dim": [5, 10, 20, 20],
        "layers_per_block": [1, 2, 3, 4],
        "only_cross_attention": [true, false, false, false],
        "transformer_layers_per_block": [1, 2, 3, 4],
    });
    let config = UNetConfig::from_json("unet", &with(sd15_unet(), &changes)).unwrap();
    let down: Vec<_> = config
        .down
        .iter()
        .map(|block| {
            let attention = block.attention.as_ref();
            (
                block.layers,
                attention.map(|it| (it.heads, it.depths.clone(), it.only_cross_attention)),
            )
        })
        .collect();
    assert_eq!(
        down,
        [
            (1, Some((5, vec![1], true))),
            (2, Some((10, vec![2, 2], false))),
            (3, Some((20, vec![3, 3, 3], false))),
            (4, None),
        ]
    );
    let up: Vec<_> = config
        .up
        .iter()
        .map(|block| {
            let attention = block.attention.as_ref();
            (
                block.out_channels,
                block.layers,
                attention.map(|it| (it.heads, it.depths.clone())),
            )
        })
        .collect();
    assert_eq!(
        up,
        [
            (1280, 5, None),
            (1280, 4, Some((20, vec![3; 4]))),
            (640, 3, Some((10, vec![2; 3]))),
            (320, 2, Some((5, vec![1; 2]))),
        ]
    );
    let MidConfig::CrossAttention { attention, .. } = &config.mid else {
        panic!(
            "expected a transformer at the bottom, found {:?}",
            config.mid
        );
    };
    assert_eq!(
        (attention.heads, attention.depths.as_slice()),
        (20, &[4][..])
    );
    assert_eq!(config.context_dim(), Some(768));
    assert_eq!(config.downsamplings(), 3);
}

/// SSD-1B and Segmind-Vega give each residual block its own depth.
#[test]
fn nested_depths_are_taken_layer_by_layer() {
    let changes = json!({
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [0, [2, 2], [4, 4]],
        "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 0],
        "mid_block_type": "UNetMidBlock2D",
    });
    let config = UNetConfig::from_json("unet", &with(sd15_unet(), &changes)).unwrap();
    let depths = |blocks: &[tintype::models::unet::BlockConfig]| -> Vec<Vec<usize>> {
        let attentions = blocks.iter().filter_map(|block| block.attention.as_ref());
        attentions
            .map(|attention| attention.depths.clone())
            .collect()
    };
    assert_eq!(depths(&config.down), [[2, 2], [4, 4]]);
    assert_eq!(depths(&config.up), [[4, 4, 10], [2, 1, 1]]);
    assert_eq!(config.mid, MidConfig::Residual { scale: 1.0 });
}

#[test]
fn a_null_bottom_differs_from_none_given() {
    let config =
        UNetConfig::from_json("unet", &with(sd15_unet(), &json!({"mid_block_type": null})));
    assert_eq!(config.unwrap().mid, MidConfig::None);
    let config = UNetConfig::from_json("unet", &sd15_unet()).unwrap();
    assert!(matches!(config.mid, MidConfig::CrossAttention { .. }));
}

#[test]
fn unknown_and_training_keys_are_passed_over() {
    let changes = json!({"dropout": 0.1, "decay": 0.9999, "some_future_key": {"a": 1}, "upcast_attention": null});
    let config = UNetConfig::from_json("unet", &with(sd15_unet(), &changes)).unwrap();
    assert_eq!(config, UNetConfig::from_json("unet", &sd15_unet()).unwrap());
}

struct Case {
    changes: Value,
    kind: ErrorKind,
    message: &'static str,
}

fn check(cases: Vec<Case>, base: &Value, read: impl Fn(&Value) -> tintype::Result<()>) {
    let mut failures = Vec::new();
    for Case {
        changes,
        kind,
        message,
    } in cases
    {
        match read(&with(base.clone(), &changes)) {
            Ok(()) => failures.push(format!("{changes}: accepted")),
            Err(error) if error.kind() != kind || error.message() != message => {
                failures.push(format!("{changes}: {:?} {}", error.kind(), error.message()));
            }
            Err(_) => {}
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn unet_keys_that_cannot_be_honoured_are_refused_by_name() {
    use ErrorKind::{Malformed, Unsupported};
    let case = |changes, kind, message| Case {
        changes,
        kind,
        message,
    };
    let cases = vec![
        case(
            json!({"dual_cross_attention": true}),
            Unsupported,
            "unet/config.json: `dual_cross_attention` is true, expected false",
        ),
        case(
            json!({"act_fn": "mish"}),
            Unsupported,
            "unet/config.json: `act_fn` is \"mish\", expected \"silu\" or \"swish\"",
        ),
        case(
            json!({"num_class_embeds": 1000}),
            Unsupported,
            "unet/config.json: `num_class_embeds` is 1000, expected null",
        ),
        case(
            json!({"time_embedding_type": "fourier"}),
            Unsupported,
            "unet/config.json: `time_embedding_type` is \"fourier\", expected \"positional\"",
        ),
        case(
            json!({"resnet_out_scale_factor": 2}),
            Unsupported,
            "unet/config.json: `resnet_out_scale_factor` is 2, expected 1.0",
        ),
        case(
            json!({"addition_embed_type": "image"}),
            Unsupported,
            "unet/config.json: `addition_embed_type` is \"image\", expected \"text_time\"",
        ),
        case(
            json!({"addition_embed_type": "text_time"}),
            Malformed,
            "unet/config.json: `addition_time_embed_dim` is absent, expected a width, since `addition_embed_type` is \"text_time\"",
        ),
    ];
    check(cases, &sd15_unet(), |config| {
        UNetConfig::from_json("unet", config).map(drop)
    });
}

#[test]
fn unet_keys_that_contradict_each_other_are_refused_by_name() {
    use ErrorKind::{Malformed, Unsupported};
    let case = |changes, kind, message| Case {
        changes,
        kind,
        message,
    };
    let cases = vec![
        case(
            json!({"down_block_types": ["SimpleCrossAttnDownBlock2D", "DownBlock2D", "DownBlock2D", "DownBlock2D"]}),
            Unsupported,
            "unet/config.json: `down_block_types` is [\"SimpleCrossAttnDownBlock2D\",\"DownBlock2D\",\"DownBlock2D\",\"DownBlock2D\"], expected DownBlock2D or CrossAttnDownBlock2D",
        ),
        case(
            json!({"up_block_types": ["UpBlock2D"]}),
            Malformed,
            "unet/config.json: `up_block_types` is [\"UpBlock2D\"], expected 4 block types, one for each of `block_out_channels`",
        ),
        case(
            json!({"block_out_channels": "wide"}),
            Malformed,
            "unet/config.json: `block_out_channels` is \"wide\", expected a list of 1 to 128 whole numbers above 0",
        ),
        case(
            json!({"block_out_channels": [320, 640, 1280, 1281]}),
            Malformed,
            "unet/config.json: `norm_num_groups` is 32, expected a divisor of every width in [320, 640, 1280, 1281]",
        ),
        case(
            json!({"layers_per_block": 1_000_000_000}),
            Malformed,
            "unet/config.json: `layers_per_block` is 1000000000, expected 1 to 128 layers",
        ),
        case(
            json!({"attention_head_dim": 0}),
            Malformed,
            "unet/config.json: `attention_head_dim` is 0, expected 1 to 4096 heads",
        ),
        case(
            json!({"attention_head_dim": 640}),
            Malformed,
            "unet/config.json: `attention_head_dim` is 640, expected no more heads than channels",
        ),
        case(
            json!({"transformer_layers_per_block": [[1, 1], [1, 1], [1, 1], 1]}),
            Malformed,
            "unet/config.json: `reverse_transformer_layers_per_block` is absent, expected a list, since `transformer_layers_per_block` is nested",
        ),
        case(
            json!({"norm_eps": -1.0}),
            Malformed,
            "unet/config.json: `norm_eps` is -1.0, expected a number above 0",
        ),
    ];
    check(cases, &sd15_unet(), |config| {
        UNetConfig::from_json("unet", config).map(drop)
    });
}

#[test]
fn vae_keys_that_cannot_be_honoured_are_refused_by_name() {
    use ErrorKind::{Malformed, Unsupported};
    let base = json!({
        "_class_name": "AutoencoderKL",
        "block_out_channels": [128, 256],
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"],
        "latents_mean": [0.0, 1.0, 2.0, 3.0],
        "latents_std": [1.0, 1.0, 1.0, 1.0],
    });
    let config = VaeConfig::from_json("vae", &base).unwrap();
    assert_eq!(config.scale_factor(), 2);
    assert!(config.force_upcast && config.use_quant_conv && config.mid_block_add_attention);
    let case = |changes, kind, message| Case {
        changes,
        kind,
        message,
    };
    let cases = vec![
        case(
            json!({"_class_name": "AsymmetricAutoencoderKL"}),
            Unsupported,
            "vae/config.json: `_class_name` is \"AsymmetricAutoencoderKL\", expected \"AutoencoderKL\"",
        ),
        case(
            json!({"up_block_types": ["UpDecoderBlock2D", "AttnUpDecoderBlock2D"]}),
            Unsupported,
            "vae/config.json: `up_block_types` is [\"UpDecoderBlock2D\",\"AttnUpDecoderBlock2D\"], expected UpDecoderBlock2D only",
        ),
        case(
            json!({"latents_std": null}),
            Malformed,
            "vae/config.json: `latents_std` is null, expected a list, since `latents_mean` is given",
        ),
        case(
            json!({"scaling_factor": 0}),
            Malformed,
            "vae/config.json: `scaling_factor` is 0, expected a number above 0",
        ),
    ];
    check(cases, &base, |config| {
        VaeConfig::from_json("vae", config).map(drop)
    });
}

#[test]
fn text_keys_that_cannot_be_honoured_are_refused_by_name() {
    use ErrorKind::{Malformed, Unsupported};
    let base = json!({
        "architectures": ["CLIPTextModel"],
        "hidden_size": 64,
        "num_attention_heads": 4,
        "model_type": "clip_text_model",
    });
    let case = |changes, kind, message| Case {
        changes,
        kind,
        message,
    };
    let cases = vec![
        case(
            json!({"hidden_act": "relu"}),
            Unsupported,
            "text_encoder/config.json: `hidden_act` is \"relu\", expected \"quick_gelu\" or \"gelu\"",
        ),
        case(
            json!({"architectures": ["BertModel"]}),
            Unsupported,
            "text_encoder/config.json: `architectures` is [\"BertModel\"], expected [\"CLIPTextModel\"] or [\"CLIPTextModelWithProjection\"]",
        ),
        case(
            json!({"num_attention_heads": 7}),
            Malformed,
            "text_encoder/config.json: `num_attention_heads` is 7, expected a divisor of `hidden_size`, which is 64",
        ),
    ];
    check(cases, &base, |config| {
        ClipTextConfig::from_json("text_encoder", config).map(drop)
    });
    let array = ClipTextConfig::from_json("text_encoder", &json!([1])).unwrap_err();
    assert_eq!(
        array.message(),
        "text_encoder/config.json: found [1], expected an object"
    );
}

#[test]
fn the_pooled_token_is_the_end_token_or_the_highest_id() {
    let config = |eos: u32| {
        let config = json!({"architectures": ["CLIPTextModelWithProjection"], "eos_token_id": eos});
        ClipTextConfig::from_json("text_encoder_2", &config).unwrap()
    };
    assert_eq!(config(2).pooling, Pooling::HighestId);
    assert_eq!(config(49407).pooling, Pooling::FirstOf(49407));
    assert_eq!(config(49407).projection_dim, Some(512));
    let ids = [49406, 320, 49407, 49407, 49407];
    assert_eq!(Pooling::HighestId.position(&ids), 2);
    assert_eq!(Pooling::FirstOf(320).position(&ids), 1);
    assert_eq!(Pooling::FirstOf(7).position(&ids), 0);
}
