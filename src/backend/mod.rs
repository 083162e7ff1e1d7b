//! The backend: parts wired into a picture.

pub mod bench;
mod chunked;
mod conditioning;
mod conditions;
mod memory;
mod model;
mod parameters;
mod pipeline;
mod recorded;
mod report;
mod tower;
mod worker;

pub mod clip;
pub mod inference;
pub mod sampling;
pub mod scheduler;
pub mod seeds;
pub mod vae;

pub use chunked::{CountedText, MAX_CHUNKS};
pub use clip::{ClipTextEncoder, TextEmbeddings};
pub use model::{LoadOptions, SDModel};
pub use pipeline::{GeneratedImage, Timings};
pub use recorded::{NotHonoured, Recorded};
pub use report::{ComponentReport, ModelReport, WrongShape, inspect};
pub use sampling::SamplingConfig;
pub use scheduler::{Scheduler, SchedulerConfig};
pub use seeds::SeedOptions;
pub use vae::{VaeDecoder, VaeEncoder};
pub use worker::CandleSDBackend;
