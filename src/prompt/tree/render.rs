//! Tree to text: as it was typed, or as it reads at one step.

use super::{Node, NodeId, NodeKind, Tree};

/// What is still to be written.
enum Job<'a> {
    Nodes(&'a [NodeId], usize),
    Text(&'a str),
}

impl Tree {
    /// The last step, counted from 1, at which each wording holds; the last of them is `steps`.
    pub fn moments(&self, steps: usize) -> Vec<usize> {
        let mut moments = vec![steps];
        for node in &self.nodes {
            match &node.kind {
                NodeKind::Change { when, .. } => {
                    moments.extend(usize::try_from(when.step(steps)).ok().filter(|&at| at > 0));
                }
                NodeKind::Alternate(_) => {
                    moments.extend(1..=steps);
                    break;
                }
                NodeKind::Text(_) | NodeKind::Emphasis { .. } => {}
            }
        }
        moments.sort_unstable();
        moments.dedup();
        moments
    }

    /// The text at `step` of `steps`, counted from 1.
    pub fn at(&self, step: usize, steps: usize) -> String {
        self.render(Some((step, steps)))
    }

    /// The text at a step, or with `None` as it was typed.
    pub(super) fn render(&self, step: Option<(usize, usize)>) -> String {
        let mut out = String::new();
        let mut jobs = vec![Job::Nodes(&self.roots, 0)];
        while let Some(job) = jobs.pop() {
            match job {
                Job::Text(text) => out.push_str(text),
                Job::Nodes(list, index) => {
                    let Some(&id) = list.get(index) else { continue };
                    jobs.push(Job::Nodes(list, index + 1));
                    match step {
                        None => typed(&self.nodes[id], &mut jobs),
                        Some(step) => at_step(&self.nodes[id], step, &mut jobs),
                    }
                }
            }
        }
        out
    }
}

/// Pushes the parts of `node` as typed, last first.
fn typed<'a>(node: &'a Node, jobs: &mut Vec<Job<'a>>) {
    let first = jobs.len();
    match &node.kind {
        NodeKind::Text(text) => jobs.push(Job::Text(text)),
        NodeKind::Emphasis { open, inner, tail } => emphasis(*open, inner, tail.as_deref(), jobs),
        NodeKind::Change {
            before,
            after,
            when,
        } => {
            jobs.push(Job::Text("["));
            if let Some(before) = before {
                jobs.extend([Job::Nodes(before, 0), Job::Text(":")]);
            }
            jobs.extend([
                Job::Nodes(after, 0),
                Job::Text(":"),
                Job::Text(&when.raw),
                Job::Text("]"),
            ]);
        }
        NodeKind::Alternate(options) => {
            for (index, option) in options.iter().enumerate() {
                jobs.push(Job::Text(if index == 0 { "[" } else { "|" }));
                jobs.push(Job::Nodes(option, 0));
            }
            jobs.push(Job::Text("]"));
        }
    }
    jobs[first..].reverse();
}

/// Pushes what `node` reads at a step, last first.
fn at_step<'a>(node: &'a Node, (step, steps): (usize, usize), jobs: &mut Vec<Job<'a>>) {
    let first = jobs.len();
    match &node.kind {
        NodeKind::Text(text) => jobs.push(Job::Text(text)),
        NodeKind::Emphasis { open, inner, tail } => emphasis(*open, inner, tail.as_deref(), jobs),
        NodeKind::Change {
            before,
            after,
            when,
        } => {
            if step as i64 > when.step(steps) {
                jobs.push(Job::Nodes(after, 0));
            } else if let Some(before) = before {
                jobs.push(Job::Nodes(before, 0));
            }
        }
        NodeKind::Alternate(options) => {
            jobs.push(Job::Nodes(
                &options[step.saturating_sub(1) % options.len()],
                0,
            ));
        }
    }
    jobs[first..].reverse();
}

fn emphasis<'a>(
    open: char,
    inner: &'a [NodeId],
    tail: Option<&'a [NodeId]>,
    jobs: &mut Vec<Job<'a>>,
) {
    let (open, close) = if open == '(' { ("(", ")") } else { ("[", "]") };
    jobs.extend([Job::Text(open), Job::Nodes(inner, 0)]);
    if let Some(tail) = tail {
        jobs.extend([Job::Text(":"), Job::Nodes(tail, 0)]);
    }
    jobs.push(Job::Text(close));
}
