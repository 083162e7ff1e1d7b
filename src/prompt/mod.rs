//! Prompts: what people type into the webui, taken apart.
//!
//! A prompt goes through stages, each with its own module and each usable alone: [`Template`] makes choices
//! (`{a|b}`, `__wildcard__`), [`Prompt`] takes out comments and networks and splits at `AND`, [`Tree`] holds what changes
//! over the steps, [`Schedule`] says which text holds when, [`pieces`] finds the weights in a text, and [`chunks()`] lays
//! tokens into runs of the text tower. The webui (AUTOMATIC1111 stable-diffusion-webui, `modules/prompt_parser.py` and
//! `modules/sd_hijack_clip.py`) is followed in what it documents and does, its oddities included, because a prompt is
//! carried from there; where an oddity is most likely not meant, there is a warning.

mod attention;
mod choices;
mod chooser;
mod chunks;
mod explain;
mod options;
mod parts;
mod schedule;
mod span;
mod styles;
mod tree;

#[cfg(test)]
mod tests;

pub use attention::{Piece, pieces};
pub use choices::{Template, Wildcards};
pub use chooser::Chooser;
pub use chunks::{COMMA_LOOK_BACK, Chunk, chunks};
pub use explain::{
    ExplainedChunk, ExplainedPart, ExplainedText, ExplainedToken, Explanation, explain,
};
pub use options::{Choices, Emphasis, PromptOptions, PromptSyntax};
pub use parts::{Embedding, MAX_PARTS, MAX_PROMPT_BYTES, Network, Part, Prompt, Role};
pub use schedule::{Entry, MAX_TEXTS, PartSchedule, Schedule};
pub use span::{Span, Warning};
pub use styles::{Style, Styles};
pub use tree::{Node, NodeId, NodeKind, Tree, When};
