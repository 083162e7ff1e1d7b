//! torch's CUDA generator, on any machine: Philox 4x32-10 (Salmon et al. 2011, "Parallel Random Numbers: As Easy
//! as 1, 2, 3") and the first half of Box-Muller.
//!
//! On the GPU each value of a draw is a thread's, whose counter holds the thread and the number of the draw; the
//! webui's `NV` source computes the same on the CPU. This is the webui's arithmetic, f64 rounded at the end; CUDA's
//! own is f32 throughout and differs from it in the last bits.

use crate::host::HostTensor;

const ROUNDS: usize = 10;
const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
/// What the key grows by each round.
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
/// 2^-32 and its multiple by 2 pi, in f32 as curand has them.
const INVERSE: f32 = 2.328_306_4e-10;
const INVERSE_2PI: f32 = 1.462_918_1e-9;

/// `torch.Generator("cuda")`.
#[derive(Debug, Clone)]
pub struct PhiloxGenerator {
    key: [u32; 2],
    /// Draws so far.
    draws: u32,
}

impl PhiloxGenerator {
    /// `torch.Generator("cuda").manual_seed(seed)`; all 64 bits count.
    pub fn new(seed: u64) -> Self {
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            draws: 0,
        }
    }

    /// `torch.randn(shape, generator=self, device="cuda")`, as long as the GPU has a thread for every value.
    pub fn randn(&mut self, shape: impl Into<Vec<usize>>) -> HostTensor {
        let mut tensor = HostTensor::zeros(shape);
        self.fill_normal(tensor.data_mut());
        tensor
    }

    /// Fills `values` with standard normal numbers.
    pub(super) fn fill_normal(&mut self, values: &mut [f32]) {
        for (thread, value) in values.iter_mut().enumerate() {
            let [x, y, _, _] = philox([self.draws, 0, thread as u32, 0], self.key);
            *value = box_muller(x, y);
        }
        self.draws = self.draws.wrapping_add(1);
    }
}

/// Four random words for a counter.
pub(super) fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let (low_0, high_0) = wide(MULTIPLIERS[0], counter[0]);
        let (low_1, high_1) = wide(MULTIPLIERS[1], counter[2]);
        counter = [
            high_1 ^ counter[1] ^ key[0],
            low_1,
            high_0 ^ counter[3] ^ key[1],
            low_0,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// The low and the high word of a product.
fn wide(a: u32, b: u32) -> (u32, u32) {
    let product = u64::from(a) * u64::from(b);
    (product as u32, (product >> 32) as u32)
}

fn box_muller(x: u32, y: u32) -> f32 {
    let scaled = |word: u32, unit: f32| f64::from(word) * f64::from(unit) + f64::from(unit / 2.0);
    let radius = (-2.0 * scaled(x, INVERSE).ln()).max(0.0).sqrt();
    (radius * scaled(y, INVERSE_2PI).sin()) as f32
}
