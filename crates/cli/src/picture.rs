//! `tintype inspect PICTURE`: how a picture was made.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};
use tintype::metadata::{self, Parameters};
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
}

/// The error for a picture that does not say how it was made.
pub(crate) fn no_parameters(path: &Path) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!(
            "{}: found no `parameters` text in this picture",
            path.display()
        ),
    )
    .with_hint("it was made by a program that writes none, or a service has removed it")
}

/// Prints the settings in the picture at `path`.
pub(crate) fn run(path: &Path, form: Form) -> anyhow::Result<()> {
    let parameters = metadata::read_parameters(path)?.ok_or_else(|| no_parameters(path))?;
    match form {
        Form::Json => output::write_json(&document(&parameters)),
        Form::Text => Ok(output::write_line(parameters.to_text())?),
    }
}

fn document(parameters: &Parameters) -> Document<'_> {
    let settings = parameters.settings.iter();
    Document {
        parameters: parameters.to_text(),
        prompt: &parameters.prompt,
        negative_prompt: &parameters.negative_prompt,
        settings: settings
            .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
            .collect(),
    }
}
