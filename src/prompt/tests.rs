//! Recorded cases (tools/reference/prompt_cases.py), and properties over any text.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::tokenizer::ClipTokenizer;

fn cases(kind: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/prompts/cases.json");
    let text = std::fs::read_to_string(path).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    cases[kind].as_array().unwrap().clone()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// Fails with every case that differs.
#[track_caller]
fn assert_none(wrong: &[String], of: usize) {
    assert!(
        wrong.is_empty(),
        "{} of {of}:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
}

fn close(a: f64, b: f64) -> bool {
    // Both form the same products in the same order; the recorded value went through decimal digits.
    (a - b).abs() <= 1e-12 * b.abs()
}

#[test]
fn recorded_weights() {
    let cases = cases("weighted");
    assert!(cases.len() >= 150);
    let mut wrong = Vec::new();
    for case in &cases {
        let expected: Vec<Piece> = case[1]
            .as_array()
            .unwrap()
            .iter()
            .map(|piece| match (text(&piece[0]), number(&piece[1])) {
                ("BREAK", weight) if close(weight, -1.0) => Piece::Break,
                (text, weight) => Piece::Words {
                    text: text.to_owned(),
                    weight,
                },
            })
            .collect();
        let found = pieces(text(&case[0])).unwrap();
        let same = found.len() == expected.len()
            && found.iter().zip(&expected).all(|pair| match pair {
                (Piece::Break, Piece::Break) => true,
                (
                    Piece::Words { text, weight },
                    Piece::Words {
                        text: wanted,
                        weight: value,
                    },
                ) => text == wanted && close(*weight, *value),
                _ => false,
            });
        if !same {
            wrong.push(format!("{:?}: {found:?}, recorded {expected:?}", case[0]));
        }
    }
    assert_none(&wrong, cases.len());
}

/// `[[weight, [[until, text], ..]], ..]` of a prompt.
fn planned(prompt: &str, role: Role, steps: usize) -> Vec<(f64, Vec<(usize, String)>)> {
    let schedule = Prompt::parse(prompt, role)
        .unwrap()
        .schedule(steps)
        .unwrap();
    let of = |part: &PartSchedule| {
        let entries = part
            .entries
            .iter()
            .map(|entry| (entry.until, schedule.texts[entry.text].clone()));
        (part.weight, entries.collect())
    };
    schedule.parts.iter().map(of).collect()
}

fn recorded(entries: &Value) -> Vec<(usize, String)> {
    let row = |row: &Value| (row[0].as_u64().unwrap() as usize, text(&row[1]).to_owned());
    entries.as_array().unwrap().iter().map(row).collect()
}

#[test]
fn recorded_schedules() {
    let cases = cases("scheduled");
    assert!(cases.len() >= 200);
    let mut wrong = Vec::new();
    for case in &cases {
        let steps = case[1].as_u64().unwrap() as usize;
        let found = planned(text(&case[0]), Role::Negative, steps).remove(0).1;
        let expected = recorded(&case[2]);
        if found != expected {
            wrong.push(format!("{:?}: {found:?}, recorded {expected:?}", case[0]));
        }
    }
    assert_none(&wrong, cases.len());
}

#[test]
fn recorded_compositions_and_comments() {
    let cases = cases("composed");
    let mut wrong = Vec::new();
    for case in &cases {
        let found = planned(text(&case[0]), Role::Positive, 10);
        let expected: Vec<_> = case[1]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| (number(&part[0]), recorded(&part[1])))
            .collect();
        if found != expected {
            wrong.push(format!("{:?}: {found:?}, recorded {expected:?}", case[0]));
        }
    }
    assert_none(&wrong, cases.len());
}

#[test]
fn recorded_chunks() {
    let tokenizer = ClipTokenizer::embedded();
    let comma = tokenizer.tokens(",").first().copied();
    let cases = cases("chunked");
    let mut wrong = Vec::new();
    for case in &cases {
        let pieces = pieces(text(&case[0])).unwrap();
        let found = chunks(&pieces, 75, comma, |words| tokenizer.tokens(words));
        let expected = case[1].as_array().unwrap();
        let same = found.len() == expected.len()
            && found.iter().zip(expected).all(|(chunk, row)| {
                let ids: Vec<u32> = serde_json::from_value(row[0].clone()).unwrap();
                let weights: Vec<f64> = serde_json::from_value(row[1].clone()).unwrap();
                chunk.tokens == ids
                    && chunk.weights.len() == weights.len()
                    && chunk
                        .weights
                        .iter()
                        .zip(&weights)
                        .all(|(a, b)| close(*a, *b))
            });
        if !same {
            wrong.push(format!("{:?}: {found:?}", case[0]));
        }
    }
    assert_none(&wrong, cases.len());
}

#[test]
fn a_text_holds_one_evaluation_longer_than_its_step() {
    let schedule = Prompt::parse("[a:b:3]", Role::Positive)
        .unwrap()
        .schedule(10)
        .unwrap();
    let texts: Vec<&str> = (0..12)
        .map(|evaluation| schedule.texts[schedule.parts[0].text_at(evaluation)].as_str())
        .collect();
    assert_eq!(texts.concat(), "aaaabbbbbbbb");
}

#[test]
fn digits_of_other_scripts_are_words() {
    assert!(Prompt::parse("(a:\u{661})", Role::Positive).is_ok());
}

#[test]
fn oddities_without_end_are_told_once() {
    let found = Prompt::parse(&"(".repeat(10_000), Role::Positive).unwrap();
    assert!(found.warnings.len() < 20, "{}", found.warnings.len());
}

#[test]
fn oddities_are_warned_of_with_their_place() {
    let cases = [
        ("a (b", "`(` is never closed", 2..3),
        ("a b)", "nothing is open", 3..4),
        ("[b", "`[` is never closed", 0..1),
        ("(a:strong)", "is no number", 2..9),
        ("# x\n(a:1,3)", "is no number", 6..10),
        ("a | b [c:d:3]", "outside of `[a|b]`", 2..3),
        ("(a BREAK b)", "begins no chunk", 0..11),
        ("ratio 16:9", "weight of the whole prompt", 8..10),
    ];
    for (prompt, message, place) in cases {
        let found = Prompt::parse(prompt, Role::Positive).unwrap().warnings;
        assert!(
            found.iter().any(|warning| warning.message.contains(message)
                && (warning.span.start..warning.span.end) == place),
            "{prompt:?}: {found:?}"
        );
    }
    for plain in [
        "a cat, (b:1.2) [c] \\(d\\)",
        "[a:b:0.5] [c|d]",
        "at 10:30 pm",
        "a AND b :0.5",
    ] {
        let found = Prompt::parse(plain, Role::Positive).unwrap().warnings;
        assert!(found.is_empty(), "{plain:?}: {found:?}");
    }
}

#[test]
fn changes_outside_of_the_run_are_named() {
    let prompt = Prompt::parse("[a:b:30] [c:d:-1] [e:f:1.5] [g:h:0.5]", Role::Positive).unwrap();
    let found = prompt.changes_out_of_range(20);
    let numbers = ["at 30 ", "at -1 ", "at 1.5 "];
    assert_eq!(found.len(), 3, "{found:?}");
    for (warning, number) in found.iter().zip(numbers) {
        assert!(warning.message.contains(number), "{warning}");
    }
}

#[test]
fn numbers_that_are_none_are_refused_with_their_place() {
    for (prompt, place) in [
        ("a (b:1.2.3)", "bytes 5 to 10"),
        ("# c\n(b:.)", "bytes 7 to 8"),
        (&format!("a:{}", "9".repeat(400)), "bytes 1 to 402"),
        ("<a<lora:x:1>:y>", "bytes"),
    ] {
        let error = Prompt::parse(prompt, Role::Positive).unwrap_err();
        assert!(error.message().contains(place), "{prompt:?}: {error}");
    }
}

#[test]
fn networks_are_recognised_and_refused() {
    let prompt = Prompt::parse("a <lora:x:0.5:1> b <hypernet:y:1>", Role::Positive).unwrap();
    assert_eq!(prompt.parts[0].tree.to_string(), "a  b");
    assert_eq!(prompt.networks[0].arguments, ["x", "0.5", "1"]);
    let error = prompt.refuse_networks().unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Unsupported);
    for fact in ["<lora:x:0.5:1>", "<hypernet:y:1>", "bytes 2 to 16"] {
        assert!(error.message().contains(fact), "{error}");
    }
    let negative = Prompt::parse("<lora:x:1>", Role::Negative).unwrap();
    assert!(negative.networks.is_empty() && negative.warnings.len() == 1);
}

#[test]
fn embeddings_of_comfyui_are_recognised_in_both_prompts_and_refused() {
    for role in [Role::Positive, Role::Negative] {
        let text =
            "a (embedding:bad-hands_v1.2:1.3), embedding:x.pt # embedding:no\nan embedding: y";
        let prompt = Prompt::parse(text, role).unwrap();
        let names: Vec<_> = prompt
            .embeddings
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        assert_eq!(names, ["bad-hands_v1.2", "x.pt"]);
        let error = prompt.refuse_networks().unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Unsupported);
        for fact in [
            "embedding:bad-hands_v1.2, embedding:x.pt",
            "bytes 3 to 27",
            "not supported yet",
        ] {
            assert!(error.message().contains(fact), "{error}");
        }
    }
    let words = Prompt::parse("word embeddings, embedding : x", Role::Positive).unwrap();
    words.refuse_networks().unwrap();
}

#[test]
fn ten_thousand_brackets_need_no_stack() {
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("[a:", ":3]"),
        ("[a|", "]"),
        ("(", ""),
        ("[", ""),
    ] {
        let deep = open.repeat(10_000) + "x" + &close.repeat(10_000);
        match Prompt::parse(&deep, Role::Positive) {
            Ok(prompt) => {
                assert_eq!(prompt.parts[0].tree.to_string(), deep);
                prompt.schedule(20).unwrap();
            }
            Err(error) => {
                let message = error.message();
                let told = message.contains("infinite") || message.contains("nested too deeply");
                assert!(told, "{error}");
            }
        }
    }
}

#[test]
fn a_megabyte_takes_bounded_time() {
    let shapes = [
        "a", "(", "[", "(a", "[a:", "[a|b] ", "(a:1.1)", "[a:b:3]", "a AND ", "#\n", "\\", "|",
        ":1", "BREAK ", "<a:b>", ")",
    ];
    for shape in shapes {
        let long = shape.repeat((1 << 20) / shape.len());
        let start = std::time::Instant::now();
        if let Ok(prompt) = Prompt::parse(&long, Role::Positive) {
            // Too many parts or texts may be refused; either answer must come soon.
            let _ = prompt.schedule(20);
        }
        // A second or so at full speed; the bound leaves room for slow machines and full ones.
        assert!(
            start.elapsed().as_secs() < 60,
            "{shape:?}: {:?}",
            start.elapsed()
        );
    }
    assert!(Prompt::parse(&"a".repeat(MAX_PROMPT_BYTES + 1), Role::Positive).is_err());
}

#[test]
fn names_of_options_parse_and_wrong_ones_get_the_nearest() {
    for (name, value) in PromptSyntax::NAMES {
        assert_eq!(
            (
                name.parse::<PromptSyntax>().unwrap(),
                value.to_string().as_str()
            ),
            (value, name)
        );
    }
    for (name, value) in Emphasis::NAMES {
        assert_eq!(
            (
                name.parse::<Emphasis>().unwrap(),
                value.to_string().as_str()
            ),
            (value, name)
        );
        assert_eq!(value.label().parse::<Emphasis>().unwrap(), value);
    }
    let error = "orignal".parse::<Emphasis>().unwrap_err();
    assert!(error.hint().unwrap().contains("original"), "{error}");
}

const SYMBOLS: [&str; 18] = [
    "a",
    "b ",
    "(",
    ")",
    "[",
    "]",
    ":",
    "|",
    "\\",
    ":3]",
    ":1.2)",
    "BREAK",
    " AND ",
    "#",
    "\n",
    "<lora:x:1>",
    "é",
    ":0.5",
];

/// Texts rich in the grammar's own characters.
fn rich() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&SYMBOLS[..]), 0..24).prop_map(|list| list.concat())
}

/// Everything about a prompt but places and warnings.
fn meaning(prompt: &Prompt) -> Vec<(Vec<NodeKind>, Vec<NodeId>, Option<u64>)> {
    let part = |part: &Part| {
        let kinds = part.tree.nodes.iter().map(|node| node.kind.clone());
        let weight = part.weight.as_ref().map(|(_, value)| value.to_bits());
        (kinds.collect(), part.tree.roots.clone(), weight)
    };
    prompt.parts.iter().map(part).collect()
}

fn assert_sound(text: &str) {
    for role in [Role::Positive, Role::Negative] {
        let Ok(prompt) = Prompt::parse(text, role) else {
            continue;
        };
        for warning in &prompt.warnings {
            assert!(warning.span.end <= text.len() && warning.span.start <= warning.span.end);
        }
        let printed = prompt.to_string();
        let again = Prompt::parse(&printed, role).unwrap();
        assert_eq!(
            meaning(&again),
            meaning(&prompt),
            "{text:?} printed as {printed:?}"
        );
        assert_eq!(again.to_string(), printed);
        if let Ok(schedule) = prompt.schedule(5) {
            for text in &schedule.texts {
                let _ = pieces(text);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_parses_or_errs_and_prints_itself(text in any::<String>()) {
        assert_sound(&text);
    }

    #[test]
    fn any_grammar_parses_or_errs_and_prints_itself(text in rich()) {
        assert_sound(&text);
    }

    #[test]
    fn chunks_lose_no_token_and_keep_their_order(
        words in prop::collection::vec(prop::sample::select(vec![1_u32, 2, 267]), 0..400), length in 1..80_usize
    ) {
        let pieces = [Piece::Words { text: String::new(), weight: 1.5 }];
        let laid = chunks(&pieces, length, Some(267), |_| words.clone());
        prop_assert!(laid.iter().all(|chunk| chunk.tokens.len() <= length && chunk.tokens.len() == chunk.weights.len()));
        let all: Vec<u32> = laid.into_iter().flat_map(|chunk| chunk.tokens).collect();
        prop_assert_eq!(all, words);
    }
}
