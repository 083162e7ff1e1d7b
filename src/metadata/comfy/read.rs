//! From a sampler's node along its links: which settings the graph stands for.

use std::collections::BTreeSet;

use super::graph::{Field, Graph, Node, NodeId};
use super::text::in_webui_grammar;
use super::walk::Reader;
use crate::error::Result;
use crate::metadata::Recording;

/// What a graph says.
///
/// # Errors
/// When it goes in a circle, or its texts nest beyond all use.
pub(super) fn recording(graph: &Graph) -> Result<Recording> {
    let mut reader = Reader {
        graph,
        used: BTreeSet::new(),
        taken: BTreeSet::new(),
        recording: Recording::default(),
    };
    if let Some(sampler) = reader.first_sampler()? {
        reader.sampler(&sampler)?;
    }
    reader.name_the_rest();
    Ok(reader.recording)
}

/// Fields of a node, by the key that each sets.
type Fields = &'static [(&'static str, &'static str)];

/// Nodes of guidance whose rules are those of Forge's scripts: the class, the key that turns it on, and fields by keys.
const GUIDANCE: [(&str, &str, Fields); 4] = [
    (
        "PerturbedAttentionGuidance",
        "PerturbedAttentionGuidance_enabled",
        &[("scale", "PerturbedAttentionGuidance_scale")],
    ),
    (
        "SelfAttentionGuidance",
        "sag_enabled",
        &[("scale", "sag_scale"), ("blur_sigma", "sag_blur_sigma")],
    ),
    ("FreeU_V2", "freeu_enabled", FREEU),
    ("FreeU", "freeu_enabled", FREEU),
];

const FREEU: Fields = &[
    ("b1", "freeu_b1"),
    ("b2", "freeu_b2"),
    ("s1", "freeu_s1"),
    ("s2", "freeu_s2"),
];

impl<'a> Reader<'a> {
    /// Of several samplers the first one whose latents are empty: the others go on from pictures.
    fn first_sampler(&self) -> Result<Option<NodeId>> {
        let nodes = self.graph.nodes.iter();
        let samplers: Vec<_> = nodes
            .filter(|(_, node)| ["KSampler", "KSamplerAdvanced"].contains(&node.class.as_str()))
            .collect();
        for (id, node) in &samplers {
            let Some(Field::Link(source)) = node.fields.get("latent_image") else {
                continue;
            };
            let way = self.way(source, &["samples", "latent", ""])?;
            let latent = way.first().and_then(|id| self.graph.nodes.get(id));
            if latent.is_some_and(|node| node.class == "EmptyLatentImage") {
                return Ok(Some((*id).clone()));
            }
        }
        Ok(samplers.first().map(|(id, _)| (*id).clone()))
    }

    fn sampler(&mut self, id: &NodeId) -> Result<()> {
        let Some((id, node)) = self.node(id) else {
            return Ok(());
        };
        self.used.insert(id);
        let seed = if node.class == "KSampler" {
            "seed"
        } else {
            "noise_seed"
        };
        for (field, key) in [("steps", "Steps"), ("cfg", "CFG scale"), (seed, "Seed")] {
            if let Some(text) = self.scalar((id, node), field) {
                self.parameters().set(key, text);
            }
        }
        if let Some(name) = self.scalar((id, node), "sampler_name") {
            let named = self.sampler_name((id, node), &name);
            self.parameters().set("Sampler", named.name);
            if let Some(eta) = named.eta {
                self.parameters().set("Eta", eta);
            }
            if named.fresh {
                self.parameters().set("Fresh RNG", "NV");
            }
        }
        if let Some(name) = self.scalar((id, node), "scheduler") {
            self.parameters().set("Schedule type", name);
        }
        if let Some(share) = self.scalar((id, node), "denoise")
            && share.parse::<f64>().is_ok_and(|share| share < 1.0)
        {
            self.parameters().set("Denoising strength", share);
        }
        self.advanced((id, node));
        // ComfyUI draws the start on the CPU, and weighs by its own rule.
        self.parameters()
            .set("RNG", "CPU")
            .set("Emphasis", "Comfy")
            .set("Version", "ComfyUI");
        self.model((id, node), "model")?;
        self.latent((id, node))?;
        let prompt = self.conditioning((id, node), "positive")?;
        let negative = self.conditioning((id, node), "negative")?;
        self.parameters().prompt = prompt;
        self.parameters().negative_prompt = negative;
        self.decoder()
    }

    fn model(&mut self, from: (&'a NodeId, &'a Node), field: &'static str) -> Result<()> {
        for (id, node) in self.nodes_along(from, field, &["model"])? {
            match node.class.as_str() {
                "CheckpointLoaderSimple" => {
                    if let Some(name) = self.scalar((id, node), "ckpt_name") {
                        let name = file_name(&name);
                        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
                        self.parameters().set("Model", stem);
                    }
                }
                _ => self.guidance((id, node)),
            }
        }
        Ok(())
    }

    /// Nodes of guidance, by the keys that Forge has for the same.
    fn guidance(&mut self, (id, node): (&'a NodeId, &'a Node)) {
        let row = GUIDANCE.iter().find(|(class, ..)| *class == node.class);
        let Some((_, enabled, fields)) = row else {
            return;
        };
        self.parameters().set(enabled, "True");
        if node.class == "FreeU" {
            self.parameters().set("freeu_version", "1-comfy");
        }
        for (field, key) in *fields {
            if let Some(value) = self.scalar((id, node), field) {
                self.parameters().set(key, value);
            }
        }
    }

    fn latent(&mut self, from: (&'a NodeId, &'a Node)) -> Result<()> {
        for (id, node) in self.nodes_along(from, "latent_image", &["samples", "latent"])? {
            if node.class != "EmptyLatentImage" {
                continue;
            }
            let width = self.scalar((id, node), "width");
            if let (Some(width), Some(height)) = (width, self.scalar((id, node), "height")) {
                self.parameters().set("Size", format!("{width}x{height}"));
            }
            if let Some(batch) = self.scalar((id, node), "batch_size")
                && batch != "1"
            {
                let reason = "which picture of the batch this is the graph does not say; the first one is made";
                self.refuse((id, node), "batch_size", &batch, reason);
            }
        }
        Ok(())
    }

    fn conditioning(
        &mut self,
        from: (&'a NodeId, &'a Node),
        field: &'static str,
    ) -> Result<String> {
        let mut prompt = String::new();
        let fields = ["conditioning", "conditioning_to", "conditioning_1", field];
        for (id, node) in self.nodes_along(from, field, &fields)? {
            if node.class != "CLIPTextEncode" {
                continue;
            }
            if let Some(text) = self.scalar((id, node), "text") {
                if text.contains('#') {
                    let reason = "what follows a # is a comment here and text in ComfyUI";
                    self.refuse((id, node), "text", &text, reason);
                }
                prompt = in_webui_grammar(&text)?;
            }
            self.clip((id, node), field)?;
        }
        Ok(prompt)
    }

    fn clip(&mut self, from: (&'a NodeId, &'a Node), prompt: &str) -> Result<()> {
        let mut skip = None;
        for (id, node) in self.nodes_along(from, "clip", &["clip"])? {
            // The last one that was set counts.
            if node.class == "CLIPSetLastLayer"
                && let Some(layer) = self.scalar((id, node), "stop_at_clip_layer")
            {
                match layer.parse::<i64>() {
                    Ok(layer) if layer < 0 => {
                        skip.get_or_insert(((id, node), layer.unsigned_abs()));
                    }
                    _ => self.refuse((id, node), "stop_at_clip_layer", &layer, "it is no layer"),
                }
            }
        }
        if let Some((at, skip)) = skip {
            let of_prompt = self.parameters().get("Clip skip").map(str::to_owned);
            if prompt == "positive" {
                self.parameters().set("Clip skip", skip);
            } else if of_prompt == Some(skip.to_string()) {
                self.parameters().set("Clip skip negative", "True");
            } else if skip > 1 {
                let reason = "the prompt has another number of layers left out, or none";
                self.refuse(
                    at,
                    "stop_at_clip_layer of the negative prompt",
                    &format!("-{skip}"),
                    reason,
                );
            }
        }
        Ok(())
    }

    /// The VAE, from the node that decodes.
    fn decoder(&mut self) -> Result<()> {
        let mut nodes = self.graph.nodes.iter();
        let Some(decode) = nodes.find(|(_, node)| node.class == "VAEDecode") else {
            return Ok(());
        };
        for (id, node) in self.nodes_along(decode, "vae", &["vae"])? {
            if node.class == "VAELoader"
                && let Some(name) = self.scalar((id, node), "vae_name")
            {
                let name = file_name(&name).to_owned();
                self.parameters().set("VAE", name);
            }
        }
        Ok(())
    }
}

/// The last part of a path of either kind of machine.
fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}
