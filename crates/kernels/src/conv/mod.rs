//! Convolution, channels-last: one matrix product per call, or Winograd's way for 3x3 windows.
//!
//! No im2col buffer: the kernels take one pointer an output pixel and window place (the "indirect" convolution of
//! Dukhan, arXiv:1907.02129), so padding is a pointer to zeros, and stride and nearest upsampling cost nothing.

mod choice;
mod phases;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod rounding;
mod shifted;
mod weight;

pub use choice::{ConvKernel, ConvUse, Precision, WinogradTile};
pub(crate) use phases::Phase;
use phases::Phases;
use weight::Form;
pub use weight::{ConvShape, ConvWeight};

use std::ops::Range;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use crate::amx;
use crate::error::{Result, check, check_len, product};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use crate::half::HalfMatrix;
use crate::isa::Isa;
use crate::layout::nearest;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use crate::matmul::PackedMatrix;
use crate::matmul::{Epilogue, LeftSide, product_with};

use crate::norm::{Moments, Normed, Recorder};
use crate::winograd;

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
    /// `(batch, height, width, in_channels)`, contiguous; empty where `normed` stands for it.
    pub x: &'a [f32],
    /// The input as a group norm not carried out yet, for weights that [take](ConvWeight::takes_normed) one.
    pub normed: Option<Normed<'a>>,
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

impl<'a> Conv2d<'a> {
    /// A plain convolution of `x: (batch, height, width, in_channels)`: stride 1, no padding, nothing added.
    pub fn new(
        x: &'a [f32],
        (batch, height, width): (usize, usize, usize),
        weight: &'a ConvWeight,
    ) -> Self {
        Self {
            x,
            normed: None,
            batch,
            height,
            width,
            weight,
            stride: 1,
            padding: Padding::default(),
            upsample_to: None,
            bias: None,
            channel_bias: None,
            residual: None,
        }
    }

    /// Height and width of the result.
    ///
    /// # Errors
    /// The stride is 0 or the window does not fit the padded input.
    pub fn out_size(&self) -> Result<(usize, usize)> {
        const OP: &str = "conv2d";
        let (height, width) = self.upsample_to.unwrap_or((self.height, self.width));
        let shape = self.weight.shape();
        check(OP, "stride", self.stride > 0, "at least 1", self.stride)?;
        let h = height
            .saturating_add(self.padding.top)
            .saturating_add(self.padding.bottom);
        let w = width
            .saturating_add(self.padding.left)
            .saturating_add(self.padding.right);
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

    /// The windows over the picture as it is, where they give what one over a picture of twice the size would.
    fn phases(&self) -> Option<&'a Phases> {
        let doubled = Some((2 * self.height, 2 * self.width));
        let same = self.stride == 1 && self.padding == Padding::symmetric(1);
        let phases = self.weight.phases.as_ref();
        phases.filter(|_| same && self.upsample_to == doubled && self.normed.is_none())
    }

    /// Name of what computes the call, for logs and benches.
    pub fn kernel(&self) -> &'static str {
        match (self.phases(), self.weight.kernel()) {
            (Some(_), ConvKernel::SplitBf16) => "conv-3xbf16-phases",
            (Some(_), _) => "conv-bf16-phases",
            (None, kernel) => kernel.name(),
        }
    }
}

/// Convolves `x` with the packed weight; `out: (batch, out_height, out_width, out_channels)`, contiguous.
///
/// # Errors
/// A length does not fit the sizes, or the window does not fit the padded input.
pub fn conv2d(call: &Conv2d<'_>, out: &mut [f32]) -> Result<()> {
    run(call, None, out)
}

/// The same, and the sums of the result's channels where the kernel takes them while it writes.
///
/// # Errors
/// As [`conv2d`].
pub fn conv2d_recorded(call: &Conv2d<'_>, out: &mut [f32]) -> Result<Option<Moments>> {
    let (height, width) = call.out_size()?;
    let channels = call.weight.shape().out_channels;
    let pixels = product("conv2d", "out", &[height, width])?;
    product("conv2d", "out", &[call.batch, channels])?;
    let recorder = Recorder::new([call.batch, pixels, channels]);
    run(call, Some(&recorder), out)?;
    Ok(recorder.finish())
}

fn run(call: &Conv2d<'_>, recorder: Option<&Recorder>, out: &mut [f32]) -> Result<()> {
    const OP: &str = "conv2d";
    let (oh, ow) = call.out_size()?;
    let shape = call.weight.shape();
    let (c, o) = (shape.in_channels, shape.out_channels);
    let inputs = product(OP, "x", &[call.batch, call.height, call.width, c])?;
    if let Some(normed) = &call.normed {
        let takes = call.weight.takes_normed(call.stride);
        check(OP, "normed", takes, "a weight that takes one", 1)?;
        check_len(OP, "normed", normed.len(), inputs)?;
    } else {
        check_len(OP, "x", call.x.len(), inputs)?;
    }
    let len = product(OP, "out", &[call.batch, oh, ow, o])?;
    check_len(OP, "out", out.len(), len)?;
    if let Some(bias) = call.channel_bias {
        check_len(OP, "channel_bias", bias.len(), call.batch * o)?;
    }
    let row_bias = call.channel_bias.map(|bias| (bias, oh * ow));
    let epilogue = Epilogue {
        bias: call.bias,
        residual: call.residual,
        row_bias,
        recorder,
    };
    epilogue.check(OP, o, len)?;
    let pixels = product(OP, "x", &[call.height, call.width])?;
    check(
        OP,
        "x",
        pixels > 0 || call.upsample_to.is_none(),
        "at least one pixel to upsample",
        pixels,
    )?;
    if len == 0 {
        return Ok(());
    }
    let zeros = vec![0.0; c];
    let Some(phases) = call.phases() else {
        let window = Window::new(call, (oh, ow), &zeros);
        return compute(&window, None, epilogue, out);
    };
    for (phase, part) in phases.calls(*call) {
        let window = Window::new(&part, (call.height, call.width), &zeros);
        compute(&window, Some(phase), epilogue, out)?;
    }
    Ok(())
}

/// Runs the kernel that the weight is packed for, whose results are all output pixels or one of each four.
fn compute(
    window: &Window<'_>,
    phase: Option<Phase>,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
) -> Result<()> {
    let (call, (oh, ow)) = (window.call, window.size);
    let shape = call.weight.shape();
    let c = shape.in_channels;
    let taps = shape.kernel_h * shape.kernel_w;
    match &call.weight.form {
        Form::Matrix(matrix) => {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            if let Some((weight, values)) = window.for_amx(matrix) {
                let map = amx::Map::new(
                    window,
                    (call.batch, (oh, ow)),
                    ((shape.kernel_h, shape.kernel_w), call.stride),
                    (c, values),
                );
                let map = phase.map_or(map, |phase| map.with_phase(phase));
                let work = amx::Work {
                    left: &map,
                    weights: [weight.panels()],
                };
                amx::run(&work, &amx::Plain::<false>(epilogue), out);
                return Ok(());
            }
            assert!(phase.is_none(), "phases without AMX, this is a bug");
            let sizes = (call.batch * oh * ow, taps, c);
            product_with(matrix, sizes, epilogue, window, out);
        }
        Form::Shifted(matrix) => shifted::run(window, matrix, out),
        Form::Winograd(weight) => {
            check(
                "conv2d",
                "stride",
                call.stride == 1,
                "1, as Winograd weights need",
                call.stride,
            )?;
            let call = winograd::Call {
                window,
                weight,
                batch: call.batch,
                size: (oh, ow),
                epilogue,
            };
            winograd::run(&call, out);
        }
    }
    Ok(())
}

/// Finds the input pixel under an output pixel and a place of the window.
#[derive(Clone, Copy)]
struct Window<'a> {
    call: &'a Conv2d<'a>,
    /// Output height and width.
    size: (usize, usize),
    /// Height and width of what the window moves over.
    upsampled: (usize, usize),
    /// What lies outside the picture: one pixel of zeros.
    zeros: &'a [f32],
    /// The instructions that norm a pixel, and whether it is rounded to bf16 then.
    norms: (Isa, bool),
}

impl<'a> Window<'a> {
    fn new(call: &'a Conv2d<'a>, size: (usize, usize), zeros: &'a [f32]) -> Self {
        Self {
            call,
            size,
            upsampled: call.upsample_to.unwrap_or((call.height, call.width)),
            zeros,
            norms: (
                Isa::current(),
                call.weight.kernel() == ConvKernel::DirectBf16,
            ),
        }
    }

    /// The input pixel at a place of the padded picture, unless that is padding.
    fn source(&self, (y, x): (usize, usize)) -> Option<(usize, usize)> {
        let call = self.call;
        let (height, width) = self.upsampled;
        // A pixel before the padding wraps to a huge number, so one comparison finds both sides.
        let y = y.wrapping_sub(call.padding.top);
        let x = x.wrapping_sub(call.padding.left);
        (y < height && x < width).then(|| {
            (
                nearest(y, call.height, height),
                nearest(x, call.width, width),
            )
        })
    }

    /// Some channels of a pixel of the padded picture, normed where they are to be; `room` holds as many values then.
    fn values<'s>(
        &'s self,
        (picture, y, x): (usize, usize, usize),
        channels: Range<usize>,
        room: &'s mut [f32],
    ) -> &'s [f32] {
        let Some(normed) = &self.call.normed else {
            return &self.run((picture, y, x), (0, 0))[channels];
        };
        let Some((y, x)) = self.source((y, x)) else {
            return &self.zeros[channels];
        };
        let room = &mut room[..channels.len()];
        let pixel = y * self.call.width + x;
        normed.pixel((picture, pixel), channels, self.norms, room);
        room
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
impl Window<'_> {
    /// The weight, where AMX is there and can read the pixels as they lie; a window of one pixel is a row of a matrix.
    fn for_amx<'m>(&self, matrix: &'m PackedMatrix) -> Option<(&'m HalfMatrix, amx::Values)> {
        let takes = self.call.weight.takes_normed(self.call.stride);
        matrix.halves().filter(|_| takes)
    }
}

impl<'a> LeftSide<'a> for Window<'a> {
    /// The picture, and where the window starts in the padded input.
    type Row = (usize, usize, usize);
    /// Row and column in the window.
    type Tap = (usize, usize);

    fn row(&self, row: usize) -> Self::Row {
        let (oh, ow) = self.size;
        let stride = self.call.stride;
        (row / (oh * ow), row / ow % oh * stride, row % ow * stride)
    }

    fn tap(&self, tap: usize) -> Self::Tap {
        let kernel_w = self.call.weight.shape().kernel_w;
        (tap / kernel_w, tap % kernel_w)
    }

    fn run(&self, (picture, y, x): Self::Row, (ky, kx): Self::Tap) -> &'a [f32] {
        let call = self.call;
        let Some((y, x)) = self.source((y + ky, x + kx)) else {
            return self.zeros;
        };
        let c = self.zeros.len();
        &call.x[((picture * call.height + y) * call.width + x) * c..][..c]
    }
}
