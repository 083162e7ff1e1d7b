//! Tables of vectors.

use std::sync::Arc;

use tintype_kernels as kernels;

use super::super::scope::{Scope, StoredTensor};
use super::super::weight::{check_floats, decode_f32, decode_row_into};
use super::{Array, Context, KernelResult, Pool};
use crate::error::Result;
use crate::nn::MemoryUse;
use crate::nn::profile::Account;

/// An embedding's vectors (count, dim).
#[derive(Debug, Clone)]
pub(in crate::nn) struct Table {
    vectors: Vectors,
    dim: usize,
    pool: Arc<Pool>,
}

#[derive(Debug, Clone)]
enum Vectors {
    Here(Arc<Vec<f32>>),
    /// In the checkpoint: a prompt wants a few dozen of a text tower's fifty thousand, 150 MB as f32.
    Stored(StoredTensor),
}

impl Table {
    /// Reads it, or sees that it can be read; `None` when planning.
    pub(in crate::nn) fn load(
        context: &Context,
        scope: &Scope,
        shape: [usize; 2],
    ) -> Result<Option<Self>> {
        let vectors = match context.memory {
            MemoryUse::Normal => scope
                .table("weight", &shape, decode_f32)?
                .map(|vectors| Vectors::Here(Arc::new(vectors))),
            MemoryUse::Low => scope
                .stored_table("weight", &shape, check_floats)?
                .map(Vectors::Stored),
        };
        Ok(vectors.map(|vectors| Self {
            vectors,
            dim: shape[1],
            pool: Arc::clone(&context.pool),
        }))
    }

    /// `batch` rows of equal length: (batch, indices / batch, dim).
    pub(in crate::nn) fn run(&self, indices: &[u32], batch: usize, op: &str) -> Result<Array> {
        let dims = [batch, 1, indices.len() / batch.max(1), self.dim];
        let account = || Account::moving("embedding", dims);
        Array::build(&self.pool, dims, account, |out| match &self.vectors {
            Vectors::Here(vectors) => kernels::embedding(vectors, self.dim, indices, out).op(op),
            Vectors::Stored(stored) => stored.read(|raw| {
                for (&index, out) in indices.iter().zip(out.chunks_mut(self.dim.max(1))) {
                    decode_row_into(raw, index as usize, out)?;
                }
                Ok(())
            }),
        })
    }
}
