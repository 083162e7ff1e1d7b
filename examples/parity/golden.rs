//! diffusers' record: `golden.json` and `golden.safetensors`.

use std::path::Path;

use serde_json::Value;
use tintype::prompt::{PromptOptions, PromptSyntax};
use tintype::{HostTensor, SamplingConfig};

use crate::Outcome;

/// What diffusers recorded of one checkpoint.
pub(crate) struct Golden {
    json: Value,
    tensors: Vec<u8>,
    /// The record of the family that owns the text towers, where that is another one.
    text: Option<Box<Golden>>,
}

/// What diffusers made: final latents and pixels, all pictures of the case one after the other.
pub(crate) struct Pictures {
    pub(crate) latents: Vec<f32>,
    pub(crate) pixels: Vec<u8>,
}

impl Golden {
    pub(crate) fn open(folder: &Path) -> Outcome<Self> {
        let json: Value = serde_json::from_slice(&std::fs::read(folder.join("golden.json"))?)?;
        let tensors = std::fs::read(folder.join("golden.safetensors"))?;
        let text = match json["text_like"].as_str() {
            Some(owner) if json["family"] != owner => {
                let mut other = folder.with_file_name(owner);
                if !other.exists() {
                    // Families that came later lie in tests/data.
                    other = folder.join("../../fixtures").join(owner);
                }
                Some(Box::new(Self::open(&other)?))
            }
            _ => None,
        };
        Ok(Self {
            json,
            tensors,
            text,
        })
    }

    /// The cases wanted, or all, in the file's order.
    pub(crate) fn cases(&self, wanted: &[String]) -> Vec<String> {
        let all = self.json["cases"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone());
        all.filter(|name| wanted.is_empty() || wanted.contains(name))
            .collect()
    }

    /// Whether diffusers recorded `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensor(name).is_ok()
    }

    /// Whether diffusers recorded a forward of this UNet. That of a fixture is one of the weights' formula alone.
    pub(crate) fn has_forward(&self) -> bool {
        self.has("unet.out") && self.json.get("unet_out_of").is_none()
    }

    /// A recorded f32 tensor.
    pub(crate) fn tensor(&self, name: &str) -> Outcome<HostTensor> {
        let tensors = safetensors::SafeTensors::deserialize(&self.tensors)?;
        let view = tensors.tensor(name)?;
        let values = view
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        Ok(HostTensor::new(view.shape(), values.collect())?)
    }

    /// Text of the UNet's recorded input, unconditional first: its own, or joined from that of the text towers.
    pub(crate) fn context(&self) -> Outcome<HostTensor> {
        if self.has("unet.in.context") {
            return self.tensor("unet.in.context");
        }
        let owner = self.text.as_deref().unwrap_or(self);
        Ok(HostTensor::concat(&[
            owner.tensor("text.uncond")?,
            owner.tensor("text.cond")?,
        ])?)
    }

    /// diffusers counts skipped layers from the one it uses anyhow: the last, or for SDXL the last but one.
    fn default_layer(&self) -> usize {
        if self.json["tokens"].get("cond_2").is_some() {
            2
        } else {
            1
        }
    }

    /// What case `name` asked for, and what came of it.
    pub(crate) fn run(&self, name: &str) -> Outcome<(SamplingConfig, Pictures)> {
        let case = &self.json["cases"][name];
        let text = |key: &str| case[key].as_str().map(str::to_owned);
        let count = |key: &str| case[key].as_u64().map(|n| n as usize);
        let seeds: Vec<u64> = case["seeds"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64)
            .collect();
        let config = SamplingConfig {
            prompt: text("prompt").unwrap_or_default(),
            negative_prompt: text("negative"),
            steps: count("steps").ok_or("no steps")?,
            guidance_scale: case["guidance"].as_f64().ok_or("no guidance")?,
            guidance_rescale: case["guidance_rescale"].as_f64().unwrap_or(0.0),
            seed: seeds.first().copied(),
            width: count("width").ok_or("no width")?,
            height: count("height").ok_or("no height")?,
            batch: seeds.len(),
            sampler: text("sampler").map(|name| name.trim_end_matches("-eta05").to_owned()),
            noise: tintype::samplers::NoiseOptions {
                eta: case["eta"].as_f64().filter(|eta| *eta > 0.0),
                ..Default::default()
            },
            clip_skip: count("clip_skip").map(|left_out| left_out + self.default_layer()),
            text: PromptOptions {
                syntax: PromptSyntax::Plain,
                ..PromptOptions::default()
            },
            ..SamplingConfig::default()
        };
        let latents = self.tensor(&format!("run.{name}.latents"))?.into_data();
        // Some cases record latents only.
        let tensors = safetensors::SafeTensors::deserialize(&self.tensors)?;
        let pixels = tensors
            .tensor(&format!("run.{name}.image"))
            .map(|image| image.data().to_vec());
        Ok((
            config,
            Pictures {
                latents,
                pixels: pixels.unwrap_or_default(),
            },
        ))
    }
}
