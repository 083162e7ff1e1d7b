//! Convolution, channels-last.

use crate::error::{Result, check, check_len, product};
use crate::matmul::{Linear, PackedMatrix, linear};

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

/// A convolution weight prepared once, at load.
#[derive(Clone, Debug)]
pub struct ConvWeight {
    shape: ConvShape,
    matrix: PackedMatrix,
}

impl ConvWeight {
    /// Packs a torch Conv2d weight: `weight: (O, I, KH, KW)`, contiguous.
    ///
    /// # Errors
    /// The length of `weight` does not fit `shape`, or the window is empty.
    pub fn from_oihw(weight: &[f32], shape: ConvShape) -> Result<Self> {
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
        let len = product(
            OP,
            "weight",
            &[out_channels, in_channels, kernel_h, kernel_w],
        )?;
        check_len(OP, "weight", weight.len(), len)?;
        let taps = kernel_h * kernel_w;
        let mut ohwi = vec![0.0; len];
        for o in 0..out_channels {
            for i in 0..in_channels {
                for t in 0..taps {
                    ohwi[(o * taps + t) * in_channels + i] =
                        weight[(o * in_channels + i) * taps + t];
                }
            }
        }
        Ok(Self {
            shape,
            matrix: PackedMatrix::from_out_in(&ohwi, out_channels, taps * in_channels)?,
        })
    }

    /// The sizes it was packed with.
    pub fn shape(&self) -> ConvShape {
        self.shape
    }
}

/// Zeros around the input, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Columns before.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns after.
    pub right: usize,
}

impl Padding {
    /// The same padding on all four sides.
    pub fn symmetric(pixels: usize) -> Self {
        Self {
            top: pixels,
            left: pixels,
            bottom: pixels,
            right: pixels,
        }
    }
}

/// One call of [`conv2d`].
#[derive(Clone, Copy, Debug)]
pub struct Conv2d<'a> {
    /// `(batch, height, width, in_channels)`, contiguous.
    pub x: &'a [f32],
    /// Pictures.
    pub batch: usize,
    /// Rows of `x`.
    pub height: usize,
    /// Columns of `x`.
    pub width: usize,
    /// Packed weight.
    pub weight: &'a ConvWeight,
    /// Step of the window, both ways; at least 1.
    pub stride: usize,
    /// Zeros around the (upsampled) input.
    pub padding: Padding,
    /// Reads `x` as if it had been upsampled (nearest) to this (height, width) first.
    pub upsample_to: Option<(usize, usize)>,
    /// `(out_channels)`.
    pub bias: Option<&'a [f32]>,
    /// `(batch, out_channels)`, added to every pixel of its picture (the time embedding).
    pub channel_bias: Option<&'a [f32]>,
    /// `(batch, out_height, out_width, out_channels)`, added to the result.
    pub residual: Option<&'a [f32]>,
}

impl Conv2d<'_> {
    /// Height and width of the result.
    ///
    /// # Errors
    /// The stride is 0 or the window does not fit the padded input.
    pub fn out_size(&self) -> Result<(usize, usize)> {
        const OP: &str = "conv2d";
        let (height, width) = self.upsample_to.unwrap_or((self.height, self.width));
        let shape = self.weight.shape;
        check(OP, "stride", self.stride > 0, "at least 1", self.stride)?;
        let h = height + self.padding.top + self.padding.bottom;
        let w = width + self.padding.left + self.padding.right;
        check(
            OP,
            "height",
            h >= shape.kernel_h,
            "a padded height of at least the window's",
            h,
        )?;
        check(
            OP,
            "width",
            w >= shape.kernel_w,
            "a padded width of at least the window's",
            w,
        )?;
        Ok((
            (h - shape.kernel_h) / self.stride + 1,
            (w - shape.kernel_w) / self.stride + 1,
        ))
    }
}

/// Convolves `x` with the packed weight; `out: (batch, out_height, out_width, out_channels)`, contiguous.
///
/// # Errors
/// A length does not fit the sizes, or the window does not fit the padded input.
pub fn conv2d(call: &Conv2d<'_>, out: &mut [f32]) -> Result<()> {
    const OP: &str = "conv2d";
    let (oh, ow) = call.out_size()?;
    let shape = call.weight.shape;
    let (c, o) = (shape.in_channels, shape.out_channels);
    check_len(
        OP,
        "x",
        call.x.len(),
        product(OP, "x", &[call.batch, call.height, call.width, c])?,
    )?;
    let len = product(OP, "out", &[call.batch, oh, ow, o])?;
    check_len(OP, "out", out.len(), len)?;
    if let Some(bias) = call.bias {
        check_len(OP, "bias", bias.len(), o)?;
    }
    if let Some(bias) = call.channel_bias {
        check_len(OP, "channel_bias", bias.len(), call.batch * o)?;
    }
    if let Some(residual) = call.residual {
        check_len(OP, "residual", residual.len(), len)?;
    }
    if len == 0 {
        return Ok(());
    }
    let k = shape.kernel_h * shape.kernel_w * c;
    let (vh, vw) = call.upsample_to.unwrap_or((call.height, call.width));
    let mut columns = vec![0.0; oh * ow * k];
    for b in 0..call.batch {
        for y in 0..oh {
            for x in 0..ow {
                for ky in 0..shape.kernel_h {
                    for kx in 0..shape.kernel_w {
                        let at = ((y * ow + x) * shape.kernel_h * shape.kernel_w
                            + ky * shape.kernel_w
                            + kx)
                            * c;
                        let dst = &mut columns[at..at + c];
                        let sy = (y * call.stride + ky)
                            .checked_sub(call.padding.top)
                            .filter(|&v| v < vh);
                        let sx = (x * call.stride + kx)
                            .checked_sub(call.padding.left)
                            .filter(|&v| v < vw);
                        match (sy, sx) {
                            (Some(sy), Some(sx)) => {
                                let sy = crate::layout::nearest(sy, call.height, vh);
                                let sx = crate::layout::nearest(sx, call.width, vw);
                                let from = ((b * call.height + sy) * call.width + sx) * c;
                                dst.copy_from_slice(&call.x[from..from + c]);
                            }
                            _ => dst.fill(0.0),
                        }
                    }
                }
            }
        }
        let image = b * oh * ow * o..(b + 1) * oh * ow * o;
        let residual = call.residual.map(|r| &r[image.clone()]);
        let out = &mut out[image];
        linear(
            &Linear {
                x: &columns,
                rows: oh * ow,
                x_stride: k,
                weight: &call.weight.matrix,
                bias: call.bias,
                residual,
            },
            out,
        )?;
        if let Some(bias) = call.channel_bias {
            for row in out.chunks_exact_mut(o) {
                row.iter_mut()
                    .zip(&bias[b * o..])
                    .for_each(|(o, b)| *o += b);
            }
        }
    }
    Ok(())
}
