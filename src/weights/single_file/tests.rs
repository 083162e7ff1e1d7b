//! Checkpoints of full size, as names and shapes: what is made of them is held to digests of diffusers
//! 0.42.1's and transformers' own `state_dict`s and to the published configurations.

use super::*;
use crate::events::Silent;
use crate::weights::ldm::unet::tests::{self as unets, Original, conv, linear, norm};
use crate::weights::view::testing::{ShapeSource, digest};

const VAE_DIGEST: u64 = 0x33d9_25fd_650f_c4f9;
const CLIP_L_DIGEST: u64 = 0x093f_0062_7994_044d;

/// A file under construction.
#[derive(Default)]
struct Builder(ShapeSource);

impl Builder {
    fn unet(mut self, original: &Original) -> Self {
        self.put_below(ldm::UNET_PREFIX, &original.write());
        self
    }

    fn put_below(&mut self, prefix: &str, part: &ShapeSource) {
        for name in part.names() {
            self.0
                .put(&format!("{prefix}{name}"), &part.info(&name).unwrap().1);
        }
    }

    fn vae(mut self) -> Self {
        self.put_below("first_stage_model.", &vae_shapes());
        self
    }

    fn clip_l(mut self, prefix: &str) -> Self {
        self.put_below(prefix, &clip_shapes());
        self
    }

    fn open_clip(mut self, prefix: &str, width: usize, layers: usize) -> Self {
        self.put_below(prefix, &open_clip_shapes(width, layers));
        self
    }

    fn extra(mut self, name: &str) -> Self {
        self.0.put(name, &[1]);
        self
    }

    fn file(self) -> TensorFile {
        TensorFile {
            tensors: Arc::new(self.0),
            metadata: std::collections::BTreeMap::new(),
            global_step: None,
        }
    }

    fn open(self) -> Result<Parts> {
        open_parts(
            Path::new("m.safetensors"),
            self.file(),
            &OpenOptions::default(),
            &mut Silent,
        )
    }
}

/// `ldm/modules/diffusionmodules/model.py` with 128 channels times 1, 2, 4, 4.
#[expect(clippy::too_many_lines, reason = "a flat list of tensors")]
fn vae_shapes() -> ShapeSource {
    const CHANNELS: [usize; 4] = [128, 256, 512, 512];
    let mut out = ShapeSource::default();
    let resnet = |out: &mut ShapeSource, prefix: &str, to: usize, from: usize| {
        norm(out, &format!("{prefix}.norm1"), from);
        conv(out, &format!("{prefix}.conv1"), to, from, 3);
        norm(out, &format!("{prefix}.norm2"), to);
        conv(out, &format!("{prefix}.conv2"), to, to, 3);
        if to != from {
            conv(out, &format!("{prefix}.nin_shortcut"), to, from, 1);
        }
    };
    for (side, ends) in [("encoder", (3, 8)), ("decoder", (4, 3))] {
        resnet(&mut out, &format!("{side}.mid.block_1"), 512, 512);
        norm(&mut out, &format!("{side}.mid.attn_1.norm"), 512);
        for projection in ["q", "k", "v", "proj_out"] {
            conv(
                &mut out,
                &format!("{side}.mid.attn_1.{projection}"),
                512,
                512,
                1,
            );
        }
        resnet(&mut out, &format!("{side}.mid.block_2"), 512, 512);
        let (first, last) = if side == "encoder" {
            (128, 512)
        } else {
            (512, 128)
        };
        conv(&mut out, &format!("{side}.conv_in"), first, ends.0, 3);
        norm(&mut out, &format!("{side}.norm_out"), last);
        conv(&mut out, &format!("{side}.conv_out"), ends.1, last, 3);
    }
    for level in 0..4 {
        let to = CHANNELS[level];
        for block in 0..2 {
            let from = if block == 0 && level > 0 {
                CHANNELS[level - 1]
            } else {
                to
            };
            resnet(
                &mut out,
                &format!("encoder.down.{level}.block.{block}"),
                to,
                from,
            );
        }
        for block in 0..3 {
            let from = if block == 0 && level < 3 {
                CHANNELS[level + 1]
            } else {
                to
            };
            resnet(
                &mut out,
                &format!("decoder.up.{level}.block.{block}"),
                to,
                from,
            );
        }
        if level < 3 {
            conv(
                &mut out,
                &format!("encoder.down.{level}.downsample.conv"),
                to,
                to,
                3,
            );
        }
        if level > 0 {
            conv(
                &mut out,
                &format!("decoder.up.{level}.upsample.conv"),
                to,
                to,
                3,
            );
        }
    }
    conv(&mut out, "quant_conv", 8, 8, 1);
    conv(&mut out, "post_quant_conv", 4, 4, 1);
    out
}

fn clip_shapes() -> ShapeSource {
    let mut out = ShapeSource::default();
    out.put(
        "text_model.embeddings.token_embedding.weight",
        &[49408, 768],
    );
    out.put(
        "text_model.embeddings.position_embedding.weight",
        &[77, 768],
    );
    out.put("text_model.embeddings.position_ids", &[1, 77]);
    norm(&mut out, "text_model.final_layer_norm", 768);
    for layer in 0..12 {
        let layer = format!("text_model.encoder.layers.{layer}");
        for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            linear(
                &mut out,
                &format!("{layer}.self_attn.{projection}"),
                768,
                768,
            );
        }
        norm(&mut out, &format!("{layer}.layer_norm1"), 768);
        norm(&mut out, &format!("{layer}.layer_norm2"), 768);
        linear(&mut out, &format!("{layer}.mlp.fc1"), 3072, 768);
        linear(&mut out, &format!("{layer}.mlp.fc2"), 768, 3072);
    }
    out
}

fn open_clip_shapes(width: usize, layers: usize) -> ShapeSource {
    let mut out = ShapeSource::default();
    out.put("token_embedding.weight", &[49408, width]);
    out.put("positional_embedding", &[77, width]);
    out.put("text_projection", &[width, width]);
    out.put("logit_scale", &[]);
    norm(&mut out, "ln_final", width);
    for layer in 0..layers {
        let layer = format!("transformer.resblocks.{layer}");
        out.put(&format!("{layer}.attn.in_proj_weight"), &[3 * width, width]);
        out.put(&format!("{layer}.attn.in_proj_bias"), &[3 * width]);
        linear(&mut out, &format!("{layer}.attn.out_proj"), width, width);
        norm(&mut out, &format!("{layer}.ln_1"), width);
        norm(&mut out, &format!("{layer}.ln_2"), width);
        linear(&mut out, &format!("{layer}.mlp.c_fc"), 4 * width, width);
        linear(&mut out, &format!("{layer}.mlp.c_proj"), width, 4 * width);
    }
    out
}

fn sd1() -> Builder {
    Builder::default()
        .unet(&unets::sd1())
        .vae()
        .clip_l(SD1_TEXT)
}

fn sd2() -> Builder {
    Builder::default()
        .unet(&unets::sd2())
        .vae()
        .open_clip(SD2_TEXT, 1024, 24)
}

fn sdxl(unet: &Original) -> Builder {
    Builder::default()
        .unet(unet)
        .vae()
        .clip_l(SDXL_TEXT)
        .open_clip(SDXL_TEXT_2, 1280, 32)
}

fn refiner() -> Builder {
    Builder::default()
        .unet(&unets::refiner())
        .vae()
        .open_clip(REFINER_TEXT, 1280, 32)
}

#[test]
fn every_published_checkpoint_gets_its_published_configurations() {
    for (builder, id, text_digests, unet_digest) in [
        (
            sd1(),
            "sd1",
            [Some(CLIP_L_DIGEST), None],
            0xea3d_cee0_6756_1dee,
        ),
        (
            sd2(),
            "sd2",
            [Some(0xefff_6269_af25_4ae7), None],
            0x1b0e_f070_a416_8136,
        ),
        (
            sdxl(&unets::sdxl()),
            "sdxl",
            [Some(CLIP_L_DIGEST), Some(0x670e_035c_2365_8bfe)],
            0xf366_85d1_fcd1_4fec,
        ),
        (
            refiner(),
            "sdxl-refiner",
            [None, Some(0x670e_035c_2365_8bfe)],
            0x6466_3f9a_0cc2_2bf4,
        ),
    ] {
        let parts = builder.open().unwrap();
        assert_eq!(parts.family.id, id);
        assert_eq!(digest(parts.unet.tensors.as_ref()), unet_digest, "{id}");
        let vae = parts.vae.unwrap();
        assert_eq!(digest(vae.tensors.as_ref()), VAE_DIGEST, "{id}");
        assert_eq!(
            vae.config,
            parts.family.published_config("vae").unwrap(),
            "{id}"
        );
        assert_eq!(
            parts.unet.config,
            parts.family.published_config("unet").unwrap(),
            "{id}"
        );
        for (tower, expected) in [parts.text_encoder, parts.text_encoder_2]
            .iter()
            .zip(text_digests)
        {
            let found = tower.as_ref().map(|tower| digest(tower.tensors.as_ref()));
            assert_eq!(found, expected, "{id}");
            if let Some(tower) = tower {
                let published = parts.family.published_config(&tower.name).unwrap();
                let mut config = tower.config.clone();
                if id == "sd2" {
                    // Published as 512, for a projection that the model does not have.
                    config["projection_dim"] = published["projection_dim"].clone();
                }
                assert_eq!(config, published, "{id} {}", tower.name);
            }
        }
        assert_eq!(
            parts.scheduler["prediction_type"],
            if id == "sd2" {
                "v_prediction"
            } else {
                "epsilon"
            },
            "{id}"
        );
    }
}

#[test]
fn inpainting_pruned_and_distilled_files_are_told_apart() {
    let inpaint = Original {
        in_channels: 9,
        ..unets::sd1()
    };
    let inpaint = Builder::default().unet(&inpaint).vae().clip_l(SD1_TEXT);
    let lcm = sd1().extra("model.diffusion_model.nothing");
    let ids = [
        (inpaint, "sd1-inpaint"),
        (lcm, "sd1"),
        (sdxl(&unets::ssd_1b()), "sdxl"),
        (sdxl(&unets::vega()), "sdxl"),
    ];
    for (builder, id) in ids {
        let parts = builder.open().unwrap();
        assert_eq!(parts.family.id, id);
        assert_eq!(
            parts.family.text_to_image_obstacle.is_some(),
            id.contains("inpaint")
        );
    }
    let mut lcm = sd1();
    lcm.0.put(
        "model.diffusion_model.time_embed.cond_proj.weight",
        &[320, 256],
    );
    let parts = lcm.open().unwrap();
    assert_eq!(parts.family.id, "sd1-lcm");
    assert_eq!(parts.unet.config["time_cond_proj_dim"], 256);
    assert!(
        parts
            .unet
            .tensors
            .info("time_embedding.cond_proj.weight")
            .is_some()
    );
}

#[test]
fn markers_reach_the_scheduler_and_extra_tensors_are_passed_over() {
    let parts = sdxl(&unets::sdxl())
        .extra("v_pred")
        .extra("ztsnr")
        .extra("alphas_cumprod")
        .extra("model_ema.decay")
        .extra("first_stage_model.loss.logvar")
        .open()
        .unwrap();
    assert_eq!(parts.scheduler["prediction_type"], "v_prediction");
    assert_eq!(parts.scheduler["rescale_betas_zero_snr"], true);
    assert_eq!(digest(parts.vae.unwrap().tensors.as_ref()), VAE_DIGEST);
    assert_eq!(parts.model_index["force_zeros_for_empty_prompt"], true);
}

#[test]
fn the_base_model_of_the_second_generation_is_smaller() {
    let file = TensorFile {
        global_step: Some(875_000),
        ..sd2().file()
    };
    let parts = open_parts(
        Path::new("m.ckpt"),
        file,
        &OpenOptions::default(),
        &mut Silent,
    )
    .unwrap();
    assert_eq!(parts.scheduler["prediction_type"], "epsilon");
    assert_eq!(parts.unet.config["sample_size"], 64);
}

#[test]
fn a_guess_is_told() {
    let mut warnings = Vec::new();
    let mut observer = |event: &Event| {
        if let Event::Warning(text) = event {
            warnings.push(text.clone());
        }
    };
    open_parts(
        Path::new("m.ckpt"),
        sd2().file(),
        &OpenOptions::default(),
        &mut observer,
    )
    .unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("velocity (v_prediction)"),
        "{warnings:?}"
    );
}

#[test]
fn wrapped_and_averaged_names_are_unpacked() {
    let source = sd1().0;
    let mut wrapped = Builder::default();
    wrapped.put_below("state_dict.", &source);
    let parts = wrapped.open().unwrap();
    assert_eq!(digest(parts.unet.tensors.as_ref()), 0xea3d_cee0_6756_1dee);

    let mut averaged = Builder::default()
        .vae()
        .clip_l(SD1_TEXT)
        .extra("model_ema.num_updates");
    let unet = unets::sd1().write();
    for name in unet.names() {
        let flat = format!("{}{}", ema::PREFIX, name.replace('.', ""));
        averaged.0.put(&flat, &unet.info(&name).unwrap().1);
    }
    let parts = averaged.open().unwrap();
    assert_eq!(digest(parts.unet.tensors.as_ref()), 0xea3d_cee0_6756_1dee);
}

#[test]
fn missing_components_are_all_named() {
    let error = |builder: Builder| builder.open().map(|_| ()).unwrap_err();
    let alone = error(Builder::default().unet(&unets::sdxl()));
    assert_eq!(alone.kind(), ErrorKind::WeightMismatch);
    for missing in [
        "text_encoder (",
        "text_encoder_2 (",
        "vae (first_stage_model.*)",
    ] {
        assert!(alone.message().contains(missing), "{alone}");
    }
    let mut no_vae = sd1().0;
    for name in vae_shapes().names() {
        no_vae.remove(&format!("first_stage_model.{name}"));
    }
    let no_vae = error(Builder(no_vae));
    assert!(no_vae.message().contains("missing vae"), "{no_vae}");
    assert!(no_vae.hint().unwrap().contains("--vae"), "{no_vae}");
}

#[test]
fn other_kinds_of_models_are_refused_by_name() {
    let error = |builder: Builder| builder.open().map(|_| ()).unwrap_err();
    let playground = error(sdxl(&unets::sdxl()).extra("edm_mean"));
    assert!(playground.message().contains("Playground"), "{playground}");
    let mut unclip = sd2();
    unclip
        .0
        .put("model.diffusion_model.label_emb.0.0.weight", &[1280, 2048]);
    let unclip = error(unclip);
    assert!(unclip.message().contains("unCLIP"), "{unclip}");
    assert_eq!(unclip.kind(), ErrorKind::Unsupported);
    let vae = error(Builder::default().vae());
    assert!(vae.message().contains("a VAE alone"), "{vae}");
}
