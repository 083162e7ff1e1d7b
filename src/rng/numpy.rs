//! NumPy's legacy generator, `numpy.random.RandomState`, whose `randn` gave diffusers' ONNX pipelines their noise.
//!
//! MT19937 under Marsaglia's polar method, in f64 (numpy/random/src/legacy/legacy-distributions.c,
//! `legacy_gauss`). `numpy.random.default_rng` is another generator and gives other numbers.

use super::mt19937::Mt19937;
use crate::host::HostTensor;

/// `numpy.random.RandomState`.
#[derive(Clone)]
pub struct NumpyGenerator {
    engine: Mt19937,
    spare_normal: Option<f64>,
}

impl std::fmt::Debug for NumpyGenerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NumpyGenerator").finish_non_exhaustive()
    }
}

impl NumpyGenerator {
    /// `numpy.random.RandomState(seed)`.
    pub fn new(seed: u32) -> Self {
        Self {
            engine: Mt19937::new(u64::from(seed)),
            spare_normal: None,
        }
    }

    /// `self.randn(*shape).astype(numpy.float32)`.
    pub fn randn(&mut self, shape: impl Into<Vec<usize>>) -> HostTensor {
        let mut tensor = HostTensor::zeros(shape);
        self.fill_normal(tensor.data_mut());
        tensor
    }

    /// Fills `values` with standard normal numbers.
    pub(super) fn fill_normal(&mut self, values: &mut [f32]) {
        for value in values {
            *value = self.normal() as f32;
        }
    }

    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare_normal.take() {
            return spare;
        }
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = x * x + y * y;
            if square < 1.0 && square != 0.0 {
                let factor = (-2.0 * square.ln() / square).sqrt();
                self.spare_normal = Some(factor * x);
                return factor * y;
            }
        }
    }

    /// A number from 0 to below 1 with 53 random bits, the upper 27 first.
    fn uniform(&mut self) -> f64 {
        let high = f64::from(self.engine.next_u32() >> 5);
        let low = f64::from(self.engine.next_u32() >> 6);
        (high * f64::from(1_u32 << 26) + low) / (1_u64 << 53) as f64
    }
}
