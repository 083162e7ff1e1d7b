//! What an attention layer is built from.

use super::super::linear::Bias;

/// Names of the four linear layers below an attention's scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionNames {
    /// Queries.
    pub q: &'static str,
    /// Keys.
    pub k: &'static str,
    /// Values.
    pub v: &'static str,
    /// Output.
    pub out: &'static str,
}

impl AttentionNames {
    /// As diffusers names them.
    pub const DIFFUSERS: Self = Self {
        q: "to_q",
        k: "to_k",
        v: "to_v",
        out: "to_out.0",
    };
    /// As transformers' CLIP names them.
    pub const CLIP: Self = Self {
        q: "q_proj",
        k: "k_proj",
        v: "v_proj",
        out: "out_proj",
    };
}

/// Sizes and choices of an [`Attention`](super::Attention).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionSpec {
    /// Channels of the input.
    pub query_dim: usize,
    /// Channels of the context; `None` means attention of the input over itself.
    pub context_dim: Option<usize>,
    /// Heads, 1 or more.
    pub heads: usize,
    /// Channels of each head.
    pub head_dim: usize,
    /// Channels of the result.
    pub out_dim: usize,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: Bias,
    /// Whether the output projection has one.
    pub out_bias: Bias,
    /// Names of the projections.
    pub names: AttentionNames,
    /// Factor of the scores; `None` means `1 / sqrt(head_dim)`.
    pub scale: Option<f64>,
    /// Whether a token sees only itself and those before it.
    pub causal: bool,
    /// Whether scores are formed in f32 when the compute type is narrower (`upcast_attention`).
    pub upcast: bool,
}

impl AttentionSpec {
    /// Self-attention as diffusers builds it by default: result as wide as the input, no bias on queries,
    /// keys and values, one on the output.
    pub fn new(query_dim: usize, heads: usize, head_dim: usize) -> Self {
        Self {
            query_dim,
            context_dim: None,
            heads,
            head_dim,
            out_dim: query_dim,
            qkv_bias: Bias::Without,
            out_bias: Bias::With,
            names: AttentionNames::DIFFUSERS,
            scale: None,
            causal: false,
            upcast: false,
        }
    }
}

/// How scores are formed.
#[derive(Debug, Clone, Copy)]
pub(in crate::nn) struct Rule {
    pub(in crate::nn) heads: usize,
    pub(in crate::nn) head_dim: usize,
    pub(in crate::nn) scale: f64,
    pub(in crate::nn) causal: bool,
    pub(in crate::nn) upcast: bool,
}
