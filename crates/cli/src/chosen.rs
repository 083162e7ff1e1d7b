//! Which model a command is about: the one named, or the one in the box.

use tintype::{ModelSource, Result};

/// Reads the name of a model; without one it is the model in the box.
///
/// # Errors
/// When there is no such model, or none is named and none was compiled in.
pub(crate) fn source(name: Option<&str>) -> Result<ModelSource> {
    name.map_or_else(in_the_box, ModelSource::parse)
}

#[cfg(feature = "model-in-the-box")]
#[expect(
    clippy::unnecessary_wraps,
    reason = "without the feature there is none"
)]
fn in_the_box() -> Result<ModelSource> {
    Ok(ModelSource::in_the_box())
}

#[cfg(not(feature = "model-in-the-box"))]
fn in_the_box() -> Result<ModelSource> {
    Err(tintype::Error::invalid(
        "no model is named, and this program was built without one of its own",
    )
    .with_hint(OTHERS))
}

/// How to use another model than the one in the box.
pub(crate) const OTHERS: &str = "name a folder, a file or a hub id, such as --model \
    stable-diffusion-v1-5/stable-diffusion-v1-5 or --model stabilityai/stable-diffusion-xl-base-1.0";

/// What is said when nobody chose the model that is used.
pub(crate) fn notice(source: &ModelSource, summary: Option<&str>) -> Option<String> {
    let ModelSource::Embedded(folder) = source else {
        return None;
    };
    let summary = summary.map_or_else(String::new, |summary| format!(", {summary}"));
    Some(format!(
        "no model was named, so this is {}{summary}; for others {OTHERS}",
        folder.name()
    ))
}
