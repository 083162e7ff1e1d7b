//! A writer of UNet names follows the original constructor (`openaimodel.py`); what the reader makes of
//! them is held to digests of diffusers 0.42.1's own `state_dict`s.

use std::sync::Arc;

use super::*;
use crate::error::ErrorKind;
use crate::weights::spec::Family;
use crate::weights::view::testing::{MemorySource, ShapeSource, digest};

/// What the original constructor is told.
pub(crate) struct Original {
    pub(crate) in_channels: usize,
    pub(crate) channels: &'static [usize],
    pub(crate) blocks: usize,
    /// Transformer layers of each residual block on the way down, level by level.
    pub(crate) down: Vec<Vec<usize>>,
    pub(crate) middle: Middle,
    /// The same on the way up, in the order of `output_blocks`.
    pub(crate) up: Vec<Vec<usize>>,
    pub(crate) context: usize,
    pub(crate) linear: bool,
    pub(crate) added: Option<usize>,
}

impl Original {
    /// A model whose blocks of a level are alike, the way up mirroring the way down.
    fn regular(channels: &'static [usize], depths: &[usize], context: usize) -> Self {
        Self {
            in_channels: 4,
            channels,
            blocks: 2,
            down: depths.iter().map(|&depth| vec![depth; 2]).collect(),
            middle: Middle::Transformer(1),
            up: depths.iter().rev().map(|&depth| vec![depth; 3]).collect(),
            context,
            linear: true,
            added: None,
        }
    }

    /// Names and shapes of the whole UNet.
    pub(crate) fn write(&self) -> ShapeSource {
        let mut out = ShapeSource::default();
        let time = self.channels[0] * 4;
        linear(&mut out, "time_embed.0", time, self.channels[0]);
        linear(&mut out, "time_embed.2", time, time);
        if let Some(added) = self.added {
            linear(&mut out, "label_emb.0.0", time, added);
            linear(&mut out, "label_emb.0.2", time, time);
        }
        conv(
            &mut out,
            "input_blocks.0.0",
            self.channels[0],
            self.in_channels,
            3,
        );
        let mut block = 1;
        let mut width = self.channels[0];
        let mut skips = vec![width];
        for (level, depths) in self.down.iter().enumerate() {
            for &depth in depths {
                self.resnet(
                    &mut out,
                    &format!("input_blocks.{block}.0"),
                    self.channels[level],
                    width,
                );
                width = self.channels[level];
                self.transformer(&mut out, &format!("input_blocks.{block}.1"), width, depth);
                skips.push(width);
                block += 1;
            }
            if level + 1 < self.down.len() {
                conv(
                    &mut out,
                    &format!("input_blocks.{block}.0.op"),
                    width,
                    width,
                    3,
                );
                skips.push(width);
                block += 1;
            }
        }
        if self.middle != Middle::Absent {
            self.resnet(&mut out, "middle_block.0", width, width);
        }
        if let Middle::Transformer(depth) = self.middle {
            self.transformer(&mut out, "middle_block.1", width, depth);
            self.resnet(&mut out, "middle_block.2", width, width);
        }
        self.write_up(&mut out, width, skips);
        norm(&mut out, "out.0", self.channels[0]);
        conv(&mut out, "out.2", 4, self.channels[0], 3);
        out
    }

    fn write_up(&self, out: &mut ShapeSource, mut width: usize, mut skips: Vec<usize>) {
        let mut block = 0;
        for (up_level, depths) in self.up.iter().enumerate() {
            let level = self.channels.len() - 1 - up_level;
            assert_eq!(depths.len(), self.blocks + 1);
            for (index, &depth) in depths.iter().enumerate() {
                let prefix = format!("output_blocks.{block}");
                let channels = self.channels[level];
                self.resnet(
                    out,
                    &format!("{prefix}.0"),
                    channels,
                    width + skips.pop().unwrap(),
                );
                width = channels;
                self.transformer(out, &format!("{prefix}.1"), width, depth);
                if level > 0 && index == self.blocks {
                    let at = if depth > 0 { 2 } else { 1 };
                    conv(out, &format!("{prefix}.{at}.conv"), width, width, 3);
                }
                block += 1;
            }
        }
    }

    fn resnet(&self, out: &mut ShapeSource, prefix: &str, to: usize, from: usize) {
        norm(out, &format!("{prefix}.in_layers.0"), from);
        conv(out, &format!("{prefix}.in_layers.2"), to, from, 3);
        linear(
            out,
            &format!("{prefix}.emb_layers.1"),
            to,
            self.channels[0] * 4,
        );
        norm(out, &format!("{prefix}.out_layers.0"), to);
        conv(out, &format!("{prefix}.out_layers.3"), to, to, 3);
        if to != from {
            conv(out, &format!("{prefix}.skip_connection"), to, from, 1);
        }
    }

    fn transformer(&self, out: &mut ShapeSource, prefix: &str, width: usize, depth: usize) {
        if depth == 0 {
            return;
        }
        norm(out, &format!("{prefix}.norm"), width);
        for projection in ["proj_in", "proj_out"] {
            let name = format!("{prefix}.{projection}");
            if self.linear {
                linear(out, &name, width, width);
            } else {
                conv(out, &name, width, width, 1);
            }
        }
        for layer in 0..depth {
            let layer = format!("{prefix}.transformer_blocks.{layer}");
            for (attention, context) in [("attn1", width), ("attn2", self.context)] {
                out.put(&format!("{layer}.{attention}.to_q.weight"), &[width, width]);
                out.put(
                    &format!("{layer}.{attention}.to_k.weight"),
                    &[width, context],
                );
                out.put(
                    &format!("{layer}.{attention}.to_v.weight"),
                    &[width, context],
                );
                linear(out, &format!("{layer}.{attention}.to_out.0"), width, width);
            }
            linear(out, &format!("{layer}.ff.net.0.proj"), width * 8, width);
            linear(out, &format!("{layer}.ff.net.2"), width, width * 4);
            for index in 1..=3 {
                norm(out, &format!("{layer}.norm{index}"), width);
            }
        }
    }
}

pub(crate) fn linear(out: &mut ShapeSource, prefix: &str, to: usize, from: usize) {
    out.put(&format!("{prefix}.weight"), &[to, from]);
    out.put(&format!("{prefix}.bias"), &[to]);
}

pub(crate) fn conv(out: &mut ShapeSource, prefix: &str, to: usize, from: usize, kernel: usize) {
    out.put(&format!("{prefix}.weight"), &[to, from, kernel, kernel]);
    out.put(&format!("{prefix}.bias"), &[to]);
}

pub(crate) fn norm(out: &mut ShapeSource, prefix: &str, width: usize) {
    out.put(&format!("{prefix}.weight"), &[width]);
    out.put(&format!("{prefix}.bias"), &[width]);
}

const FOUR: &[usize] = &[320, 640, 1280, 1280];
const THREE: &[usize] = &[320, 640, 1280];

pub(crate) fn sd1() -> Original {
    Original {
        linear: false,
        ..Original::regular(FOUR, &[1, 1, 1, 0], 768)
    }
}

pub(crate) fn sd2() -> Original {
    Original::regular(FOUR, &[1, 1, 1, 0], 1024)
}

pub(crate) fn sdxl() -> Original {
    Original {
        middle: Middle::Transformer(10),
        added: Some(2816),
        ..Original::regular(THREE, &[0, 2, 10], 2048)
    }
}

pub(crate) fn refiner() -> Original {
    Original {
        middle: Middle::Transformer(4),
        added: Some(2560),
        ..Original::regular(&[384, 768, 1536, 1536], &[0, 4, 4, 0], 1280)
    }
}

pub(crate) fn ssd_1b() -> Original {
    Original {
        down: vec![vec![0, 0], vec![2, 2], vec![4, 4]],
        middle: Middle::Resnet,
        up: vec![vec![4, 4, 10], vec![2, 1, 1], vec![0, 0, 0]],
        ..sdxl()
    }
}

pub(crate) fn vega() -> Original {
    Original {
        middle: Middle::Resnet,
        added: Some(2816),
        ..Original::regular(THREE, &[0, 1, 2], 2048)
    }
}

pub(crate) fn bk_sdm_small() -> Original {
    Original {
        blocks: 1,
        down: vec![vec![1], vec![1], vec![1], vec![0]],
        middle: Middle::Absent,
        up: vec![vec![0, 0], vec![1, 1], vec![1, 1], vec![1, 1]],
        ..sd1()
    }
}

pub(crate) fn bk_sdm_tiny() -> Original {
    Original {
        channels: THREE,
        down: vec![vec![1], vec![1], vec![1]],
        up: vec![vec![1, 1], vec![1, 1], vec![1, 1]],
        ..bk_sdm_small()
    }
}

#[test]
fn names_and_shapes_are_those_of_diffusers() {
    let inpaint = Original {
        in_channels: 9,
        ..sd1()
    };
    let cases = [
        ("sd1", sd1(), 686, 0xea3d_cee0_6756_1dee),
        ("sd2", sd2(), 686, 0x1b0e_f070_a416_8136),
        ("sdxl", sdxl(), 1680, 0xf366_85d1_fcd1_4fec),
        ("refiner", refiner(), 1220, 0x6466_3f9a_0cc2_2bf4),
        ("inpaint", inpaint, 686, 0x89ce_a30f_c068_eb63),
        ("ssd-1b", ssd_1b(), 944, 0x9ec8_04af_b95d_72f9),
        ("vega", vega(), 564, 0xd195_6d81_d486_cefc),
        ("bk-sdm-small", bk_sdm_small(), 396, 0x2a71_6062_8a85_3669),
        ("bk-sdm-tiny", bk_sdm_tiny(), 358, 0xa2bb_2481_8cff_07df),
    ];
    for (case, original, count, expected) in cases {
        let source = original.write();
        let rules = Layout::of(&source).unwrap().rules(&source);
        let names = source.names();
        assert_eq!(names.len(), count, "{case}");
        for name in &names {
            let there = rules
                .to_diffusers(name)
                .unwrap_or_else(|| panic!("{case}: {name}"));
            assert_eq!(rules.to_ldm(&there).as_ref(), Some(name), "{case}: {there}");
        }
        let mapped = mapped(Arc::new(source), &rules);
        assert_eq!(mapped.names().len(), count, "{case}");
        assert_eq!(digest(&mapped), expected, "{case}");
    }
}

#[test]
fn published_layouts_give_published_configurations() {
    for (id, base, original) in [
        ("sd1", Base::Sd1, sd1()),
        ("sd2", Base::Sd2, sd2()),
        ("sdxl", Base::Sdxl, sdxl()),
        ("sdxl-refiner", Base::Refiner, refiner()),
    ] {
        let published = Family::by_id(id).unwrap().published.configs().unwrap()["unet"].clone();
        let source = original.write();
        let config = Layout::of(&source)
            .unwrap()
            .config(&source, base, &published)
            .unwrap();
        assert_eq!(config, published, "{id}");
    }
}

fn config_of(original: &Original, id: &str, base: Base) -> Value {
    let published = Family::by_id(id).unwrap().published.configs().unwrap()["unet"].clone();
    let source = original.write();
    Layout::of(&source)
        .unwrap()
        .config(&source, base, &published)
        .unwrap()
}

#[test]
fn pruned_layouts_give_their_authors_configurations() {
    let config = config_of(&ssd_1b(), "sdxl", Base::Sdxl);
    assert_eq!(config["mid_block_type"], "UNetMidBlock2D");
    assert_eq!(config["transformer_layers_per_block"], json!([1, 2, 4]));
    assert_eq!(
        config["reverse_transformer_layers_per_block"],
        json!([[4, 4, 10], [2, 1, 1], 1])
    );
    let config = config_of(&vega(), "sdxl", Base::Sdxl);
    assert_eq!(config["transformer_layers_per_block"], json!([1, 1, 2]));
    assert_eq!(config.get("reverse_transformer_layers_per_block"), None);
    let config = config_of(&bk_sdm_tiny(), "sd1", Base::Sd1);
    assert_eq!(config["mid_block_type"], Value::Null);
    assert_eq!(config["layers_per_block"], 1);
    assert_eq!(config["block_out_channels"], json!([320, 640, 1280]));
    assert_eq!(
        config["down_block_types"],
        json!(vec!["CrossAttnDownBlock2D"; 3])
    );
    assert_eq!(config["attention_head_dim"], 8);
}

#[test]
fn inputs_and_conditioning_are_read_from_shapes() {
    let mut original = sd1();
    original.in_channels = 9;
    let published = Family::by_id("sd1").unwrap().published.configs().unwrap()["unet"].clone();
    let mut source = original.write();
    source.put("time_embed.cond_proj.weight", &[320, 256]);
    let layout = Layout::of(&source).unwrap();
    let config = layout.config(&source, Base::Sd1, &published).unwrap();
    assert_eq!(config["in_channels"], 9);
    assert_eq!(config["time_cond_proj_dim"], 256);
    assert_eq!(
        layout
            .rules(&source)
            .to_diffusers("time_embed.cond_proj.weight")
            .unwrap(),
        "time_embedding.cond_proj.weight"
    );
}

#[test]
fn broken_rows_of_blocks_are_refused_with_their_counts() {
    let mut source = sd1().write();
    source.remove("output_blocks.7.0.in_layers.2.weight");
    let error = Layout::of(&source).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(
        error.message().contains("[2, 2, 2, 2] residual blocks"),
        "{error}"
    );
    assert!(Layout::of(&MemorySource::default()).is_err());
}
