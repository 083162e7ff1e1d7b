//! The original dialect: names as CompVis' latent-diffusion and Stability's generative-models write them.
//!
//! Single-file checkpoints carry these names. Each part has a table of renaming rules, made from the
//! layout that the tensors themselves show (how many levels, how many blocks a level), so that pruned and
//! widened models need no table of their own. The rules work in both directions, and the tests use both.

pub(crate) mod ema;
mod rules;
pub(crate) mod text;
pub(crate) mod unet;
pub(crate) mod vae;

/// What precedes the UNet's tensors.
pub(crate) const UNET_PREFIX: &str = "model.diffusion_model.";

/// What precedes the VAE's tensors in a whole checkpoint; the second occurs in files of other tools.
pub(crate) const VAE_PREFIXES: [&str; 2] = ["first_stage_model.", "vae."];
