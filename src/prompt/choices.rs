//! Choices made before anything else is read: `{a|b|c}` and `__name__`.
//!
//! A choice takes one of its options, a wildcard one line of `name.txt` in the user's folder; both may hold further
//! choices. `2::a` makes an option twice as likely. Braces without a `|` are text, as is a `|` inside `[ ]`, which is the
//! webui's alternation. What was chosen is what the picture records, so that it can be made again without the folder.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::sync::LazyLock;

use regex::Regex;

use super::attention::shortened;
use super::options::nearest;
use super::parts::{check_length, without_comments};
use crate::error::{Error, ErrorKind, Result};

/// Deepest nesting of choices and wildcards.
const MAX_DEPTH: usize = 40;
/// Longest text that choices may grow to, in bytes.
const MAX_GROWN_BYTES: usize = 1 << 20;
/// Largest file of wildcards.
const MAX_FILE_BYTES: u64 = 16 << 20;

static WILDCARD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^__([\p{L}\p{N}./\\ -]+(?:_[\p{L}\p{N}./\\ -]+)*)__")
        .expect("the pattern is valid; this is a bug")
});
static WEIGHT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)::")
        .expect("the pattern is valid; this is a bug")
});

/// A part of a text with choices.
#[derive(Debug, Clone)]
enum Item {
    Text(String),
    Choice(Vec<ChoiceOption>),
    Wildcard(String),
}

/// One of several.
#[derive(Debug, Clone)]
struct ChoiceOption {
    weight: f64,
    items: Vec<Item>,
}

/// How options are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Picker {
    /// By chance, from this state on.
    Random(u64),
    /// By number: what is left of it is divided among the choices to come, the first one counting most.
    Number(u128),
}

/// A text with choices.
#[derive(Debug, Clone)]
pub struct Template {
    items: Vec<Item>,
}

impl Template {
    /// Reads a prompt; its comments are left out. Wildcards are only looked for where there is a folder of them.
    ///
    /// # Errors
    /// For choices nested too deeply, and for `{2$$a|b}`, which is not supported.
    pub fn parse(typed: &str, wildcards: Option<&Wildcards>) -> Result<Self> {
        check_length(typed)?;
        let (source, _) = without_comments(typed);
        let items = parse_items(&source.text, wildcards.is_some(), 0)?;
        Ok(Self { items })
    }

    /// Whether there is nothing to choose.
    pub fn is_constant(&self) -> bool {
        self.items.iter().all(|item| matches!(item, Item::Text(_)))
    }

    /// In how many ways it can be read.
    ///
    /// # Errors
    /// For wildcards that are not there, cannot be read or include themselves.
    pub fn combinations(&self, wildcards: Option<&mut Wildcards>) -> Result<u128> {
        Reader::new(wildcards).count(&self.items, &mut Vec::new())
    }

    /// One reading by chance; the same seed takes the same options.
    ///
    /// # Errors
    /// As [`combinations`](Self::combinations), and when the text grows beyond all use.
    pub fn random(&self, seed: u64, wildcards: Option<&mut Wildcards>) -> Result<String> {
        self.read(&mut Picker::Random(seed), wildcards)
    }

    /// Reading `index` of all [`combinations`](Self::combinations), the last choice changing fastest.
    ///
    /// # Errors
    /// As [`random`](Self::random).
    pub fn numbered(&self, index: u128, wildcards: Option<&mut Wildcards>) -> Result<String> {
        self.read(&mut Picker::Number(index), wildcards)
    }

    fn read(&self, picker: &mut Picker, wildcards: Option<&mut Wildcards>) -> Result<String> {
        let mut out = String::new();
        Reader::new(wildcards).read(&self.items, picker, &mut Vec::new(), &mut out)?;
        Ok(out)
    }
}

/// The user's folder of wildcards.
#[derive(Debug)]
pub struct Wildcards {
    folder: PathBuf,
    files: HashMap<String, Rc<Vec<ChoiceOption>>>,
}

impl Wildcards {
    /// Opens a folder.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(folder: &Path) -> Result<Self> {
        let folder = folder
            .canonicalize()
            .map_err(|error| Error::io(folder, error))?;
        if !folder.is_dir() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{}: not a folder of wildcards", folder.display()),
            ));
        }
        Ok(Self {
            folder,
            files: HashMap::new(),
        })
    }

    fn options(&mut self, name: &str) -> Result<Rc<Vec<ChoiceOption>>> {
        if let Some(known) = self.files.get(name) {
            return Ok(Rc::clone(known));
        }
        let path = self.path_of(name)?;
        let facts = std::fs::metadata(&path).map_err(|error| Error::io(&path, error))?;
        if facts.len() > MAX_FILE_BYTES {
            return Err(Error::malformed(format!(
                "{}: {} bytes, a file of wildcards has at most {MAX_FILE_BYTES}",
                path.display(),
                facts.len()
            )));
        }
        let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            Error::malformed(format!("{}: not UTF-8 text: {error}", path.display()))
        })?;
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
        let options = lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| parse_option(line, true, 1))
            .collect::<Result<Vec<_>>>()
            .map_err(|error| error.context(path.display()))?;
        if options.iter().all(|option| option.weight <= 0.0) {
            return Err(Error::malformed(format!(
                "{}: no line to choose",
                path.display()
            )));
        }
        let options = Rc::new(options);
        self.files.insert(name.to_owned(), Rc::clone(&options));
        Ok(options)
    }

    /// The file of a wildcard, inside the folder.
    fn path_of(&self, name: &str) -> Result<PathBuf> {
        let relative = Path::new(name);
        let inside = relative
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let leaves = || {
            Error::invalid(format!("the wildcard `__{name}__` leaves its folder"))
                .with_hint("names are relative to the folder, with / between and without ..")
        };
        if !inside || name.contains('\\') {
            return Err(leaves());
        }
        let mut path = self.folder.join(relative).into_os_string();
        path.push(".txt");
        match PathBuf::from(path).canonicalize() {
            // A link may point anywhere; what it leads to counts.
            Ok(path) if path.starts_with(&self.folder) => Ok(path),
            Ok(_) => Err(leaves()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let error = Error::new(
                    ErrorKind::NotFound,
                    format!(
                        "unknown wildcard `__{name}__`, looked in {}",
                        self.folder.display()
                    ),
                );
                let names = self.names();
                Err(match nearest(name, names.iter().map(String::as_str)) {
                    Some(near) => error.with_hint(format!("did you mean `__{near}__`?")),
                    None => error,
                })
            }
            Err(error) => Err(Error::io(&self.folder.join(relative), error)),
        }
    }

    /// The names of the folder itself, for a hint.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten();
        entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name();
                Some(name.to_str()?.strip_suffix(".txt")?.to_owned())
            })
            .collect()
    }
}

/// Walks items, loading wildcards as they come.
struct Reader<'a> {
    wildcards: Option<&'a mut Wildcards>,
    counted: HashMap<String, u128>,
}

impl<'a> Reader<'a> {
    fn new(wildcards: Option<&'a mut Wildcards>) -> Self {
        Self {
            wildcards,
            counted: HashMap::new(),
        }
    }

    fn options(&mut self, name: &str, chain: &[String]) -> Result<Rc<Vec<ChoiceOption>>> {
        if chain.iter().any(|outer| outer == name) || chain.len() >= MAX_DEPTH {
            return Err(Error::invalid(format!(
                "the wildcard `__{name}__` includes itself: {} > {name}",
                shortened(&chain.join(" > "))
            )));
        }
        match &mut self.wildcards {
            Some(wildcards) => wildcards.options(name),
            None => Err(Error::new(
                ErrorKind::Internal,
                "a wildcard was read without a folder",
            )),
        }
    }

    fn count(&mut self, items: &[Item], chain: &mut Vec<String>) -> Result<u128> {
        let mut product: u128 = 1;
        for item in items {
            let ways = match item {
                Item::Text(_) => 1,
                Item::Choice(options) => self.count_options(options, chain)?,
                Item::Wildcard(name) => self.count_wildcard(name, chain)?,
            };
            product = product.saturating_mul(ways);
        }
        Ok(product)
    }

    fn count_wildcard(&mut self, name: &str, chain: &mut Vec<String>) -> Result<u128> {
        if let Some(&known) = self.counted.get(name) {
            return Ok(known);
        }
        let options = self.options(name, chain)?;
        chain.push(name.to_owned());
        let ways = self.count_options(&options, chain)?;
        chain.pop();
        self.counted.insert(name.to_owned(), ways);
        Ok(ways)
    }

    fn count_options(&mut self, options: &[ChoiceOption], chain: &mut Vec<String>) -> Result<u128> {
        let mut sum: u128 = 0;
        for option in options {
            sum = sum.saturating_add(self.count(&option.items, chain)?);
        }
        Ok(sum)
    }

    fn read(
        &mut self,
        items: &[Item],
        picker: &mut Picker,
        chain: &mut Vec<String>,
        out: &mut String,
    ) -> Result<()> {
        let rests = self.rests(items, *picker, chain)?;
        for (item, rest) in items.iter().zip(rests) {
            if out.len() > MAX_GROWN_BYTES {
                return Err(Error::invalid(format!(
                    "the choices grow the prompt beyond {MAX_GROWN_BYTES} bytes"
                )));
            }
            match item {
                Item::Text(text) => out.push_str(text),
                Item::Choice(options) => self.take(options, rest, picker, chain, out)?,
                Item::Wildcard(name) => {
                    let options = self.options(name, chain)?;
                    chain.push(name.clone());
                    self.take(&options, rest, picker, chain, out)?;
                    chain.pop();
                }
            }
        }
        Ok(())
    }

    /// In how many ways what follows each item can be read, where that matters.
    fn rests(
        &mut self,
        items: &[Item],
        picker: Picker,
        chain: &mut Vec<String>,
    ) -> Result<Vec<u128>> {
        let mut rests = vec![1_u128; items.len()];
        if let Picker::Number(_) = picker {
            for index in (1..items.len()).rev() {
                let own = self.count(&items[index..=index], chain)?;
                rests[index - 1] = rests[index].saturating_mul(own);
            }
        }
        Ok(rests)
    }

    /// Takes one of `options`; what follows them can be read in `rest` ways.
    fn take(
        &mut self,
        options: &[ChoiceOption],
        rest: u128,
        picker: &mut Picker,
        chain: &mut Vec<String>,
        out: &mut String,
    ) -> Result<()> {
        match picker {
            Picker::Random(state) => {
                let option = &options[weighted(options, unit(state))];
                self.read(&option.items, picker, chain, out)
            }
            Picker::Number(number) => {
                let (mut here, later) = (*number / rest, *number % rest);
                for option in options {
                    let ways = self.count(&option.items, chain)?;
                    if here < ways {
                        self.read(&option.items, &mut Picker::Number(here), chain, out)?;
                        break;
                    }
                    here -= ways;
                }
                *picker = Picker::Number(later);
                Ok(())
            }
        }
    }
}

/// A number from 0 to below 1 (splitmix64), the same on every machine and in every version.
fn unit(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 11) as f64 / (1_u64 << 53) as f64
}

fn weighted(options: &[ChoiceOption], unit: f64) -> usize {
    let total: f64 = options.iter().map(|option| option.weight).sum();
    let mut left = unit * total;
    for (index, option) in options.iter().enumerate() {
        if left < option.weight {
            return index;
        }
        left -= option.weight;
    }
    options.len() - 1
}

/// Text and choices, left to right.
fn parse_items(text: &str, wildcards: bool, depth: usize) -> Result<Vec<Item>> {
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
                    .map(|options| (Item::Choice(options), close + 1)),
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

/// The closing brace of each opening one that has a `|` of its own. One pass, since braces that are only text may be
/// nested without end.
fn matching_braces(text: &str) -> HashMap<usize, usize> {
    let mut closes = HashMap::new();
    let mut open: Vec<(char, usize, bool)> = Vec::new();
    let mut escaped = false;
    for (at, char) in text.char_indices() {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' | '[' => open.push((char, at, false)),
            '|' => {
                if let Some((_, _, bar)) = open.last_mut() {
                    *bar = true;
                }
            }
            ']' if open.last().is_some_and(|top| top.0 == '[') => drop(open.pop()),
            '}' => {
                if let Some(place) = open.iter().rposition(|top| top.0 == '{') {
                    let (_, start, bar) = open[place];
                    open.truncate(place);
                    if bar {
                        closes.insert(start, at);
                    }
                }
            }
            _ => {}
        }
    }
    closes
}

/// The options of what stands between braces; `None` where it is no choice.
fn parse_choice(inner: &str, wildcards: bool, depth: usize) -> Result<Option<Vec<ChoiceOption>>> {
    let bars = bars_of(inner);
    if bars.is_empty() {
        return Ok(None);
    }
    if inner.contains("$$") {
        return Err(Error::unsupported(format!(
            "{:?} takes several options at once, which is not supported",
            shortened(&format!("{{{inner}}}"))
        )));
    }
    let mut options = Vec::with_capacity(bars.len() + 1);
    let mut start = 0;
    for bar in bars.into_iter().chain([inner.len()]) {
        options.push(parse_option(&inner[start..bar], wildcards, depth + 1)?);
        start = bar + 1;
    }
    if options.iter().all(|option| option.weight <= 0.0) {
        return Err(Error::invalid(format!(
            "every option of {:?} has the weight 0",
            shortened(&format!("{{{inner}}}"))
        )));
    }
    Ok(Some(options))
}

/// The places of the `|` that part options: neither escaped nor inside other brackets.
fn bars_of(inner: &str) -> Vec<usize> {
    let mut bars = Vec::new();
    let mut depth = 0_usize;
    let mut escaped = false;
    for (at, char) in inner.char_indices() {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => bars.push(at),
            _ => {}
        }
    }
    bars
}

fn parse_option(text: &str, wildcards: bool, depth: usize) -> Result<ChoiceOption> {
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
