//! What layers of the CPU engine are built with, and the choice of their kernels.

use std::sync::Arc;

use tintype_kernels as kernels;

use super::Pool;
use crate::nn::{MemoryUse, Precision, Scope};

/// Channels, either way, under which a convolution stays in f32: there is little to gain, and it is the first or the
/// last of a model, whose error nothing averages out.
const FEW_CHANNELS: usize = 32;

/// An opened CPU engine; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(in crate::nn) struct Context {
    pub(in crate::nn) pool: Arc<Pool>,
    pub(in crate::nn) precision: Precision,
    pub(in crate::nn) memory: MemoryUse,
}

impl Context {
    /// How the layers of `scope` multiply.
    pub(in crate::nn) fn precision_of(&self, scope: &Scope) -> Precision {
        if scope.is_exact() {
            Precision::F32
        } else {
            self.precision
        }
    }

    /// The kernel for a convolution; `pixels` of a typical result, 0 when not known.
    pub(super) fn conv_kernel(
        &self,
        shape: kernels::ConvShape,
        stride: usize,
        (precision, pixels): (Precision, usize),
    ) -> kernels::ConvKernel {
        let narrow = shape.in_channels.min(shape.out_channels) < FEW_CHANNELS;
        let precision = kernels::Precision::from(if narrow { Precision::F32 } else { precision });
        let chosen = kernels::ConvKernel::choose(&kernels::ConvUse {
            shape,
            stride,
            precision,
            pixels,
        });
        match (self.memory, chosen, precision) {
            // Shifted sums want no more memory than one product of all places.
            (MemoryUse::Normal, kernel, _)
            | (MemoryUse::Low, kernel @ kernels::ConvKernel::ShiftedF32, _) => kernel,
            (MemoryUse::Low, _, kernels::Precision::Fast) => kernels::ConvKernel::DirectBf16,
            (MemoryUse::Low, _, kernels::Precision::F32) => kernels::ConvKernel::DirectF32,
        }
    }

    /// Bytes of a table of `elements` values.
    pub(in crate::nn) fn table_bytes(&self, elements: u64) -> u64 {
        match self.memory {
            MemoryUse::Normal => 4 * elements,
            MemoryUse::Low => 0, // It stays in the checkpoint.
        }
    }

    /// Bytes of `elements` values of `bits` significant bits once packed: of a convolution for four extents, of a linear layer for
    /// two.
    pub(in crate::nn) fn weight_bytes(&self, shape: &[usize], elements: u64, bits: u32) -> u64 {
        match *shape {
            [out_channels, in_channels, kernel_h, kernel_w] => {
                let shape = kernels::ConvShape {
                    out_channels,
                    in_channels,
                    kernel_h,
                    kernel_w,
                };
                let kernel = self.conv_kernel(shape, 1, (self.precision, 0));
                kernel.packed_bytes(elements, bits)
            }
            [_, _] if self.precision == Precision::Fast => 2 * elements,
            [_, _] if self.memory == MemoryUse::Normal => {
                kernels::PackedMatrix::exact_bytes(elements, bits)
            }
            _ => 4 * elements,
        }
    }
}
