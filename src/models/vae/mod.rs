//! The autoencoder between pictures and latents: diffusers' `AutoencoderKL`, in two halves.
//!
//! Follows `diffusers/models/autoencoders/{autoencoder_kl,vae}.py`. Text to image needs the decoder only, so each half
//! is loaded on its own. Scaling between the halves and the UNet is the backend's.

mod config;
mod decoder;
mod encoder;
mod mid_block;

pub use config::VaeConfig;
pub use decoder::Decoder;
pub use encoder::Encoder;

use crate::models::resnet::ResnetSpec;

/// diffusers gives the autoencoder's norms no configuration key.
const NORM_EPS: f64 = 1e-6;

fn resnet_spec(config: &VaeConfig, in_channels: usize, out_channels: usize) -> ResnetSpec {
    ResnetSpec {
        in_channels,
        out_channels,
        temb_channels: None,
        groups: config.norm_num_groups,
        eps: NORM_EPS,
        output_scale_factor: 1.0,
    }
}
