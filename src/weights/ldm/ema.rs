//! Averaged weights, for files that hold nothing else.
//!
//! latent-diffusion keeps an exponential moving average of the UNet beside it, under `model_ema.` and names
//! without their dots (`ldm/modules/ema.py`). Where the plain weights are there too, these are used, as the
//! web interfaces and diffusers do; a file stripped to its average is read by putting the dots back.

/// What precedes averaged weights.
pub(crate) const PREFIX: &str = "model_ema.diffusion_model";

/// Words of the UNet's names; where one begins another, the longer comes first.
const WORDS: [&str; 30] = [
    "transformer_blocks",
    "skip_connection",
    "output_blocks",
    "input_blocks",
    "middle_block",
    "out_layers",
    "emb_layers",
    "time_embed",
    "in_layers",
    "label_emb",
    "cond_proj",
    "proj_out",
    "proj_in",
    "weight",
    "to_out",
    "attn1",
    "attn2",
    "norm1",
    "norm2",
    "norm3",
    "norm",
    "proj",
    "to_q",
    "to_k",
    "to_v",
    "bias",
    "conv",
    "net",
    "out",
    "op",
];

/// The name in the UNet, with dots, of a tensor below [`PREFIX`]; `None` when it is none of the UNet's.
pub(crate) fn with_dots(flat: &str) -> Option<String> {
    let mut rest = flat;
    let mut parts: Vec<&str> = Vec::new();
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits > 0 {
            let (numbers, after) = rest.split_at(digits);
            // Blocks are numbered twice, the second number of one digit; the label embedding likewise.
            if matches!(
                parts.last(),
                Some(&("input_blocks" | "output_blocks" | "label_emb"))
            ) && digits > 1
            {
                parts.extend([&numbers[..digits - 1], &numbers[digits - 1..]]);
            } else {
                parts.push(numbers);
            }
            rest = after;
        } else {
            let word = WORDS
                .iter()
                .chain(&["ff"])
                .find(|word| rest.starts_with(**word))?;
            parts.push(word);
            rest = &rest[word.len()..];
        }
    }
    Some(parts.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_come_back() {
        for name in [
            "input_blocks.0.0.weight",
            "input_blocks.1.0.in_layers.0.weight",
            "input_blocks.10.0.in_layers.2.bias",
            "input_blocks.3.0.op.weight",
            "input_blocks.11.0.emb_layers.1.weight",
            "input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight",
            "input_blocks.8.1.transformer_blocks.9.attn2.to_out.0.bias",
            "output_blocks.11.1.transformer_blocks.0.ff.net.0.proj.weight",
            "output_blocks.5.2.conv.weight",
            "output_blocks.2.1.conv.bias",
            "output_blocks.8.0.skip_connection.weight",
            "output_blocks.8.1.transformer_blocks.0.ff.net.2.bias",
            "middle_block.1.norm.weight",
            "middle_block.1.proj_in.weight",
            "middle_block.1.proj_out.bias",
            "middle_block.1.transformer_blocks.0.norm3.weight",
            "middle_block.2.out_layers.3.weight",
            "label_emb.0.0.weight",
            "label_emb.0.2.bias",
            "time_embed.0.weight",
            "time_embed.2.bias",
            "out.0.weight",
            "out.2.bias",
        ] {
            assert_eq!(with_dots(&name.replace('.', "")).as_deref(), Some(name));
        }
        assert_eq!(with_dots("num_updates"), None);
        assert_eq!(with_dots("decay"), None);
    }
}
