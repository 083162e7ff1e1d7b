//! The noise of a batch's pictures, each from a seed of its own.

use super::kind::Generator;
use super::{BrownianNoise, RngKind};
use crate::host::HostTensor;
use crate::samplers::NoiseSource;

/// The noise of a batch: picture `i` has a generator of its own, so it does not depend on the batch.
#[derive(Debug, Clone)]
pub struct SeededNoise {
    kind: RngKind,
    seeds: Vec<u64>,
    generators: Vec<Generator>,
}

impl SeededNoise {
    /// Generators for pictures whose seeds are `seeds`, none of them above the kind's
    /// [`max_seed`](RngKind::max_seed): of a larger one the low bits count.
    pub fn new(kind: RngKind, seeds: impl IntoIterator<Item = u64>) -> Self {
        let seeds: Vec<u64> = seeds.into_iter().collect();
        Self {
            kind,
            generators: seeds.iter().map(|&seed| kind.generator(seed)).collect(),
            seeds,
        }
    }

    /// Starts all generators anew, each seed moved by `delta`. The paths of SDE samplers keep their seeds.
    pub(super) fn restart(&mut self, delta: i64) {
        for (generator, seed) in self.generators.iter_mut().zip(&self.seeds) {
            *generator = self.kind.generator(seed.wrapping_add_signed(delta));
        }
    }
}

impl NoiseSource for SeededNoise {
    fn brownian(&self, shape: &[usize], sigma_min: f64, sigma_max: f64) -> BrownianNoise {
        BrownianNoise::new((self.kind, &self.seeds), shape, sigma_min, sigma_max)
    }

    /// # Panics
    /// When `shape` has another batch size than there are seeds, which is a bug of the caller.
    fn noise(&mut self, shape: &[usize]) -> HostTensor {
        assert_eq!(
            shape.first(),
            Some(&self.generators.len()),
            "one generator a picture; this is a bug"
        );
        let mut noise = HostTensor::zeros(shape);
        let length = noise.data().len() / self.generators.len().max(1);
        if length > 0 {
            for (generator, picture) in self
                .generators
                .iter_mut()
                .zip(noise.data_mut().chunks_exact_mut(length))
            {
                generator.fill_normal(picture);
            }
        }
        noise
    }
}
