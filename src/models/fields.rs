//! Reading a component's `config.json` key by key, so that every error names file, key, finding and expectation.
//!
//! Derived deserialisation would be shorter, but its messages name neither the file nor what this crate can do, and
//! it ignores unknown values where a refusal is wanted. A key set to `null` counts as absent, as in the Python
//! packages, except where [`Fields::present`] is asked.

use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Largest number of channels, tokens or features a configuration may ask for (no published model exceeds 49408).
pub(crate) const MAX_EXTENT: usize = 1 << 20;

/// Most blocks, or layers of one block, a configuration may ask for (no published model exceeds 32).
pub(crate) const MAX_LAYERS: usize = 128;

/// The keys of one `config.json`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    component: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// Opens the configuration of `component` ("unet", "vae", ...).
    pub(crate) fn new(component: &'a str, config: &'a Value) -> Result<Self> {
        let map = config.as_object().ok_or_else(|| {
            Error::malformed(format!(
                "{component}/config.json: found {}, expected an object",
                shown(config)
            ))
        })?;
        Ok(Self { component, map })
    }

    /// The object under `key`, if there is one.
    pub(crate) fn nested(&self, key: &str) -> Option<Self> {
        let map = self.map.get(key)?.as_object()?;
        Some(Self { map, ..*self })
    }

    /// The raw value of `key`; `Some(Value::Null)` when it is set to `null`.
    pub(crate) fn present(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key)
    }

    /// The value of `key`, `None` when it is absent or `null`. `expected` says in words what it should be.
    pub(crate) fn optional<T: DeserializeOwned>(
        &self,
        key: &str,
        expected: &str,
    ) -> Result<Option<T>> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::deserialize(value)
                .map(Some)
                .map_err(|_| self.wrong(key, expected)),
        }
    }

    /// The value of `key`, or `default`.
    pub(crate) fn or<T: DeserializeOwned>(
        &self,
        key: &str,
        default: T,
        expected: &str,
    ) -> Result<T> {
        Ok(self.optional(key, expected)?.unwrap_or(default))
    }

    /// A switch, or `default`.
    pub(crate) fn switch(&self, key: &str, default: bool) -> Result<bool> {
        self.or(key, default, "true or false")
    }

    /// A finite number, or `default`.
    pub(crate) fn number(&self, key: &str, default: f64) -> Result<f64> {
        self.or(key, default, "a number")
    }

    /// A number above 0, or `default`.
    pub(crate) fn positive(&self, key: &str, default: f64) -> Result<f64> {
        let value = self.number(key, default)?;
        if value > 0.0 {
            return Ok(value);
        }
        Err(self.wrong(key, "a number above 0"))
    }

    /// A count of at least 1 within [`MAX_EXTENT`], or `default`.
    pub(crate) fn extent(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.optional_extent(key)?.unwrap_or(default))
    }

    /// A count of at least 1 within [`MAX_EXTENT`], if given.
    pub(crate) fn optional_extent(&self, key: &str) -> Result<Option<usize>> {
        let expected = "a whole number from 1 to 1048576";
        match self.optional::<usize>(key, expected)? {
            Some(0) => Err(self.wrong(key, expected)),
            Some(value) if value > MAX_EXTENT => Err(self.wrong(key, expected)),
            value => Ok(value),
        }
    }

    /// A list of block widths: 1 to [`MAX_LAYERS`] of them, each a valid extent.
    pub(crate) fn extents(&self, key: &str, default: &[usize]) -> Result<Vec<usize>> {
        let expected = "a list of 1 to 128 whole numbers above 0";
        let list = self.or(key, default.to_vec(), expected)?;
        let valid = (1..=MAX_LAYERS).contains(&list.len())
            && list.iter().all(|extent| (1..=MAX_EXTENT).contains(extent));
        if valid {
            return Ok(list);
        }
        Err(self.wrong(key, expected))
    }

    /// One value a block: a list of `blocks` values, or a single one that holds for all.
    pub(crate) fn per_block<T: DeserializeOwned + Clone>(
        &self,
        key: &str,
        default: T,
        blocks: usize,
    ) -> Result<Vec<T>> {
        let value = match self.map.get(key) {
            None | Some(Value::Null) => return Ok(vec![default; blocks]),
            Some(value) => value,
        };
        let expected = format!("one value, or a list of {blocks}, one for each block");
        let list = if value.is_array() {
            Vec::<T>::deserialize(value).ok()
        } else {
            T::deserialize(value)
                .ok()
                .map(|single| vec![single; blocks])
        };
        match list {
            Some(list) if list.len() == blocks => Ok(list),
            _ => Err(self.wrong(key, &expected)),
        }
    }

    /// Refuses a key that is set to anything but one of `supported`; absent and `null` pass.
    pub(crate) fn only<const N: usize>(&self, key: &str, supported: &[Value; N]) -> Result<()> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(()),
            Some(found) if supported.iter().any(|value| same(found, value)) => Ok(()),
            Some(_) => {
                let supported: Vec<String> = supported.iter().map(shown).collect();
                let expected = if supported.is_empty() {
                    "null".to_owned()
                } else {
                    supported.join(" or ")
                };
                Err(self.refused(key, &expected))
            }
        }
    }

    /// The error for a value that makes no sense.
    pub(crate) fn wrong(&self, key: &str, expected: &str) -> Error {
        Error::malformed(self.facts(key, expected))
    }

    /// The error for a value that makes sense but is not supported.
    pub(crate) fn refused(&self, key: &str, expected: &str) -> Error {
        Error::unsupported(self.facts(key, expected))
            .with_hint("this kind of model is not supported by this version")
    }

    fn facts(&self, key: &str, expected: &str) -> String {
        let found = self.map.get(key).map_or("absent".to_owned(), shown);
        format!(
            "{}/config.json: `{key}` is {found}, expected {expected}",
            self.component
        )
    }
}

/// Equality that takes 1 and 1.0 for the same number, as Python does.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b).is_eq(),
        _ => a == b,
    }
}

/// A value as JSON, cut where it would fill the screen.
fn shown(value: &Value) -> String {
    let mut text = value.to_string();
    if let Some((cut, _)) = text.char_indices().nth(80) {
        text.truncate(cut);
        text.push_str("...");
    }
    text
}
