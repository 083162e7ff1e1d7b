//! Plain f32 arrays in host memory: what crosses the seams between samplers, codec and engine.
//!
//! Latents are small (64 KiB for a 512x512 picture), so the sampler's arithmetic runs here, on the
//! host, the same on every device, and the engine's own layouts never leave `nn`.

use crate::error::{Error, ErrorKind, Result};

/// A dense row-major array of f32 in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl HostTensor {
    /// Wraps `data` as an array of `shape`.
    ///
    /// # Errors
    /// When the number of values is not the product of the shape.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Result<Self> {
        let shape = shape.into();
        let expected: usize = shape.iter().product();
        if expected != data.len() {
            return Err(Error::new(
                ErrorKind::Internal,
                format!(
                    "{} values do not fill an array of shape {shape:?}, which takes {expected}",
                    data.len()
                ),
            ));
        }
        Ok(Self { shape, data })
    }

    /// An array of zeros.
    pub fn zeros(shape: impl Into<Vec<usize>>) -> Self {
        let shape = shape.into();
        let data = vec![0.0; shape.iter().product()];
        Self { shape, data }
    }

    /// The extent of each dimension, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The shape of a batch of feature maps, `(batch, channels, height, width)`.
    ///
    /// # Errors
    /// When the array has not four dimensions.
    pub fn dims4(&self) -> Result<(usize, usize, usize, usize)> {
        match self.shape[..] {
            [b, c, h, w] => Ok((b, c, h, w)),
            _ => Err(Error::new(
                ErrorKind::Internal,
                format!(
                    "expected four dimensions (batch, channels, height, width), found {:?}",
                    self.shape
                ),
            )),
        }
    }

    /// The values in row-major order.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The values in row-major order, to be changed in place.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// Gives the values up.
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    /// The array with each value replaced by `f(value)`.
    #[must_use]
    pub fn map(mut self, f: impl Fn(f32) -> f32) -> Self {
        for value in &mut self.data {
            *value = f(*value);
        }
        self
    }

    /// The array with each value replaced by `f(own, other)`.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn zip_map(mut self, other: &Self, f: impl Fn(f32, f32) -> f32) -> Result<Self> {
        if self.shape != other.shape {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("shapes {:?} and {:?} differ", self.shape, other.shape),
            ));
        }
        for (own, &other) in self.data.iter_mut().zip(&other.data) {
            *own = f(*own, other);
        }
        Ok(self)
    }

    /// Item `index` of the outermost dimension, which stays as a dimension of one.
    ///
    /// # Errors
    /// When there is no such item.
    pub fn item(&self, index: usize) -> Result<Self> {
        let count = self.shape.first().copied().unwrap_or(0);
        if index >= count {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("item {index} of {count} does not exist"),
            ));
        }
        let length = self.data.len() / count;
        let mut shape = self.shape.clone();
        shape[0] = 1;
        Self::new(shape, self.data[index * length..][..length].to_vec())
    }

    /// Joins arrays of equal inner shape along the outermost dimension.
    ///
    /// # Errors
    /// When there is none or the inner shapes differ.
    pub fn concat(items: &[Self]) -> Result<Self> {
        let Some(first) = items.first() else {
            return Err(Error::new(ErrorKind::Internal, "nothing to concatenate"));
        };
        let mut shape = first.shape.clone();
        if shape.is_empty()
            || items
                .iter()
                .any(|item| item.shape.get(1..) != shape.get(1..))
        {
            return Err(Error::new(
                ErrorKind::Internal,
                "arrays of different shapes cannot be concatenated",
            ));
        }
        shape[0] = items.iter().map(|item| item.shape[0]).sum();
        Self::new(
            shape,
            items
                .iter()
                .flat_map(|item| item.data.iter().copied())
                .collect(),
        )
    }

    /// The position of the first value that is NaN or infinite.
    pub fn first_non_finite(&self) -> Option<usize> {
        self.data.iter().position(|value| !value.is_finite())
    }
}
