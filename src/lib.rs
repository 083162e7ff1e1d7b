//! Stable Diffusion in Rust: any checkpoint in, the picture PyTorch would make out.
//!
//! The engine is split along four seams. Samplers see a [`Denoiser`](samplers::Denoiser) and nothing
//! else; facts about a family are data; models are written once over [`nn`], which decides per device
//! what runs a layer; whoever waits for a picture talks in configs and events.
#![deny(missing_docs)]

pub mod backend;
pub mod error;
pub mod events;
pub mod guidance;
pub mod host;
pub mod image_io;
pub mod metadata;
pub mod models;
pub mod nn;
pub mod prompt;
pub mod rng;
pub mod samplers;
pub mod tokenizer;
pub mod weights;

pub use backend::{
    CandleSDBackend, ClipTextEncoder, ComponentReport, GeneratedImage, LoadOptions, ModelReport,
    SDModel, SamplingConfig, Scheduler, SchedulerConfig, SeedOptions, Timings, VaeDecoder,
    VaeEncoder, WrongShape, inspect,
};
pub use error::{Error, ErrorKind, Result};
pub use events::{CancelToken, Event, Observer, StepEvent};
pub use guidance::{GuidanceMethod, GuidanceOptions};
pub use host::HostTensor;
pub use nn::{DType, Device, EngineKind, MemoryUse, Precision};
pub use weights::ModelSource;
