//! Comparisons that say where and by how much.

use std::fmt;

use crate::golden::GoldenTensor;

/// How two arrays differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Largest absolute difference; infinite when a value is not finite or the lengths differ.
    pub max_abs: f64,
    /// `max_abs` divided by the largest expected magnitude.
    pub max_rel: f64,
    /// Root of the mean squared difference.
    pub rms: f64,
    /// Where the largest difference is.
    pub worst: Vec<usize>,
    /// The expected value there.
    pub expected: f32,
    /// The value found there.
    pub found: f32,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "worst at {:?}: expected {}, found {}; max abs {:.3e}, relative to the largest {:.3e}, rms {:.3e}",
            self.worst, self.expected, self.found, self.max_abs, self.max_rel, self.rms
        )
    }
}

/// Compares `found` with `expected`, both row-major of `shape`.
///
/// # Panics
/// When the lengths differ.
pub fn compare(shape: &[usize], expected: &[f32], found: &[f32]) -> Comparison {
    assert_eq!(
        expected.len(),
        found.len(),
        "arrays of different length; expected shape {shape:?}"
    );
    let (mut worst, mut max_abs, mut squares, mut peak) = (0, 0.0_f64, 0.0_f64, 0.0_f64);
    for (index, (&e, &x)) in expected.iter().zip(found).enumerate() {
        let mut difference = (f64::from(e) - f64::from(x)).abs();
        if !difference.is_finite() {
            difference = f64::INFINITY;
        }
        if difference > max_abs {
            (worst, max_abs) = (index, difference);
        }
        squares += difference * difference;
        peak = peak.max(f64::from(e).abs());
    }
    Comparison {
        max_abs,
        max_rel: if peak > 0.0 { max_abs / peak } else { max_abs },
        rms: (squares / expected.len().max(1) as f64).sqrt(),
        worst: position(worst, shape),
        expected: expected.get(worst).copied().unwrap_or_default(),
        found: found.get(worst).copied().unwrap_or_default(),
    }
}

/// Fails unless every element of `found` (of `shape`) is within `tolerance` of `expected`; gives the comparison back.
///
/// # Panics
/// When the shapes differ or an element is further off than `tolerance`.
pub fn assert_close(
    expected: &GoldenTensor,
    shape: &[usize],
    found: &[f32],
    tolerance: f64,
) -> Comparison {
    assert_eq!(expected.shape, shape, "{}: shape", expected.name);
    let comparison = compare(shape, &expected.data, found);
    assert!(
        comparison.max_abs <= tolerance,
        "{}: beyond {tolerance:.1e}; {comparison}",
        expected.name
    );
    comparison
}

/// Peak signal-to-noise ratio of two pictures in dB; infinite when they are equal.
///
/// # Panics
/// When the lengths differ.
pub fn psnr_u8(expected: &[u8], found: &[u8]) -> f64 {
    assert_eq!(expected.len(), found.len(), "pictures of different size");
    let squares: u64 = expected
        .iter()
        .zip(found)
        .map(|(&e, &x)| u64::from(e.abs_diff(x)).pow(2))
        .sum();
    let mean = squares as f64 / expected.len().max(1) as f64;
    10.0 * (255.0 * 255.0 / mean).log10()
}

/// The indices of the element at `offset`.
fn position(mut offset: usize, shape: &[usize]) -> Vec<usize> {
    let mut place: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&extent| {
            let index = offset % extent.max(1);
            offset /= extent.max(1);
            index
        })
        .collect();
    place.reverse();
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_worst_element() {
        let report = compare(
            &[2, 3],
            &[0., 1., 2., 3., 4., 5.],
            &[0., 1., 2., 3., 4.5, 5.],
        );
        assert_eq!(report.worst, [1, 1]);
        assert!((report.max_abs - 0.5).abs() < 1e-12);
        assert!((report.max_rel - 0.1).abs() < 1e-12);
    }

    #[test]
    fn a_value_that_is_not_a_number_is_infinitely_far() {
        assert!(
            compare(&[2], &[0., 1.], &[0., f32::NAN])
                .max_abs
                .is_infinite()
        );
    }

    #[test]
    fn one_step_of_a_byte_is_48_db() {
        assert!((psnr_u8(&[10, 20], &[11, 21]) - 48.13).abs() < 0.01);
    }
}
