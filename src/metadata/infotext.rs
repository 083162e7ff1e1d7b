//! Printing and parsing of the webui's `parameters` text.
//!
//! The text is the prompt, then `Negative prompt: ..`, then one line `Key: value, Key: value`. The format has no
//! escapes outside that last line, so some prompts cannot be told apart from others, here as in the webui:
//!
//! - white space at both ends of a line and empty lines before the first word are dropped;
//! - a line of the prompt that starts with `Negative prompt:` begins the negative prompt, and inside the
//!   negative prompt those words vanish from the start of a line;
//! - with fewer than three settings the last line is taken for prompt text, so it takes three of them (every
//!   picture of ours has more) for the prompt's own last line to be safe from being taken for settings;
//! - a setting with an empty value or a key of other characters than letters, digits, blanks, `_`, `-` and `/`
//!   is left out.
//!
//! Anything else is parsed to what was printed.

use std::sync::LazyLock;

use regex::Regex;

use super::Parameters;

const NEGATIVE: &str = "Negative prompt:";
/// Fewer settings than this on the last line, and it is prompt text.
const MIN_SETTINGS: usize = 3;

/// The webui's `re_param`.
static SETTING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)"#)
        .expect("the pattern is valid; this is a bug")
});

/// A key that [`SETTING`] finds whole.
static KEY: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\w[\w \-/]+$").expect("the pattern is valid; this is a bug"));

impl Parameters {
    /// The text, ready for a PNG's `parameters` chunk.
    ///
    /// Parsing it again gives the same parameters, within the limits of a format without escapes: white space
    /// around lines is lost, and lines starting with `Negative prompt:` are taken for what they say.
    pub fn to_text(&self) -> String {
        let mut text = self.prompt.clone();
        if !self.negative_prompt.is_empty() {
            text = format!("{text}\n{NEGATIVE} {}", self.negative_prompt);
        }
        let settings: Vec<String> = self
            .settings
            .iter()
            .filter(|(key, value)| KEY.is_match(key) && !value.is_empty())
            .map(|(key, value)| format!("{key}: {}", quote(value)))
            .collect();
        if !settings.is_empty() {
            text.push('\n');
            text.push_str(&settings.join(", "));
        }
        text.trim().to_owned()
    }

    /// Takes a text apart. Every text is a valid one: what is not settings is prompt.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let (mut lines, last) = match text.rsplit_once('\n') {
            Some((lines, last)) => (lines.split('\n').collect(), last),
            None => (Vec::new(), text),
        };
        let settings: Vec<(&str, &str)> = SETTING
            .captures_iter(last)
            .map(|found| found.extract())
            .map(|(_, [key, value])| (key, value))
            .collect();
        let is_settings = settings.len() >= MIN_SETTINGS;
        if !is_settings {
            lines.push(last);
        }
        let mut parameters = parse_prompts(&lines);
        if is_settings {
            for (key, value) in settings.into_iter().filter(|(_, value)| !value.is_empty()) {
                parameters.append(key, unquote(value));
            }
        }
        parameters
    }
}

fn parse_prompts(lines: &[&str]) -> Parameters {
    let mut parameters = Parameters::default();
    let mut negative = false;
    for line in lines {
        let mut line = line.trim();
        if let Some(rest) = line.strip_prefix(NEGATIVE) {
            negative = true;
            line = rest.trim();
        }
        let text = if negative {
            &mut parameters.negative_prompt
        } else {
            &mut parameters.prompt
        };
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(line);
    }
    parameters
}

/// Writes a value as a JSON string where the plain one would not be read back.
///
/// The webui quotes for comma, colon and line feed; the other cases are those that its parser would change.
fn quote(value: &str) -> String {
    let plain = !value.contains([',', ':'])
        && !value.contains(char::is_control)
        && !value.starts_with('"')
        && value.trim().len() == value.len();
    if plain {
        value.to_owned()
    } else {
        serde_json::Value::from(value).to_string()
    }
}

fn unquote(value: &str) -> String {
    if value.len() > 1 && value.starts_with('"') && value.ends_with('"') {
        serde_json::from_str(value).unwrap_or_else(|_| value.to_owned())
    } else {
        value.to_owned()
    }
}
