//! What a picture says of how it was made, in the webui's form.

/// The settings of a picture.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parameters {
    /// The prompt, maybe of several lines.
    pub prompt: String,
    /// The negative prompt; empty for none.
    pub negative_prompt: String,
    /// Everything else in the order it is written: key and value.
    pub settings: Vec<(String, String)>,
}
