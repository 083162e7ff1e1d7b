//! Which kernel computes a convolution: a rule by shape, precision and instruction set, which callers can show.

use std::fmt;

use super::weight::ConvShape;
use crate::isa::Isa;
use crate::matmul::PackedMatrix;

/// How products are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32 products and sums.
    #[default]
    F32,
    /// 16-bit products, f32 sums.
    Fast,
}

/// The outputs a Winograd tile has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WinogradTile {
    /// F(2x2,3x3): 2.25 times fewer products.
    F2,
    /// F(4x4,3x3): 4 times fewer products, larger rounding errors.
    F4,
}

impl WinogradTile {
    /// Inputs of a tile, each way.
    pub(super) fn side(self) -> usize {
        match self {
            Self::F2 => 4,
            Self::F4 => 6,
        }
    }
}

/// A convolution kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvKernel {
    /// One f32 product.
    DirectF32,
    /// One bf16 product with f32 sums.
    DirectBf16,
    /// One product as precise as f32's, whose values are sums of three bf16: with AMX alone, and input channels by 32.
    SplitBf16,
    /// One f32 product of each pixel with all places of the window, then shifted sums: for few output channels.
    ShiftedF32,
    /// f32 Winograd, 3x3 windows of step 1 alone.
    WinogradF32(WinogradTile),
    /// Winograd with i16 products and i32 sums, 3x3 windows of step 1 alone.
    WinogradI16(WinogradTile),
}

/// What a convolution is used for, as far as the choice of its kernel goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvUse {
    /// Sizes of the weight.
    pub shape: ConvShape,
    /// Step of the window.
    pub stride: usize,
    /// Precision asked for.
    pub precision: Precision,
    /// Pixels of a typical output picture; 0 when not known.
    pub pixels: usize,
}

/// Channels, either way, from which on Winograd's transforms cost less than its products save.
const WINOGRAD_CHANNELS: usize = 32;
/// Output channels up to which columns of all places side by side are fewer than padded columns of each.
const FEW_OUTPUTS: usize = 8;
/// The same with vectors so short that there is less padding.
const FEW_OUTPUTS_PORTABLE: usize = 4;
/// Output pixels from which on Winograd in f32 is quicker than six products on AMX.
const MANY_PIXELS: usize = 1024;
/// Input channels are a multiple of this for AMX to read pixels as they lie.
pub(crate) const SPLIT_CHANNELS: usize = 32;
/// Output pixels under which a transformed weight, 4 times the size, takes longer to read than the products it saves.
const FEW_PIXELS: usize = 128;

impl ConvKernel {
    /// The kernel for `use_` on the instruction set kernels called from this thread use.
    pub fn choose(use_: &ConvUse) -> Self {
        Self::choose_for(use_, Isa::current())
    }

    /// The kernel for `use_` on `isa`.
    pub fn choose_for(use_: &ConvUse, isa: Isa) -> Self {
        let shape = use_.shape;
        let slides = shape.kernel_h == 3 && shape.kernel_w == 3 && use_.stride == 1;
        let fits = slides && shape.in_channels.min(shape.out_channels) >= WINOGRAD_CHANNELS;
        let few = use_.pixels > 0 && use_.pixels < FEW_PIXELS;
        let few_outputs = if isa == Isa::Portable {
            FEW_OUTPUTS_PORTABLE
        } else {
            FEW_OUTPUTS
        };
        let shifts = slides && shape.out_channels <= few_outputs;
        match use_.precision {
            // As quick as bf16 with AMX, and quicker than any other way without it.
            precision if shifts && (precision == Precision::F32 || isa != Isa::Amx) => {
                Self::ShiftedF32
            }
            // Six products of bf16 on AMX take a third of the time of one of f32, and the weight is smaller than Winograd's; only over
            // many pixels Winograd's quarter of the products is quicker still.
            Precision::F32
                if isa == Isa::Amx
                    && shape.in_channels.is_multiple_of(SPLIT_CHANNELS)
                    && (!fits || (use_.pixels > 0 && use_.pixels < MANY_PIXELS)) =>
            {
                Self::SplitBf16
            }
            Precision::F32 if fits && !few => Self::WinogradF32(WinogradTile::F4),
            Precision::F32 => Self::DirectF32,
            // AMX takes no longer to multiply bf16 directly than vectors to multiply i16 for Winograd's quarter of the products, and
            // the weight is a quarter the size.
            Precision::Fast if fits && isa != Isa::Amx => Self::WinogradI16(if few {
                WinogradTile::F2
            } else {
                WinogradTile::F4
            }),
            Precision::Fast => Self::DirectBf16,
        }
    }

    /// Bytes that `values` weights of `bits` significant bits take once packed, but for padding and factors.
    pub fn packed_bytes(self, values: u64, bits: u32) -> u64 {
        match self {
            Self::DirectF32 | Self::ShiftedF32 => 4 * values,
            Self::DirectBf16 => 2 * values,
            Self::SplitBf16 => PackedMatrix::exact_bytes(values, bits),
            // A window of 9 becomes a tile of 16 or 36.
            Self::WinogradF32(tile) => values * (tile.side() * tile.side()) as u64 * 4 / 9,
            Self::WinogradI16(tile) => values * (tile.side() * tile.side()) as u64 * 2 / 9,
        }
    }

    /// Name used by logs and benches.
    pub fn name(self) -> &'static str {
        match self {
            Self::DirectF32 => "conv-f32-direct",
            Self::DirectBf16 => "conv-bf16-direct",
            Self::SplitBf16 => "conv-3xbf16-direct",
            Self::ShiftedF32 => "conv-f32-shifted",
            Self::WinogradF32(WinogradTile::F2) => "conv-f32-winograd2",
            Self::WinogradF32(WinogradTile::F4) => "conv-f32-winograd4",
            Self::WinogradI16(WinogradTile::F2) => "conv-i16-winograd2",
            Self::WinogradI16(WinogradTile::F4) => "conv-i16-winograd4",
        }
    }
}

impl fmt::Display for ConvKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
