//! The backend: parts wired into a picture, no maths of its own.

pub mod sampling;
pub mod scheduler;
pub mod vae;

pub use sampling::SamplingConfig;
pub use vae::{VaeDecoder, VaeEncoder};
