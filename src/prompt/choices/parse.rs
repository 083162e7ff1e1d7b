//! Text to items: what may be chosen, and what is text.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

use super::MAX_DEPTH;
use super::several::Several;
use crate::error::{Error, Result};
use crate::prompt::attention::shortened;

static WILDCARD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^__([\p{L}\p{N}./\\ -]+(?:_[\p{L}\p{N}./\\ -]+)*)__")
        .expect("the pattern is valid; this is a bug")
});
static WEIGHT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)::")
        .expect("the pattern is valid; this is a bug")
});

/// The beginning of a list of which several are taken.
static COUNT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*(?:[0-9]+|[0-9]*-[0-9]*)\$\$").expect("the pattern is valid; this is a bug")
});

/// A part of a text with choices.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Text(String),
    Choice(Choice),
    Wildcard(String),
}

/// A list of options, and how many of them are taken where that is said.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) options: Vec<ChoiceOption>,
    pub(super) several: Option<Several>,
}

/// One of several.
#[derive(Debug, Clone)]
pub(super) struct ChoiceOption {
    pub(super) weight: f64,
    pub(super) items: Vec<Item>,
}

/// Text and choices, left to right.
pub(super) fn parse_items(text: &str, wildcards: bool, depth: usize) -> Result<Vec<Item>> {
    if depth > MAX_DEPTH {
        return Err(Error::invalid(format!(
            "choices are nested deeper than {MAX_DEPTH}"
        )));
    }
    let closes = matching_braces(text);
    let mut items = Vec::new();
    let mut plain = String::new();
    let mut at = 0;
    while let Some(char) = text[at..].chars().next() {
        let mut end = at + char.len_utf8();
        let found = match char {
            '\\' => {
                end += text[end..].chars().next().map_or(0, char::len_utf8);
                None
            }
            '{' => match closes.get(&at) {
                Some(&close) => parse_choice(&text[end..close], wildcards, depth)?
                    .map(|choice| (Item::Choice(choice), close + 1)),
                None => None,
            },
            '_' if wildcards => WILDCARD.captures(&text[at..]).and_then(|found| {
                let (whole, name) = (found.get(0)?, found.get(1)?);
                Some((
                    Item::Wildcard(name.as_str().trim().to_owned()),
                    at + whole.end(),
                ))
            }),
            _ => None,
        };
        let Some((item, after)) = found else {
            plain.push_str(&text[at..end]);
            at = end;
            continue;
        };
        if !plain.is_empty() {
            items.push(Item::Text(std::mem::take(&mut plain)));
        }
        items.push(item);
        at = after;
    }
    if !plain.is_empty() {
        items.push(Item::Text(plain));
    }
    Ok(items)
}

/// An opened bracket: which, where, and whether a `|` of its own follows.
struct Opened {
    bracket: char,
    start: usize,
    bar: bool,
}

/// What a character does to the brackets before it.
enum Seen {
    Nothing,
    /// A `|` outside of all brackets.
    OuterBar,
    /// The end of this brace.
    Closed(Opened),
}

/// The brackets that are open at a place of a text. A `}` ends the last `{` and with it what was opened since; its
/// time is bounded by what was opened.
#[derive(Default)]
struct Nesting {
    open: Vec<Opened>,
    braces: usize,
    escaped: bool,
}

impl Nesting {
    fn step(&mut self, at: usize, char: char) -> Seen {
        if std::mem::take(&mut self.escaped) {
            return Seen::Nothing;
        }
        match char {
            '\\' => self.escaped = true,
            '{' | '[' => {
                self.braces += usize::from(char == '{');
                self.open.push(Opened {
                    bracket: char,
                    start: at,
                    bar: false,
                });
            }
            '|' => match self.open.last_mut() {
                Some(top) => top.bar = true,
                None => return Seen::OuterBar,
            },
            ']' if self.open.last().is_some_and(|top| top.bracket == '[') => {
                self.open.pop();
            }
            '}' if self.braces > 0 => {
                while let Some(top) = self.open.pop() {
                    if top.bracket == '{' {
                        self.braces -= 1;
                        return Seen::Closed(top);
                    }
                }
            }
            _ => {}
        }
        Seen::Nothing
    }
}

/// The closing brace of each opening one that has a `|` of its own, or begins with a number and `$$`. One pass, since
/// braces that are only text may be nested without end.
fn matching_braces(text: &str) -> HashMap<usize, usize> {
    let mut nesting = Nesting::default();
    text.char_indices()
        .filter_map(|(at, char)| match nesting.step(at, char) {
            Seen::Closed(brace) => {
                let is_choice = brace.bar || COUNT.is_match(&text[brace.start + 1..at]);
                is_choice.then_some((brace.start, at))
            }
            _ => None,
        })
        .collect()
}

/// The options of what stands between braces; `None` where it is no choice.
fn parse_choice(inner: &str, wildcards: bool, depth: usize) -> Result<Option<Choice>> {
    let (several, list) = match Several::parse(inner)? {
        Some((several, length)) => (Some(several), &inner[length..]),
        None => (None, inner),
    };
    let bars = bars_of(list);
    if bars.is_empty() && several.is_none() {
        return Ok(None);
    }
    let mut options = Vec::with_capacity(bars.len() + 1);
    let mut start = 0;
    for bar in bars.into_iter().chain([list.len()]) {
        options.push(parse_option(&list[start..bar], wildcards, depth + 1)?);
        start = bar + 1;
    }
    if options.iter().all(|option| option.weight <= 0.0) {
        return Err(Error::invalid(format!(
            "every option of {:?} has the weight 0",
            shortened(&format!("{{{inner}}}"))
        )));
    }
    Ok(Some(Choice { options, several }))
}

/// The places of the `|` that part options: neither escaped nor inside other brackets.
fn bars_of(inner: &str) -> Vec<usize> {
    let mut nesting = Nesting::default();
    inner
        .char_indices()
        .filter(|&(at, char)| matches!(nesting.step(at, char), Seen::OuterBar))
        .map(|(at, _)| at)
        .collect()
}

pub(super) fn parse_option(text: &str, wildcards: bool, depth: usize) -> Result<ChoiceOption> {
    let (weight, text) = match WEIGHT.captures(text).and_then(|found| {
        let (whole, number) = (found.get(0)?, found.get(1)?);
        Some((whole.end(), number.as_str().parse::<f64>().ok()?))
    }) {
        Some((end, weight)) if weight.is_finite() => (weight, &text[end..]),
        _ => (1.0, text),
    };
    Ok(ChoiceOption {
        weight,
        items: parse_items(text, wildcards, depth)?,
    })
}
