//! What a model's makers say of it: `tintype.json` in its folder.
//!
//! diffusers' configurations say how a model is computed and nothing of what it knows, what it was made from and how
//! it is best used. Any folder may hold a card; `inspect` prints it, and its settings stand in where the user gives
//! none.

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use super::json;
use super::place::Place;
use crate::error::{Error, Result};

/// The file's name.
pub(crate) const FILE: &str = "tintype.json";

/// A model's own description.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Card {
    /// What it is, in one sentence.
    #[serde(deserialize_with = "printable")]
    pub summary: String,
    /// What a user should know before expecting anything of it, a sentence or two each.
    #[serde(default, deserialize_with = "printable_list")]
    pub notes: Vec<String>,
    /// The licence of the weights.
    #[serde(default, deserialize_with = "printable_option")]
    pub licence: Option<String>,
    /// What it was trained on.
    #[serde(default)]
    pub data: Vec<DataSource>,
    /// Prompts that show what it can do.
    #[serde(default, deserialize_with = "printable_list")]
    pub prompts: Vec<String>,
    /// The settings its makers recommend.
    #[serde(default)]
    pub defaults: CardDefaults,
}

/// Something a model was trained on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DataSource {
    /// What it is called and where it is from.
    #[serde(deserialize_with = "printable")]
    pub name: String,
    /// Under which licence.
    #[serde(deserialize_with = "printable")]
    pub licence: String,
}

/// Settings that stand in where the user gives none; what is absent is the family's.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct CardDefaults {
    /// Denoising steps.
    #[serde(default)]
    pub steps: Option<usize>,
    /// Guidance scale.
    #[serde(default)]
    pub guidance_scale: Option<f64>,
}

/// Reads the card in a model's folder, if there is one.
///
/// # Errors
/// When the file is no JSON object or lacks a summary.
pub(crate) fn read(folder: &Place) -> Result<Option<Card>> {
    let place = folder.join(FILE);
    if !place.exists() {
        return Ok(None);
    }
    let value = json::read_object(&place)?;
    serde_json::from_value(value).map(Some).map_err(|error| {
        Error::malformed(format!("{place}: not a model's card: {error}")).with_source(error)
    })
}

/// Text that is fit for a terminal: a card is somebody else's words, and an escape code in it would be obeyed.
fn clean(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

fn printable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map(|text| clean(&text))
}

fn printable_option<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.as_deref().map(clean))
}

fn printable_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    Ok(texts.iter().map(|text| clean(text)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn read_text(text: &str) -> Result<Option<Card>> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), text).unwrap();
        read(&dir.path().into())
    }

    #[test]
    fn a_card_says_what_it_says_and_no_escape_code() {
        let card = read_text(
            r#"{"summary": "draws\u001b[31m cats", "data": [{"name": "cats", "licence": "MIT"}],
                "defaults": {"steps": 12}, "something else": 1}"#,
        );
        let card = card.unwrap().unwrap();
        assert_eq!(card.summary, "draws [31m cats");
        assert_eq!(card.data[0].licence, "MIT");
        assert_eq!(card.defaults.steps, Some(12));
        assert_eq!(card.defaults.guidance_scale, None);
    }

    #[test]
    fn a_folder_needs_no_card_but_a_broken_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&dir.path().into()).unwrap(), None);
        for text in [
            "{}",
            "[]",
            r#"{"summary": "x", "defaults": {"steps": "many"}}"#,
        ] {
            let error = read_text(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed);
            assert!(error.message().contains(FILE), "{error}");
        }
    }
}
