use std::fs;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::error::ErrorKind;

/// A tokenizer folder of 13 tokens, with more files. Expected ids are transformers 5.23's.
fn small(files: &[(&str, Value)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tokens = [
        "<|startoftext|>",
        "<|endoftext|>",
        "!",
        "a",
        "b",
        "c",
        "!</w>",
        "a</w>",
        "b</w>",
        "c</w>",
        "ab",
        "ab</w>",
        "abc</w>",
    ];
    let vocab: serde_json::Map<String, Value> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| ((*token).to_owned(), id.into()))
        .collect();
    write(&folder, "vocab.json", &Value::from(vocab));
    fs::write(
        folder.path().join("merges.txt"),
        "#version: 0.2\na b\na b</w>\nab c</w>\n",
    )
    .unwrap();
    for (name, content) in files {
        write(&folder, name, content);
    }
    folder
}

fn write(folder: &tempfile::TempDir, name: &str, content: &Value) {
    fs::write(folder.path().join(name), content.to_string()).unwrap();
}

fn listed(content: &str, normalized: bool) -> Value {
    json!({"content": content, "normalized": normalized, "lstrip": false, "rstrip": false, "single_word": false})
}

fn read(folder: &tempfile::TempDir) -> ClipTokenizer {
    ClipTokenizer::from_folder(folder.path()).unwrap()
}

#[test]
fn folder_with_its_own_vocabulary_is_used() {
    let tokenizer = read(&small(&[(
        "tokenizer_config.json",
        json!({"model_max_length": 8}),
    )]));
    assert_eq!(tokenizer.max_length(), 8);
    assert_eq!(tokenizer.vocabulary_size(), 13);
    let encoding = tokenizer.encode("abc ab a! z cz");
    assert_eq!(encoding.ids, [0, 12, 11, 7, 6, 1, 5, 1]);
    assert_eq!(encoding.kept, 6);
    assert_eq!(encoding.lost.as_deref(), Some("<|endoftext|>"));
    // Bytes that the vocabulary lacks become the unknown token, one each.
    assert_eq!(tokenizer.tokens("a <cat>b"), [7, 1, 5, 3, 1, 1, 8]);
    assert_eq!(tokenizer.tokens("!ab! <|endoftext|>a"), [6, 11, 6, 1, 7]);
}

#[test]
fn listed_added_tokens_are_cut_out_by_their_properties() {
    let mut dog = listed("<Dog>", true);
    dog["lstrip"] = true.into();
    dog["rstrip"] = true.into();
    let mut fish = listed("<fish>", true);
    fish["single_word"] = true.into();
    let tokenizer = read(&small(&[(
        "tokenizer_config.json",
        json!({
            "model_max_length": 12,
            "pad_token": "!",
            "added_tokens_decoder": {
                "0": listed("<|startoftext|>", true),
                "1": listed("<|endoftext|>", true),
                "13": listed("<cat>", false),
                "14": dog,
                "15": fish,
                "2": listed("!", false),
            },
        }),
    )]));
    let cases: [(&str, &[u32]); 6] = [
        ("abc ab a! z cz", &[12, 11, 7, 2, 1, 5, 1]),
        (
            "<cat> <CAT> <|EndOfText|> <|startoftext|>",
            &[13, 1, 5, 3, 1, 1, 1, 0],
        ),
        ("a <cat>b", &[7, 13, 8]),
        (" <dog> a x<dog>y", &[14, 7, 1, 14, 1]),
        (
            "<fish>a a<fish> <fish>, <FISH>",
            &[1, 1, 1, 1, 1, 1, 7, 7, 1, 1, 1, 1, 1, 1, 15, 1, 15],
        ),
        ("!ab! <|endoftext|>a", &[2, 11, 2, 1, 7]),
    ];
    for (text, ids) in cases {
        assert_eq!(tokenizer.tokens(text), ids, "{text:?}");
    }
    assert_eq!(
        tokenizer.encode("a <cat>b").ids,
        [0, 7, 13, 8, 1, 2, 2, 2, 2, 2, 2, 2]
    );
    assert_eq!(
        tokenizer.decode(&[0, 12, 13, 99]),
        "<|startoftext|>abc <cat>"
    );
}

#[test]
fn legacy_files_are_read() {
    let tokenizer = read(&small(&[
        ("added_tokens.json", json!({"<cat>": 13, "!": 2})),
        (
            "special_tokens_map.json",
            json!({
                "pad_token": "!",
                "bos_token": listed("<|startoftext|>", true),
                "eos_token": listed("<|endoftext|>", true),
            }),
        ),
        (
            "tokenizer_config.json",
            json!({"model_max_length": 6, "pad_token": "<|endoftext|>"}),
        ),
    ]));
    assert_eq!(tokenizer.pad_id(), 2);
    assert_eq!(tokenizer.tokens("<cat> <CAT> a!"), [13, 13, 7, 2]);
    assert_eq!(tokenizer.encode("a <cat>b").ids, [0, 7, 13, 8, 1, 2]);
    // A padding token that the vocabulary lacks gets the next id.
    let tokenizer = read(&small(&[(
        "special_tokens_map.json",
        json!({"pad_token": "<pad>"}),
    )]));
    assert_eq!(tokenizer.pad_id(), 13);
    assert_eq!(tokenizer.tokens("<pad>a<PAD>"), [13, 7, 1, 1, 3, 1, 1]);
    assert_eq!(tokenizer.max_length(), 77);
}

#[test]
fn tokenizer_json_goes_before_the_other_files() {
    let folder = small(&[]);
    for merges in [json!(["a c</w>"]), json!([["a", "c</w>"]])] {
        let vocab =
            json!({"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "c</w>": 3, "ac</w>": 4});
        let model =
            json!({"type": "BPE", "end_of_word_suffix": "</w>", "vocab": vocab, "merges": merges});
        let added = json!([{"id": 5, "content": "<cat>", "normalized": false, "special": false}]);
        write(
            &folder,
            "tokenizer.json",
            &json!({"model": model, "added_tokens": added}),
        );
        let tokenizer = read(&folder);
        assert_eq!(tokenizer.tokens("ac<cat>"), [4, 5]);
        assert_eq!(tokenizer.vocabulary_size(), 5);
    }
}

#[test]
fn embedded_vocabulary_is_whole() {
    let tokenizer = ClipTokenizer::embedded();
    assert_eq!(tokenizer.vocabulary_size(), 49_408);
    assert_eq!(tokenizer.vocabulary.merges().len(), 48_894);
    assert_eq!(tokenizer.vocabulary.id("cat</w>"), Some(2368));
    assert_eq!(tokenizer.vocabulary.text(49_407), Some("<|endoftext|>"));
    assert_eq!(
        tokenizer.decode(&[49406, 320, 1125, 49407]),
        "<|startoftext|>a photo <|endoftext|>"
    );
}

#[test]
fn padding_with_another_token_makes_it_special() {
    let tokenizer = ClipTokenizer::embedded().with_pad("!").unwrap();
    // As transformers with the padding token of SDXL's second tokenizer.
    assert_eq!(tokenizer.tokens("hello! <|EndOfText|>"), [3306, 0, 49407]);
    assert_eq!(tokenizer.encode("a").ids[..4], [49406, 320, 49407, 0]);
    assert_eq!(ClipTokenizer::embedded().tokens("hello!"), [3306, 256]);
    let error = tokenizer.with_pad("no such token").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
}

#[test]
fn long_prompt_names_the_words_it_lost() {
    let text = format!("{}Zebra crossing", "a ".repeat(75));
    let encoding = ClipTokenizer::embedded().encode(&text);
    assert_eq!(encoding.ids.len(), 77);
    assert_eq!(encoding.ids[76], 49407);
    assert_eq!(encoding.kept, 75);
    assert_eq!(encoding.lost.as_deref(), Some("zebra crossing"));
    let fitting = ClipTokenizer::embedded().encode(&"a ".repeat(75));
    assert_eq!((fitting.kept, fitting.lost), (75, None));
}

#[test]
fn bad_folders_are_named() {
    // A file, what it holds instead (nothing: it is gone), and what the error says.
    let cases: [(&str, Option<&[u8]>, ErrorKind, &str); 8] = [
        ("merges.txt", None, ErrorKind::NotFound, "merges.txt"),
        ("vocab.json", None, ErrorKind::NotFound, "vocab.json"),
        (
            "vocab.json",
            Some(b"{\"a\": 1"),
            ErrorKind::Malformed,
            "vocab.json",
        ),
        ("merges.txt", Some(b"a q\n"), ErrorKind::Malformed, "\"aq\""),
        (
            "merges.txt",
            Some(b"a b c\n"),
            ErrorKind::Malformed,
            "a b c",
        ),
        (
            "merges.txt",
            Some(b"\xff\xfe"),
            ErrorKind::Malformed,
            "UTF-8",
        ),
        (
            "tokenizer_config.json",
            Some(b"{\"tokenizer_class\": \"T5Tokenizer\"}"),
            ErrorKind::Unsupported,
            "T5Tokenizer",
        ),
        (
            "tokenizer.json",
            Some(b"{\"model\": {\"type\": \"Unigram\"}}"),
            ErrorKind::Unsupported,
            "Unigram",
        ),
    ];
    for (file, content, kind, words) in cases {
        let folder = small(&[]);
        let path = folder.path().join(file);
        match content {
            Some(content) => fs::write(path, content).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        let error = ClipTokenizer::from_folder(folder.path()).unwrap_err();
        assert_eq!(error.kind(), kind, "{file}: {error}");
        assert!(error.message().contains(words), "{file}: {error}");
    }
    let none = small(&[]).path().join("none");
    let error = ClipTokenizer::from_folder(&none).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = ClipTokenizer::embedded().with_max_length(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
}

proptest! {
    #[test]
    fn any_text_has_a_full_encoding(text in "(?s).{0,120}") {
        let tokenizer = ClipTokenizer::embedded();
        let encoding = tokenizer.encode(&text);
        prop_assert_eq!(encoding.ids.len(), 77);
        prop_assert!(encoding.ids.iter().all(|&id| id < 49_408));
        prop_assert_eq!(encoding.lost.is_some(), tokenizer.tokens(&text).len() > 75);
        // Decoding and encoding again changes nothing: every id stands for one text.
        let ids = tokenizer.tokens(&text);
        prop_assert_eq!(tokenizer.tokens(&tokenizer.decode(&ids)), ids);
    }
}

#[test]
fn a_megabyte_of_special_tokens_takes_bounded_time() {
    let tokenizer = ClipTokenizer::embedded();
    for special in ["<|endoftext|>", "<|startoftext|>", "<|endoftext|> a "] {
        let text = special.repeat((1 << 20) / special.len());
        let start = std::time::Instant::now();
        assert!(tokenizer.tokens(&text).len() >= (1 << 20) / special.len());
        // A tenth of a second where nothing is searched twice, minutes where all is; between them lies a slow machine.
        assert!(
            start.elapsed().as_secs() < 20,
            "{special}: {:?}",
            start.elapsed()
        );
    }
}
