//! Tables of learned vectors.

use candle_core::Tensor;

use super::engine::Backend;
use super::repr::{CandleResult, misfit, planned};
use super::weight::candle_table;
use super::{Scope, Tokens, cpu};
use crate::error::{Error, ErrorKind, Result};

/// One vector per index; `weight` is (count, dim).
#[derive(Debug, Clone)]
pub struct Embedding {
    label: Box<str>,
    count: usize,
    dim: usize,
    weights: Weights,
}

#[derive(Debug, Clone)]
enum Weights {
    Planned,
    Candle(Tensor),
    Cpu(cpu::Table),
}

impl Embedding {
    /// Reads `weight` (count, dim).
    ///
    /// # Errors
    /// When the tensor is missing, has another shape or cannot be read.
    pub fn load(scope: &Scope, count: usize, dim: usize) -> Result<Self> {
        let shape = [count, dim];
        let weights = match scope.engine().backend() {
            Backend::Candle(device) => {
                candle_table(scope, device, "weight", &shape)?.map(Weights::Candle)
            }
            Backend::Cpu(context) => cpu::Table::load(context, scope, shape)?.map(Weights::Cpu),
        };
        Ok(Self {
            label: format!("embedding {}", scope.path()).into(),
            count,
            dim,
            weights: weights.unwrap_or(Weights::Planned),
        })
    }

    /// The vectors of B rows of N indices: (B, N, dim).
    ///
    /// # Errors
    /// When rows differ in length or an index is beyond the table.
    pub fn forward(&self, rows: &[Vec<u32>]) -> Result<Tokens> {
        let op = &self.label;
        let tokens = rows.first().map_or(0, Vec::len);
        if let Some(row) = rows.iter().find(|row| row.len() != tokens) {
            return Err(misfit(
                op,
                &[row.len()],
                &format!("rows of {tokens} indices"),
            ));
        }
        let indices = rows.concat();
        if let Some(index) = indices.iter().find(|&&index| index as usize >= self.count) {
            return Err(Error::new(
                ErrorKind::Internal,
                format!(
                    "{}: found index {index}, expected less than {}",
                    op, self.count
                ),
            ));
        }
        match &self.weights {
            Weights::Planned => Err(planned(op)),
            Weights::Candle(table) => {
                Tensor::from_vec(indices, rows.len() * tokens, table.device())
                    .and_then(|indices| table.index_select(&indices, 0))
                    .and_then(|vectors| vectors.reshape((rows.len(), tokens, self.dim)))
                    .op(op)
                    .map(Tokens::candle)
            }
            Weights::Cpu(table) => table.run(&indices, rows.len(), op).map(Tokens::cpu),
        }
    }
}
