//! Random numbers as other programs draw them, so that a seed gives their picture: torch's CPU generator,
//! torch's CUDA generator and NumPy's legacy one.

mod brownian;
mod cephes;
mod kind;
mod mt19937;
mod numpy;
mod philox;
mod seed_sequence;
mod seeded;
mod start;
#[cfg(test)]
mod tests;
mod torch_cpu;

pub use brownian::BrownianNoise;
pub use kind::RngKind;
pub use numpy::NumpyGenerator;
pub use philox::PhiloxGenerator;
pub use seeded::SeededNoise;
pub use start::{PictureSeeds, Variation};
pub use torch_cpu::TorchGenerator;
