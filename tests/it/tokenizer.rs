//! The tokenizer against transformers' `CLIPTokenizer`: the golden lists, and 10,000 recorded strings.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tintype::tokenizer::ClipTokenizer;
use tintype_testkit::Golden;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

#[test]
fn golden_ids() {
    let cases: [(&str, &[u32]); 15] = [
        ("a photo of a cat", &[320, 1125, 539, 320, 2368]),
        (
            "a photo of an astronaut riding a horse on mars",
            &[320, 1125, 539, 550, 18376, 6765, 320, 4558, 525, 7496],
        ),
        (
            "Apple CoreML developer tools on a Macbook Air are fast",
            &[
                3055, 19622, 5780, 10929, 5771, 525, 320, 20617, 1922, 631, 1953,
            ],
        ),
        (
            "I can't believe it's not butter",
            &[328, 753, 713, 2649, 585, 568, 783, 6952],
        ),
        (
            "hello, world! how are you?",
            &[3306, 267, 1002, 256, 829, 631, 592, 286],
        ),
        (
            "email: user@example.com",
            &[4462, 281, 7031, 287, 6228, 269, 2464],
        ),
        (
            "the year 2024 was interesting",
            &[518, 935, 273, 271, 273, 275, 739, 3628],
        ),
        ("3.14 is pi", &[274, 269, 272, 275, 533, 5357]),
        ("MacBook Pro 16-inch", &[20617, 2630, 272, 277, 268, 6523]),
        ("!!!", &[995]),
        ("", &[]),
        ("it's a beautiful day", &[585, 568, 320, 1215, 575]),
        (
            "person working at a computer",
            &[2533, 1699, 536, 320, 11639, 652],
        ),
        ("sunset over mountains", &[3424, 962, 5873]),
        (
            "code editor with syntax highlighting",
            &[3217, 7661, 593, 3758, 3879, 17344],
        ),
    ];
    let tokenizer = ClipTokenizer::embedded();
    for (text, ids) in cases {
        assert_eq!(tokenizer.tokens(text), ids, "{text:?}");
        let mut whole = vec![49406];
        whole.extend_from_slice(ids);
        whole.resize(77, 49407);
        let encoding = tokenizer.encode(text);
        assert_eq!(encoding.ids, whole, "{text:?}");
        assert_eq!((encoding.kept, encoding.lost), (ids.len(), None));
    }
}

/// FNV-1a over the ids as little-endian u16, as tools/reference/fuzz_tokenizer.py computes it.
fn digest(ids: &[u32]) -> String {
    let bytes = ids.iter().flat_map(|&id| (id as u16).to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[test]
fn ten_thousand_recorded_strings() {
    let path = fixtures().join("tokenizer/fuzz.jsonl.gz");
    let mut lines = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())
        .read_to_string(&mut lines)
        .unwrap();
    let tokenizer = ClipTokenizer::embedded();
    let mut wrong = Vec::new();
    for line in lines.lines() {
        let record: Vec<Value> = serde_json::from_str(line).unwrap();
        let text = record[0].as_str().unwrap();
        let ids = tokenizer.tokens(text);
        let same = match &record[1..] {
            [Value::Array(expected)] => *expected == ids,
            [count, hash] => *count == ids.len() && *hash == digest(&ids),
            other => panic!("unknown record {other:?}"),
        };
        if !same {
            wrong.push(format!("{text:?}: {ids:?}, recorded {:?}", &record[1..]));
        }
    }
    assert!(lines.lines().count() >= 10_000);
    assert!(
        wrong.is_empty(),
        "{}: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(20)]
    );
}

#[test]
fn families_pad_as_their_own_configuration_says() {
    let prompt = "a photo of a cat";
    for (folder, pad) in [
        ("sd15/tokenizer", 49407),
        ("sd21/tokenizer", 0),
        ("sdxl/tokenizer", 49407),
        ("sdxl/tokenizer_2", 0),
    ] {
        let tokenizer = ClipTokenizer::from_folder(&fixtures().join(folder)).unwrap();
        let family = folder.split('/').next().unwrap();
        let golden = Golden::of(family);
        let suffix = if folder.ends_with("_2") { "_2" } else { "" };
        let recorded = |kind: &str| golden.tokens(&format!("{kind}{suffix}"));
        assert_eq!(tokenizer.pad_id(), pad, "{folder}");
        assert_eq!(golden.notes()["prompt"], prompt, "{folder}");
        assert_eq!(recorded("cond"), tokenizer.encode(prompt).ids, "{folder}");
        assert_eq!(recorded("uncond"), tokenizer.encode("").ids, "{folder}");
    }
}
