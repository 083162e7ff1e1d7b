//! Multi-head attention (Vaswani et al. 2017, arXiv 1706.03762) with its four projections.

mod received;
mod spec;

use candle_core::Tensor;

use super::engine::Backend;
use super::linear::Linear;
use super::repr::{CandleResult, misfit, planned};
use super::{Precision, Scope, Tokens, candle, cpu};
use crate::error::{Error, ErrorKind, Result};
use crate::host::HostTensor;

pub(in crate::nn) use spec::Rule;
pub use spec::{AttentionNames, AttentionSpec};

/// Keys and values of a context, computed once per prompt and used in every step.
#[derive(Debug, Clone)]
pub struct ContextKv(Kv);

#[derive(Debug, Clone)]
enum Kv {
    /// Two arrays (B, M, inner).
    Candle { k: Tensor, v: Tensor },
    /// Both side by side, (B, M, 2 * inner).
    Cpu(cpu::Array),
}

impl ContextKv {
    /// Items of the batch.
    pub fn batch(&self) -> usize {
        self.dims()[0]
    }

    fn dims(&self) -> [usize; 3] {
        match &self.0 {
            Kv::Candle { k, .. } => candle::extents(k),
            Kv::Cpu(kv) => {
                let [batch, tokens, channels] = kv.token_dims();
                [batch, tokens, channels / 2]
            }
        }
    }
}

/// An attention layer from input to output projection.
#[derive(Debug, Clone)]
pub struct Attention {
    label: Box<str>,
    spec: AttentionSpec,
    inputs: Inputs,
    out: Linear,
}

/// The projections to queries, keys and values.
#[derive(Debug, Clone)]
enum Inputs {
    Planned,
    Candle {
        q: Linear,
        k: Linear,
        v: Linear,
    },
    Cpu {
        projections: cpu::Projections,
        precision: Precision,
    },
}

impl Inputs {
    fn load(scope: &Scope, spec: &AttentionSpec) -> Result<Self> {
        match scope.engine().backend() {
            Backend::Candle(_) => {
                let inner = spec.heads * spec.head_dim;
                let context_dim = spec.context_dim.unwrap_or(spec.query_dim);
                let load = |name, from| Linear::load(&scope.pp(name), from, inner, spec.qkv_bias);
                Ok(Self::Candle {
                    q: load(spec.names.q, spec.query_dim)?,
                    k: load(spec.names.k, context_dim)?,
                    v: load(spec.names.v, context_dim)?,
                })
            }
            Backend::Cpu(engine) => {
                let loaded = cpu::Projections::load(engine, scope, spec)?;
                Ok(loaded.map_or(Self::Planned, |projections| Self::Cpu {
                    projections,
                    precision: match engine.precision_of(scope) {
                        Precision::Fast if spec.upcast => Precision::F32,
                        precision => precision,
                    },
                }))
            }
        }
    }
}

impl Attention {
    /// Reads the four projections.
    ///
    /// # Errors
    /// When a tensor is missing, has another shape or cannot be read, or there are no heads.
    pub fn load(scope: &Scope, spec: &AttentionSpec) -> Result<Self> {
        let AttentionSpec {
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
        Ok(Self {
            label: format!("attention {}", scope.path()).into(),
            spec: *spec,
            inputs: Inputs::load(scope, spec)?,
            out: Linear::load(
                &scope.pp(names.out),
                heads * head_dim,
                out_dim,
                spec.out_bias,
            )?,
        })
    }

    /// The whole layer: `x` (B, N, query) over `context` (B, M, context), or over itself, to
    /// (B, N, out), plus `residual` (B, N, out).
    ///
    /// # Errors
    /// When shapes do not fit, or a layer built for a context gets none or the reverse.
    pub fn forward(
        &self,
        x: &Tokens,
        context: Option<&Tokens>,
        residual: Option<&Tokens>,
    ) -> Result<Tokens> {
        let op = &self.label;
        match (context, self.spec.context_dim) {
            (Some(context), Some(_)) => {
                return self.forward_cached(x, &self.project_context(context)?, residual);
            }
            (None, None) => {}
            (Some(context), None) => return Err(misfit(op, &context.dims(), "no context")),
            (None, Some(dim)) => {
                let expected = format!("a context of {dim} channels besides the input");
                return Err(misfit(op, &x.dims(), &expected));
            }
        }
        self.expect_channels(x, self.spec.query_dim)?;
        let attended = match &self.inputs {
            Inputs::Planned => return Err(planned(op)),
            Inputs::Candle { q, k, v } => {
                let (q, k, v) = (q.forward(x)?, k.forward(x)?, v.forward(x)?);
                let [q, k, v] = [&q, &k, &v].map(|part| part.repr.as_candle(op));
                candle::attend(q?, k?, v?, self.rule())
                    .op(op)
                    .map(Tokens::candle)?
            }
            Inputs::Cpu {
                projections: cpu::Projections::SelfOnly(qkv),
                precision,
            } => {
                let qkv = cpu::project(qkv, x.repr.as_cpu(op)?, *precision, op)?;
                let inner = self.inner();
                let parts = [0, inner, 2 * inner].map(|offset| cpu::Part {
                    array: &qkv,
                    offset,
                });
                cpu::attend(parts, self.rule(), *precision, op).map(Tokens::cpu)?
            }
            Inputs::Cpu { .. } => return Err(self.built_otherwise()),
        };
        self.out.run(&attended, residual)
    }

    /// As [`forward`](Self::forward) over the input itself, where each token attends to itself alone: its value goes
    /// straight to the output projection.
    ///
    /// # Errors
    /// When shapes do not fit or the layer was built for a context.
    pub fn forward_identity(&self, x: &Tokens, residual: Option<&Tokens>) -> Result<Tokens> {
        let op = &self.label;
        self.expect_channels(x, self.spec.query_dim)?;
        let values = match &self.inputs {
            Inputs::Planned => return Err(planned(op)),
            Inputs::Candle { v, .. } if self.spec.context_dim.is_none() => v.forward(x)?,
            Inputs::Cpu {
                projections: cpu::Projections::SelfOnly(qkv),
                ..
            } => {
                let qkv = qkv.run(x.repr.as_cpu(op)?, None, op)?;
                let inner = self.inner();
                cpu::narrow_channels(&qkv, 2 * inner, inner).map(Tokens::cpu)?
            }
            _ => return Err(self.built_otherwise()),
        };
        self.out.run(&values, residual)
    }

    /// How much attention each token of the first item of `x` (B, N, query) receives from all of them, as the mean over
    /// the heads.
    ///
    /// # Errors
    /// When shapes do not fit or the layer was built for a context.
    pub fn received(&self, x: &Tokens) -> Result<Vec<f32>> {
        let op = &self.label;
        self.expect_channels(x, self.spec.query_dim)?;
        let (queries, keys) = match &self.inputs {
            Inputs::Planned => return Err(planned(op)),
            Inputs::Candle { q, k, .. } if self.spec.context_dim.is_none() => {
                (q.forward(x)?.to_host()?, k.forward(x)?.to_host()?)
            }
            Inputs::Cpu {
                projections: cpu::Projections::SelfOnly(qkv),
                ..
            } => {
                let qkv = qkv.run(x.repr.as_cpu(op)?, None, op)?;
                let part =
                    |start| cpu::narrow_channels(&qkv, start, self.inner())?.tokens_to_host();
                (part(0)?, part(self.inner())?)
            }
            _ => return Err(self.built_otherwise()),
        };
        let (queries, keys): (HostTensor, HostTensor) = (queries.item(0)?, keys.item(0)?);
        Ok(received::received(&queries, &keys, self.rule()))
    }

    /// Keys and values of `context` (B, M, context).
    ///
    /// # Errors
    /// When `context` has another number of channels or the layer attends over its input.
    pub fn project_context(&self, context: &Tokens) -> Result<ContextKv> {
        let op = &self.label;
        self.expect_channels(context, self.context_dim()?)?;
        match &self.inputs {
            Inputs::Planned => Err(planned(op)),
            Inputs::Candle { k, v, .. } => {
                let (k, v) = (k.forward(context)?, v.forward(context)?);
                let [k, v] = [&k, &v].map(|part| part.repr.as_candle(op).cloned());
                Ok(ContextKv(Kv::Candle { k: k?, v: v? }))
            }
            Inputs::Cpu {
                projections: cpu::Projections::Context { kv, .. },
                precision,
            } => {
                let kv = cpu::project(kv, context.repr.as_cpu(op)?, *precision, op)?;
                Ok(ContextKv(Kv::Cpu(kv)))
            }
            Inputs::Cpu { .. } => Err(self.built_otherwise()),
        }
    }

    /// As [`forward`](Self::forward) with the context already projected.
    ///
    /// # Errors
    /// When shapes do not fit or the layer attends over its input.
    pub fn forward_cached(
        &self,
        x: &Tokens,
        context: &ContextKv,
        residual: Option<&Tokens>,
    ) -> Result<Tokens> {
        let op = &self.label;
        self.context_dim()?;
        self.expect_channels(x, self.spec.query_dim)?;
        let found = context.dims();
        if found[0] != x.batch() || found[1] == 0 || found[2] != self.inner() {
            let expected = format!("[{}, 1 or more, {}]", x.batch(), self.inner());
            return Err(misfit(&format!("{op}, keys"), &found, &expected));
        }
        let attended = match (&self.inputs, &context.0) {
            (Inputs::Planned, _) => return Err(planned(op)),
            (Inputs::Candle { q, .. }, Kv::Candle { k, v }) => {
                let q = q.forward(x)?;
                let q = q.repr.as_candle(op)?;
                candle::attend(q, k, v, self.rule())
                    .op(op)
                    .map(Tokens::candle)?
            }
            (
                Inputs::Cpu {
                    projections: cpu::Projections::Context { q, .. },
                    precision,
                },
                Kv::Cpu(kv),
            ) => {
                let q = cpu::project(q, x.repr.as_cpu(op)?, *precision, op)?;
                let part = |array, offset| cpu::Part { array, offset };
                let parts = [part(&q, 0), part(kv, 0), part(kv, self.inner())];
                cpu::attend(parts, self.rule(), *precision, op).map(Tokens::cpu)?
            }
            _ => return Err(self.built_otherwise()),
        };
        self.out.run(&attended, residual)
    }

    fn inner(&self) -> usize {
        self.spec.heads * self.spec.head_dim
    }

    fn context_dim(&self) -> Result<usize> {
        self.spec.context_dim.ok_or_else(|| self.built_otherwise())
    }

    fn expect_channels(&self, x: &Tokens, channels: usize) -> Result<()> {
        if x.channels() == channels {
            return Ok(());
        }
        Err(misfit(
            &self.label,
            &x.dims(),
            &format!("{channels} channels"),
        ))
    }

    fn built_otherwise(&self) -> Error {
        Error::new(
            ErrorKind::Internal,
            format!(
                "{}: built for other inputs than it is given, or another engine",
                self.label
            ),
        )
    }

    fn rule(&self) -> Rule {
        Rule {
            heads: self.spec.heads,
            head_dim: self.spec.head_dim,
            scale: self
                .spec
                .scale
                .unwrap_or(1.0 / (self.spec.head_dim as f64).sqrt()),
            causal: self.spec.causal,
            upcast: self.spec.upcast,
        }
    }
}
