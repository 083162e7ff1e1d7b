//! The backend: parts wired into a picture, no maths of its own.

pub mod sampling;

pub use sampling::SamplingConfig;
