//! A prompt as typed to its parts: comments and networks out, `AND` between, each part a [`Tree`].

use std::fmt;
use std::sync::LazyLock;

use regex::Regex;

use super::attention::{self, shortened};
use super::span::{Source, Span, Warning};
use super::tree::{NodeKind, RefusalReason, Tree};
use crate::error::{Error, Result};

/// Longest prompt that is read, in bytes.
pub const MAX_PROMPT_BYTES: usize = 4 << 20;

/// Most parts that `AND` joins; each is a pass of the UNet at every step.
pub const MAX_PARTS: usize = 64;

/// A line that is nothing but a comment, then one behind other text: in this order, as the webui's comments script.
static COMMENTS: LazyLock<[Regex; 2]> = LazyLock::new(|| {
    [r"(?:^|\n)#[^\n]*(?:\n|$)", r"#[^\n]*(?:\n|$)"]
        .map(|pattern| Regex::new(pattern).expect("the pattern is valid; this is a bug"))
});
static NETWORK: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"<(\w+):([^>]+)>").expect("the pattern is valid; this is a bug"));
/// ComfyUI's name for an embedding; a blank or a bracket ends it.
static EMBEDDING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\bembedding:([^\s,:()\[\]{}<>|]+)").expect("the pattern is valid; this is a bug")
});
static AND: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\bAND\b").expect("the pattern is valid; this is a bug"));
static WEIGHT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(?s:(.*?))(?:\s*:\s*([-+]?(?:[0-9]+\.?|[0-9]*\.[0-9]+)))?\s*$")
        .expect("the pattern is valid; this is a bug")
});

/// Which of the two prompts a text is. `AND` and networks mean something in the first alone, as in the webui.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// What the picture shows.
    Positive,
    /// What it does not show.
    Negative,
}

/// A prompt taken apart. [`Display`](fmt::Display) prints a text that parses to the same parts.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Joined by `AND`; one where there is none.
    pub parts: Vec<Part>,
    /// `<lora:name:weight>` and its like.
    pub networks: Vec<Network>,
    /// `embedding:name`, which stay in the text.
    pub embeddings: Vec<Embedding>,
    /// Where comments were.
    pub comments: Vec<Span>,
    /// What the user should know.
    pub warnings: Vec<Warning>,
}

/// One of the texts that `AND` joins.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The text and its changes.
    pub tree: Tree,
    /// Its weight in the composition, where one was typed: the text behind the colon and its value.
    pub weight: Option<(String, f64)>,
}

impl Part {
    /// Its weight in the composition.
    pub fn weight(&self) -> f64 {
        self.weight.as_ref().map_or(1.0, |(_, value)| *value)
    }
}

/// A network that the prompt asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// `lora`, `lyco`, `hypernet` or another word.
    pub kind: String,
    /// Name and weights, separated by colons.
    pub arguments: Vec<String>,
    /// Where.
    pub span: Span,
}

/// An embedding that the prompt asks for, by ComfyUI's `embedding:name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedding {
    /// Name of its file.
    pub name: String,
    /// Where.
    pub span: Span,
}

impl fmt::Display for Embedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "embedding:{}", self.name)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}:{}>", self.kind, self.arguments.join(":"))
    }
}

impl fmt::Display for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for network in &self.networks {
            write!(f, "{network}")?;
        }
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                f.write_str(" AND")?;
            }
            write!(f, "{}", part.tree)?;
            if let Some((weight, _)) = &part.weight {
                write!(f, ":{weight}")?;
            }
        }
        Ok(())
    }
}

impl Prompt {
    /// Takes a prompt apart. Choices and wildcards are not looked at; see [`Template`](super::Template).
    ///
    /// # Errors
    /// For a weight such as `(a:1.2.3)`, nesting beyond all use and a network's tag inside another's, each with its place,
    /// and for more than [`MAX_PARTS`] parts or [`MAX_PROMPT_BYTES`].
    pub fn parse(typed: &str, role: Role) -> Result<Self> {
        check_length(typed)?;
        let mut prompt = Self {
            parts: Vec::new(),
            networks: Vec::new(),
            embeddings: Vec::new(),
            comments: Vec::new(),
            warnings: Vec::new(),
        };
        let (source, comments) = without_comments(typed);
        prompt.comments = comments;
        prompt.embeddings = embeddings(&source);
        match role {
            Role::Positive => {
                let source = prompt.take_networks(&source)?;
                prompt.take_parts(&source)?;
            }
            Role::Negative => {
                prompt.warn_of_literal_networks(&source);
                let tree = prompt.take_tree(&source, 0, source.text.len())?;
                prompt.parts.push(Part { tree, weight: None });
            }
        }
        prompt.warnings.sort_by_key(|warning| warning.span);
        Ok(prompt)
    }

    /// Refuses networks and embeddings, which cannot be applied yet.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) naming every one.
    pub fn refuse_networks(&self) -> Result<()> {
        let networks = self.networks.iter().map(|one| (one.to_string(), one.span));
        refuse("networks", networks)?;
        let embeddings = self
            .embeddings
            .iter()
            .map(|one| (one.to_string(), one.span));
        refuse("embeddings", embeddings)
    }

    fn take_networks(&mut self, source: &Source) -> Result<Source> {
        let mut ranges = Vec::new();
        for found in NETWORK.captures_iter(&source.text) {
            let (Some(whole), Some(kind), Some(rest)) = (found.get(0), found.get(1), found.get(2))
            else {
                continue;
            };
            ranges.push(whole.range());
            self.networks.push(Network {
                kind: kind.as_str().to_owned(),
                arguments: rest.as_str().split(':').map(str::to_owned).collect(),
                span: source.typed(&whole.range()),
            });
        }
        let source = source.replace(&ranges, "");
        if let Some(again) = NETWORK.find(&source.text) {
            return Err(Error::invalid(format!(
                "a network's tag lies inside another's ({})",
                source.typed(&again.range())
            )));
        }
        Ok(source)
    }

    fn warn_of_literal_networks(&mut self, source: &Source) {
        for found in NETWORK.find_iter(&source.text) {
            self.warnings.push(Warning {
                span: source.typed(&found.range()),
                message: format!(
                    "{} in the negative prompt is text, as in the webui",
                    shortened(found.as_str())
                ),
            });
        }
    }

    fn take_parts(&mut self, source: &Source) -> Result<()> {
        let mut bounds = Vec::new();
        let mut start = 0;
        for and in AND.find_iter(&source.text) {
            bounds.push(start..and.start());
            start = and.end();
        }
        bounds.push(start..source.text.len());
        if bounds.len() > MAX_PARTS {
            return Err(Error::invalid(format!(
                "the prompt joins {} parts by AND, expected at most {MAX_PARTS}",
                bounds.len()
            )));
        }
        let alone = bounds.len() == 1;
        for range in bounds {
            let (length, weight) = split_weight(&source.text[range.clone()]);
            if let Some((raw, _)) = weight.as_ref().filter(|(_, value)| !value.is_finite()) {
                return Err(Error::invalid(format!(
                    "the weight {:?} of a part is no number that can be held ({})",
                    shortened(raw),
                    source.typed(&(range.start + length..range.end))
                )));
            }
            if let Some((raw, _)) = weight.as_ref().filter(|_| alone) {
                self.warnings.push(Warning {
                    span: source.typed(&(range.start + length..range.end)),
                    message: format!(
                        "`:{}` at the end is the weight of the whole prompt, as in the webui",
                        raw.trim()
                    ),
                });
            }
            let tree = self.take_tree(source, range.start, length)?;
            self.parts.push(Part { tree, weight });
        }
        Ok(())
    }

    fn take_tree(&mut self, source: &Source, offset: usize, length: usize) -> Result<Tree> {
        let tree = Tree::parse(source, offset, length);
        let place = |range: &std::ops::Range<usize>| {
            source.typed(&(offset + range.start..offset + range.end))
        };
        let (oddities, fault) = attention::oddities(&source.text[offset..offset + length]);
        if let Some(fault) = fault {
            return Err(Error::invalid(format!(
                "{} ({})",
                fault.message,
                place(&fault.range)
            )));
        }
        self.warnings.extend(oddities.iter().map(|oddity| Warning {
            span: place(&oddity.range),
            message: oddity.message.clone(),
        }));
        if let Some(refusal) = tree.refusal.filter(|_| has_brackets(&tree)) {
            let why = match refusal.why {
                RefusalReason::StrayBar => "a `|` outside of `[a|b]`",
                RefusalReason::LoneBackslash => "a backslash at the end of a line",
            };
            self.warnings.push(Warning {
                span: place(&(refusal.at..refusal.at + 1)),
                message: format!(
                    "{why} turns off every `[a:b:when]` and `[a|b]` of the prompt, as in the webui"
                ),
            });
        }
        Ok(tree)
    }
}

/// The embeddings that a text names.
fn embeddings(source: &Source) -> Vec<Embedding> {
    let found = EMBEDDING.captures_iter(&source.text);
    found
        .filter_map(|found| {
            Some(Embedding {
                name: found.get(1)?.as_str().to_owned(),
                span: source.typed(&found.get(0)?.range()),
            })
        })
        .collect()
}

/// Refuses what a prompt asks for and nothing here can do.
fn refuse(kind: &str, asked: impl Iterator<Item = (String, Span)>) -> Result<()> {
    let asked: Vec<_> = asked.collect();
    let Some((_, place)) = asked.first() else {
        return Ok(());
    };
    let names: Vec<_> = asked.iter().map(|(name, _)| name.as_str()).collect();
    Err(Error::unsupported(format!(
        "{} ({place}): {kind} are not supported yet",
        shortened(&names.join(", "))
    ))
    .with_hint("take it out of the prompt to make the picture without it"))
}

/// A text that was taken as it is might have meant changes.
fn has_brackets(tree: &Tree) -> bool {
    tree.roots()
        .any(|node| matches!(&node.kind, NodeKind::Text(text) if text.contains('[')))
}

/// Refuses a text that is longer than any prompt.
pub(super) fn check_length(text: &str) -> Result<()> {
    if text.len() <= MAX_PROMPT_BYTES {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the prompt has {} bytes, expected at most {MAX_PROMPT_BYTES}",
        text.len()
    )))
}

/// The text without comments, a line end in the place of each.
pub(super) fn without_comments(typed: &str) -> (Source, Vec<Span>) {
    let mut source = Source::new(typed);
    let mut comments = Vec::new();
    if !typed.contains('#') {
        return (source, comments);
    }
    for pattern in &*COMMENTS {
        let ranges: Vec<_> = pattern
            .find_iter(&source.text)
            .map(|found| found.range())
            .collect();
        comments.extend(ranges.iter().map(|range| source.typed(range)));
        source = source.replace(&ranges, "\n");
    }
    comments.sort_unstable();
    (source, comments)
}

/// The length of a part's text, and its weight with the blanks before it.
fn split_weight(part: &str) -> (usize, Option<(String, f64)>) {
    let Some(found) = WEIGHT.captures(part) else {
        return (part.len(), None);
    };
    let length = found.get(1).map_or(part.len(), |text| text.end());
    let weight = found.get(2).and_then(|raw| {
        let raw = raw.as_str();
        Some((raw.to_owned(), raw.parse().ok()?))
    });
    (length, weight)
}
