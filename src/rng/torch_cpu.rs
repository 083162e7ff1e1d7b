//! torch's CPU generator: the same seed gives the same noise, bit for bit.
//!
//! How MT19937's numbers become normal ones follows ATen/native/cpu/DistributionTemplates.h. Two paths exist
//! there. Tensors of 16 values and more take 24-bit uniforms through Box-Muller in blocks of 16, in f32, with the
//! logarithm, sine and cosine of the Cephes library as the AVX2 build of torch evaluates them; shorter ones draw
//! in f64 value by value and keep the second value of each pair for the next call.

use super::cephes;
use super::mt19937::Mt19937;
use crate::host::HostTensor;

/// Values that the vectorised path turns into normal ones at a time.
const BLOCK: usize = 16;

/// A `torch.Generator` on the CPU.
#[derive(Clone)]
pub struct TorchGenerator {
    engine: Mt19937,
    spare_normal: Option<f64>,
}

impl std::fmt::Debug for TorchGenerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TorchGenerator").finish_non_exhaustive()
    }
}

impl TorchGenerator {
    /// `torch.Generator("cpu").manual_seed(seed)`. As in torch, seeds that agree in their low 32 bits give
    /// the same numbers.
    pub fn new(seed: u64) -> Self {
        Self {
            engine: Mt19937::new(seed),
            spare_normal: None,
        }
    }

    /// `torch.randn(shape, generator=self, dtype=torch.float32)`.
    pub fn randn(&mut self, shape: impl Into<Vec<usize>>) -> HostTensor {
        let mut tensor = HostTensor::zeros(shape);
        self.fill_normal(tensor.data_mut());
        tensor
    }

    /// Fills `values` with standard normal numbers.
    pub(super) fn fill_normal(&mut self, values: &mut [f32]) {
        if values.len() < BLOCK {
            for value in values {
                *value = self.normal() as f32;
            }
            return;
        }
        for value in &mut *values {
            *value = self.uniform_f32();
        }
        for block in values.chunks_exact_mut(BLOCK) {
            box_muller(block);
        }
        if !values.len().is_multiple_of(BLOCK) {
            let start = values.len() - BLOCK;
            let last = &mut values[start..];
            for value in &mut *last {
                *value = self.uniform_f32();
            }
            box_muller(last);
        }
    }

    /// A number from 0 to below 1 with 24 random bits.
    fn uniform_f32(&mut self) -> f32 {
        (self.engine.next_u32() & 0x00ff_ffff) as f32 / 16_777_216.0
    }

    /// A number from 0 to below 1 with 53 random bits.
    fn uniform_f64(&mut self) -> f64 {
        let high = u64::from(self.engine.next_u32());
        let low = u64::from(self.engine.next_u32());
        let bits = (high << 32 | low) & ((1 << 53) - 1);
        bits as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare_normal.take() {
            return spare;
        }
        let (u1, u2) = (self.uniform_f64(), self.uniform_f64());
        let radius = (-2.0 * (-u2).ln_1p()).sqrt();
        let theta = 2.0 * std::f64::consts::PI * u1;
        self.spare_normal = Some(radius * theta.sin());
        radius * theta.cos()
    }
}

/// Turns 16 uniform numbers into normal ones: radii from the first 8, angles from the last 8.
fn box_muller(block: &mut [f32]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (first, second) in first.iter_mut().zip(second) {
        let radius = (-2.0 * cephes::ln(1.0 - *first)).sqrt();
        let (sin, cos) = cephes::sin_cos(std::f32::consts::TAU * *second);
        *first = radius * cos;
        *second = radius * sin;
    }
}
