//! What changes over the steps: `[from:to:when]`, `[to:when]`, `[from::when]` and `[a|b|c]`, as a tree.
//!
//! The grammar is that of the webui's `modules/prompt_parser.py` in its documented behaviour. Emphasis is only skipped
//! here, because its brackets must match for the brackets around them to mean something; its weights are found later
//! in the text of each step. A bracket that matches nothing is text, and so is every bracket around it. A `|` outside
//! `[a|b]` or a backslash at the end of a line is beyond the grammar: then the whole text has no changes.
//!
//! Nodes lie in one list and name each other by number, so that no depth of nesting can exhaust the stack.

mod parse;
mod render;

use std::fmt;

use super::span::Span;

/// A parsed text: [`Display`](fmt::Display) prints exactly what was parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    pub(super) nodes: Vec<Node>,
    /// The text from left to right.
    pub(super) roots: Vec<NodeId>,
    /// Why the text was taken without its changes, and where.
    pub(super) refusal: Option<Refusal>,
}

/// The place of a node in its tree.
pub type NodeId = usize;

/// A part of a prompt and where it was typed.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Where.
    pub span: Span,
}

/// What a part of a prompt is.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeKind {
    /// Words, blanks, escapes, and brackets and colons that mean nothing here.
    Text(String),
    /// `(inner)`, `(inner:tail)` or `[inner]`, kept as it is until the text of a step is weighted.
    Emphasis {
        /// `(` or `[`.
        open: char,
        /// Before the colon.
        inner: Vec<NodeId>,
        /// Behind the colon.
        tail: Option<Vec<NodeId>>,
    },
    /// `[before:after:when]`.
    Change {
        /// Up to the moment; `None` for `[after:when]`.
        before: Option<Vec<NodeId>>,
        /// From then on.
        after: Vec<NodeId>,
        /// The moment.
        when: When,
    },
    /// `[a|b|c]`, the next one at each step.
    Alternate(Vec<Vec<NodeId>>),
}

/// When a change happens.
#[derive(Debug, Clone, PartialEq)]
pub struct When {
    /// As typed, with blanks.
    pub raw: String,
    /// The number: a share of the steps where it was typed with a point, else a step.
    pub value: f64,
}

impl When {
    /// The last of `steps` that still has the old text; 0 and less for none.
    pub fn step(&self, steps: usize) -> i64 {
        let value = if self.raw.contains('.') {
            self.value * steps as f64
        } else {
            self.value
        };
        // Saturates, so that a number beyond all steps is never reached.
        (value as i64).min(steps as i64)
    }

    /// Whether the change lies outside of a run of `steps`.
    pub fn out_of_range(&self, steps: usize) -> bool {
        let limit = if self.raw.contains('.') {
            1.0
        } else {
            steps as f64
        };
        self.value < 0.0 || self.value > limit
    }
}

/// Why no bracket of a text means a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Byte of the parsed text.
    pub(in super::super) at: usize,
    pub(in super::super) why: RefusalReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum RefusalReason {
    StrayBar,
    LoneBackslash,
}

impl Tree {
    /// The nodes of the text, left to right; those inside others are named by them.
    pub fn roots(&self) -> impl Iterator<Item = &Node> {
        self.roots.iter().map(|&id| &self.nodes[id])
    }

    /// The node that another one names.
    ///
    /// # Panics
    /// When `id` is not of this tree.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    /// Whether the text is the same at every step.
    pub fn is_constant(&self) -> bool {
        !self.nodes.iter().any(|node| {
            matches!(
                node.kind,
                NodeKind::Change { .. } | NodeKind::Alternate { .. }
            )
        })
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(None))
    }
}
