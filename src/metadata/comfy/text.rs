//! ComfyUI's weights as the webui's: `(a:1.3)` sets a weight there, whatever brackets are around it, square brackets are
//! text, and nothing else means anything.

use std::fmt::Write as _;
use std::sync::LazyLock;

use regex::Regex;

use crate::error::{Error, Result};

const STEP: f64 = 1.1;
/// Deepest nesting of brackets.
const MAX_DEPTH: usize = 64;

/// Words that are commands in the webui. The text towers know no capitals, so small letters say the same.
static COMMAND: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\b(?:AND|BREAK)\b").expect("the pattern is valid; this is a bug")
});
/// What the webui takes for the weight of the whole prompt.
static TAIL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r":\s*[-+]?[0-9.]+\s*$").expect("the pattern is valid; this is a bug")
});

/// A text of ComfyUI's in the webui's grammar.
///
/// # Errors
/// For brackets nested deeper than any that are typed.
pub(super) fn in_webui_grammar(text: &str) -> Result<String> {
    let mut pieces = Vec::new();
    weigh(
        &text.replace("\\)", "\0\u{1}").replace("\\(", "\0\u{2}"),
        1.0,
        0,
        &mut pieces,
    )?;
    let count = pieces.len();
    let mut out = String::new();
    for (index, (words, weight)) in pieces.into_iter().enumerate() {
        let words = escaped(&words.replace("\0\u{1}", ")").replace("\0\u{2}", "("));
        let is_plain = weight.to_bits() == 1.0_f64.to_bits();
        if is_plain && !(index + 1 == count && TAIL.is_match(&words)) {
            out.push_str(&words);
        } else {
            let _ = write!(out, "({words}:{weight})");
        }
    }
    Ok(out)
}

fn weigh(text: &str, weight: f64, depth: usize, pieces: &mut Vec<(String, f64)>) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::malformed(format!(
            "a text has brackets nested deeper than {MAX_DEPTH}"
        )));
    }
    for part in outer_brackets(text) {
        let inner = part
            .strip_prefix('(')
            .and_then(|rest| rest.strip_suffix(')'));
        let Some(inner) = inner else {
            if !part.is_empty() {
                pieces.push((part.to_owned(), weight));
            }
            continue;
        };
        let set = inner
            .rfind(':')
            .filter(|&colon| colon > 0)
            .and_then(|colon| {
                let number = inner[colon + 1..].trim().parse::<f64>().ok();
                Some((colon, number.filter(|number| number.is_finite())?))
            });
        match set {
            Some((colon, set)) => weigh(&inner[..colon], set, depth + 1, pieces)?,
            None => weigh(inner, weight * STEP, depth + 1, pieces)?,
        }
    }
    Ok(())
}

/// The text in pieces, those in outermost brackets by themselves. A closing bracket too many counts, so that after it the
/// next one opens nothing.
fn outer_brackets(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut level) = (0, 0_i64);
    for (at, char) in text.char_indices() {
        match char {
            '(' => {
                if level == 0 {
                    parts.push(&text[start..at]);
                    start = at;
                }
                level += 1;
            }
            ')' => {
                level -= 1;
                if level == 0 {
                    parts.push(&text[start..=at]);
                    start = at + 1;
                }
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Words that mean nothing but themselves.
fn escaped(words: &str) -> String {
    let words = COMMAND.replace_all(words, |found: &regex::Captures<'_>| found[0].to_lowercase());
    let mut out = String::with_capacity(words.len());
    let mut rest = words.chars().peekable();
    while let Some(char) = rest.next() {
        match char {
            '(' | ')' | '[' | ']' | '{' | '}' | '|' | '\\' => out.extend(['\\', char]),
            // No name of a network begins with a backslash, which goes.
            '<' if rest
                .peek()
                .is_some_and(|next| next.is_alphanumeric() || *next == '_') =>
            {
                out.push_str("<\\");
            }
            _ => out.push(char),
        }
    }
    out
}
