//! Layers of every kind in a row, at sizes that no kernel's tile divides.

use super::*;

/// A residual block and a transformer block in small.
pub(super) struct Block {
    norm: GroupNorm,
    conv: Conv2d,
    down: Conv2d,
    layer_norm: LayerNorm,
    attn1: Attention,
    attn2: Attention,
    geglu: Geglu,
    out: Linear,
    up: Conv2d,
}

impl Block {
    pub(super) fn load(scope: &Scope) -> Result<Self> {
        let down = Conv2dSpec {
            stride: 2,
            padding: Padding::BottomRight,
            ..Conv2dSpec::same3x3(64, 48)
        };
        let cross = AttentionSpec {
            context_dim: Some(40),
            upcast: true,
            ..AttentionSpec::new(48, 3, 16)
        };
        Ok(Self {
            norm: GroupNorm::load(&scope.pp("norm"), 8, 32, 1e-5)?,
            conv: Conv2d::load(&scope.pp("conv"), Conv2dSpec::same3x3(32, 64))?,
            down: Conv2d::load(&scope.pp("down"), down)?,
            layer_norm: LayerNorm::load(&scope.pp("layer_norm"), 48, 1e-5)?,
            attn1: Attention::load(&scope.pp("attn1"), &AttentionSpec::new(48, 3, 16))?,
            attn2: Attention::load(&scope.pp("attn2"), &cross)?,
            geglu: Geglu::load(&scope.pp("ff"), 48, 192)?,
            out: Linear::load(&scope.pp("out"), 192, 48, Bias::With)?,
            up: Conv2d::load(&scope.pp("up"), Conv2dSpec::same3x3(48, 7))?,
        })
    }

    pub(super) fn forward(
        &self,
        x: &FeatureMap,
        embedding: &Tokens,
        context: &Tokens,
    ) -> Result<FeatureMap> {
        let (height, width) = (x.height(), x.width());
        let h = self.norm.forward(x, Activation::Silu)?;
        let fused = Fused {
            channel_bias: Some(embedding),
            residual: None,
        };
        let h = self.down.forward(&self.conv.forward_fused(&h, fused)?)?;
        let (small_height, small_width) = (h.height(), h.width());
        let h = h.into_tokens()?;
        let h = self
            .attn1
            .forward(&self.layer_norm.forward(&h)?, None, Some(&h))?;
        let h = self.attn2.forward(&h, Some(context), Some(&h))?;
        let h = self.out.forward_add(&self.geglu.forward(&h)?, &h)?;
        self.up.forward_upsampled(
            &h.into_feature_map(small_height, small_width)?,
            height,
            width,
        )
    }
}

/// A block with weights that depend on nothing but their names' order.
pub(super) fn block(engine: &Engine) -> Block {
    let plan = Scope::plan(engine);
    Block::load(&plan).unwrap();
    let mut tensors = Memory::default();
    for (seed, tensor) in plan.manifest().iter().enumerate() {
        let fan_in: usize = tensor.shape.iter().skip(1).product();
        let values = noise(seed as u64, &tensor.shape).map(|v| v / (fan_in as f32).sqrt());
        tensors = tensors.with_host(&tensor.name, &values);
    }
    Block::load(&Scope::load(engine, tensors.arc(), |_| Ok(()))).unwrap()
}

/// The block's result on `engine` for two items of an odd size.
pub(super) fn run(engine: &Engine) -> HostTensor {
    run_items(engine, &block(engine), 0..2)
}

/// The same for some of the items.
pub(super) fn run_items(
    engine: &Engine,
    block: &Block,
    items: std::ops::Range<usize>,
) -> HostTensor {
    let part = |seed, shape: &[usize]| {
        let whole = noise(seed, shape);
        let item = whole.data().len() / 2;
        let shape = [&[items.len()], &shape[1..]].concat();
        let values = &whole.data()[items.start * item..items.end * item];
        HostTensor::new(shape, values.to_vec()).unwrap()
    };
    let x = FeatureMap::from_host(engine, &part(100, &[2, 32, 33, 17])).unwrap();
    let embedding = Tokens::from_host(engine, &part(101, &[2, 1, 64])).unwrap();
    let context = Tokens::from_host(engine, &part(102, &[2, 77, 40])).unwrap();
    block
        .forward(&x, &embedding, &context)
        .unwrap()
        .to_host()
        .unwrap()
}
