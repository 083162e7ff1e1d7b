//! Configuration files, read with limits: a model folder is somebody else's data.

use std::borrow::Cow;
use std::io::Read;

use serde_json::Value;

use super::place::Place;
use crate::error::{Error, Result};

/// Longest configuration file that is read. Published ones are 0.3 to 6 KiB; an index of shards, the
/// longest JSON of a model, reaches a few hundred.
const MAX_BYTES: u64 = 16 << 20;

/// Reads a JSON object.
///
/// # Errors
/// When the file is missing, longer than [`MAX_BYTES`], nested deeper than serde_json's limit of 128, not
/// JSON, or not an object.
pub(crate) fn read_object(place: impl Into<Place>) -> Result<Value> {
    let place = place.into();
    if place.exists() && !place.is_file() {
        return Err(Error::malformed(format!(
            "{place}: found a directory, expected a JSON file"
        )));
    }
    let (size_bytes, reader) = place.reader()?;
    let mut text = String::new();
    reader
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| Error::io(&place.to_path(), error))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(Error::malformed(format!(
            "{place}: found {size_bytes} bytes of JSON, expected at most {MAX_BYTES}"
        ))
        .with_hint("this is no configuration of a model; fetch the file anew"));
    }
    match serde_json::from_str(&without_non_numbers(&text)) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(other) => Err(Error::malformed(format!(
            "{place}: found {}, expected a JSON object",
            kind_of(&other)
        ))),
        Err(error) => Err(
            Error::malformed(format!("{place}: not readable as JSON: {error}"))
                .with_hint(
                    "fetch the file anew; a page saved in place of the file is a common cause",
                )
                .with_source(error),
        ),
    }
}

/// The text with the bare `NaN`, `Infinity` and `-Infinity` of Python's json module replaced by `null`.
///
/// diffusers writes `"lambda_min_clipped": -Infinity` into every DPM-Solver configuration it saves; there as elsewhere
/// it means that no limit is set, which is what `null` says.
pub(crate) fn without_non_numbers(text: &str) -> Cow<'_, str> {
    if !text.contains("NaN") && !text.contains("Infinity") {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let (mut rest, mut in_string) = (text, false);
    while let Some(letter) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"]
            .into_iter()
            .find(|word| rest.starts_with(word));
        let length = match (word, letter) {
            (Some(word), _) if !in_string => {
                clean.push_str("null");
                rest = &rest[word.len()..];
                continue;
            }
            (_, '\\') if in_string => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            (_, '"') => {
                in_string = !in_string;
                1
            }
            _ => letter.len_utf8(),
        };
        clean.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    Cow::Owned(clean)
}

/// What a JSON value is, in words.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn read(text: &[u8]) -> Result<Value> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        read_object(&path)
    }

    #[test]
    fn reads_an_object() {
        assert_eq!(read(br#"{"a": 1}"#).unwrap()["a"], 1);
    }

    #[test]
    fn takes_pythons_numbers_that_json_has_not() {
        let value =
            read(br#"{"a": -Infinity, "b": [NaN, Infinity], "c": "NaN \" Infinity"}"#).unwrap();
        assert_eq!(value["a"], Value::Null);
        assert_eq!(value["b"], serde_json::json!([null, null]));
        assert_eq!(value["c"], "NaN \" Infinity");
    }

    #[test]
    fn says_what_it_found_instead() {
        for (text, found) in [
            (b"[1]".to_vec(), "found an array"),
            (b"{\"a\": ".to_vec(), "not readable as JSON"),
            (vec![b'['; 200_000], "not readable as JSON"),
            (vec![b' '; (MAX_BYTES + 1) as usize], "expected at most"),
        ] {
            let error = read(&text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed);
            assert!(error.message().contains(found), "{error}");
            assert!(error.message().contains("config.json"), "{error}");
        }
    }

    #[test]
    fn refuses_a_directory_and_a_missing_file() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            read_object(dir.path()).unwrap_err().kind(),
            ErrorKind::Malformed
        );
        assert_eq!(
            read_object(&dir.path().join("x")).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }
}
