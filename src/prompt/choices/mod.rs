//! Choices made before anything else is read: `{a|b|c}` and `__name__`.
//!
//! A choice takes one of its options, a wildcard one line of `name.txt` in the user's folder; both may hold further
//! choices. `2::a` makes an option twice as likely, and `{2$$a|b|c}` takes two. Braces without a `|` are text, as is a `|` inside `[ ]`, which is the
//! webui's alternation. What was chosen is what the picture records, so that it can be made again without the folder.

mod parse;
mod several;
mod wildcards;

use std::collections::HashMap;
use std::rc::Rc;

use super::attention::shortened;
use super::parts::{check_length, without_comments};
use crate::error::{Error, ErrorKind, Result};
use parse::{Choice, ChoiceOption, Item, parse_items};

use several::Several;

pub use wildcards::Wildcards;

/// Deepest nesting of choices and wildcards.
const MAX_DEPTH: usize = 40;
/// Longest text that choices may grow to, in bytes.
const MAX_GROWN_BYTES: usize = 1 << 20;

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
    /// For choices nested too deeply, or of more options at once than there is a use for.
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
                Item::Choice(choice) => self.count_choice(choice, chain)?,
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

    fn count_choice(&mut self, choice: &Choice, chain: &mut Vec<String>) -> Result<u128> {
        let Some(several) = &choice.several else {
            return self.count_options(&choice.options, chain);
        };
        self.with_list(&choice.options, chain, |reader, options, chain| {
            several.combinations(&reader.ways(options, chain)?)
        })
    }

    /// Calls `then` with the list: where it is a wildcard alone, that wildcard's.
    fn with_list<T>(
        &mut self,
        options: &[ChoiceOption],
        chain: &mut Vec<String>,
        then: impl FnOnce(&mut Self, &[ChoiceOption], &mut Vec<String>) -> Result<T>,
    ) -> Result<T> {
        let [ChoiceOption { items, .. }] = options else {
            return then(self, options, chain);
        };
        let [Item::Wildcard(name)] = items.as_slice() else {
            return then(self, options, chain);
        };
        let lines = self.options(name, chain)?;
        chain.push(name.clone());
        let result = then(self, &lines, chain);
        chain.pop();
        result
    }

    /// In how many ways each of `options` can be read.
    fn ways(&mut self, options: &[ChoiceOption], chain: &mut Vec<String>) -> Result<Vec<u128>> {
        options
            .iter()
            .map(|option| self.count(&option.items, chain))
            .collect()
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
                Item::Choice(choice) => match &choice.several {
                    None => self.take(&choice.options, rest, picker, chain, out)?,
                    Some(several) => {
                        self.with_list(&choice.options, chain, |reader, options, chain| {
                            reader.take_several((several, options), rest, picker, chain, out)
                        })?;
                    }
                },
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

impl Reader<'_> {
    /// Takes several of a list, joined; what follows them can be read in `rest` ways.
    fn take_several(
        &mut self,
        (several, options): (&Several, &[ChoiceOption]),
        rest: u128,
        picker: &mut Picker,
        chain: &mut Vec<String>,
        out: &mut String,
    ) -> Result<()> {
        let joiner = |place: usize| {
            if place > 0 {
                several.joiner.as_str()
            } else {
                ""
            }
        };
        match picker {
            Picker::Random(state) => {
                for (place, index) in several.random(options, state).into_iter().enumerate() {
                    out.push_str(joiner(place));
                    self.read(&options[index].items, picker, chain, out)?;
                }
            }
            Picker::Number(number) => {
                let (here, later) = (*number / rest, *number % rest);
                let taken = several.numbered(&self.ways(options, chain)?, here)?;
                for (place, (index, reading)) in taken.into_iter().enumerate() {
                    out.push_str(joiner(place));
                    let own = &mut Picker::Number(reading);
                    self.read(&options[index].items, own, chain, out)?;
                }
                *picker = Picker::Number(later);
            }
        }
        Ok(())
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
