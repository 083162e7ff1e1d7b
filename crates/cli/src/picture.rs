//! `tintype inspect PICTURE`: how a picture was made.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};
use tintype::metadata::{self, NotHonoured, Recording};
use tintype::{Error, ErrorKind};

use crate::output::{self, Form};

/// The document of `inspect PICTURE --json`.
#[derive(Serialize)]
struct Document<'a> {
    /// The text in the file.
    parameters: String,
    prompt: &'a str,
    negative_prompt: &'a str,
    /// The settings by the names they have in the text.
    settings: Map<String, Value>,
    /// What ComfyUI's graph says beyond that.
    #[serde(skip_serializing_if = "<[NotHonoured]>::is_empty")]
    not_honoured: &'a [NotHonoured],
}

/// The error for a picture that does not say how it was made.
pub(crate) fn no_parameters(path: &Path) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!(
            "{}: found no `parameters` text and no graph of ComfyUI in this picture",
            path.display()
        ),
    )
    .with_hint("it was made by a program that writes none, or a service has removed it")
}

/// Prints the settings in the picture at `path`.
pub(crate) fn run(path: &Path, form: Form) -> anyhow::Result<()> {
    let recording = metadata::read_recording(path)?.ok_or_else(|| no_parameters(path))?;
    match form {
        Form::Json => output::write_json(&document(&recording)),
        Form::Text => Ok(output::write(text(&recording))?),
    }
}

fn text(recording: &Recording) -> String {
    let mut text = recording.parameters.to_text();
    text.push('\n');
    for setting in &recording.unmapped {
        let _ = writeln!(text, "not honoured: {}", named(setting));
    }
    text
}

/// A setting with its value and why it has no effect.
pub(crate) fn named(setting: &NotHonoured) -> String {
    let NotHonoured { key, value, reason } = setting;
    if value.is_empty() {
        return format!("{key} ({reason})");
    }
    format!("{key}: {value} ({reason})")
}

fn document(recording: &Recording) -> Document<'_> {
    let parameters = &recording.parameters;
    let settings = parameters.settings.iter();
    Document {
        parameters: parameters.to_text(),
        prompt: &parameters.prompt,
        negative_prompt: &parameters.negative_prompt,
        settings: settings
            .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
            .collect(),
        not_honoured: &recording.unmapped,
    }
}
