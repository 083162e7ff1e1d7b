//! ComfyUI's graphs in PNG texts, read as far as the webui's settings can say what they say.
//!
//! ComfyUI writes the graph it ran as `prompt` and the one on the screen as `workflow`; the first says everything by
//! name and is taken where there is one. A graph that makes a picture from text alone becomes [`Parameters`](super::Parameters); every
//! node and field that these have no place for is named.

mod graph;
mod read;
mod sampler;
#[cfg(test)]
mod tests;
mod text;
mod walk;
mod workflow;

use serde_json::Value;

use super::Recording;
use crate::error::{Error, Result};
use crate::weights::without_non_numbers;
use graph::Graph;

/// Longest graph that is read; those made by hand have some hundred kilobytes at most.
const MAX_BYTES: usize = 4 << 20;
/// Keyword of the graph that ran.
const PROMPT: &str = "prompt";
/// Keyword of the graph on the screen.
const WORKFLOW: &str = "workflow";

/// What the graph among the texts of a PNG says; `None` where there is none.
///
/// # Errors
/// When a graph is damaged, goes in a circle, or is larger than any that is made by hand.
pub(super) fn recording(texts: &[(String, String)]) -> Result<Option<Recording>> {
    let of = |wanted: &str| {
        let mut texts = texts.iter();
        let (_, text) = texts.find(|(keyword, _)| keyword == wanted)?;
        // Other programs keep plain words under these keywords.
        Some(text.as_str()).filter(|text| text.trim_start().starts_with('{'))
    };
    let graph = match (of(PROMPT), of(WORKFLOW)) {
        (Some(text), _) => Graph::of_prompt(&json(PROMPT, text)?),
        (None, Some(text)) => Graph::of_workflow(&json(WORKFLOW, text)?),
        (None, None) => return Ok(None),
    };
    graph
        .and_then(|graph| read::recording(&graph))
        .map(Some)
        .map_err(|error| error.context("ComfyUI's graph"))
}

fn json(keyword: &str, text: &str) -> Result<Value> {
    if text.len() > MAX_BYTES {
        return Err(Error::malformed(format!(
            "the text {keyword:?} has {} bytes, expected a graph of at most {MAX_BYTES}",
            text.len()
        )));
    }
    serde_json::from_str(&without_non_numbers(text)).map_err(|error| {
        Error::malformed(format!(
            "the text {keyword:?} begins as ComfyUI's graph and is not readable as JSON: {error}"
        ))
        .with_source(error)
    })
}
