//! Which block of keys meets which queries when.

use super::super::Block;
use super::{QUICK_KEYS, TURNS};
use crate::amx::SUMS;

/// Words of keys and values that stay in L2 while a task's queries meet them.
const SPAN_WORDS: usize = 128 * 1024;

/// A block of keys and a group of queries.
#[derive(Clone, Copy)]
pub(super) struct Unit {
    /// Which row of `down` is its own.
    pub(super) turn: usize,
    pub(super) group: usize,
    /// First key.
    pub(super) start: usize,
    /// Keys, and groups of 32 of them.
    pub(super) count: usize,
    pub(super) chunks: usize,
    /// Whether the sums before it are too large for its reference.
    pub(super) sinks: bool,
}

/// The order in which groups of queries meet blocks of keys: a group meets all blocks of a span before the next group does.
#[derive(Clone, Copy)]
pub(super) struct Course {
    keys: usize,
    groups: usize,
    /// Blocks in all, and of a span.
    blocks: usize,
    span: usize,
}

impl Course {
    /// The way of a block's queries past so many keys.
    pub(super) fn of(block: &Block<'_>, visible: usize) -> Self {
        let sizes = block.side.sizes;
        let blocks = visible.div_ceil(QUICK_KEYS);
        let most = (SPAN_WORDS / QUICK_KEYS / (sizes.deep + sizes.tall / 2)).max(1);
        Self {
            keys: block.side.call.keys,
            groups: block.rows.div_ceil(SUMS),
            blocks,
            span: blocks.div_ceil(blocks.div_ceil(most)),
        }
    }

    /// The unit after so many others, if there is one.
    #[inline(always)]
    pub(super) fn unit(self, at: usize) -> Option<Unit> {
        let of_span = self.groups * self.span;
        let first = at / of_span * self.span;
        let left = self.blocks.checked_sub(first).filter(|&left| left > 0)?;
        let (blocks, at_span) = (self.span.min(left), at % of_span);
        let group = at_span / blocks;
        if group >= self.groups {
            return None;
        }
        let start = (first + at_span % blocks) * QUICK_KEYS;
        let count = QUICK_KEYS.min(self.keys - start);
        Some(Unit {
            turn: at % TURNS,
            group,
            start,
            count,
            chunks: count.div_ceil(SUMS),
            sinks: false,
        })
    }
}
