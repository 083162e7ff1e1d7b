//! What a picture file says about its making, whichever program wrote it.

use serde::Serialize;

use super::Parameters;

/// Something in a picture's settings that has no effect on a new picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotHonoured {
    /// The setting's name in the file: a key of the `parameters` text, or a node of a graph and its field.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Why it has no effect.
    pub reason: String,
}

/// The settings in a picture file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    /// As the webui's text would say it.
    pub parameters: Parameters,
    /// What a graph of ComfyUI holds beyond that; empty for a `parameters` text.
    pub unmapped: Vec<NotHonoured>,
}
