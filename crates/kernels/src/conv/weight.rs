//! A convolution's weight, in the form its kernel reads.

use super::choice::{ConvKernel, SPLIT_CHANNELS, WinogradTile};
use super::phases::Phases;
use super::shifted;
use crate::error::{Result, ShapeError, check, check_len, product};
use crate::half::Order;
use crate::isa::Isa;
use crate::matmul::{Columns, PANEL, PackedMatrix, order_of_rows};
use crate::winograd::{Values, WinogradWeight};

/// Sizes of a convolution's weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Channels of the result.
    pub out_channels: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Rows of the window.
    pub kernel_h: usize,
    /// Columns of the window.
    pub kernel_w: usize,
}

/// A convolution weight prepared once, at load, for one kernel.
#[derive(Clone, Debug)]
pub struct ConvWeight {
    shape: ConvShape,
    kernel: ConvKernel,
    pub(super) form: Form,
    /// Windows over a picture of half the size, for a layer that upsamples.
    pub(super) phases: Option<Phases>,
}

/// What a weight is packed as.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// One column an output channel; the sum runs over the window's pixels, then channels.
    Matrix(PackedMatrix),
    /// One column a place of the window and output channel; the sum runs over channels.
    Shifted(PackedMatrix),
    Winograd(WinogradWeight),
}

impl ConvWeight {
    /// Packs a torch Conv2d weight for the direct f32 kernel: `weight: (O, I, KH, KW)`, contiguous.
    ///
    /// # Errors
    /// The length of `weight` does not fit `shape`, or the window is empty.
    pub fn from_oihw(weight: &[f32], shape: ConvShape) -> Result<Self> {
        Self::pack(weight, shape, ConvKernel::DirectF32)
    }

    /// Packs a torch Conv2d weight for `kernel`: `weight: (O, I, KH, KW)`, contiguous.
    ///
    /// # Errors
    /// The length of `weight` does not fit `shape`, the window is empty, or `kernel` is a Winograd kernel and the window
    /// is not 3x3 or there are no input channels.
    pub fn pack(weight: &[f32], shape: ConvShape, kernel: ConvKernel) -> Result<Self> {
        const OP: &str = "pack_conv";
        let ConvShape {
            out_channels,
            in_channels,
            kernel_h,
            kernel_w,
        } = shape;
        check(
            OP,
            "kernel",
            kernel_h > 0 && kernel_w > 0,
            "a window of at least 1x1",
            kernel_h.min(kernel_w),
        )?;
        let sizes = [out_channels, in_channels, kernel_h, kernel_w];
        check_len(OP, "weight", weight.len(), product(OP, "weight", &sizes)?)?;
        // The largest packed form has 36 words for a window of 9, and columns and channels rounded up.
        let padded = [
            out_channels.saturating_add(PANEL),
            in_channels.saturating_add(PANEL),
            kernel_h.max(6),
            kernel_w.max(6),
        ];
        product(OP, "weight", &padded)?;
        let len = in_channels * kernel_h * kernel_w;
        let windows = Windows { weight, shape };
        let form = match kernel {
            ConvKernel::DirectF32 => {
                Form::Matrix(PackedMatrix::from_columns(out_channels, len, &windows))
            }
            ConvKernel::DirectBf16 => {
                // AMX reads pixels of a window as they lie, in planes of 32 channels.
                let whole = kernel_h * kernel_w == 1 || in_channels.is_multiple_of(SPLIT_CHANNELS);
                let order = if whole { order_of_rows() } else { Order::Rows };
                let matrix = PackedMatrix::bf16_from_columns(out_channels, len, &windows, order);
                Form::Matrix(matrix)
            }
            ConvKernel::SplitBf16 => Form::Matrix(split(&windows, len)?),
            ConvKernel::ShiftedF32 => Form::Shifted(shifted::pack(weight, shape)),
            ConvKernel::WinogradF32(tile) => {
                Form::Winograd(winograd(weight, shape, tile, Values::F32)?)
            }
            ConvKernel::WinogradI16(tile) => {
                Form::Winograd(winograd(weight, shape, tile, Values::I16)?)
            }
        };
        Ok(Self {
            shape,
            kernel,
            form,
            phases: None,
        })
    }

    /// As [`pack`](Self::pack), for a layer that upsamples its input first: with AMX, a 3x3 window is packed a second time as
    /// the four of 2x2 that it is over a picture of half the size, which calls of twice the size use.
    ///
    /// # Errors
    /// As [`pack`](Self::pack).
    pub fn pack_upsampling(weight: &[f32], shape: ConvShape, kernel: ConvKernel) -> Result<Self> {
        let packed = Self::pack(weight, shape, kernel)?;
        let square = shape.kernel_h == 3 && shape.kernel_w == 3;
        let direct = matches!(packed.form, Form::Matrix(_)) && packed.takes_normed(1);
        let phases = (square && direct)
            .then(|| Phases::pack(weight, shape, kernel))
            .transpose()?;
        Ok(Self { phases, ..packed })
    }

    /// The weight as that of a linear layer, which a window of one pixel is.
    pub fn as_matrix(&self) -> Option<&PackedMatrix> {
        match &self.form {
            Form::Matrix(matrix) if self.shape.kernel_h * self.shape.kernel_w == 1 => Some(matrix),
            _ => None,
        }
    }

    /// The sizes it was packed with.
    pub fn shape(&self) -> ConvShape {
        self.shape
    }

    /// The kernel it is packed for.
    pub fn kernel(&self) -> ConvKernel {
        self.kernel
    }

    /// Whether a call of this step may have a group norm in place of its input.
    pub fn takes_normed(&self, stride: usize) -> bool {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if let Form::Matrix(matrix) = &self.form
            && let Some((weight, _)) = matrix.halves()
        {
            let shape = self.shape;
            return weight.order == Order::Tiles
                && shape.in_channels.is_multiple_of(SPLIT_CHANNELS)
                && (shape.kernel_h > 1 || shape.kernel_w > 1 || stride > 1);
        }
        let _ = stride;
        matches!(self.form, Form::Shifted(_))
    }

    /// Bytes it takes in memory.
    pub fn bytes(&self) -> usize {
        let whole = match &self.form {
            Form::Matrix(matrix) | Form::Shifted(matrix) => matrix.bytes(),
            Form::Winograd(weight) => weight.bytes(),
        };
        whole + self.phases.as_ref().map_or(0, Phases::bytes)
    }
}

/// The weights of each output channel: the window's pixels, then channels, as the pixels lie in a channels-last picture.
struct Windows<'a> {
    weight: &'a [f32],
    shape: ConvShape,
}

impl Columns for Windows<'_> {
    fn read(&self, column: usize, from: usize, out: &mut [f32]) {
        let ConvShape {
            in_channels: channels,
            kernel_h,
            kernel_w,
            ..
        } = self.shape;
        let taps = kernel_h * kernel_w;
        let window = &self.weight[column * channels * taps..][..channels * taps];
        let mut rest = out;
        let mut at = from;
        while !rest.is_empty() {
            let (tap, channel) = (at / channels, at % channels);
            let (run, others) = rest.split_at_mut((channels - channel).min(rest.len()));
            let values = window[channel * taps + tap..].iter().step_by(taps);
            run.iter_mut()
                .zip(values)
                .for_each(|(to, from)| *to = *from);
            at += run.len();
            rest = others;
        }
    }
}

/// Packs in three parts, for AMX.
fn split(windows: &Windows<'_>, len: usize) -> Result<PackedMatrix> {
    const OP: &str = "pack_conv";
    let channels = windows.shape.in_channels;
    check(
        OP,
        "in_channels",
        channels.is_multiple_of(SPLIT_CHANNELS),
        "a multiple of 32 for three parts of bf16",
        channels,
    )?;
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if Isa::available().contains(&Isa::Amx) {
        let columns = windows.shape.out_channels;
        return Ok(PackedMatrix::split_from_columns(columns, len, windows));
    }
    Err(ShapeError {
        op: OP,
        argument: "kernel",
        expected: "a processor with AMX".to_owned(),
        got: len,
    })
}

/// Packs for Winograd.
fn winograd(
    weight: &[f32],
    shape: ConvShape,
    tile: WinogradTile,
    values: Values,
) -> Result<WinogradWeight> {
    check(
        "pack_conv",
        "kernel",
        shape.kernel_h == 3 && shape.kernel_w == 3,
        "a window of 3x3 for a Winograd kernel",
        shape.kernel_h.max(shape.kernel_w),
    )?;
    check(
        "pack_conv",
        "in_channels",
        shape.in_channels > 0,
        "at least one channel for a Winograd kernel",
        shape.in_channels,
    )?;
    let sizes = (shape.out_channels, shape.in_channels);
    Ok(WinogradWeight::new(weight, sizes, tile.side(), values))
}
