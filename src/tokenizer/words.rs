//! Normalisation of a prompt and its split into words.
//!
//! Follows the normaliser and pre-tokenizer of transformers' `CLIPTokenizer`: NFC, runs of white space to one
//! blank, lower case character by character (so a final capital sigma becomes the medial small one); then
//! words by one pattern. transformers splits each word once more by GPT-2's pattern; for all words but the
//! literal special tokens that second split changes nothing, so it is written out for those two alone.

use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization_alignments::UnicodeNormalization;

/// CLIP's words. Letters are those of Unicode 16, which the reference's pattern library knows.
static WORD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?<special><\|(?:startoftext|endoftext)\|>)|'s|'t|'re|'ve|'m|'ll|'d",
        r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    ))
    .expect("the pattern is valid; this is a bug")
});

/// NFC, white space to single blanks, lower case.
pub(super) fn normalise(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut blank = false;
    for (char, _) in text.nfc() {
        if char.is_whitespace() {
            if !blank {
                out.push(' ');
            }
            blank = true;
        } else {
            out.extend(char.to_lowercase());
            blank = false;
        }
    }
    out
}

/// The words of a normalised text, in order, white space left out.
pub(super) fn split(text: &str) -> impl Iterator<Item = &str> {
    WORD.captures_iter(text).flat_map(|found| {
        let word = found.get(0).map_or("", |word| word.as_str());
        let parts = match found.name("special") {
            Some(_) => [
                &word[..2],
                &word[2..word.len() - 2],
                &word[word.len() - 2..],
            ],
            None => [word, "", ""],
        };
        parts.into_iter().filter(|part| !part.is_empty())
    })
}
