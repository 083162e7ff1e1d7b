//! Several options of one list at once: `{2$$a|b|c}` and `{1-2$$ and $$a|b}`, as sd-dynamic-prompts documents them.

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use regex::Regex;

use super::parse::ChoiceOption;
use super::unit;
use crate::error::{Error, Result};
use crate::prompt::attention::shortened;

/// Most options that are taken at once.
const MAX_TAKEN: usize = 32;
/// Most steps in counting the orders of a list: its length times how many are taken. A prompt may have thousands of lists.
const MAX_STEPS: usize = 4096;

/// How many, and what is between them where that is said.
static BOUNDS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*(?:([0-9]+)|([0-9]*)-([0-9]*))\$\$(?:([^$|{}]*)\$\$)?")
        .expect("the pattern is valid; this is a bug")
});

/// How many options are taken, in any order and none of them twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Several {
    /// At least; a list of fewer gives all it has.
    least: usize,
    /// At most; `None` is all.
    most: Option<usize>,
    /// What stands between them.
    pub(super) joiner: String,
}

impl Several {
    /// The number in front of a list, and how long it is; `None` where there is none.
    ///
    /// # Errors
    /// When it is beyond all use.
    pub(super) fn parse(inner: &str) -> Result<Option<(Self, usize)>> {
        let Some(found) = BOUNDS.captures(inner) else {
            return Ok(None);
        };
        let whole = found.get(0).map_or("", |whole| whole.as_str());
        let bound = |index| -> Result<Option<usize>> {
            let Some(digits) = found.get(index).filter(|digits| !digits.is_empty()) else {
                return Ok(None);
            };
            let number = digits.as_str().parse::<usize>().ok();
            let number = number.filter(|&number| number <= MAX_TAKEN);
            number.map(Some).ok_or_else(|| {
                Error::invalid(format!(
                    "{:?} takes {} options at once, expected at most {MAX_TAKEN}",
                    shortened(&format!("{{{inner}}}")),
                    shortened(digits.as_str())
                ))
            })
        };
        let (least, most) = match bound(1)? {
            Some(exact) => (exact, Some(exact)),
            None => (bound(2)?.unwrap_or(1), bound(3)?),
        };
        // The larger number is the upper one, in whichever order they are typed.
        let (least, most) = match most {
            Some(most) => (least.min(most), Some(most.max(least))),
            None => (least, None),
        };
        let joiner = found.get(4).map_or(",", |joiner| joiner.as_str());
        let several = Self {
            least,
            most,
            joiner: joiner.to_owned(),
        };
        Ok(Some((several, whole.len())))
    }

    /// How many of a list of `count` are taken.
    fn range(&self, count: usize) -> RangeInclusive<usize> {
        let count = count.min(MAX_TAKEN);
        self.least.min(count)..=self.most.unwrap_or(count).min(count)
    }

    fn check(&self, ways: &[u128]) -> Result<()> {
        let most = *self.range(ways.len()).end();
        if ways.len() * most.max(1) <= MAX_STEPS {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{most} of a list of {} options have more combinations than can be counted, expected at most {} options",
            ways.len(),
            MAX_STEPS / most.max(1)
        ))
        .with_hint("let the seed choose, without combinations"))
    }

    /// Options by chance, in the order in which they are drawn.
    pub(super) fn random(&self, options: &[ChoiceOption], state: &mut u64) -> Vec<usize> {
        // What has the weight 0 is never taken.
        let mut left: Vec<usize> = (0..options.len())
            .filter(|&index| options[index].weight > 0.0)
            .collect();
        let range = self.range(left.len());
        let span = (range.end() - range.start() + 1) as f64;
        let count = range.start() + (unit(state) * span) as usize;
        let mut taken = Vec::with_capacity(count);
        for _ in 0..count {
            let total: f64 = left.iter().map(|&index| options[index].weight).sum();
            let mut mark = unit(state) * total;
            let place = left.iter().position(|&index| {
                mark -= options[index].weight;
                mark < 0.0
            });
            let place = place.unwrap_or(left.len().saturating_sub(1));
            if place < left.len() {
                taken.push(left.remove(place));
            }
        }
        taken
    }

    /// In how many ways options with `ways` readings each can be taken, their order counting.
    ///
    /// # Errors
    /// When the list is too long to be counted through.
    pub(super) fn combinations(&self, ways: &[u128]) -> Result<u128> {
        self.check(ways)?;
        let counts = self.range(ways.len()).map(|count| orders(ways, count));
        Ok(counts.fold(0, u128::saturating_add))
    }

    /// Which options combination `number` takes, and which reading of each. Fewer come before more, and the last one
    /// changes fastest.
    ///
    /// # Errors
    /// As [`combinations`](Self::combinations).
    pub(super) fn numbered(&self, ways: &[u128], mut number: u128) -> Result<Vec<(usize, u128)>> {
        self.check(ways)?;
        let mut left: Vec<usize> = (0..ways.len()).collect();
        let mut taken = Vec::new();
        let mut wanted = 0;
        for count in self.range(ways.len()) {
            let all = orders(ways, count);
            wanted = count;
            if number < all {
                break;
            }
            number -= all;
        }
        while taken.len() < wanted {
            let mut rest = 1;
            let mut place = 0;
            for (candidate, &index) in left.iter().enumerate() {
                let others: Vec<u128> = left
                    .iter()
                    .filter(|&&other| other != index)
                    .map(|&other| ways[other])
                    .collect();
                rest = orders(&others, wanted - taken.len() - 1).max(1);
                place = candidate;
                let here = rest.saturating_mul(ways[index]);
                if number < here || candidate + 1 == left.len() {
                    break;
                }
                number -= here;
            }
            taken.push((left.remove(place), number / rest));
            number %= rest;
        }
        Ok(taken)
    }
}

/// In how many ways `count` of them can be taken one after the other: `count!` times the sum of the products of all
/// sets of that size.
fn orders(ways: &[u128], count: usize) -> u128 {
    let mut sums = vec![0_u128; count + 1];
    sums[0] = 1;
    for &own in ways {
        for size in (1..=count).rev() {
            let more = sums[size - 1].saturating_mul(own);
            sums[size] = sums[size].saturating_add(more);
        }
    }
    let factorial = (1..=count as u128).fold(1_u128, u128::saturating_mul);
    sums[count].saturating_mul(factorial)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(inner: &str) -> (usize, Option<usize>, String, usize) {
        let (several, length) = Several::parse(inner).unwrap().unwrap();
        (several.least, several.most, several.joiner, length)
    }

    #[test]
    fn bounds_and_joiners_are_read() {
        assert_eq!(parse("2$$a|b"), (2, Some(2), ",".to_owned(), 3));
        assert_eq!(
            parse("1-2$$ and $$a|b"),
            (1, Some(2), " and ".to_owned(), 12)
        );
        assert_eq!(parse("-2$$a"), (1, Some(2), ",".to_owned(), 4));
        assert_eq!(parse(" 2-$$$$a"), (2, None, String::new(), 7));
        assert_eq!(parse("3-1$$a"), (1, Some(3), ",".to_owned(), 5));
        assert_eq!(parse("0$$a"), (0, Some(0), ",".to_owned(), 3));
        for text in ["a$$b|c", "2$a", "$$a", "2::a", "a|2$$b"] {
            assert!(Several::parse(text).unwrap().is_none(), "{text}");
        }
        for text in ["33$$a", "1-99999999999999999999999$$a"] {
            let error = Several::parse(text).unwrap_err();
            assert!(error.message().contains("at most 32"), "{error}");
        }
    }

    #[test]
    fn orders_are_counted_with_their_readings() {
        assert_eq!(orders(&[1, 1, 1], 0), 1);
        assert_eq!(orders(&[1, 1, 1], 2), 6);
        // 2 * (2 * 3 + 2 * 5 + 3 * 5)
        assert_eq!(orders(&[2, 3, 5], 2), 62);
        assert_eq!(orders(&[2], 2), 0);
        assert_eq!(orders(&[u128::MAX, u128::MAX], 2), u128::MAX);
    }

    #[test]
    fn every_number_takes_another_combination() {
        let (several, _) = Several::parse("1-2$$").unwrap().unwrap();
        let ways = [1, 2, 1];
        let count = several.combinations(&ways).unwrap();
        assert_eq!(count, 4 + 2 * (2 + 1 + 2));
        let all: std::collections::BTreeSet<_> = (0..count)
            .map(|number| several.numbered(&ways, number).unwrap())
            .collect();
        assert_eq!(all.len() as u128, count);
        assert!(several.combinations(&vec![1; 2048]).is_ok());
        let error = several.combinations(&vec![1; 2049]).unwrap_err();
        assert!(error.message().contains("at most 2048"), "{error}");
        // Beyond what can be counted it still ends.
        let (all, _) = Several::parse("32$$").unwrap().unwrap();
        assert_eq!(all.numbered(&[9; 128], 7).unwrap().len(), 32);
    }
}
