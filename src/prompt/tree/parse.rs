//! Text to tree: one pass, with the open brackets on a stack of its own.

use std::sync::LazyLock;

use regex::Regex;

use super::super::span::{Source, Span};
use super::{Node, NodeId, NodeKind, Refusal, RefusalReason, Tree, When};

/// A number with blanks around it, as the last part of a change.
static WHEN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^\s*([+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*$")
        .expect("the pattern is valid; this is a bug")
});

/// A bracket that is not closed yet.
struct Frame {
    open: char,
    at: usize,
    /// `:` or `|`, never both.
    separator: Option<char>,
    /// What lies between the separators, and where each begins.
    sections: Vec<(usize, Vec<NodeId>)>,
}

struct Parser<'a> {
    source: &'a Source,
    /// Where the parsed text lies in the source.
    offset: usize,
    text: &'a str,
    nodes: Vec<Node>,
    roots: Vec<NodeId>,
    frames: Vec<Frame>,
}

impl Tree {
    /// Parses `source.text[offset..offset + length]`.
    pub(in super::super) fn parse(source: &Source, offset: usize, length: usize) -> Self {
        let text = &source.text[offset..offset + length];
        let mut parser = Parser {
            source,
            offset,
            text,
            nodes: Vec::new(),
            roots: Vec::new(),
            frames: Vec::new(),
        };
        match parser.run() {
            Ok(()) => Self {
                nodes: parser.nodes,
                roots: parser.roots,
                refusal: None,
            },
            Err(refusal) => Self {
                nodes: vec![Node {
                    kind: NodeKind::Text(text.to_owned()),
                    span: source.typed(&(offset..offset + length)),
                }],
                roots: vec![0],
                refusal: Some(refusal),
            },
        }
    }
}

impl Parser<'_> {
    fn run(&mut self) -> Result<(), Refusal> {
        let text = self.text;
        let mut at = 0;
        while let Some(found) = text[at..].chars().next() {
            let next = at + found.len_utf8();
            match found {
                '\\' => {
                    let escaped = text[next..].chars().next().filter(|&char| char != '\n');
                    let escaped = escaped.ok_or(Refusal {
                        at,
                        why: RefusalReason::LoneBackslash,
                    })?;
                    let end = next + escaped.len_utf8();
                    self.push_text(at, end);
                    at = end;
                    continue;
                }
                '(' | '[' => self.frames.push(Frame {
                    open: found,
                    at,
                    separator: None,
                    sections: vec![(next, Vec::new())],
                }),
                ':' => self.colon(at)?,
                '|' => self.bar(at)?,
                ')' | ']' => self.close(at, found)?,
                _ => {
                    let length = text[at..]
                        .find(['\\', '(', '[', ')', ']', ':', '|'])
                        .unwrap_or(text.len() - at);
                    self.push_text(at, at + length);
                    at += length;
                    continue;
                }
            }
            at = next;
        }
        self.flush()
    }

    fn colon(&mut self, at: usize) -> Result<(), Refusal> {
        if let Some(frame) = self.frames.last_mut() {
            let limit = if frame.open == '(' { 1 } else { 2 };
            if frame.separator != Some('|') && frame.sections.len() <= limit {
                frame.separator = Some(':');
                frame.sections.push((at + 1, Vec::new()));
                return Ok(());
            }
            self.flush()?;
        }
        self.push_text(at, at + 1);
        Ok(())
    }

    fn bar(&mut self, at: usize) -> Result<(), Refusal> {
        match self.frames.last_mut() {
            Some(frame) if frame.open == '[' && frame.separator != Some(':') => {
                frame.separator = Some('|');
                frame.sections.push((at + 1, Vec::new()));
                Ok(())
            }
            _ => Err(Refusal {
                at,
                why: RefusalReason::StrayBar,
            }),
        }
    }

    fn close(&mut self, at: usize, found: char) -> Result<(), Refusal> {
        let wanted = if found == ')' { '(' } else { '[' };
        let kind = match self.frames.last_mut() {
            Some(frame) if frame.open == wanted => frame.finish(&self.nodes),
            _ => None,
        };
        let Some(kind) = kind else {
            self.flush()?;
            self.push_text(at, at + 1);
            return Ok(());
        };
        let start = self.frames.pop().map_or(at, |frame| frame.at);
        let node = Node {
            kind,
            span: self.span(start, at + 1),
        };
        let id = self.nodes.len();
        self.nodes.push(node);
        self.list().push(id);
        Ok(())
    }

    /// Gives up every open bracket: they, and the colons between, are text.
    fn flush(&mut self) -> Result<(), Refusal> {
        for frame in std::mem::take(&mut self.frames) {
            self.push_text(frame.at, frame.at + 1);
            for (index, (begin, section)) in frame.sections.into_iter().enumerate() {
                if index > 0 {
                    if frame.separator == Some('|') {
                        return Err(Refusal {
                            at: begin - 1,
                            why: RefusalReason::StrayBar,
                        });
                    }
                    self.push_text(begin - 1, begin);
                }
                for id in section {
                    self.push_node(id);
                }
            }
        }
        Ok(())
    }

    /// Appends a finished node to the roots, text to text.
    fn push_node(&mut self, id: NodeId) {
        let (kind, span) = (&self.nodes[id].kind, self.nodes[id].span);
        if let NodeKind::Text(text) = kind {
            let text = text.clone();
            self.append(&text, span);
        } else {
            self.list().push(id);
        }
    }

    fn push_text(&mut self, start: usize, end: usize) {
        let (text, span) = (&self.text[start..end], self.span(start, end));
        self.append(text, span);
    }

    fn append(&mut self, more: &str, place: Span) {
        if let Some(&last) = self.list().last() {
            let node = &mut self.nodes[last];
            if let NodeKind::Text(text) = &mut node.kind {
                text.push_str(more);
                node.span.end = place.end;
                return;
            }
        }
        let id = self.nodes.len();
        self.nodes.push(Node {
            kind: NodeKind::Text(more.to_owned()),
            span: place,
        });
        self.list().push(id);
    }

    /// Where the next node goes.
    fn list(&mut self) -> &mut Vec<NodeId> {
        let section = self
            .frames
            .last_mut()
            .and_then(|frame| frame.sections.last_mut());
        match section {
            Some((_, list)) => list,
            None => &mut self.roots,
        }
    }

    fn span(&self, start: usize, end: usize) -> Span {
        self.source.typed(&(self.offset + start..self.offset + end))
    }
}

impl Frame {
    /// What the bracket means now that it is closed; `None` when it means nothing, and then nothing is taken.
    fn finish(&mut self, nodes: &[Node]) -> Option<NodeKind> {
        let when = match (self.open, self.separator) {
            ('[', Some(':')) => Some(when(&self.sections.last()?.1, nodes)?),
            _ => None,
        };
        let mut sections = std::mem::take(&mut self.sections)
            .into_iter()
            .map(|(_, section)| section);
        Some(match (when, self.separator) {
            (Some(when), _) => {
                let (first, second) = (sections.next()?, sections.next()?);
                match sections.next() {
                    Some(_) => NodeKind::Change {
                        before: Some(first),
                        after: second,
                        when,
                    },
                    None => NodeKind::Change {
                        before: None,
                        after: first,
                        when,
                    },
                }
            }
            (None, Some('|')) => NodeKind::Alternate(sections.collect()),
            (None, _) => NodeKind::Emphasis {
                open: self.open,
                inner: sections.next()?,
                tail: sections.next(),
            },
        })
    }
}

/// The moment of a change, where its last part is a number and nothing else.
fn when(section: &[NodeId], nodes: &[Node]) -> Option<When> {
    let [id] = section else { return None };
    let NodeKind::Text(raw) = &nodes[*id].kind else {
        return None;
    };
    let value = WHEN.captures(raw)?.get(1)?.as_str().parse().ok()?;
    Some(When {
        raw: raw.clone(),
        value,
    })
}
