//! Which text holds at which evaluation of the model.
//!
//! As in the webui, steps here are evaluations: a sampler that asks the model twice a step runs through twice as many,
//! and a text that holds until step `n` holds for the evaluations 0 to `n`, one more than `n`.

use std::collections::HashMap;

use super::parts::Prompt;
use crate::error::{Error, Result};

/// Most different texts of one prompt; each is encoded and kept for the whole run.
pub const MAX_TEXTS: usize = 256;
/// Most bytes of all of them.
const MAX_BYTES: usize = 32 << 20;

/// The texts of a prompt over a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The texts joined by `AND`.
    pub parts: Vec<PartSchedule>,
    /// Every different text once, in the order of first use.
    pub texts: Vec<String>,
}

/// One part of a prompt over a run.
#[derive(Debug, Clone, PartialEq)]
pub struct PartSchedule {
    /// Weight in the composition.
    pub weight: f64,
    /// What holds when, in order of time; never empty.
    pub entries: Vec<Entry>,
}

/// A text and how long it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The last evaluation, counted from 0, that takes the text.
    pub until: usize,
    /// Which of [`Schedule::texts`].
    pub text: usize,
}

impl Schedule {
    /// One text for the whole run.
    pub(crate) fn constant(text: &str, evaluations: usize) -> Self {
        Self {
            parts: vec![PartSchedule {
                weight: 1.0,
                entries: vec![Entry {
                    until: evaluations,
                    text: 0,
                }],
            }],
            texts: vec![text.to_owned()],
        }
    }
}

impl PartSchedule {
    /// The text of an evaluation, counted from 0; the last one for those beyond the run.
    pub fn text_at(&self, evaluation: usize) -> usize {
        let place = self
            .entries
            .partition_point(|entry| entry.until < evaluation);
        let entry = self.entries.get(place).or(self.entries.last());
        entry.map_or(0, |entry| entry.text)
    }
}

impl Prompt {
    /// The texts over a run of `evaluations` of the model.
    ///
    /// # Errors
    /// When there are more than [`MAX_TEXTS`] different texts, or they take more memory than is sensible.
    pub fn schedule(&self, evaluations: usize) -> Result<Schedule> {
        let mut texts = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        let mut bytes = 0;
        let mut parts = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let mut entries = Vec::new();
            for until in part.tree.moments(evaluations) {
                let text = part.tree.at(until, evaluations);
                let next = known.len();
                let id = *known.entry(text).or_insert_with_key(|text| {
                    bytes += text.len();
                    texts.push(text.clone());
                    next
                });
                if texts.len() > MAX_TEXTS || bytes > MAX_BYTES {
                    return Err(Error::invalid(format!(
                        "the prompt reads differently at more than {} moments, expected at most {MAX_TEXTS} texts \
                         of {} MiB in all",
                        texts.len() - 1,
                        MAX_BYTES >> 20
                    ))
                    .with_hint("alternations of different lengths multiply; use fewer, or fewer steps"));
                }
                entries.push(Entry { until, text: id });
            }
            parts.push(PartSchedule {
                weight: part.weight(),
                entries,
            });
        }
        Ok(Schedule { parts, texts })
    }

    /// The changes that lie outside of a run of `evaluations`, as sentences for the user.
    pub fn changes_out_of_range(&self, evaluations: usize) -> Vec<super::Warning> {
        let nodes = self.parts.iter().flat_map(|part| &part.tree.nodes);
        nodes
            .filter_map(|node| match &node.kind {
                super::tree::NodeKind::Change { when, .. } if when.out_of_range(evaluations) => {
                    Some(super::Warning {
                        span: node.span,
                        message: format!(
                            "the change at {} lies outside of the run of {evaluations} steps: {}",
                            when.raw.trim(),
                            if when.value < 0.0 {
                                "the later text holds from the start"
                            } else {
                                "it never comes"
                            }
                        ),
                    })
                }
                _ => None,
            })
            .collect()
    }
}
