//! Telling what a file is that is no checkpoint.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind};

/// Parts of names that give other kinds of files away: what they are, and what to do with them.
const OTHERS: [(&str, &str, &str); 12] = [
    (
        "lora_unet_",
        "a LoRA",
        "a LoRA changes a model; name the model itself",
    ),
    (
        ".lora_A.",
        "a LoRA",
        "a LoRA changes a model; name the model itself",
    ),
    (
        ".lora_up.",
        "a LoRA",
        "a LoRA changes a model; name the model itself",
    ),
    (
        "control_model.",
        "a ControlNet",
        "a ControlNet steers a model; name the model itself",
    ),
    (
        "controlnet_cond_embedding.",
        "a ControlNet",
        "a ControlNet steers a model; name the model itself",
    ),
    (
        "emb_params",
        "a textual inversion",
        "an embedding adds a word to a model; name the model itself",
    ),
    ("joint_blocks.", "a Stable Diffusion 3 model", SUPPORTED),
    ("double_blocks.", "a Flux model", SUPPORTED),
    (
        "down_blocks.0.",
        "a single component in diffusers' form",
        "name the model's folder, the one with model_index.json",
    ),
    (
        "decoder.mid.",
        "a VAE alone",
        "name the model, and this file as its VAE (--vae)",
    ),
    (
        "text_model.encoder.",
        "a text encoder alone",
        "name the whole model",
    ),
    (
        "optimizer_states",
        "an optimiser's state",
        "name the model itself",
    ),
];

const SUPPORTED: &str = "Stable Diffusion 1.x, 2.x and XL are supported";

/// The error for a file without a UNet in the original dialect.
pub(crate) fn not_a_checkpoint(names: &[String]) -> Error {
    if names.is_empty() {
        return Error::malformed("found no tensors, expected a checkpoint")
            .with_hint("the file is empty or damaged; fetch it anew");
    }
    let known = OTHERS
        .iter()
        .find(|(part, ..)| names.iter().any(|name| name.contains(part)));
    match known {
        Some((_, what, hint)) => Error::new(
            ErrorKind::Unsupported,
            format!(
                "found {what} ({}), expected a whole checkpoint",
                prefixes(names)
            ),
        )
        .with_hint(*hint),
        None => Error::new(
            ErrorKind::Unsupported,
            format!(
                "found {}, expected a checkpoint with a UNet (model.diffusion_model.*)",
                prefixes(names)
            ),
        )
        .with_hint(SUPPORTED),
    }
}

/// How many tensors stand under each of the commonest beginnings of names.
pub(crate) fn prefixes(names: &[String]) -> String {
    const SHOWN: usize = 6;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for name in names {
        let prefix: Vec<_> = name.split('.').take(2).collect();
        let prefix: String = prefix
            .join(".")
            .chars()
            .take(60)
            .flat_map(char::escape_debug)
            .collect();
        *counts.entry(prefix).or_default() += 1;
    }
    let mut order: Vec<_> = counts.into_iter().collect();
    order.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let more = order.len().saturating_sub(SHOWN);
    let shown = order
        .iter()
        .take(SHOWN)
        .map(|(prefix, count)| format!("{count} tensors {prefix}*"))
        .collect::<Vec<_>>()
        .join(", ");
    if more == 0 {
        shown
    } else {
        format!("{shown} and {more} other prefixes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(names: &[&str]) -> Error {
        not_a_checkpoint(
            &names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn other_kinds_of_files_are_recognised() {
        for (name, expected) in [
            ("lora_unet_down_blocks_0.lora_up.weight", "found a LoRA"),
            (
                "model.diffusion_model.joint_blocks.0.x",
                "found a Stable Diffusion 3 model",
            ),
            ("double_blocks.0.img_attn", "found a Flux model"),
            ("down_blocks.0.resnets.0.conv1.weight", "diffusers' form"),
            (
                "first_stage_model.decoder.mid.attn_1.q.weight",
                "found a VAE alone",
            ),
        ] {
            let error = error(&[name]);
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.message().contains(expected), "{error}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn unknown_files_are_described() {
        let error = error(&["a.b.c", "a.b.d", "z"]);
        assert!(
            error.message().contains("2 tensors a.b*, 1 tensors z*"),
            "{error}"
        );
        assert_eq!(not_a_checkpoint(&[]).kind(), ErrorKind::Malformed);
        let many: Vec<_> = (0..9).map(|i| format!("p{i}.q")).collect();
        assert!(
            prefixes(&many).ends_with("and 3 other prefixes"),
            "{}",
            prefixes(&many)
        );
    }
}
