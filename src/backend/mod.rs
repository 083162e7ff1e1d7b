//! The backend: parts wired into a picture, no maths of its own.

pub mod sampling;
pub mod scheduler;

pub use sampling::SamplingConfig;
