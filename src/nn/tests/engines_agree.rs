//! Sizes beyond the fixtures: the engines against each other, f16 against f32, one thread against many.

use super::*;

/// Two f32 engines sum in different orders.
const F32: Tolerance = Tolerance {
    absolute: 2e-5,
    relative: 1e-5,
};
/// f16 keeps eleven bits; a block of four layers loses some more.
const F16: Tolerance = Tolerance {
    absolute: 2e-2,
    relative: 1e-2,
};

/// A residual block and a transformer block in small.
struct Block {
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
    fn load(scope: &Scope) -> Result<Self> {
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

    fn forward(&self, x: &FeatureMap, embedding: &Tokens, context: &Tokens) -> Result<FeatureMap> {
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

/// A block's result on `engine` for inputs of an odd size.
fn run(engine: &Engine) -> HostTensor {
    let plan = Scope::plan(engine);
    Block::load(&plan).unwrap();
    let mut tensors = Memory::default();
    for (seed, tensor) in plan.manifest().iter().enumerate() {
        let fan_in: usize = tensor.shape.iter().skip(1).product();
        let values = noise(seed as u64, &tensor.shape).map(|v| v / (fan_in as f32).sqrt());
        tensors = tensors.with_host(&tensor.name, &values);
    }
    let block = Block::load(&Scope::load(engine, tensors.arc(), |_| Ok(()))).unwrap();
    let x = FeatureMap::from_host(engine, &noise(100, &[2, 32, 33, 17])).unwrap();
    let embedding = Tokens::from_host(engine, &noise(101, &[2, 1, 64])).unwrap();
    let context = Tokens::from_host(engine, &noise(102, &[2, 77, 40])).unwrap();
    block
        .forward(&x, &embedding, &context)
        .unwrap()
        .to_host()
        .unwrap()
}

#[test]
fn both_engines_compute_the_same_block() {
    let [cpu, candle] = engines().map(|engine| run(&engine));
    assert_eq!(cpu.shape(), [2, 7, 33, 17]);
    assert_close("cpu against candle", &cpu, &candle, F32);
}

#[test]
fn f16_on_the_processor_computes_the_same_block() {
    let half = run(&Engine::new(EngineKind::Auto, Device::Cpu, Some(DType::F16)).unwrap());
    assert_close("f16 against f32", &half, &run(&Engine::cpu()), F16);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for engine in engines() {
        let [one, two, five] = [1, 2, 5].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| run(&engine))
        });
        assert_eq!(one, two, "{}", engine.kind());
        assert_eq!(one, five, "{}", engine.kind());
    }
}

#[test]
fn large_pictures_keep_their_group_statistics() {
    // 512 x 512 elements a channel with a mean far from zero, where a single f32 sum drifts.
    let host = noise(7, &[1, 2, 512, 512]).map(|v| v + 40.0);
    let expected: Vec<f32> = host
        .data()
        .chunks(512 * 512)
        .flat_map(|channel| {
            let count = channel.len() as f64;
            let mean = channel.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
            let square = |v: f32| (f64::from(v) - mean).powi(2);
            let deviation = (channel.iter().map(|&v| square(v)).sum::<f64>() / count + 1e-6).sqrt();
            channel
                .iter()
                .map(move |&v| ((f64::from(v) - mean) / deviation) as f32)
        })
        .collect();
    let expected = HostTensor::new(host.shape(), expected).unwrap();
    for engine in engines() {
        let tensors =
            Memory::default()
                .with("weight", &[2], &[1.0; 2])
                .with("bias", &[2], &[0.0; 2]);
        let scope = Scope::load(&engine, tensors.arc(), |_| Ok(()));
        let layer = GroupNorm::load(&scope, 2, 2, 1e-6).unwrap();
        let x = FeatureMap::from_host(&engine, &host).unwrap();
        let y = layer
            .forward(&x, Activation::None)
            .unwrap()
            .to_host()
            .unwrap();
        let tolerance = Tolerance {
            absolute: 2e-5,
            relative: 1e-5,
        };
        assert_close(&format!("{}", engine.kind()), &y, &expected, tolerance);
    }
}
