//! Scaled dot product attention over chunks of query rows.

use candle_core::{D, DType, Result, Tensor};

use super::super::attention::Rule;

/// Bytes of one chunk's f32 scores. Softmax keeps about three of its size alive, so a 64 x 64 latent at
/// batch 2 with 8 heads (1 GiB of scores in one piece) stays below 400 MB.
const SCORE_BYTES: usize = 128 << 20;

/// Attention of `q` (B, N, heads * D) over `k` and `v` (B, M, heads * D): (B, N, heads * D).
pub(in crate::nn) fn attend(q: &Tensor, k: &Tensor, v: &Tensor, rule: Rule) -> Result<Tensor> {
    attend_within(SCORE_BYTES, [q, k, v], rule)
}

fn attend_within(score_bytes: usize, [q, k, v]: [&Tensor; 3], rule: Rule) -> Result<Tensor> {
    let (batch, queries, inner) = q.dims3()?;
    let dtype = q.dtype();
    let score_dtype = if rule.upcast { DType::F32 } else { dtype };
    let split = |x: &Tensor| {
        let (batch, tokens, inner) = x.dims3()?;
        x.reshape((batch, tokens, rule.heads, inner / rule.heads))?
            .transpose(1, 2)?
            .contiguous()
    };
    // Scaled before the product: f16 scores of deep layers overflow otherwise.
    let q = split(q)?.to_dtype(score_dtype)?.affine(rule.scale, 0.0)?;
    let k = split(k)?.to_dtype(score_dtype)?.transpose(2, 3)?;
    let v = split(v)?;
    let keys = k.dim(D::Minus1)?;
    let row_bytes = batch * rule.heads * keys * size_of::<f32>();
    let rows = (score_bytes / row_bytes.max(1)).clamp(1, queries.max(1));
    let mut chunks = Vec::with_capacity(queries.div_ceil(rows));
    for start in (0..queries).step_by(rows) {
        let len = rows.min(queries - start);
        let scores = q
            .narrow(2, start, len)?
            .contiguous()?
            .matmul(&k)?
            .to_dtype(DType::F32)?;
        let scores = if rule.causal {
            mask_future(&scores, start)?
        } else {
            scores
        };
        chunks.push(softmax(scores)?.to_dtype(dtype)?.matmul(&v)?);
    }
    Tensor::cat(&chunks, 2)?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((batch, queries, inner))
}

/// Takes keys after each query out of the running; row 0 is query `start`.
fn mask_future(scores: &Tensor, start: usize) -> Result<Tensor> {
    let (_, _, rows, keys) = scores.dims4()?;
    let mask = (0..rows).flat_map(|row| {
        (0..keys).map(move |key| {
            if key > start + row {
                f32::NEG_INFINITY
            } else {
                0.0
            }
        })
    });
    let mask = Tensor::from_iter(mask, scores.device())?.reshape((1, 1, rows, keys))?;
    scores.broadcast_add(&mask)
}

/// Consumes the scores, so that at most three arrays of their size are alive.
fn softmax(scores: Tensor) -> Result<Tensor> {
    let max = scores.max_keepdim(D::Minus1)?;
    let shifted = scores.broadcast_sub(&max)?;
    drop(scores);
    let weights = shifted.exp()?;
    drop(shifted);
    weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn chunks_of_any_size_give_the_same_result() {
        let draw = |seed: usize, tokens: usize| {
            let values = (0..2 * tokens * 6).map(|i| ((i * 37 + seed) as f32 * 0.7).sin());
            Tensor::from_iter(values, &Device::Cpu)?.reshape((2, tokens, 6))
        };
        let (q, k, v) = (
            draw(1, 11).unwrap(),
            draw(2, 11).unwrap(),
            draw(3, 11).unwrap(),
        );
        for causal in [false, true] {
            let rule = Rule {
                heads: 2,
                head_dim: 3,
                scale: 0.5,
                causal,
                upcast: false,
            };
            let run = |bytes| {
                let y = attend_within(bytes, [&q, &k, &v], rule).unwrap();
                y.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            let whole = run(SCORE_BYTES);
            // A row of scores is 2 * 2 * 11 * 4 bytes.
            for rows in [0, 1, 3, 4, 10] {
                let chunked = run(rows * 176);
                let close = whole
                    .iter()
                    .zip(&chunked)
                    .all(|(a, b)| (a - b).abs() < 1e-6);
                assert!(close, "{rows} rows a chunk, causal {causal}");
            }
        }
    }
}
