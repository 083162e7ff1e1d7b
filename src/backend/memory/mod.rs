//! What a picture's size asks of memory, said before anything is allocated.

mod available;

pub(super) use available::available;

use crate::error::{Error, Result};
use crate::models::{UNetConfig, VaeConfig};

/// Bytes of an activation's element.
const ELEMENT: u64 = 4;
/// Arrays as wide as a UNet level that are alive together at its widest point: the skips, the block's input and output,
/// and inside a transformer queries, keys, values and the gated layer's two halves of four times the width.
const UNET_ARRAYS: u64 = 16;

/// Bytes of activations that decoding, or a UNet pass over `batch` items, needs at `width` x `height` pixels, whichever is
/// more; from the shape of the widest level, which is the outermost in all published models.
pub(super) fn activation_bytes(
    unet: &UNetConfig,
    vae: &VaeConfig,
    (width, height): (usize, usize),
    batch: usize,
) -> u64 {
    let pixels = width as u64 * height as u64;
    let widths = &vae.block_out_channels;
    let outermost = widths.first().copied().unwrap_or(1) as u64;
    // The last block's first residual block reads the second level's width: its input, the input normalised, and an
    // array of its own width; a second of that comes when the normalised one is gone.
    let into = widths.get(1).copied().unwrap_or(outermost as usize) as u64;
    let decode = pixels * (2 * into + outermost) * ELEMENT;
    let reduction = vae.scale_factor().max(1) as u64;
    let channels = unet.down.first().map_or(0, |block| block.out_channels) as u64;
    let denoise =
        pixels / (reduction * reduction) * channels * UNET_ARRAYS * batch as u64 * ELEMENT;
    decode.max(denoise)
}

/// Refuses what would not fit.
///
/// # Errors
/// When `needed` is more than `available`; never when the system does not say what is available.
pub(super) fn require(
    needed: u64,
    available: Option<u64>,
    (width, height): (usize, usize),
) -> Result<()> {
    let Some(available) = available.filter(|&available| needed > available) else {
        return Ok(());
    };
    Err(Error::invalid(format!(
        "a picture of {width}x{height} needs about {} of memory beside the weights, and {} are available",
        gib(needed),
        gib(available)
    ))
    .with_hint(
        "choose a smaller size, let the weights take less (`--precision fast`, `--memory low`), or close other programs",
    ))
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sd15() -> (UNetConfig, VaeConfig) {
        let unet = json!({"block_out_channels": [320, 640, 1280, 1280], "attention_head_dim": 8, "cross_attention_dim": 768});
        let vae = json!({"block_out_channels": [128, 256, 512, 512], "latent_channels": 4,
            "down_block_types": (["DownEncoderBlock2D"; 4]), "up_block_types": (["UpDecoderBlock2D"; 4])});
        (
            UNetConfig::from_json("unet", &unet).unwrap(),
            VaeConfig::from_json("vae", &vae).unwrap(),
        )
    }

    #[test]
    fn decoding_a_large_picture_is_what_counts() {
        let (unet, vae) = sd15();
        let at = |side, batch| activation_bytes(&unet, &vae, (side, side), batch);
        assert_eq!(at(512, 2), 512 * 512 * 640 * 4);
        assert_eq!(at(4096, 2), 64 * at(512, 2));
        assert_eq!(at(512, 64), 64 * 64 * 320 * 16 * 64 * 4, "a large batch");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let error = require(52 << 30, Some(20 << 30), (4096, 4096)).unwrap_err();
        let message = error.message();
        assert!(
            message.contains("4096x4096 needs about 52.0 GiB"),
            "{message}"
        );
        assert!(message.contains("20.0 GiB are available"), "{message}");
        assert!(require(1, Some(1), (64, 64)).is_ok());
        assert!(require(u64::MAX, None, (64, 64)).is_ok());
    }
}
