//! Methods and their settings as one line of text: `name:key=value,key=value`.
//!
//! The same text is what users type and what pictures record.

use std::str::FromStr;

use crate::error::{Error, Result};

/// Such a text, taken apart.
pub(super) struct Settings<'a> {
    pub(super) name: &'a str,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Settings<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        Self::of(name.trim(), rest)
    }

    /// The settings alone, of what is called `name`.
    pub(super) fn of(name: &'a str, text: &'a str) -> Result<Self> {
        let mut pairs = Vec::new();
        for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(Error::invalid(format!(
                    "found {:?} in {text:?}, expected a setting such as key=value",
                    pair.trim()
                )));
            };
            pairs.push((key.trim(), value.trim()));
        }
        Ok(Self { name, pairs })
    }

    fn take(&mut self, key: &str) -> Option<&'a str> {
        let at = self.pairs.iter().position(|(found, _)| *found == key)?;
        Some(self.pairs.remove(at).1)
    }

    /// Puts the number of `key` into `place` where there is one.
    pub(super) fn number(&mut self, key: &str, place: &mut f64) -> Result<()> {
        if let Some(value) = self.take(key) {
            *place = value
                .parse()
                .map_err(|_| Error::invalid(format!("{key} is {value:?}, expected a number")))?;
        }
        Ok(())
    }

    /// Puts the whole number of `key` into `place` where there is one.
    pub(super) fn count(&mut self, key: &str, place: &mut usize) -> Result<()> {
        if let Some(value) = self.take(key) {
            *place = value.parse().map_err(|_| {
                Error::invalid(format!("{key} is {value:?}, expected a whole number"))
            })?;
        }
        Ok(())
    }

    /// Puts what the text of `key` says into `place` where there is one.
    pub(super) fn parsed<T: FromStr<Err = Error>>(
        &mut self,
        key: &str,
        place: &mut T,
    ) -> Result<()> {
        if let Some(value) = self.take(key) {
            *place = value.parse()?;
        }
        Ok(())
    }

    /// Puts what `names` calls the word of `key` into `place` where there is one.
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &str,
        place: &mut T,
        names: &[(&str, T)],
    ) -> Result<()> {
        let Some(value) = self.take(key) else {
            return Ok(());
        };
        let found = names
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(value));
        let Some((_, meaning)) = found else {
            let known: Vec<_> = names.iter().map(|(name, _)| *name).collect();
            return Err(Error::invalid(format!(
                "{key} is {value:?}, expected one of {}",
                known.join(", ")
            )));
        };
        *place = *meaning;
        Ok(())
    }

    /// Refuses what nobody took.
    pub(super) fn finish(self, keys: &[&str]) -> Result<()> {
        let Some((key, _)) = self.pairs.first() else {
            return Ok(());
        };
        let message = if keys.contains(key) {
            format!("{} has {key} twice", self.name)
        } else {
            format!("{} has no setting {key:?}", self.name)
        };
        Err(Error::invalid(message).with_hint(match keys {
            [] => "it has no settings".to_owned(),
            _ => format!("its settings are {}", keys.join(", ")),
        }))
    }
}

/// What `names` calls `value`.
pub(super) fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> &'static str {
    let row = names.iter().find(|(_, known)| known == value);
    row.map_or("", |(name, _)| name)
}
