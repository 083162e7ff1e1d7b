//! Brownian paths that depend on a seed and not on where they are looked at: torchsde's `BrownianTree`
//! (torchsde/_brownian/brownian_interval.py), as k-diffusion's `BrownianTreeNoiseSampler` asks it.
//!
//! An interval is halved again and again until a point asked for is an end; each half takes its noise from
//! a seed that depends on its place alone. Times are rounded to six decimals, which bounds the depth.

use std::collections::VecDeque;

use super::RngKind;
use super::seed_sequence::generate_state;
use crate::host::HostTensor;

/// Words of torchsde's entropy pool.
const POOL: usize = 24;

/// Most increments a tree keeps: two chains from the whole path to a point, with their siblings.
const KEPT_NODES: usize = 96;

/// Most values it keeps, 16 MiB.
const KEPT_VALUES: usize = 1 << 22;

/// An interval of a tree; `parent` and `children` are places in the arena.
#[derive(Debug, Clone)]
struct Node {
    start: f64,
    end: f64,
    /// Place among the intervals of the same depth, from the left.
    place: u64,
    depth: u64,
    parent: usize,
    is_left: bool,
    split: Option<Split>,
}

#[derive(Debug, Clone, Copy)]
struct Split {
    midway: f64,
    seed: u32,
    left: usize,
    right: usize,
}

/// One picture's path.
#[derive(Debug, Clone)]
struct Tree {
    rng: RngKind,
    entropy: u64,
    /// The increment over the whole path.
    whole: Vec<f32>,
    nodes: Vec<Node>,
    /// Increments of intervals seen lately, the latest last: what is asked next is most often beside them.
    seen: VecDeque<(usize, Vec<f32>)>,
    #[cfg(test)]
    draws: usize,
}

impl Tree {
    /// A path of `length` values between `start` and `end`, which rise.
    fn new((rng, entropy): (RngKind, u64), start: f64, end: f64, length: usize) -> Self {
        let [seed] = generate_state(entropy, &[], POOL);
        let spread = (end - start).sqrt() as f32;
        let increment = normal(rng, seed, length).map(|value| value * spread);
        Self {
            rng,
            entropy,
            whole: increment.into_data(),
            nodes: vec![Node {
                start: round(start),
                end: round(end),
                place: 0,
                depth: 0,
                parent: 0,
                is_left: true,
                split: None,
            }],
            seen: VecDeque::new(),
            #[cfg(test)]
            draws: 0,
        }
    }

    /// The path's increment from `from` to `to`, which rise; what lies outside the tree is left out.
    fn between(&mut self, from: f64, to: f64, length: usize) -> Vec<f32> {
        let (start, end) = (self.nodes[0].start, self.nodes[0].end);
        let (from, to) = (round(from.clamp(start, end)), round(to.clamp(start, end)));
        let mut sum = vec![0.0; length];
        if from >= to {
            return sum;
        }
        let mut parts = Vec::new();
        self.locate(0, from, to, &mut parts);
        for (index, part) in parts.into_iter().enumerate() {
            let increment = self.increment(part, length);
            for (sum, value) in sum.iter_mut().zip(increment) {
                *sum = if index == 0 { value } else { *sum + value };
            }
        }
        sum
    }

    /// The intervals that make up `from..to`, all inside `node`.
    fn locate(&mut self, node: usize, from: f64, to: f64, parts: &mut Vec<usize>) {
        let (start, end) = (self.nodes[node].start, self.nodes[node].end);
        if from <= start && to >= end {
            parts.push(node);
            return;
        }
        let split = match self.nodes[node].split {
            Some(split) => split,
            None => self.split_to(node, if from > start { from } else { to }),
        };
        if to <= split.midway {
            self.locate(split.left, from, to, parts);
        } else if from >= split.midway {
            self.locate(split.right, from, to, parts);
        } else {
            self.locate(split.left, from, split.midway, parts);
            self.locate(split.right, split.midway, to, parts);
        }
    }

    /// Halves `node`, and the half that holds `point`, until `point` is an end; gives the first split.
    fn split_to(&mut self, node: usize, point: f64) -> Split {
        let first = self.halve(node);
        let mut split = first;
        loop {
            let half = if point > split.midway {
                split.right
            } else if point < split.midway {
                split.left
            } else {
                return first;
            };
            let inside = &self.nodes[half];
            // Six decimals are spent; rounding left no point between.
            if point <= inside.start || point >= inside.end {
                return first;
            }
            split = self.halve(half);
        }
    }

    fn halve(&mut self, node: usize) -> Split {
        let Node {
            start,
            end,
            place,
            depth,
            ..
        } = self.nodes[node];
        let midway = round(0.5 * (end + start));
        let [seed] = generate_state(self.entropy, &[place, depth], POOL);
        let left = self.nodes.len();
        for is_left in [true, false] {
            self.nodes.push(Node {
                start: if is_left { start } else { midway },
                end: if is_left { midway } else { end },
                place: 2 * place + u64::from(!is_left),
                depth: depth + 1,
                parent: node,
                is_left,
                split: None,
            });
        }
        let split = Split {
            midway,
            seed,
            left,
            right: left + 1,
        };
        self.nodes[node].split = Some(split);
        split
    }

    /// The increment of `node`: Brownian bridges from the nearest ancestor that is kept down.
    fn increment(&mut self, node: usize, length: usize) -> Vec<f32> {
        let mut chain = Vec::new();
        let mut at = node;
        let mut increment = loop {
            if at == 0 {
                break self.whole.clone();
            }
            if let Some(kept) = self.kept(at) {
                break kept;
            }
            chain.push(at);
            at = self.nodes[at].parent;
        };
        for &child in chain.iter().rev() {
            increment = self.bridge(child, &increment, length);
        }
        increment
    }

    /// The increment of `node`, if it was seen lately.
    fn kept(&mut self, node: usize) -> Option<Vec<f32>> {
        let place = self.seen.iter().position(|(seen, _)| *seen == node)?;
        let found = self.seen.remove(place)?;
        let increment = found.1.clone();
        self.seen.push_back(found);
        Some(increment)
    }

    fn keep(&mut self, node: usize, increment: Vec<f32>) {
        let room = (KEPT_VALUES / increment.len().max(1)).min(KEPT_NODES);
        self.seen.retain(|(seen, _)| *seen != node);
        self.seen.push_back((node, increment));
        while self.seen.len() > room {
            self.seen.pop_front();
        }
    }

    /// The increment of `child` from that of its parent; keeps its sibling's, which comes of the same noise.
    fn bridge(&mut self, child: usize, whole: &[f32], length: usize) -> Vec<f32> {
        let parent = &self.nodes[self.nodes[child].parent];
        let Some(split) = parent.split else {
            return whole.to_vec();
        };
        let share = 1.0 / (parent.end - parent.start);
        let (left, right) = (split.midway - parent.start, parent.end - split.midway);
        let spread = (left * right * share).sqrt() as f32;
        #[cfg(test)]
        {
            self.draws += 1;
        }
        let noise = normal(self.rng, split.seed, length);
        let of_left: Vec<f32> = whole
            .iter()
            .zip(noise.data())
            .map(|(&whole, &noise)| left as f32 * whole * share as f32 + spread * noise)
            .collect();
        let of_right: Vec<f32> = whole
            .iter()
            .zip(&of_left)
            .map(|(&whole, &of_left)| whole - of_left)
            .collect();
        let (own, sibling, other) = if self.nodes[child].is_left {
            (of_left, split.right, of_right)
        } else {
            (of_right, split.left, of_left)
        };
        self.keep(sibling, other);
        self.keep(child, own.clone());
        own
    }
}
/// Standard normal noise as torchsde draws it for one interval.
fn normal(rng: RngKind, seed: u32, length: usize) -> HostTensor {
    let mut noise = HostTensor::zeros([length]);
    rng.generator(u64::from(seed)).fill_normal(noise.data_mut());
    noise
}

/// Python's `round(time, 6)`.
fn round(time: f64) -> f64 {
    format!("{time:.6}").parse().unwrap_or(time)
}

/// The noise of a batch's SDE samplers: one path for each picture, from its own seed.
#[derive(Debug, Clone)]
pub struct BrownianNoise {
    trees: Vec<Tree>,
    shape: Vec<usize>,
}

impl BrownianNoise {
    /// Paths for latents of `shape`, (B, C, H, W) with as many pictures as `seeds`, between two sigmas.
    pub fn new(
        (rng, seeds): (RngKind, &[u64]),
        shape: &[usize],
        sigma_min: f64,
        sigma_max: f64,
    ) -> Self {
        let length: usize = shape.iter().skip(1).product();
        Self {
            trees: seeds
                .iter()
                .map(|&seed| Tree::new((rng, seed), sigma_min, sigma_max, length))
                .collect(),
            shape: shape.to_vec(),
        }
    }

    /// Standard normal noise for the way from sigma `from` down to sigma `to`: the path's increment over the
    /// root of its length. Upstream's sigmas are f32, and so are these.
    pub fn between(&mut self, from: f32, to: f32) -> HostTensor {
        let length: usize = self.shape.iter().skip(1).product();
        let mut noise = HostTensor::zeros(self.shape.clone());
        if length == 0 || from <= to {
            return noise;
        }
        let root = (from - to).sqrt();
        for (tree, picture) in self
            .trees
            .iter_mut()
            .zip(noise.data_mut().chunks_exact_mut(length))
        {
            let increment = tree.between(f64::from(to), f64::from(from), length);
            for (value, increment) in picture.iter_mut().zip(increment) {
                // Upstream takes the path backwards, from the larger sigma to the smaller.
                *value = -increment / root;
            }
        }
        noise
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_changes_no_bit_and_saves_most_draws() {
        let (start, end, length) = (0.029_f64, 14.6, 64);
        let sigmas: Vec<f64> = (0..=20)
            .map(|step| end * (start / end).powf(f64::from(step) / 20.0))
            .collect();
        let mut tree = Tree::new((RngKind::TorchCpu, 7), start, end, length);
        let mut forgetful = 0;
        for pair in sigmas.windows(2) {
            let kept = tree.between(pair[1], pair[0], length);
            // The same tree that has seen no increment.
            let mut bare = tree.clone();
            let before = bare.draws;
            let mut sum = vec![0.0; length];
            let mut parts = Vec::new();
            bare.locate(0, round(pair[1]), round(pair[0]), &mut parts);
            for (index, part) in parts.into_iter().enumerate() {
                bare.seen.clear();
                for (sum, value) in sum.iter_mut().zip(bare.increment(part, length)) {
                    *sum = if index == 0 { value } else { *sum + value };
                }
            }
            forgetful += bare.draws - before;
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&kept), bits(&sum));
            assert!(tree.seen.len() <= KEPT_NODES);
        }
        assert!(tree.draws * 4 < forgetful, "{} of {forgetful}", tree.draws);
        println!("{} draws where {forgetful} were made before", tree.draws);
    }

    #[test]
    fn little_is_kept_of_large_latents() {
        let length = KEPT_VALUES / 3;
        let mut tree = Tree::new((RngKind::TorchCpu, 1), 0.03, 14.6, 4);
        for node in 1..9 {
            tree.keep(node, vec![0.0; length]);
        }
        assert_eq!(tree.seen.len(), 3);
        assert!(tree.kept(8).is_some() && tree.kept(5).is_none());
        tree.keep(9, vec![0.0; KEPT_VALUES + 1]);
        assert!(tree.seen.is_empty());
    }
}
