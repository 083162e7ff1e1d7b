//! Places in a prompt, and texts that remember where their parts came from.

use std::fmt;
use std::ops::Range;

/// A range of bytes of the prompt as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {} to {}", self.start, self.end)
    }
}

/// Something about a prompt that the user should know and that stops nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub span: Span,
    /// What, in lower case and without a full stop.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.span)
    }
}

/// A prompt with parts taken out, whose places still lead back to what was typed.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) text: String,
    /// Where each unbroken piece starts, here and in the typed text; ascending.
    pieces: Vec<(usize, usize)>,
    typed_len: usize,
}

impl Source {
    pub(super) fn new(typed: &str) -> Self {
        Self {
            text: typed.to_owned(),
            pieces: vec![(0, 0)],
            typed_len: typed.len(),
        }
    }

    /// The same text with each of `ranges` (ascending, apart) replaced by `replacement`.
    pub(super) fn replace(&self, ranges: &[Range<usize>], replacement: &str) -> Self {
        let mut text = String::with_capacity(self.text.len());
        let mut pieces = Vec::new();
        let mut from = 0;
        for range in ranges {
            self.copy(from..range.start, &mut text, &mut pieces);
            if !replacement.is_empty() {
                pieces.push((text.len(), self.typed_at(range.start)));
                text.push_str(replacement);
            }
            from = range.end;
        }
        self.copy(from..self.text.len(), &mut text, &mut pieces);
        Self {
            text,
            pieces,
            typed_len: self.typed_len,
        }
    }

    fn copy(&self, range: Range<usize>, text: &mut String, pieces: &mut Vec<(usize, usize)>) {
        pieces.push((text.len(), self.typed_at(range.start)));
        let inside = self.pieces.partition_point(|piece| piece.0 <= range.start);
        for &(here, typed) in &self.pieces[inside..] {
            if here >= range.end {
                break;
            }
            pieces.push((text.len() + here - range.start, typed));
        }
        text.push_str(&self.text[range]);
    }

    /// The place in the typed text of byte `at` of this one.
    pub(super) fn typed_at(&self, at: usize) -> usize {
        let after = self.pieces.partition_point(|piece| piece.0 <= at);
        let (here, typed) = self.pieces[after.saturating_sub(1)];
        (typed + (at - here)).min(self.typed_len)
    }

    pub(super) fn typed(&self, range: &Range<usize>) -> Span {
        let start = self.typed_at(range.start);
        let end = match range.end.checked_sub(1) {
            Some(last) if range.end > range.start => self.typed_at(last) + 1,
            _ => start,
        };
        Span {
            start,
            end: end.max(start),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lead_back_through_two_replacements() {
        let typed = "one #two\nthree <x:1> four";
        let ranges = vec![4..8, 8..9];
        let source = Source::new(typed).replace(&ranges, "\n");
        let place = source.text.find("<x").unwrap();
        let source = source.replace(std::slice::from_ref(&(place..place + 5)), "");
        assert_eq!(source.text, "one \n\nthree  four");
        for word in ["one", "three", "four"] {
            let here = source.text.find(word).unwrap();
            let span = source.typed(&(here..here + word.len()));
            assert_eq!(&typed[span.start..span.end], word);
        }
    }
}
