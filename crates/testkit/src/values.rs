//! Weights as a pure function of (component, tensor name, element index); `tools/reference/weights.py` is its twin.
//!
//! A full-size model has nothing but these values. A tiny model's manifest also says which values of its UNet are set
//! instead, so that its latents stay as small as a trained model's. The twin chooses them, and says how they do that.

/// FNV-1a, 64 bits, of `text`.
pub fn fnv1a64(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

/// The first `count` values of tensor `name` of `component`, each within `offset` plus or minus `bound`.
pub fn values(component: &str, name: &str, count: usize, bound: f64, offset: f64) -> Vec<f32> {
    let seed = fnv1a64(&format!("{component}/{name}"));
    (1..=count as u64)
        .map(|index| {
            let bits = splitmix64(seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
            let unit = (bits >> 40) as f64 / f64::from(1 << 24);
            ((2.0 * unit - 1.0) * bound + offset) as f32
        })
        .collect()
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn splitmix64(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_reference_formula() {
        // python -c "import weights; print(weights.values('unet', 'conv_in.weight', [4], 0.25, 1.0))"
        assert_eq!(fnv1a64("unet/conv_in.weight"), EXPECTED_SEED);
        assert_eq!(values("unet", "conv_in.weight", 4, 0.25, 1.0), EXPECTED);
    }

    const EXPECTED_SEED: u64 = 0xB4A5_CA5C_0D15_0196;
    const EXPECTED: [f32; 4] = [1.062_097_3, 0.990_639_9, 1.207_418_8, 1.185_123_7];
}
