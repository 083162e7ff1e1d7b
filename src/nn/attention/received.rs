//! How much attention tokens receive, which self-attention guidance asks for.

use super::Rule;
use crate::host::HostTensor;

/// Of `queries` and `keys`, (1, N, heads * head_dim) each, what all queries give to each key, as the mean over the heads.
///
/// It is asked for once a step, of the few tokens of a UNet's bottom, so that loops on the host do.
pub(super) fn received(queries: &HostTensor, keys: &HostTensor, rule: Rule) -> Vec<f32> {
    let inner = (rule.heads * rule.head_dim).max(1);
    let tokens = queries.data().len() / inner;
    let mut sums = vec![0.0_f32; tokens];
    let mut scores = vec![0.0_f32; tokens];
    for head in 0..rule.heads {
        let part = head * rule.head_dim..(head + 1) * rule.head_dim;
        for query in queries.data().chunks(inner) {
            let query = &query[part.clone()];
            for (score, key) in scores.iter_mut().zip(keys.data().chunks(inner)) {
                *score = dot(query, &key[part.clone()]) * rule.scale as f32;
            }
            softmax(&mut scores);
            for (sum, score) in sums.iter_mut().zip(&scores) {
                *sum += score;
            }
        }
    }
    let heads = rule.heads as f32;
    sums.into_iter().map(|sum| sum / heads).collect()
}

/// In eight sums, which one vector register holds.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = a.remainder().iter().zip(b.remainder());
    let rest: f32 = rest.map(|(a, b)| a * b).sum();
    let mut lanes = [0.0_f32; 8];
    for (a, b) in a.zip(b) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

fn softmax(scores: &mut [f32]) {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - most).exp();
        sum += *score;
    }
    for score in scores {
        *score /= sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_received() {
        let rule = Rule {
            heads: 2,
            head_dim: 9,
            scale: 1.0 / 3.0,
            causal: false,
            upcast: false,
        };
        let values = |seed: usize| {
            let values = (0..5 * 18).map(|i| ((i * seed) % 23) as f32 / 5.0 - 2.0);
            HostTensor::new([1, 5, 18], values.collect()).unwrap()
        };
        let (queries, keys) = (values(7), values(11));
        let found = received(&queries, &keys, rule);
        let total: f32 = found.iter().sum();
        assert!((total - 5.0).abs() < 1e-5, "{found:?}");
        // Written out in f64.
        let mut expected = [0.0_f64; 5];
        for (head, query) in (0..2).flat_map(|head| (0..5).map(move |query| (head, query))) {
            let at = |row: usize, i: usize| row * 18 + head * 9 + i;
            let score = |key: usize| -> f64 {
                let products =
                    (0..9).map(|i| queries.data()[at(query, i)] * keys.data()[at(key, i)]);
                (f64::from(products.sum::<f32>()) / 3.0).exp()
            };
            let all: f64 = (0..5).map(score).sum();
            for (key, sum) in expected.iter_mut().enumerate() {
                *sum += score(key) / all / 2.0;
            }
        }
        for (own, expected) in found.iter().zip(expected) {
            assert!(
                (f64::from(*own) - expected).abs() < 1e-5,
                "{own} and {expected}"
            );
        }
    }
}
