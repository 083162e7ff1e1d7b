//! Token ids, their texts and the merges, either the embedded CLIP ones or a folder's.
//!
//! CLIP's 49,408 ids follow from its merges alone: ids 0 to 255 are the byte symbols, 256 to 511 the same
//! at the end of a word, 512 + n the result of merge n, then the two special tokens. So the embedded form is
//! the list of merges as pairs of ids (made by tools/reference/make_vocab.py), read in about a millisecond.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock};

use super::bpe::{Merge, Merges};
use crate::error::{Error, Result};

/// Marks the last symbol of a word.
pub(super) const END_OF_WORD: &str = "</w>";
/// First token of every CLIP prompt.
pub(super) const START: &str = "<|startoftext|>";
/// Last token of every CLIP prompt, and the unknown token.
pub(super) const END: &str = "<|endoftext|>";

/// 48,894 merges, each two little-endian u16 token ids.
static EMBEDDED: &[u8] = include_bytes!("clip_merges.bin");
const FIRST_MERGED: u32 = 512;

/// The 256 characters that stand for bytes, in the order of their ids: the printable ones first.
static BYTE_ORDER: LazyLock<[u8; 256]> = LazyLock::new(|| {
    let mut order = [0; 256];
    let printable = (0..=u8::MAX).filter(|&byte| is_printable(byte));
    let others = (0..=u8::MAX).filter(|&byte| !is_printable(byte));
    for (place, byte) in order.iter_mut().zip(printable.chain(others)) {
        *place = byte;
    }
    order
});

/// The character that stands for each byte.
static BYTE_CHARS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut chars = ['\0'; 256];
    let mut substitute = 0x100;
    for byte in 0..=u8::MAX {
        chars[usize::from(byte)] = if is_printable(byte) {
            char::from(byte)
        } else {
            substitute += 1;
            char::from_u32(substitute - 1).expect("below U+0144; this is a bug")
        };
    }
    chars
});

/// The byte that each such character stands for.
static CHAR_BYTES: LazyLock<HashMap<char, u8>> =
    LazyLock::new(|| BYTE_CHARS.iter().copied().zip(0..=u8::MAX).collect());

fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// A byte-level BPE vocabulary.
#[derive(Debug)]
pub(super) struct Vocabulary {
    merges: Merges,
    /// Id of each byte inside a word, where the vocabulary has one.
    inner: [Option<u32>; 256],
    /// Id of each byte at the end of a word.
    last: [Option<u32>; 256],
    texts: OnceLock<Texts>,
}

/// Texts of the tokens in both directions.
#[derive(Debug, Default)]
struct Texts {
    by_id: HashMap<u32, String>,
    ids: HashMap<String, u32>,
}

impl Vocabulary {
    /// CLIP's own vocabulary, parsed once in the life of the process.
    pub(super) fn embedded() -> Arc<Self> {
        static SHARED: LazyLock<Arc<Vocabulary>> = LazyLock::new(|| Arc::new(parse_embedded()));
        Arc::clone(&SHARED)
    }

    /// A vocabulary of a folder: texts with ids, and merges as pairs of texts in order of rank.
    ///
    /// # Errors
    /// When a merge names a token that has no id.
    pub(super) fn from_texts(
        ids: HashMap<String, u32>,
        pairs: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let id_of = |text: &str| {
            ids.get(text).copied().ok_or_else(|| {
                Error::malformed(format!("a merge names the token {text:?}, which has no id"))
            })
        };
        let mut merges = Merges::new();
        for (rank, (left, right)) in (0..).zip(pairs) {
            let joined = id_of(&format!("{left}{right}"))?;
            merges.insert((id_of(&left)?, id_of(&right)?), Merge { rank, joined });
        }
        let mut inner = [None; 256];
        let mut last = [None; 256];
        for (byte, symbol) in BYTE_CHARS.iter().enumerate() {
            inner[byte] = ids.get(&symbol.to_string()).copied();
            last[byte] = ids.get(&format!("{symbol}{END_OF_WORD}")).copied();
        }
        let by_id = ids.iter().map(|(text, &id)| (id, text.clone())).collect();
        Ok(Self {
            merges,
            inner,
            last,
            texts: OnceLock::from(Texts { by_id, ids }),
        })
    }

    /// The merges.
    pub(super) fn merges(&self) -> &Merges {
        &self.merges
    }

    /// The ids of the bytes of `word`, the last one with the end-of-word mark; `unknown` where the
    /// vocabulary lacks a byte.
    pub(super) fn symbols(&self, word: &str, unknown: u32) -> Vec<u32> {
        let mut symbols: Vec<u32> = word
            .bytes()
            .map(|byte| self.inner[usize::from(byte)].unwrap_or(unknown))
            .collect();
        if let (Some(symbol), Some(byte)) = (symbols.last_mut(), word.bytes().last()) {
            *symbol = self.last[usize::from(byte)].unwrap_or(unknown);
        }
        symbols
    }

    /// The id of a token by its text.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        self.texts().ids.get(text).copied()
    }

    /// The text of a token by its id.
    pub(super) fn text(&self, id: u32) -> Option<&str> {
        self.texts().by_id.get(&id).map(String::as_str)
    }

    /// Number of ids.
    pub(super) fn len(&self) -> usize {
        self.texts().ids.len()
    }

    fn texts(&self) -> &Texts {
        // Only the embedded vocabulary comes without texts: few runs ever need them.
        self.texts.get_or_init(embedded_texts)
    }
}

/// The bytes that the text of a token stands for; its own UTF-8 when a character stands for none.
pub(super) fn bytes_of(text: &str) -> Vec<u8> {
    text.chars()
        .map(|char| CHAR_BYTES.get(&char).copied())
        .collect::<Option<_>>()
        .unwrap_or_else(|| text.as_bytes().to_vec())
}

fn embedded_pairs() -> impl Iterator<Item = (u32, u32)> {
    EMBEDDED.chunks_exact(4).map(|pair| {
        let part = |at: usize| u32::from(u16::from_le_bytes([pair[at], pair[at + 1]]));
        (part(0), part(2))
    })
}

fn parse_embedded() -> Vocabulary {
    let merges = embedded_pairs()
        .zip(0..)
        .map(|(pair, rank)| {
            let joined = FIRST_MERGED + rank;
            (pair, Merge { rank, joined })
        })
        .collect();
    let mut inner = [None; 256];
    let mut last = [None; 256];
    for (id, &byte) in (0..).zip(BYTE_ORDER.iter()) {
        inner[usize::from(byte)] = Some(id);
        last[usize::from(byte)] = Some(id + 256);
    }
    Vocabulary {
        merges,
        inner,
        last,
        texts: OnceLock::new(),
    }
}

fn embedded_texts() -> Texts {
    let symbols = BYTE_ORDER.iter().map(|&byte| BYTE_CHARS[usize::from(byte)]);
    let mut texts: Vec<String> = symbols.clone().map(String::from).collect();
    texts.extend(symbols.map(|symbol| format!("{symbol}{END_OF_WORD}")));
    for (left, right) in embedded_pairs() {
        texts.push(format!("{}{}", texts[left as usize], texts[right as usize]));
    }
    texts.extend([START.to_owned(), END.to_owned()]);
    Texts {
        ids: texts.iter().cloned().zip(0..).collect(),
        by_id: (0..).zip(texts).collect(),
    }
}
