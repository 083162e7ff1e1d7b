//! Styles: named pieces of prompts in the webui's `styles.csv`.
//!
//! The file has a header with the columns `name`, `prompt` (once `text`) and `negative_prompt`. A style whose prompt
//! holds `{prompt}` is wrapped around the user's; any other is put behind it, with a comma between.

use std::path::Path;

use super::options::nearest;
use crate::error::{Context, Error, ErrorKind, Result};

/// Largest file that is read; thousands of styles take less.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// A named piece of a prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Style {
    /// What it is called.
    pub name: String,
    /// What it does to the prompt.
    pub prompt: String,
    /// What it does to the negative prompt.
    pub negative_prompt: String,
}

/// The styles of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Styles {
    styles: Vec<Style>,
}

impl Styles {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is no UTF-8, or is not the webui's table.
    pub fn read(path: &Path) -> Result<Self> {
        let facts = std::fs::metadata(path).map_err(|error| Error::io(path, error))?;
        if facts.len() > MAX_FILE_BYTES {
            return Err(Error::malformed(format!(
                "{}: {} bytes, a file of styles has at most {MAX_FILE_BYTES}",
                path.display(),
                facts.len()
            )));
        }
        let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            Error::malformed(format!("{}: not UTF-8 text: {error}", path.display()))
        })?;
        Self::parse(&text).context(path.display())
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// When it is not the webui's table.
    pub fn parse(text: &str) -> Result<Self> {
        let mut rows = rows(text.trim_start_matches('\u{feff}'))?.into_iter();
        let header = rows.next().unwrap_or_default();
        let column = |names: &[&str]| {
            let place = |cell: &String| names.contains(&cell.trim());
            header.iter().position(place)
        };
        let (Some(name), Some(prompt)) = (column(&["name"]), column(&["prompt", "text"])) else {
            return Err(Error::malformed(
                "the first line of the styles names no columns `name` and `prompt`",
            )
            .with_hint("expected the header name,prompt,negative_prompt"));
        };
        let negative = column(&["negative_prompt"]);
        let cell = |row: &[String], at: Option<usize>| {
            at.and_then(|at| row.get(at)).cloned().unwrap_or_default()
        };
        Ok(Self {
            styles: rows
                .map(|row| Style {
                    name: cell(&row, Some(name)),
                    prompt: cell(&row, Some(prompt)),
                    negative_prompt: cell(&row, negative),
                })
                .filter(|style| !style.name.is_empty())
                .collect(),
        })
    }

    /// The styles in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Style> {
        self.styles.iter()
    }

    /// The style of a name; the last one where there are several.
    ///
    /// # Errors
    /// When there is none, with the nearest name as a hint.
    pub fn find(&self, name: &str) -> Result<&Style> {
        if let Some(style) = self.styles.iter().rev().find(|style| style.name == name) {
            return Ok(style);
        }
        let error = Error::new(ErrorKind::InvalidConfig, format!("unknown style {name:?}"));
        let names = self.styles.iter().map(|style| style.name.as_str());
        Err(match nearest(name, names) {
            Some(near) => error.with_hint(format!("did you mean {near:?}?")),
            None => error.with_hint(format!("the file has {} styles", self.styles.len())),
        })
    }

    /// Both prompts with the named styles applied, one after the other.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn apply(
        &self,
        names: &[String],
        prompt: &str,
        negative: Option<&str>,
    ) -> Result<(String, Option<String>)> {
        let mut prompt = prompt.to_owned();
        let mut negative = negative.map(str::to_owned);
        for name in names {
            let style = self.find(name)?;
            prompt = merged(&style.prompt, &prompt);
            // No negative prompt stays none, which SDXL tells from an empty one, unless the style brings words.
            let own = merged(
                &style.negative_prompt,
                negative.as_deref().unwrap_or_default(),
            );
            if negative.is_some() || !own.is_empty() {
                negative = Some(own);
            }
        }
        Ok((prompt, negative))
    }
}

fn merged(style: &str, prompt: &str) -> String {
    if style.contains("{prompt}") {
        return style.replace("{prompt}", prompt);
    }
    match (prompt.trim(), style.trim()) {
        (prompt, "") => prompt.to_owned(),
        ("", style) => style.to_owned(),
        (prompt, style) => format!("{prompt}, {style}"),
    }
}

/// The cells of comma-separated values (RFC 4180); empty lines are left out.
fn rows(text: &str) -> Result<Vec<Vec<String>>> {
    let mut rows = Vec::new();
    let mut row = vec![String::new()];
    let mut chars = text.chars().peekable();
    let (mut quoted, mut line) = (false, 1);
    let mut opened_at = 1;
    while let Some(char) = chars.next() {
        line += usize::from(char == '\n');
        let cell = row.last_mut().expect("a row has a cell; this is a bug");
        match char {
            '"' if quoted => {
                if chars.next_if_eq(&'"').is_some() {
                    cell.push('"');
                } else {
                    quoted = false;
                }
            }
            '"' if cell.is_empty() => {
                (quoted, opened_at) = (true, line);
            }
            _ if quoted => cell.push(char),
            ',' => row.push(String::new()),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' => {
                let done = std::mem::replace(&mut row, vec![String::new()]);
                rows.push(done);
            }
            _ => cell.push(char),
        }
    }
    if quoted {
        return Err(Error::malformed(format!(
            "the quote of line {opened_at} is never closed"
        )));
    }
    rows.push(row);
    rows.retain(|row| row.iter().any(|cell| !cell.is_empty()));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\u{feff}name,prompt,negative_prompt\r\nNone,,\r\nPhoto,\"photo of {prompt}, 8k\",blurry\r\n\
                        Ink,\"ink, \"\"sumi\"\"\nstyle\",\r\n";

    fn apply(names: &[&str], prompt: &str, negative: Option<&str>) -> (String, Option<String>) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let styles = Styles::parse(FILE).unwrap();
        styles.apply(&names, prompt, negative).unwrap()
    }

    #[test]
    fn styles_wrap_or_follow_the_prompt() {
        assert_eq!(apply(&[], "a cat", None), ("a cat".into(), None));
        assert_eq!(apply(&["None"], "a cat", None), ("a cat".into(), None));
        let photo = apply(&["Photo"], "a cat", Some("dog"));
        assert_eq!(
            photo,
            ("photo of a cat, 8k".into(), Some("dog, blurry".into()))
        );
        let both = apply(&["Ink", "Photo"], "a cat", None);
        assert_eq!(both.0, "photo of a cat, ink, \"sumi\"\nstyle, 8k");
        assert_eq!(both.1.as_deref(), Some("blurry"));
    }

    #[test]
    fn an_unknown_style_gets_the_nearest_name() {
        let error = Styles::parse(FILE).unwrap().find("photoo").unwrap_err();
        assert!(error.hint().unwrap().contains("Photo"), "{error}");
    }

    #[test]
    fn other_tables_are_refused() {
        let faults = [
            ("", "no columns"),
            ("a,b\nc,d", "no columns"),
            ("name,prompt\n\"a,b\nc,d", "the quote of line 2"),
        ];
        for (text, message) in faults {
            let error = Styles::parse(text).unwrap_err();
            assert!(error.message().contains(message), "{text:?}: {error}");
        }
        assert_eq!(
            Styles::parse("name,text\na,b")
                .unwrap()
                .find("a")
                .unwrap()
                .prompt,
            "b"
        );
    }
}
