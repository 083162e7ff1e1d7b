//! The layers of a text tower: `CLIPEncoderLayer` and `CLIPMLP`.

use crate::error::Result;
use crate::models::clip::config::{ClipTextConfig, HiddenAct};
use crate::nn::{Attention, AttentionNames, AttentionSpec, Bias, LayerNorm, Linear, Scope, Tokens};

/// One layer: attention over the tokens before, then an MLP, each behind a norm.
#[derive(Debug)]
pub(super) struct EncoderLayer {
    layer_norm1: LayerNorm,
    self_attn: Attention,
    layer_norm2: LayerNorm,
    mlp: Mlp,
}

impl EncoderLayer {
    pub(super) fn load(scope: &Scope<'_>, config: &ClipTextConfig) -> Result<Self> {
        let (dim, heads, eps) = (
            config.hidden_size,
            config.num_attention_heads,
            config.layer_norm_eps,
        );
        let self_attn = AttentionSpec {
            qkv_bias: Bias::With,
            names: AttentionNames::CLIP,
            causal: true,
            ..AttentionSpec::new(dim, heads, dim / heads)
        };
        Ok(Self {
            layer_norm1: LayerNorm::load(&scope.pp("layer_norm1"), dim, eps)?,
            self_attn: Attention::load(&scope.pp("self_attn"), &self_attn)?,
            layer_norm2: LayerNorm::load(&scope.pp("layer_norm2"), dim, eps)?,
            mlp: Mlp::load(&scope.pp("mlp"), config)?,
        })
    }

    /// (B, N, C) to the same shape.
    pub(super) fn forward(&self, x: &Tokens) -> Result<Tokens> {
        let hidden = self.layer_norm1.forward(x)?;
        let x = self.self_attn.forward(&hidden, None, Some(x))?;
        let hidden = self.layer_norm2.forward(&x)?;
        self.mlp.forward(&hidden, &x)
    }
}

/// `CLIPMLP`.
#[derive(Debug)]
struct Mlp {
    fc1: Linear,
    hidden_act: HiddenAct,
    fc2: Linear,
}

impl Mlp {
    fn load(scope: &Scope<'_>, config: &ClipTextConfig) -> Result<Self> {
        let (dim, inner) = (config.hidden_size, config.intermediate_size);
        Ok(Self {
            fc1: Linear::load(&scope.pp("fc1"), dim, inner, Bias::With)?,
            hidden_act: config.hidden_act,
            fc2: Linear::load(&scope.pp("fc2"), inner, dim, Bias::With)?,
        })
    }

    /// (B, N, C) to the same shape, plus `residual`.
    fn forward(&self, x: &Tokens, residual: &Tokens) -> Result<Tokens> {
        let hidden = self.fc1.forward(x)?;
        let hidden = match self.hidden_act {
            HiddenAct::QuickGelu => hidden.quick_gelu()?,
            HiddenAct::Gelu => hidden.gelu()?,
        };
        self.fc2.forward_add(&hidden, residual)
    }
}
