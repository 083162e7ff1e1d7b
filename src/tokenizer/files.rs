//! Reads a checkpoint's own tokenizer folder the way transformers 5.x loads `CLIPTokenizer`.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use super::added::{AddedTokens, Edges};
use super::schema::{Listed, Pair, Serialised, Settings, Special};
use super::vocabulary::{self, Vocabulary};
use super::{ClipTokenizer, DEFAULT_MAX_LENGTH};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::weights::Place;

/// Larger than any tokenizer file in use (CLIP's `tokenizer.json` has 3.6 MB).
const MAX_FILE_BYTES: u64 = 64 << 20;
/// transformers writes 1e30 for "no limit"; towers end at 77, and nothing plausible lies above this.
const MAX_LENGTH: f64 = 8192.0;

pub(super) fn read_folder(folder: &Place) -> Result<ClipTokenizer> {
    let mut settings: Settings =
        read_json(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
    check_class(&settings).context(folder.join("tokenizer_config.json"))?;
    let (vocabulary, listed) = read_vocabulary(folder)?;
    let listed = if let Some(decoder) = settings.added_tokens_decoder.take() {
        sorted_decoder(decoder).context(folder.join("tokenizer_config.json"))?
    } else {
        if let Some(map) = read_json::<Settings>(&folder.join("special_tokens_map.json"))? {
            settings.bos_token = map.bos_token.or(settings.bos_token);
            settings.eos_token = map.eos_token.or(settings.eos_token);
            settings.unk_token = map.unk_token.or(settings.unk_token);
            settings.pad_token = map.pad_token.or(settings.pad_token);
        }
        let mut all = legacy_added(folder, &settings)?;
        all.extend(listed);
        all
    };
    assemble(vocabulary, &listed, settings).context(folder)
}

/// `added_tokens.json` of old folders: texts with ids, the special ones looked for as typed.
fn legacy_added(folder: &Place, settings: &Settings) -> Result<Vec<Listed>> {
    let path = folder.join("added_tokens.json");
    let Some(ids) = read_json::<HashMap<String, u32>>(&path)? else {
        return Ok(Vec::new());
    };
    let is_special = |text: &str| {
        [
            &settings.bos_token,
            &settings.eos_token,
            &settings.unk_token,
            &settings.pad_token,
        ]
        .into_iter()
        .flatten()
        .any(|special| special.text() == text)
    };
    let mut listed: Vec<Listed> = ids
        .into_iter()
        .map(|(content, id)| Listed {
            normalized: !is_special(&content),
            content,
            id: Some(id),
            edges: Edges::default(),
        })
        .collect();
    listed.sort_by_key(|token| token.id);
    Ok(listed)
}

/// Puts vocabulary and special tokens together, in transformers' order: listed tokens first, then start,
/// end, unknown and padding, where a later one replaces an earlier one of the same text.
fn assemble(
    vocabulary: Arc<Vocabulary>,
    listed: &[Listed],
    settings: Settings,
) -> Result<ClipTokenizer> {
    let text = |text: &str| Special::Text(text.to_owned());
    let specials = [
        settings
            .bos_token
            .unwrap_or_else(|| text(vocabulary::START)),
        settings.eos_token.unwrap_or_else(|| text(vocabulary::END)),
        settings.unk_token.unwrap_or_else(|| text(vocabulary::END)),
        settings.pad_token.unwrap_or_else(|| text(vocabulary::END)),
    ];
    let mut ids: HashMap<String, u32> = HashMap::new();
    let mut next_id = vocabulary.len() as u32;
    let mut id_of = |text: &str, wished: Option<u32>| {
        let known = ids.get(text).copied().or_else(|| vocabulary.id(text));
        let id = known.or(wished).unwrap_or(next_id);
        next_id = next_id.max(id.saturating_add(1));
        ids.insert(text.to_owned(), id);
        id
    };
    let mut added = AddedTokens::new([]);
    for token in listed {
        let id = id_of(&token.content, token.id);
        added.insert(token.token(id));
    }
    let mut special_ids = [0; 4];
    for (place, special) in special_ids.iter_mut().zip(&specials) {
        *place = id_of(special.text(), None);
        if listed.iter().all(|token| token.content != special.text()) {
            added.insert(special.token(*place));
        }
    }
    let [start, end, unknown, pad] = special_ids;
    ClipTokenizer {
        vocabulary,
        added,
        start,
        end,
        pad,
        unknown,
        max_length: DEFAULT_MAX_LENGTH,
    }
    .with_max_length(match settings.model_max_length {
        Some(length) if length <= MAX_LENGTH => length as usize,
        _ => DEFAULT_MAX_LENGTH,
    })
}

fn check_class(settings: &Settings) -> Result<()> {
    match settings.tokenizer_class.as_deref() {
        None | Some("CLIPTokenizer" | "CLIPTokenizerFast") => Ok(()),
        Some(other) => Err(Error::unsupported(format!(
            "tokenizer class {other:?} is not CLIPTokenizer"
        ))
        .with_hint("only the CLIP text towers of Stable Diffusion are served")),
    }
}

fn sorted_decoder(decoder: HashMap<String, Listed>) -> Result<Vec<Listed>> {
    let mut listed = decoder
        .into_iter()
        .map(|(id, token)| {
            let id = id.parse().map_err(|_| {
                Error::malformed(format!(
                    "added_tokens_decoder has the key {id:?}, not an id"
                ))
            })?;
            Ok(Listed {
                id: Some(id),
                ..token
            })
        })
        .collect::<Result<Vec<_>>>()?;
    listed.sort_by_key(|token| token.id);
    Ok(listed)
}

/// The folder's vocabulary and the added tokens that its `tokenizer.json` lists.
fn read_vocabulary(folder: &Place) -> Result<(Arc<Vocabulary>, Vec<Listed>)> {
    let whole = folder.join("tokenizer.json");
    if let Some(file) = read_json::<Serialised>(&whole)? {
        return from_serialised(file).context(&whole);
    }
    let (vocab, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
    match (
        read_json::<HashMap<String, u32>>(&vocab)?,
        read_text(&merges)?,
    ) {
        (None, None) if folder.is_dir() => Ok((Vocabulary::embedded(), Vec::new())),
        (None, None) => Err(folder.not_found()),
        (Some(ids), Some(lines)) => {
            let pairs = parse_merges(&lines).context(&merges)?;
            let vocabulary = Vocabulary::from_texts(ids, pairs).context(&merges)?;
            Ok((Arc::new(vocabulary), Vec::new()))
        }
        (Some(_), None) => Err(missing(&merges, "vocab.json")),
        (None, Some(_)) => Err(missing(&vocab, "merges.txt")),
    }
}

fn missing(place: &Place, other: &str) -> Error {
    place.not_found().with_hint(format!(
        "{other} is there without it; download the whole tokenizer folder"
    ))
}

fn from_serialised(file: Serialised) -> Result<(Arc<Vocabulary>, Vec<Listed>)> {
    let model = file.model;
    if model.kind.as_deref().is_some_and(|kind| kind != "BPE") {
        return Err(Error::unsupported(format!(
            "the tokenizer model is {}, not CLIP's BPE",
            model.kind.unwrap_or_default()
        )));
    }
    if model.end_of_word_suffix.as_deref() != Some(vocabulary::END_OF_WORD) {
        return Err(Error::unsupported(format!(
            "the tokenizer's end-of-word suffix is {:?}, CLIP's is {:?}",
            model.end_of_word_suffix,
            vocabulary::END_OF_WORD
        )));
    }
    let ids: HashMap<String, u32> = serde_json::from_value(model.vocab)
        .map_err(|e| Error::malformed(format!("model.vocab is not a map of ids: {e}")))?;
    let pairs = model
        .merges
        .into_iter()
        .map(|pair| match pair {
            Pair::Parts(left, right) => Ok((left, right)),
            Pair::Line(line) => split_merge(&line),
        })
        .collect::<Result<Vec<_>>>()?;
    let vocabulary = Arc::new(Vocabulary::from_texts(ids, pairs)?);
    Ok((vocabulary, file.added_tokens))
}

fn parse_merges(text: &str) -> Result<Vec<(String, String)>> {
    text.lines()
        .filter(|line| !line.starts_with("#version") && !line.is_empty())
        .map(split_merge)
        .collect()
}

fn split_merge(line: &str) -> Result<(String, String)> {
    match line.split_once(' ') {
        Some((left, right)) if !right.contains(' ') => Ok((left.to_owned(), right.to_owned())),
        _ => Err(Error::malformed(format!(
            "merge {line:?} is not two tokens with a blank between"
        ))),
    }
}

fn read_json<T: serde::de::DeserializeOwned>(place: &Place) -> Result<Option<T>> {
    let Some(text) = read_text(place)? else {
        return Ok(None);
    };
    serde_json::from_str(&text).map(Some).map_err(|e| {
        Error::malformed(format!("{place}: {e}"))
            .with_hint("the file is damaged or cut short; download it again")
            .with_source(e)
    })
}

/// The text of a file, `None` where there is none.
fn read_text(place: &Place) -> Result<Option<String>> {
    let (size_bytes, reader) = match place.reader() {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if size_bytes > MAX_FILE_BYTES {
        return Err(Error::malformed(format!(
            "{place}: {size_bytes} bytes, a tokenizer file has at most {MAX_FILE_BYTES}"
        )));
    }
    let mut bytes = Vec::new();
    reader
        .take(MAX_FILE_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io(&place.to_path(), e))?;
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|e| Error::malformed(format!("{place}: not UTF-8 text: {e}")).with_source(e))
}
