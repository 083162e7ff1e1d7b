//! The one error of this crate: a length or size that does not fit the call.

use std::fmt;

/// A kernel was called with sizes that do not fit each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeError {
    /// Kernel that refused the call, such as "conv2d".
    pub op: &'static str,
    /// Argument at fault, such as "out" or "groups".
    pub argument: &'static str,
    /// What the kernel needs there: a length in elements or a condition.
    pub expected: String,
    /// What it was given.
    pub got: usize,
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            op,
            argument,
            expected,
            got,
        } = self;
        write!(f, "{op}: {argument}: found {got}, expected {expected}")
    }
}

impl std::error::Error for ShapeError {}

/// Short form of the result every kernel returns.
pub(crate) type Result<T> = std::result::Result<T, ShapeError>;

/// Checks one length of a call to `op`.
pub(crate) fn check_len(
    op: &'static str,
    argument: &'static str,
    got: usize,
    expected: usize,
) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(ShapeError {
        op,
        argument,
        expected: expected.to_string(),
        got,
    })
}

/// Checks a condition of a call to `op`; `expected` says it in words.
pub(crate) fn check(
    op: &'static str,
    argument: &'static str,
    holds: bool,
    expected: &str,
    got: usize,
) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(ShapeError {
        op,
        argument,
        expected: expected.to_owned(),
        got,
    })
}

/// Multiplies sizes, or says that the call's element count does not fit the address space.
pub(crate) fn product(op: &'static str, argument: &'static str, sizes: &[usize]) -> Result<usize> {
    sizes
        .iter()
        .try_fold(1usize, |all, &size| all.checked_mul(size))
        .ok_or_else(|| ShapeError {
            op,
            argument,
            expected: "an element count that fits usize".to_owned(),
            got: usize::MAX,
        })
}
