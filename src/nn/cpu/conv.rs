//! Convolutions with packed weights.

use std::sync::Arc;

use tintype_kernels as kernels;

use super::super::Scope;
use super::super::conv2d::{Conv2dSpec, Padding};
use super::layers::{large, values};
use super::pending::sources;
use super::{Array, Context, KernelResult};
use crate::error::Result;
use crate::nn::MemoryUse;
use crate::nn::profile::Account;

/// A convolution's weight and bias.
#[derive(Debug, Clone)]
pub(in crate::nn) struct Conv {
    weight: Arc<kernels::ConvWeight>,
    bias: Arc<[f32]>,
}

/// What a convolution reads besides its input.
#[derive(Debug, Clone, Copy)]
pub(in crate::nn) struct ConvExtras<'a> {
    /// (B, 1, O) or (1, 1, O).
    pub(in crate::nn) channel_bias: Option<&'a Array>,
    /// (B, H', W', O).
    pub(in crate::nn) residual: Option<&'a Array>,
    /// Size to resize the input to first.
    pub(in crate::nn) upsample_to: Option<(usize, usize)>,
}

impl Conv {
    /// Reads and packs; `None` when planning.
    pub(in crate::nn) fn load(
        context: &Context,
        scope: &Scope,
        spec: &Conv2dSpec,
        upsamples: bool,
    ) -> Result<Option<Self>> {
        let shape = kernels::ConvShape {
            out_channels: spec.out_channels,
            in_channels: spec.in_channels,
            kernel_h: spec.kernel,
            kernel_w: spec.kernel,
        };
        let oihw = [
            spec.out_channels,
            spec.in_channels,
            spec.kernel,
            spec.kernel,
        ];
        let kernel = context.conv_kernel(
            shape,
            spec.stride,
            (context.precision_of(scope), scope.typical_pixels()),
        );
        let pack = if upsamples && context.memory == MemoryUse::Normal {
            kernels::ConvWeight::pack_upsampling
        } else {
            kernels::ConvWeight::pack
        };
        let weight = large(context, scope, "weight", &oihw)?
            .map(|weight| pack(&weight, shape, kernel).op("pack"))
            .transpose()?;
        let bias = values(scope, "bias", &oihw[..1])?;
        Ok(weight.zip(bias).map(|(weight, bias)| Self {
            weight: Arc::new(weight),
            bias: bias.into(),
        }))
    }

    pub(in crate::nn) fn run(
        &self,
        x: &Array,
        spec: &Conv2dSpec,
        extras: ConvExtras<'_>,
        op: &str,
    ) -> Result<Array> {
        let [batch, height, width, _] = x.bhwc();
        let repeated;
        let channel_bias = match extras.channel_bias.map(Array::data) {
            Some(bias) if bias.len() < batch * spec.out_channels => {
                repeated = bias.repeat(batch);
                Some(repeated.as_slice())
            }
            bias => bias,
        };
        if let Some(sum) = self.run_joined(x, spec, &extras, op) {
            return sum;
        }
        let waiting = x
            .waiting()
            .filter(|_| self.weight.takes_normed(spec.stride));
        let call = kernels::Conv2d {
            x: if waiting.is_some() { &[] } else { x.data() },
            normed: None,
            batch,
            height,
            width,
            weight: &self.weight,
            stride: spec.stride,
            padding: match spec.padding {
                Padding::Symmetric(padding) => kernels::Padding::symmetric(padding),
                Padding::BottomRight => kernels::Padding {
                    bottom: 1,
                    right: 1,
                    ..Default::default()
                },
            },
            upsample_to: extras.upsample_to,
            bias: Some(&self.bias),
            channel_bias,
            residual: extras.residual.map(Array::data),
        };
        let (out_height, out_width) = call.out_size().op(op)?;
        let dims = [batch, out_height, out_width, spec.out_channels];
        let account = || Self::account(spec, call.kernel(), [batch, out_height, out_width]);
        // A window of one pixel makes what is added to a block's result, which is normed; others are normed themselves.
        let compute = |call: &kernels::Conv2d<'_>, out: &mut [f32]| {
            if spec.kernel > 1 && kernels::Normed::suits() {
                return kernels::conv2d_recorded(call, out).op(op);
            }
            kernels::conv2d(call, out).op(op).map(|()| None)
        };
        Array::build_recorded(x.pool(), dims, account, |out| match waiting {
            None => compute(&call, out),
            Some(norm) => norm.with(|normed| {
                let normed = Some(normed);
                compute(&kernels::Conv2d { normed, ..call }, out)
            }),
        })
    }

    /// A convolution of single pixels over arrays side by side, which a product reads as they lie; `None` for others.
    fn run_joined(
        &self,
        x: &Array,
        spec: &Conv2dSpec,
        extras: &ConvExtras<'_>,
        op: &str,
    ) -> Option<Result<Array>> {
        let apart = x.parts().len() > 1 && spec.stride == 1;
        let plain = extras.channel_bias.is_none() && extras.upsample_to.is_none();
        let matrix = self.weight.as_matrix().filter(|_| apart && plain)?;
        let parts = sources(x.parts());
        let input = kernels::Input::Joined(&parts);
        let call = kernels::Linear {
            x: Some(input).filter(|input| matrix.takes(input))?,
            rows: x.rows(),
            x_stride: spec.in_channels,
            weight: matrix,
            bias: Some(&self.bias),
            residual: extras.residual.map(Array::data),
        };
        let [batch, height, width, _] = x.bhwc();
        let dims = [batch, height, width, spec.out_channels];
        let account = || Self::account(spec, self.weight.kernel().name(), [batch, height, width]);
        Some(Array::build(x.pool(), dims, account, |out| {
            kernels::linear(&call, out).op(op)
        }))
    }

    fn account(
        spec: &Conv2dSpec,
        kernel: &'static str,
        [batch, height, width]: [usize; 3],
    ) -> Account {
        let (inputs, outputs) = (spec.in_channels, spec.out_channels);
        let outs = (batch * height * width * outputs) as f64;
        Account {
            kind: match (spec.kernel, spec.stride) {
                (1, _) => "conv 1x1",
                (3, 1) => "conv 3x3",
                (3, _) => "conv 3x3 down",
                _ => "conv other",
            },
            kernel,
            shape: format!("{batch}x{height}x{width} {inputs}>{outputs}"),
            flops: 2.0 * outs * (inputs * spec.kernel * spec.kernel) as f64,
        }
    }
}
