//! Seeds of a batch.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// The seed of a call: the one given, or one drawn.
///
/// A drawn seed has 32 bits, which every program that reads the picture's metadata can hold.
pub(crate) fn resolve(seed: Option<u64>) -> u64 {
    // A fresh `RandomState` is keyed by the operating system's random numbers.
    seed.unwrap_or_else(|| RandomState::new().build_hasher().finish() & u64::from(u32::MAX))
}

/// The seed of picture `index` of a batch whose first is `first`, as the webui counts.
pub(crate) fn of_picture(first: u64, index: usize) -> u64 {
    first.wrapping_add(index as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_seed_is_kept() {
        assert_eq!(resolve(Some(u64::MAX)), u64::MAX);
    }

    #[test]
    fn drawn_seeds_differ_and_fit_32_bits() {
        let seeds: Vec<u64> = (0..8).map(|_| resolve(None)).collect();
        assert!(seeds.iter().all(|&seed| u32::try_from(seed).is_ok()));
        assert!(seeds.iter().any(|&seed| seed != seeds[0]));
    }

    #[test]
    fn pictures_count_up_and_wrap() {
        assert_eq!(of_picture(42, 3), 45);
        assert_eq!(of_picture(u64::MAX, 1), 0);
    }
}
