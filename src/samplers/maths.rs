//! Arithmetic over whole latents that several samplers share.

use crate::error::{Error, ErrorKind, Result};
use crate::host::HostTensor;

/// `x = f(x, a, b)` element by element, in place.
///
/// # Errors
/// When the shapes differ.
pub(super) fn update(
    x: &mut HostTensor,
    a: &HostTensor,
    b: &HostTensor,
    f: impl Fn(f32, f32, f32) -> f32,
) -> Result<()> {
    if x.shape() != a.shape() || x.shape() != b.shape() {
        return Err(Error::new(
            ErrorKind::Internal,
            format!(
                "shapes {:?}, {:?} and {:?} differ",
                x.shape(),
                a.shape(),
                b.shape()
            ),
        ));
    }
    for ((x, &a), &b) in x.data_mut().iter_mut().zip(a.data()).zip(b.data()) {
        *x = f(*x, a, b);
    }
    Ok(())
}
