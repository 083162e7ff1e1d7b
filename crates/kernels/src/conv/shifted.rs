//! Convolutions to few channels: one product of each pixel with the weights of all places of the window, then shifted sums of that.
//!
//! A window's places one after the other would each multiply a panel of 32 columns, of which three or four count. Side by side they
//! fill one, and a pixel is read and normed once instead of nine times; what is left are nine additions of a few values. A window's
//! rows of products go round in the second cache until the last output that has a part of them is written.

use std::ops::Range;

use rayon::prelude::*;

use super::Window;
use super::weight::ConvShape;
use crate::isa::{Isa, Op, dispatch};
use crate::matmul::{Checked, Columns, Form, PackedMatrix, Panels, Rows, Store, Tile};
use crate::scratch;
use crate::shared::SharedMut;
use crate::simd::{MAX_LANES, Simd};

/// Output columns of a task: three rows of products with 32 columns are 50 KiB.
const WIDE: usize = 128;
/// Output rows of a task. The two above are multiplied by two tasks, so more are better; fewer leave tasks for more threads.
const FEWEST: usize = 8;
const MOST: usize = 64;
/// Tasks a thread should find, so that none waits long for the last one.
const TASKS_A_THREAD: usize = 4;
/// Pixels multiplied at once, a multiple of every micro-kernel's rows: of 128 channels, 24 KiB in the first cache beside a panel's 16.
const PIXELS: usize = 48;
/// Columns are a multiple of this, whole vectors of any instruction set.
const WHOLE: usize = MAX_LANES;

/// The weights of a place and an output channel, input channels alone.
struct Places<'a> {
    /// `(O, I, KH, KW)`.
    weight: &'a [f32],
    shape: ConvShape,
}

impl Columns for Places<'_> {
    fn read(&self, column: usize, from: usize, out: &mut [f32]) {
        let places = self.shape.kernel_h * self.shape.kernel_w;
        let (place, channel) = (
            column / self.shape.out_channels,
            column % self.shape.out_channels,
        );
        if place >= places {
            return out.fill(0.0);
        }
        let len = self.shape.in_channels * places;
        let window = &self.weight[channel * len..][..len];
        let values = window[from * places + place..].iter().step_by(places);
        out.iter_mut()
            .zip(values)
            .for_each(|(to, from)| *to = *from);
    }
}

/// Packs `weight: (O, I, KH, KW)`: columns of the first place, those of the second and so on, then zeros.
pub(super) fn pack(weight: &[f32], shape: ConvShape) -> PackedMatrix {
    let columns = shape.out_channels * shape.kernel_h * shape.kernel_w;
    let source = Places { weight, shape };
    PackedMatrix::from_columns(columns.next_multiple_of(WHOLE), shape.in_channels, &source)
}

/// Computes all outputs, of which there are some.
///
/// A product's sum runs over the channels and an output's over the places, both in one order, wherever a task begins: how many threads
/// there are changes no bit.
pub(super) fn run(window: &Window<'_>, weight: &PackedMatrix, out: &mut [f32]) {
    let Form::F32(weight) = weight.form() else {
        unreachable!("places of 16 bits, this is a bug");
    };
    let (height, width) = window.size;
    let across = width.div_ceil(WIDE);
    let wanted = TASKS_A_THREAD * rayon::current_num_threads();
    let rows = window.call.batch * height * across;
    let down = height.div_ceil((rows / wanted).clamp(FEWEST, MOST));
    let (high, wide) = (height.div_ceil(down), width.div_ceil(across));
    let isa = Isa::current();
    let out = SharedMut::new(out);
    (0..window.call.batch * down * across)
        .into_par_iter()
        .for_each(|task| {
            let (y, x) = (task / across % down * high, task % across * wide);
            let task = Task {
                window,
                weight,
                isa,
                picture: task / across / down,
                rows: y..height.min(y + high),
                columns: x..width.min(x + wide),
            };
            if !task.rows.is_empty() && !task.columns.is_empty() {
                task.compute(&out);
            }
        });
}

/// Some rows and columns of a picture's outputs.
struct Task<'a> {
    window: &'a Window<'a>,
    weight: Panels<'a>,
    isa: Isa,
    picture: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Task<'_> {
    fn compute(&self, out: &SharedMut<'_>) {
        let call = self.window.call;
        let shape = call.weight.shape();
        let (high, stride) = (shape.kernel_h, call.stride);
        // Products of one row of the padded picture.
        let len = self.read() * self.weight.columns;
        let outputs = self.columns.len() * shape.out_channels;
        let room = if call.normed.is_some() {
            PIXELS * shape.in_channels
        } else {
            0
        };
        let added = self.added();
        // Vectors of a few values are read and written whole, past the end of the last one too.
        let sizes = [high * len + MAX_LANES, outputs + MAX_LANES, room];
        scratch::with(sizes.iter().sum(), |buffer| {
            let (products, rest) = buffer.split_at_mut(sizes[0]);
            let (sums, room) = rest.split_at_mut(sizes[1]);
            let mut next = self.rows.start * stride;
            for y in self.rows.clone() {
                while next < y * stride + high {
                    if next >= y * stride {
                        self.multiply(next, &mut products[next % high * len..][..len], room);
                    }
                    next += 1;
                }
                let gather = Gather {
                    products,
                    places: &self.places(y * stride, len),
                    step: stride * self.weight.columns,
                    width: shape.out_channels,
                    sums,
                };
                dispatch(self.isa, gather);
                self.write(y, &sums[..outputs], &added, out);
            }
        });
    }

    /// Columns of the padded picture that the outputs see.
    fn read(&self) -> usize {
        let call = self.window.call;
        (self.columns.len() - 1) * call.stride + call.weight.shape().kernel_w
    }

    /// Products of a row of the padded picture, so far as the outputs see it.
    fn multiply(&self, row: usize, products: &mut [f32], room: &mut [f32]) {
        let channels = self.weight.depth;
        let start = self.columns.start * self.window.call.stride;
        for (block, products) in products
            .chunks_mut(PIXELS * self.weight.columns)
            .enumerate()
        {
            let count = products.len() / self.weight.columns;
            let mut rooms = room.chunks_exact_mut(channels.max(1));
            let mut table = [std::ptr::null(); PIXELS];
            for (i, pixel) in table[..count].iter_mut().enumerate() {
                let place = (self.picture, row, start + block * PIXELS + i);
                let room = rooms.next().unwrap_or_default();
                *pixel = self.window.values(place, 0..channels, room).as_ptr();
            }
            let tile = Tile {
                a: Rows {
                    table: &table[..count],
                    count,
                    taps: 1,
                    len: channels,
                },
                b: self.weight,
                start: 0,
                end: self.weight.columns,
                c: products.as_mut_ptr(),
                c_step: self.weight.columns,
                store: Store::Set,
                next: if room.is_empty() {
                    table[count - 1].wrapping_add(channels)
                } else {
                    std::ptr::null()
                },
            };
            // SAFETY: each pointer is that of a pixel's channels, in the picture or in a part of the room of its own; `products` has
            // `count` rows of all columns.
            dispatch(self.isa, unsafe { Checked::new(tile) });
        }
    }

    /// Where the products of each place of the window lie for the first output, whose window starts at row `top`.
    fn places(&self, top: usize, len: usize) -> Vec<usize> {
        let shape = self.window.call.weight.shape();
        let (high, wide) = (shape.kernel_h, shape.kernel_w);
        let place = |place: usize| {
            let (ky, kx) = (place / wide, place % wide);
            (top + ky) % high * len + kx * self.weight.columns + place * shape.out_channels
        };
        (0..high * wide).map(place).collect()
    }

    /// What is added to a row of outputs beside a residual.
    fn added(&self) -> Vec<f32> {
        let call = self.window.call;
        let outputs = call.weight.shape().out_channels;
        let channel = call
            .channel_bias
            .map(|bias| &bias[self.picture * outputs..]);
        let mut added = vec![0.0; outputs];
        for bias in [call.bias, channel].into_iter().flatten() {
            added.iter_mut().zip(bias).for_each(|(sum, b)| *sum += b);
        }
        added.repeat(self.columns.len())
    }

    /// Writes a row of outputs.
    fn write(&self, y: usize, sums: &[f32], added: &[f32], out: &SharedMut<'_>) {
        let (call, (height, width)) = (self.window.call, self.window.size);
        let first = (self.picture * height + y) * width + self.columns.start;
        let at = first * call.weight.shape().out_channels;
        // SAFETY: this task alone writes its rows and columns.
        let out = unsafe { out.part(at, sums.len()) };
        for ((out, sum), added) in out.iter_mut().zip(sums).zip(added) {
            *out = sum + added;
        }
        if let Some(residual) = call.residual {
            let residual = &residual[at..][..out.len()];
            out.iter_mut().zip(residual).for_each(|(out, r)| *out += r);
        }
    }
}

/// Adds the places' products of a row of outputs.
struct Gather<'a> {
    products: &'a [f32],
    /// Of the first output.
    places: &'a [usize],
    /// From an output's products to the next one's.
    step: usize,
    /// Values of an output.
    width: usize,
    /// A row of outputs and as much as a vector may write past them.
    sums: &'a mut [f32],
}

impl Op for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let outputs = (self.sums.len() - MAX_LANES) / self.width;
        let last = self.places.iter().max().unwrap_or(&0) + (outputs - 1) * self.step;
        assert!(
            last + self.width + MAX_LANES <= self.products.len(),
            "a place leaves the products, this is a bug"
        );
        let mut output = 0;
        while output < outputs {
            let mut channel = 0;
            while channel < self.width {
                let from = self
                    .products
                    .as_ptr()
                    .wrapping_add(output * self.step + channel);
                let mut sum = s.splat(0.0);
                let mut place = 0;
                while place < self.places.len() {
                    // SAFETY: what lies behind an output's last channel is inside by the assertion.
                    sum = s.add(sum, unsafe { s.load(from.add(self.places[place])) });
                    place += 1;
                }
                // Lanes behind the last channel are written again by the next output.
                // SAFETY: `sums` has a vector more than all outputs.
                unsafe {
                    let to = self.sums.as_mut_ptr().add(output * self.width + channel);
                    s.store(to, sum);
                }
                channel += S::LANES;
            }
            output += 1;
        }
    }
}
