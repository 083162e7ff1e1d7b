//! Multi-head attention (Vaswani et al. 2017, arXiv 1706.03762) with its four projections.

use super::linear::{Bias, Linear};
use super::repr::{CandleResult, Repr, misfit};
use super::{Scope, Tokens, candle};
use crate::error::{Error, Result};

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

/// Sizes and choices of an [`Attention`].
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

/// Keys and values of a context, computed once per prompt and used in every step.
#[derive(Debug, Clone)]
pub struct ContextKv {
    k: Tokens,
    v: Tokens,
}

impl ContextKv {
    /// Items of the batch.
    pub fn batch(&self) -> usize {
        self.k.batch()
    }
}

/// An attention layer from input to output projection.
#[derive(Debug, Clone)]
pub struct Attention {
    label: Box<str>,
    spec: AttentionSpec,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
}

impl Attention {
    /// Reads the four projections.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape or cannot be read, or there are no heads.
    pub fn load(scope: &Scope, spec: &AttentionSpec) -> Result<Self> {
        let AttentionSpec {
            query_dim,
            heads,
            head_dim,
            out_dim,
            names,
            ..
        } = *spec;
        if heads == 0 || head_dim == 0 {
            return Err(Error::invalid(format!(
                "attention {}: {heads} heads of {head_dim} channels, expected 1 or more of each",
                scope.path()
            )));
        }
        let inner = heads * head_dim;
        let context_dim = spec.context_dim.unwrap_or(query_dim);
        let qkv = |name, from| Linear::load(&scope.pp(name), from, inner, spec.qkv_bias);
        Ok(Self {
            label: scope.path().into(),
            spec: *spec,
            q: qkv(names.q, query_dim)?,
            k: qkv(names.k, context_dim)?,
            v: qkv(names.v, context_dim)?,
            out: Linear::load(&scope.pp(names.out), inner, out_dim, spec.out_bias)?,
        })
    }

    /// The whole layer: `x` (B, N, query) over `context` (B, M, context), or over itself, to
    /// (B, N, out), plus `residual` (B, N, out). A context or residual of another shape is an error.
    ///
    /// # Errors
    /// When shapes do not fit, or a layer built for a context gets none or the reverse.
    pub fn forward(
        &self,
        x: &Tokens,
        context: Option<&Tokens>,
        residual: Option<&Tokens>,
    ) -> Result<Tokens> {
        if context.is_some() != self.spec.context_dim.is_some() {
            let (found, expected) = match context {
                Some(context) => (context.dims().to_vec(), "no context"),
                None => (Vec::new(), "a context"),
            };
            return Err(misfit(&self.op(", context"), &found, expected));
        }
        let context = self.project_context(context.unwrap_or(x))?;
        self.forward_cached(x, &context, residual)
    }

    /// Keys and values of `context` (B, M, context).
    ///
    /// # Errors
    /// When `context` has another number of channels.
    pub fn project_context(&self, context: &Tokens) -> Result<ContextKv> {
        Ok(ContextKv {
            k: self.k.forward(context)?,
            v: self.v.forward(context)?,
        })
    }

    /// As [`forward`](Self::forward) with the context already projected.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn forward_cached(
        &self,
        x: &Tokens,
        context: &ContextKv,
        residual: Option<&Tokens>,
    ) -> Result<Tokens> {
        let (q, k) = (self.q.forward(x)?, context.k.dims());
        if k[0] != x.batch() || k[2] != q.channels() || k[1] == 0 {
            let expected = format!("[{}, tokens, {}]", x.batch(), q.channels());
            return Err(misfit(&self.op(", keys"), &k, &expected));
        }
        if self.spec.causal && k[1] != q.tokens() {
            return Err(misfit(
                &self.op(", causal keys"),
                &k,
                &format!("{} tokens", q.tokens()),
            ));
        }
        let attended = match (&q.repr, &context.k.repr, &context.v.repr) {
            (Repr::Candle(q), Repr::Candle(k), Repr::Candle(v)) => {
                candle::attend(q, k, v, self.rule())
                    .op(&self.op(""))
                    .map(Tokens::candle)?
            }
        };
        self.out.run(&attended, residual)
    }

    fn rule(&self) -> candle::Rule {
        candle::Rule {
            heads: self.spec.heads,
            scale: self
                .spec
                .scale
                .unwrap_or(1.0 / (self.spec.head_dim as f64).sqrt()),
            causal: self.spec.causal,
            upcast: self.spec.upcast,
        }
    }

    fn op(&self, part: &str) -> String {
        format!("attention {}{part}", self.label)
    }
}
