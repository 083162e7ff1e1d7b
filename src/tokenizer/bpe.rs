//! Byte-pair merging over token ids.
//!
//! The lowest-ranked pair merges first, the leftmost of equals, until no known pair is left (Sennrich
//! et al. 2016, algorithm 1). A heap over a linked list keeps a word of n symbols at O(n log n): one
//! pasted line without a space must not hang a server.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// What a pair of neighbouring tokens becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Merge {
    /// Place in the list of merges; lower merges first.
    pub(super) rank: u32,
    /// Id of the joined token.
    pub(super) joined: u32,
}

/// The merges by the ids of their two parts.
pub(super) type Merges = HashMap<(u32, u32), Merge>;

/// "No neighbour" in the linked list.
const END: usize = usize::MAX;

/// Merges the symbols of one word and appends the tokens to `out`.
pub(super) fn merge_word(symbols: &[u32], merges: &Merges, out: &mut Vec<u32>) {
    let mut word = Word::new(symbols, merges);
    while word.merge_next() {}
    let mut at = if symbols.is_empty() { END } else { 0 };
    while at != END {
        out.push(word.tokens[at]);
        at = word.next[at];
    }
}

/// A word while its symbols merge: a doubly linked list and the pairs that may merge.
struct Word<'a> {
    merges: &'a Merges,
    tokens: Vec<u32>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Whether the symbol was swallowed by its left neighbour.
    gone: Vec<bool>,
    /// (rank, position of the left part, joined token), lowest first; may hold outdated entries.
    queue: BinaryHeap<Reverse<(u32, usize, u32)>>,
}

impl<'a> Word<'a> {
    fn new(symbols: &[u32], merges: &'a Merges) -> Self {
        let count = symbols.len();
        let mut word = Self {
            merges,
            tokens: symbols.to_vec(),
            next: (1..=count)
                .map(|at| if at == count { END } else { at })
                .collect(),
            previous: (0..count)
                .map(|at| at.checked_sub(1).unwrap_or(END))
                .collect(),
            gone: vec![false; count],
            queue: BinaryHeap::with_capacity(count),
        };
        for at in 0..count {
            word.enqueue(at);
        }
        word
    }

    /// The merge of the symbol at `at` with its right neighbour, if there is one.
    fn merge_at(&self, at: usize) -> Option<Merge> {
        let right = *self.tokens.get(self.next[at])?;
        self.merges.get(&(self.tokens[at], right)).copied()
    }

    fn enqueue(&mut self, at: usize) {
        if let Some(merge) = self.merge_at(at) {
            self.queue.push(Reverse((merge.rank, at, merge.joined)));
        }
    }

    /// Does the next merge; false when none is left.
    fn merge_next(&mut self) -> bool {
        let Some(Reverse((_, at, joined))) = self.queue.pop() else {
            return false;
        };
        // The neighbours may have merged since the entry was made.
        if self.gone[at] || self.merge_at(at).is_none_or(|merge| merge.joined != joined) {
            return true;
        }
        let right = self.next[at];
        self.tokens[at] = joined;
        self.gone[right] = true;
        self.next[at] = self.next[right];
        if let Some(after) = self.previous.get_mut(self.next[right]) {
            *after = at;
        }
        if self.previous[at] != END {
            self.enqueue(self.previous[at]);
        }
        self.enqueue(at);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merges(pairs: &[(u32, u32, u32)]) -> Merges {
        pairs
            .iter()
            .zip(0..)
            .map(|(&(left, right, joined), rank)| ((left, right), Merge { rank, joined }))
            .collect()
    }

    fn merged(symbols: &[u32], merges: &Merges) -> Vec<u32> {
        let mut out = Vec::new();
        merge_word(symbols, merges, &mut out);
        out
    }

    #[test]
    fn lowest_rank_goes_first_and_leftmost_of_equals() {
        let merges = merges(&[(2, 3, 23), (1, 2, 12), (1, 1, 11), (11, 11, 1111)]);
        assert_eq!(merged(&[1, 2, 3], &merges), [1, 23]);
        assert_eq!(merged(&[1, 2], &merges), [12]);
        assert_eq!(merged(&[1, 1, 1], &merges), [11, 1]);
        assert_eq!(merged(&[1, 1, 1, 1, 1], &merges), [1111, 1]);
        assert_eq!(merged(&[], &merges), [0; 0]);
        assert_eq!(merged(&[7], &merges), [7]);
    }

    #[test]
    fn long_word_merges_in_reasonable_time() {
        let merges = merges(&[(1, 1, 2), (2, 2, 3), (3, 3, 4)]);
        assert_eq!(merged(&vec![1; 800_000], &merges), vec![4; 100_000]);
    }
}
