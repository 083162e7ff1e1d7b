//! The two prompts of each picture of a call, with its choices made.

use super::choices::{Template, Wildcards};
use super::options::{Choices, PromptOptions, PromptSyntax};
use crate::error::Result;

/// Tells the negative prompt's choices from the prompt's, so that equal lists do not choose alike.
const NEGATIVE: u64 = 0x6e65_6761_7469_7665;

/// Both prompts with their choices open.
#[derive(Debug)]
pub struct Chooser {
    typed: (String, Option<String>),
    prompt: Template,
    negative: Option<Template>,
    wildcards: Option<Wildcards>,
    choices: Choices,
    constant: bool,
}

impl Chooser {
    /// Reads both prompts as `options` say.
    ///
    /// # Errors
    /// When the folder of wildcards is not there, or a choice is not supported or nested beyond all use.
    pub fn new(prompt: &str, negative: Option<&str>, options: &PromptOptions) -> Result<Self> {
        let plain = options.syntax == PromptSyntax::Plain;
        let wildcards = match &options.wildcards {
            Some(folder) if !plain => Some(Wildcards::open(folder)?),
            _ => None,
        };
        let parse = |text: &str| Template::parse(if plain { "" } else { text }, wildcards.as_ref());
        let parsed = parse(prompt).map_err(|error| error.context("prompt"))?;
        let negative_parsed = negative
            .map(parse)
            .transpose()
            .map_err(|error| error.context("negative prompt"))?;
        Ok(Self {
            typed: (prompt.to_owned(), negative.map(str::to_owned)),
            constant: parsed.is_constant()
                && negative_parsed.as_ref().is_none_or(Template::is_constant),
            prompt: parsed,
            negative: negative_parsed,
            wildcards,
            choices: options.choices,
        })
    }

    /// Whether every picture gets the prompts as typed.
    pub fn is_constant(&self) -> bool {
        self.constant
    }

    /// In how many ways both prompts can be read.
    ///
    /// # Errors
    /// For wildcards that are not there, cannot be read or include themselves.
    pub fn combinations(&mut self) -> Result<u128> {
        let (own, negative) = self.counts()?;
        Ok(own.saturating_mul(negative))
    }

    fn counts(&mut self) -> Result<(u128, u128)> {
        let own = self.prompt.combinations(self.wildcards.as_mut())?;
        let negative = match &self.negative {
            Some(negative) => negative.combinations(self.wildcards.as_mut())?,
            None => 1,
        };
        Ok((own, negative))
    }

    /// The prompts of picture `index` of a batch, whose seed is `seed`.
    ///
    /// # Errors
    /// As [`combinations`](Self::combinations), and when a text grows beyond all use.
    pub fn picture(&mut self, index: usize, seed: u64) -> Result<(String, Option<String>)> {
        if self.constant {
            return Ok(self.typed.clone());
        }
        let numbers = match self.choices {
            Choices::Random => None,
            Choices::Combinatorial => {
                let (own, negative) = self.counts()?;
                let index = index as u128 % own.saturating_mul(negative).max(1);
                Some((index % own.max(1), index / own.max(1)))
            }
        };
        let wildcards = self.wildcards.as_mut();
        let prompt = match numbers {
            None => self.prompt.random(seed, wildcards)?,
            Some((number, _)) => self.prompt.numbered(number, wildcards)?,
        };
        let wildcards = self.wildcards.as_mut();
        let negative = match (&self.negative, numbers) {
            (None, _) => None,
            (Some(text), None) => Some(text.random(seed ^ NEGATIVE, wildcards)?),
            (Some(text), Some((_, number))) => Some(text.numbered(number, wildcards)?),
        };
        Ok((prompt, negative))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn options(folder: Option<&Path>, choices: Choices) -> PromptOptions {
        PromptOptions {
            wildcards: folder.map(Path::to_owned),
            choices,
            ..PromptOptions::default()
        }
    }

    fn all(
        prompt: &str,
        negative: Option<&str>,
        folder: Option<&Path>,
    ) -> Vec<(String, Option<String>)> {
        let options = options(folder, Choices::Combinatorial);
        let mut chooser = Chooser::new(prompt, negative, &options).unwrap();
        let count = chooser.combinations().unwrap() as usize;
        (0..count)
            .map(|index| chooser.picture(index, 0).unwrap())
            .collect()
    }

    fn prompts(prompt: &str) -> Vec<String> {
        all(prompt, None, None)
            .into_iter()
            .map(|(prompt, _)| prompt)
            .collect()
    }

    #[test]
    fn every_combination_comes_once_and_the_last_choice_first() {
        assert_eq!(
            prompts("{a|b} {c|d|}"),
            ["a c", "a d", "a ", "b c", "b d", "b "]
        );
        assert_eq!(prompts("{a{1|2}|b}"), ["a1", "a2", "b"]);
        assert_eq!(prompts("{[x|y]|(b:1.2)}"), ["[x|y]", "(b:1.2)"]);
        assert_eq!(prompts("{3::a|b}"), ["a", "b"]);
        let both = all("{a|b}", Some("{c|d}"), None);
        let both: Vec<_> = both
            .iter()
            .map(|(a, b)| format!("{a}{}", b.as_deref().unwrap()))
            .collect();
        assert_eq!(both, ["ac", "bc", "ad", "bd"]);
    }

    #[test]
    fn several_options_come_in_every_order() {
        assert_eq!(
            prompts("{2$$a|b|c}"),
            ["a,b", "a,c", "b,a", "b,c", "c,a", "c,b"]
        );
        assert_eq!(prompts("x {1-2$$ and $$a|b} {1|2}").len(), 2 * (2 + 2),);
        assert_eq!(
            prompts("{-2$$ and $$a|b}"),
            ["a", "b", "a and b", "b and a"]
        );
        assert_eq!(prompts("{2$$a|{b|c}}"), ["a,b", "a,c", "b,a", "c,a"]);
        assert_eq!(prompts("{5$$; $$a|b}"), ["a; b", "b; a"]);
        assert_eq!(prompts("{0-1$$a}"), ["", "a"]);
        assert_eq!(prompts("{0.5::a|b}{1$$0.2::c|d}"), ["ac", "ad", "bc", "bd"]);
    }

    #[test]
    fn several_by_chance_are_different_and_follow_seed_and_weights() {
        let typed = "{2$$ $$9::a|b|1::c|0::d}";
        let mut chooser = Chooser::new(typed, None, &PromptOptions::default()).unwrap();
        let mut drawn = |seed| chooser.picture(0, seed).unwrap().0;
        let all: Vec<String> = (0..400).map(&mut drawn).collect();
        assert_eq!(all, (0..400).map(&mut drawn).collect::<Vec<_>>());
        let seen: BTreeSet<_> = all.iter().map(String::as_str).collect();
        assert_eq!(
            seen,
            BTreeSet::from(["a b", "a c", "b a", "b c", "c a", "c b"])
        );
        let with_a = all.iter().filter(|text| text.contains('a')).count();
        // 1 - (1/11 * 1/10 + 1/11 * 1/10) of 400 is 393.
        assert!((380..400).contains(&with_a), "{with_a}");
        let mut one_or_two = Chooser::new("{1-2$$a|b}", None, &PromptOptions::default()).unwrap();
        let seen: BTreeSet<_> = (0..100)
            .map(|seed| one_or_two.picture(0, seed).unwrap().0)
            .collect();
        assert_eq!(seen.len(), 4, "{seen:?}");
    }

    #[test]
    fn what_is_no_choice_stays_as_typed() {
        for text in [
            "{a}",
            "{}",
            "{",
            "}",
            "a | b",
            "\\{a|b\\}",
            "{a",
            "__x__",
            "{[a|b]}",
            "# {a|b}",
        ] {
            let mut chooser = Chooser::new(text, None, &PromptOptions::default()).unwrap();
            assert!(chooser.is_constant(), "{text:?}");
            assert_eq!(chooser.picture(0, 1).unwrap().0, text);
        }
    }

    #[test]
    fn chance_follows_the_seed_and_the_weights() {
        let mut chooser =
            Chooser::new("{9::a|b|0::c}", Some("{a|b}"), &PromptOptions::default()).unwrap();
        let drawn: Vec<_> = (0..400)
            .map(|seed| chooser.picture(0, seed).unwrap())
            .collect();
        let again: Vec<_> = (0..400)
            .map(|seed| chooser.picture(3, seed).unwrap())
            .collect();
        assert_eq!(drawn, again);
        let common = drawn.iter().filter(|(prompt, _)| prompt == "a").count();
        assert!((320..400).contains(&common), "{common}");
        let seen: BTreeSet<_> = drawn.into_iter().collect();
        assert_eq!(seen.len(), 4, "{seen:?}");
    }

    #[test]
    fn wildcards_are_files_of_options() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("animals")).unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "colour.txt",
            "\u{feff}red\r\n# no colour\n\n{dark|light} blue\n",
        );
        write("animals/pet.txt", "cat, __colour__\ndog");
        let found: Vec<_> = all("a __animals/pet__", None, Some(folder.path()));
        let found: Vec<_> = found.iter().map(|(prompt, _)| prompt.as_str()).collect();
        let two = all("{2$$ & $$__colour__}", None, Some(folder.path()));
        assert_eq!(two.len(), 2 * 2);
        assert_eq!(two[0].0, "red & dark blue");
        assert_eq!(two[3].0, "light blue & red");
        assert_eq!(
            found,
            [
                "a cat, red",
                "a cat, dark blue",
                "a cat, light blue",
                "a dog"
            ]
        );
    }

    #[test]
    fn wildcards_that_leave_the_folder_loop_or_are_missing_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("cards");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(folder.path().join("secret.txt"), "secret").unwrap();
        std::fs::write(inner.join("a.txt"), "x __b__").unwrap();
        std::fs::write(inner.join("b.txt"), "__a__").unwrap();
        std::fs::write(inner.join("empty.txt"), "# nothing\n").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(folder.path().join("secret.txt"), inner.join("link.txt"))
            .unwrap();
        let cases = [
            ("__../secret__", "leaves its folder"),
            ("__/etc/passwd__", "leaves its folder"),
            ("__..\\secret__", "leaves its folder"),
            #[cfg(unix)]
            ("__link__", "leaves its folder"),
            ("__a__", "includes itself: a > b > a"),
            ("{1$$__a__}", "includes itself: a > b > a"),
            ("__emtpy__", "unknown wildcard"),
            ("__empty__", "no line to choose"),
        ];
        for (prompt, message) in cases {
            for choices in [Choices::Random, Choices::Combinatorial] {
                let options = options(Some(&inner), choices);
                let mut chooser = Chooser::new(prompt, None, &options).unwrap();
                let error = chooser.picture(0, 7).unwrap_err();
                assert!(error.message().contains(message), "{prompt}: {error}");
            }
        }
        let missing = options(Some(&folder.path().join("nowhere")), Choices::Random);
        assert!(Chooser::new("a", None, &missing).is_err());
    }

    #[test]
    fn choices_beyond_use_are_refused_soon() {
        let default = PromptOptions::default();
        let deep = "{a|".repeat(10_000) + "b" + &"}".repeat(10_000);
        assert!(Chooser::new(&deep, None, &default).is_err());
        assert!(Chooser::new("{33$$a|b}", None, &default).is_err());
        assert!(Chooser::new("{0::a|0::b}", None, &default).is_err());
        for text in ["{", "{}", "{a}", "[|", "{a|b} "] {
            let long = text.repeat((1 << 20) / text.len());
            let mut chooser = Chooser::new(&long, None, &default).unwrap();
            chooser.picture(0, 1).unwrap();
        }
        let list = format!("{{32$${}}}", "a|".repeat(127));
        let long = list.repeat((1 << 20) / list.len());
        for choices in [Choices::Random, Choices::Combinatorial] {
            let mut chooser = Chooser::new(&long, None, &options(None, choices)).unwrap();
            chooser.picture(3, 1).unwrap();
        }
        for (open, close) in [("[", "}"), ("{[}|", "}")] {
            let long = open.repeat(200_000) + &close.repeat(200_000);
            drop(Chooser::new(&long, None, &default));
        }
        let nested = "{".repeat(100_000) + &"}".repeat(100_000);
        assert!(Chooser::new(&nested, None, &default).unwrap().is_constant());
    }
}
