//! Transformers over feature maps, with the text as context.
//!
//! Follows `diffusers/models/transformers/transformer_2d.py` and `BasicTransformerBlock`, `FeedForward` of
//! `models/attention.py`. Keys and values of the text do not change over the steps: [`Transformer2D::prepare`]
//! computes them once, in the order in which `forward` takes them from a [`ContextCursor`].

use crate::error::{Error, ErrorKind, Result};
use crate::models::unet::AttentionConfig;
use crate::nn::{
    Activation, Attention, AttentionSpec, Bias, ContextKv, FeatureMap, Geglu, GroupNorm, LayerNorm,
    Linear, Scope, Tokens,
};

/// diffusers gives neither norm of a transformer a configuration key.
const GROUP_NORM_EPS: f64 = 1e-6;
const LAYER_NORM_EPS: f64 = 1e-5;

/// Hands out prepared keys and values in the order of the layers, and says how the picture looks at itself on the way.
#[derive(Debug)]
pub(crate) struct ContextCursor<'a> {
    rest: std::slice::Iter<'a, ContextKv>,
    /// Whether each token looks at itself alone, in the block that is being run.
    pub(crate) identity: bool,
    /// Whether the next transformer block is asked how much attention its tokens receive.
    pub(crate) watch: bool,
    /// What it said of the first item, for each token.
    pub(crate) received: Option<Vec<f32>>,
}

impl<'a> ContextCursor<'a> {
    pub(crate) fn new(prepared: &'a [ContextKv]) -> Self {
        Self {
            rest: prepared.iter(),
            identity: false,
            watch: false,
            received: None,
        }
    }

    fn next(&mut self) -> Result<&'a ContextKv> {
        self.rest.next().ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "the conditioning was prepared for another model",
            )
        })
    }
}

/// What differs between transformers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TransformerSpec<'a> {
    pub(crate) channels: usize,
    pub(crate) norm_num_groups: usize,
    /// Transformer blocks in it.
    pub(crate) depth: usize,
    pub(crate) attention: &'a AttentionConfig,
    pub(crate) upcast: bool,
}

/// diffusers' `Transformer2DModel` over continuous input.
///
/// `proj_in` and `proj_out` are stored as 1x1 convolutions or, with `use_linear_projection`, as linear layers;
/// over tokens both are the same product, so that key needs no case here.
#[derive(Debug)]
pub(crate) struct Transformer2D {
    norm: GroupNorm,
    proj_in: Linear,
    transformer_blocks: Vec<BasicTransformerBlock>,
    proj_out: Linear,
}

impl Transformer2D {
    pub(crate) fn load(scope: &Scope<'_>, spec: &TransformerSpec<'_>) -> Result<Self> {
        let channels = spec.channels;
        let head_dim = channels / spec.attention.heads;
        let inner = spec.attention.heads * head_dim;
        let blocks = scope.pp("transformer_blocks");
        let transformer_blocks = (0..spec.depth)
            .map(|i| BasicTransformerBlock::load(&blocks.pp(i), inner, head_dim, spec))
            .collect::<Result<_>>()?;
        let groups = spec.norm_num_groups;
        Ok(Self {
            norm: GroupNorm::load(&scope.pp("norm"), groups, channels, GROUP_NORM_EPS)?,
            proj_in: Linear::load(&scope.pp("proj_in"), channels, inner, Bias::With)?,
            transformer_blocks,
            proj_out: Linear::load(&scope.pp("proj_out"), inner, channels, Bias::With)?
                .before_group_norm(),
        })
    }

    /// Appends keys and values of `context` (B, M, cross_attention_dim) for each layer that looks at it.
    pub(crate) fn prepare(&self, context: &Tokens, prepared: &mut Vec<ContextKv>) -> Result<()> {
        for block in &self.transformer_blocks {
            block.prepare(context, prepared)?;
        }
        Ok(())
    }

    /// (B, C, H, W) to the same shape.
    pub(crate) fn forward(
        &self,
        x: FeatureMap,
        context: &mut ContextCursor<'_>,
    ) -> Result<FeatureMap> {
        let (height, width) = (x.height(), x.width());
        let hidden = self.norm.forward(&x, Activation::None)?.into_tokens()?;
        let residual = x.into_tokens()?;
        let mut hidden = self.proj_in.forward(&hidden)?;
        for block in &self.transformer_blocks {
            hidden = block.forward(&hidden, context)?;
        }
        let sum = self.proj_out.forward_add(&hidden, &residual)?;
        sum.into_feature_map(height, width)
    }
}

/// diffusers' `BasicTransformerBlock` with layer norms: self-attention, cross-attention, feed-forward.
#[derive(Debug)]
struct BasicTransformerBlock {
    norm1: LayerNorm,
    attn1: Attention,
    /// Whether `attn1` looks at the text instead of the picture (`only_cross_attention`).
    attn1_is_cross: bool,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    ff: FeedForward,
}

impl BasicTransformerBlock {
    fn load(
        scope: &Scope<'_>,
        dim: usize,
        head_dim: usize,
        spec: &TransformerSpec<'_>,
    ) -> Result<Self> {
        let config = spec.attention;
        let over_picture = AttentionSpec {
            upcast: spec.upcast,
            ..AttentionSpec::new(dim, config.heads, head_dim)
        };
        let over_text = AttentionSpec {
            context_dim: Some(config.cross_attention_dim),
            ..over_picture
        };
        let first = if config.only_cross_attention {
            &over_text
        } else {
            &over_picture
        };
        Ok(Self {
            norm1: LayerNorm::load(&scope.pp("norm1"), dim, LAYER_NORM_EPS)?,
            attn1: Attention::load(&scope.pp("attn1"), first)?,
            attn1_is_cross: config.only_cross_attention,
            norm2: LayerNorm::load(&scope.pp("norm2"), dim, LAYER_NORM_EPS)?,
            attn2: Attention::load(&scope.pp("attn2"), &over_text)?,
            norm3: LayerNorm::load(&scope.pp("norm3"), dim, LAYER_NORM_EPS)?,
            ff: FeedForward::load(&scope.pp("ff"), dim)?,
        })
    }

    fn prepare(&self, context: &Tokens, prepared: &mut Vec<ContextKv>) -> Result<()> {
        if self.attn1_is_cross {
            prepared.push(self.attn1.project_context(context)?);
        }
        prepared.push(self.attn2.project_context(context)?);
        Ok(())
    }

    fn forward(&self, x: &Tokens, context: &mut ContextCursor<'_>) -> Result<Tokens> {
        let hidden = self.norm1.forward(x)?;
        if std::mem::take(&mut context.watch) {
            context.received = Some(self.attn1.received(&hidden)?);
        }
        let x = if self.attn1_is_cross {
            self.attn1
                .forward_cached(&hidden, context.next()?, Some(x))?
        } else if context.identity {
            self.attn1.forward_identity(&hidden, Some(x))?
        } else {
            self.attn1.forward(&hidden, None, Some(x))?
        };
        let hidden = self.norm2.forward(&x)?;
        let x = self
            .attn2
            .forward_cached(&hidden, context.next()?, Some(&x))?;
        let hidden = self.norm3.forward(&x)?;
        self.ff.forward(&hidden, &x)
    }
}

/// diffusers' `FeedForward` with GEGLU; its `net` numbers the dropout between the layers too.
#[derive(Debug)]
struct FeedForward {
    net_0: Geglu,
    net_2: Linear,
}

impl FeedForward {
    fn load(scope: &Scope<'_>, dim: usize) -> Result<Self> {
        let inner = dim * 4;
        let net = scope.pp("net");
        Ok(Self {
            net_0: Geglu::load(&net.pp(0), dim, inner)?,
            net_2: Linear::load(&net.pp(2), inner, dim, Bias::With)?,
        })
    }

    /// `x` (B, N, C) to (B, N, C), plus `residual`.
    fn forward(&self, x: &Tokens, residual: &Tokens) -> Result<Tokens> {
        self.net_2.forward_add(&self.net_0.forward(x)?, residual)
    }
}
