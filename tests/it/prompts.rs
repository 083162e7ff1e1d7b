//! Prompts in the webui's syntax, through towers and UNet: embeddings against tools/reference/prompt_cases.py, and
//! what schedules and compositions do to a picture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use safetensors::SafeTensors;
use serde_json::Value;
use tintype::backend::CountedText;
use tintype::prompt::{Choices, Emphasis, PromptOptions, PromptSyntax};
use tintype::{CancelToken, EngineKind, ErrorKind, Event, GeneratedImage, SDModel, SamplingConfig};
use tintype_testkit::compare;

use crate::support::{generate, load, quick};

/// Three layers of f32 in two orders of summation, times a ratio of two means of a few thousand values.
const CLOSE: f64 = 2e-5;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/prompts")
}

fn values(view: &safetensors::tensor::TensorView<'_>) -> Vec<f32> {
    view.data()
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

#[test]
fn embeddings_agree_with_the_reference() {
    let bytes = std::fs::read(data().join("embeddings.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let notes = std::fs::read(data().join("embeddings.json")).unwrap();
    let notes: Value = serde_json::from_slice(&notes).unwrap();
    let mut models: BTreeMap<String, (tempfile::TempDir, SDModel)> = BTreeMap::new();
    let mut compared = 0;
    for name in file
        .names()
        .into_iter()
        .filter(|name| !name.contains(".run."))
    {
        let parts: Vec<&str> = name.split('.').collect();
        let (_, model) = models
            .entry(parts[0].to_owned())
            .or_insert_with(|| load(parts[0], EngineKind::Cpu));
        let text = notes["texts"][parts[1]].as_str().unwrap();
        let emphasis: Emphasis = parts[2].parse().unwrap();
        let counted = [CountedText { text, count: 1 }];
        let found = model
            .text_encoder()
            .encode_weighted(&counted, emphasis, None)
            .unwrap()
            .remove(0);
        let found = match parts.get(3) {
            Some(_) => found.pooled.clone().unwrap(),
            None => found.context.clone(),
        };
        let expected = file.tensor(name).unwrap();
        let difference = compare(expected.shape(), &values(&expected), found.data());
        assert!(difference.max_rel < CLOSE, "{name}: {difference}");
        compared += 1;
    }
    assert!(compared >= 18, "{compared}");
}

/// Whole runs amplify the last bits of two orders of summation by guidance and five steps: final latents may differ by
/// this much.
const CLOSE_RUN: f64 = 1e-4;

#[test]
fn whole_runs_agree_with_the_reference() {
    let bytes = std::fs::read(data().join("embeddings.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let notes = std::fs::read(data().join("embeddings.json")).unwrap();
    let notes: Value = serde_json::from_slice(&notes).unwrap();
    let (_folder, model) = load("sd15", EngineKind::Cpu);
    let runs = notes["runs"].as_object().unwrap();
    assert!(runs.len() >= 6);
    for (name, prompts) in runs {
        let config = SamplingConfig {
            prompt: prompts[0].as_str().unwrap().into(),
            negative_prompt: Some(prompts[1].as_str().unwrap().into()),
            steps: 5,
            guidance_scale: 5.0,
            sampler: Some("euler".into()),
            ..quick()
        };
        let found = generate(&model, &config).remove(0).latents;
        let expected = file.tensor(&format!("sd15.run.{name}")).unwrap();
        let difference = compare(expected.shape(), &values(&expected), found.data());
        println!("{name}: {difference}");
        assert!(difference.max_abs < CLOSE_RUN, "{name}: {difference}");
    }
}

fn options(syntax: PromptSyntax, emphasis: Emphasis) -> PromptOptions {
    PromptOptions {
        syntax,
        emphasis,
        ..PromptOptions::default()
    }
}

/// The picture of a prompt, four steps of Euler.
fn picture(model: &SDModel, prompt: &str, negative: Option<&str>) -> GeneratedImage {
    let config = SamplingConfig {
        prompt: prompt.into(),
        negative_prompt: negative.map(str::to_owned),
        steps: 4,
        sampler: Some("euler".into()),
        ..quick()
    };
    generate(model, &config).remove(0)
}

#[test]
fn a_prompt_without_syntax_gives_the_same_bytes_in_both_languages() {
    for family in ["sd15", "sd21", "sdxl"] {
        let (_folder, model) = load(family, EngineKind::Cpu);
        for (prompt, negative) in [
            ("a photo of a cat", None),
            ("", Some("")),
            ("a red, red car", Some("blurry, dog")),
        ] {
            let of = |syntax| {
                let config = SamplingConfig {
                    prompt: prompt.into(),
                    negative_prompt: negative.map(str::to_owned),
                    text: options(syntax, Emphasis::Original),
                    ..quick()
                };
                generate(&model, &config).remove(0).latents
            };
            assert_eq!(
                of(PromptSyntax::Webui),
                of(PromptSyntax::Plain),
                "{family} {prompt:?}"
            );
        }
    }
}

#[test]
fn texts_that_read_the_same_give_the_same_picture() {
    for family in ["sd15", "sdxl"] {
        let (_folder, model) = load(family, EngineKind::Cpu);
        let same = [
            // A text holds one evaluation longer than its step, so a change at 3 of 4 never shows.
            ("[a cat:a dog:3]", "a cat"),
            ("[a cat:a dog:-1]", "a dog"),
            ("[a cat:a dog:0]", "a dog"),
            ("(a cat:1.0)", "a cat"),
            ("a cat # and nothing else", "a cat"),
            ("a cat AND a dog:0", "a cat"),
        ];
        for (left, right) in same {
            let (left_picture, right_picture) =
                (picture(&model, left, None), picture(&model, right, None));
            assert_eq!(
                left_picture.latents, right_picture.latents,
                "{family} {left:?}"
            );
        }
        let different = [
            "[a cat:a dog:1]",
            "[a cat|a dog]",
            "(a cat:1.4)",
            "[a cat]",
            "a cat AND a dog",
            "a cat AND a dog:0.3",
            "a cat:0.5",
            "a cat BREAK a dog",
            &("a cat, ".repeat(40) + "a dog"),
        ];
        let mut seen = vec![picture(&model, "a cat", None).latents];
        for prompt in different {
            let latents = picture(&model, prompt, None).latents;
            assert!(
                !seen.contains(&latents),
                "{family} {prompt:?} shows nothing"
            );
            seen.push(latents);
        }
    }
}

#[test]
fn negative_prompts_change_over_the_steps_and_may_be_longer_or_shorter() {
    let (_folder, model) = load("sd15", EngineKind::Cpu);
    let long = "blurry, ".repeat(60);
    let mut seen = Vec::new();
    for (prompt, negative) in [
        ("a cat", "blurry"),
        ("a cat", "[blurry:dark:1]"),
        ("a cat", "(blurry:1.5)"),
        ("a cat", long.as_str()),
        (&("a cat, ".repeat(60)), "blurry"),
        (&("a cat, ".repeat(60)), long.as_str()),
    ] {
        let latents = picture(&model, prompt, Some(negative)).latents;
        assert!(!seen.contains(&latents), "{prompt:?} {negative:?}");
        seen.push(latents);
    }
}

#[test]
fn every_emphasis_differs_and_is_recorded() {
    let (_folder, model) = load("sd15", EngineKind::Cpu);
    let mut seen = Vec::new();
    for (name, emphasis) in Emphasis::NAMES {
        let config = SamplingConfig {
            prompt: "a (red:1.5) cat".into(),
            text: options(PromptSyntax::Webui, emphasis),
            ..quick()
        };
        let picture = generate(&model, &config).remove(0);
        let recorded = picture.parameters.get("Emphasis");
        let recorded = recorded.map_or(Emphasis::Original, |label| label.parse().unwrap());
        assert_eq!(recorded, emphasis);
        assert!(!seen.contains(&picture.latents), "{name}");
        seen.push(picture.latents);
    }
}

#[test]
fn each_text_is_encoded_once_and_oddities_are_told() {
    let (_folder, model) = load("sd15", EngineKind::Cpu);
    let told = Mutex::new(Vec::new());
    let config = SamplingConfig {
        prompt: "[a|b] (c AND a:0.5".into(),
        negative_prompt: Some("[x:y:30]".into()),
        steps: 4,
        sampler: Some("euler".into()),
        ..quick()
    };
    let mut observer = |event: &Event| told.lock().unwrap().push(event.clone());
    model
        .generate(&config, &mut observer, &CancelToken::new())
        .unwrap();
    let told = told.into_inner().unwrap();
    assert!(told.contains(&Event::EncodingText { texts: 4 }), "{told:?}");
    let warnings: Vec<String> = told
        .iter()
        .filter_map(|event| match event {
            Event::Warning(text) => Some(text.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("prompt: `(` is never closed"));
    assert!(warnings[1].starts_with("negative prompt: the change at 30"));
}

#[test]
fn what_cannot_be_served_is_an_error() {
    let (_folder, model) = load("sd15", EngineKind::Cpu);
    let cases = [
        ("a <lora:x:1>", ErrorKind::Unsupported, "<lora:x:1>"),
        (
            "(embedding:x:1.2)",
            ErrorKind::Unsupported,
            "prompt: embedding:x (bytes 1 to 12): embeddings are not supported yet",
        ),
        ("(a:1.2.3)", ErrorKind::InvalidConfig, "bytes 3 to 8"),
        (
            &"cat ".repeat(20_000),
            ErrorKind::InvalidConfig,
            "267 chunks",
        ),
        (
            &"cat ".repeat(1 << 18),
            ErrorKind::InvalidConfig,
            "3496 chunks",
        ),
        (&"a AND ".repeat(1 << 17), ErrorKind::InvalidConfig, "parts"),
    ];
    for (prompt, kind, fact) in cases {
        let config = SamplingConfig {
            prompt: prompt.into(),
            ..quick()
        };
        let error = model
            .generate(&config, &mut |_: &Event| {}, &CancelToken::new())
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(fact), "{error}");
    }
}

#[test]
fn choices_are_made_by_picture_and_recorded() {
    let (_folder, model) = load("sd15", EngineKind::Cpu);
    let config = SamplingConfig {
        prompt: "a {red|blue} {cat|dog}".into(),
        negative_prompt: Some("dark".into()),
        batch: 4,
        text: PromptOptions {
            choices: Choices::Combinatorial,
            ..PromptOptions::default()
        },
        ..quick()
    };
    let pictures = generate(&model, &config);
    let prompts: Vec<&str> = pictures
        .iter()
        .map(|picture| picture.parameters.prompt.as_str())
        .collect();
    assert_eq!(
        prompts,
        ["a red cat", "a red dog", "a blue cat", "a blue dog"]
    );
    for picture in &pictures {
        let settings = &picture.parameters;
        assert_eq!(settings.get("Template"), Some("a {red|blue} {cat|dog}"));
        assert_eq!(settings.get("Negative Template"), None);
        let again = SamplingConfig {
            prompt: settings.prompt.clone(),
            negative_prompt: Some(settings.negative_prompt.clone()),
            seed: Some(picture.seed),
            ..quick()
        };
        assert_eq!(generate(&model, &again)[0].latents, picture.latents);
    }
    let by_chance = SamplingConfig {
        batch: 3,
        text: PromptOptions::default(),
        ..config
    };
    let batch = generate(&model, &by_chance);
    for picture in &batch {
        let alone = SamplingConfig {
            batch: 1,
            seed: Some(picture.seed),
            ..by_chance.clone()
        };
        let alone = generate(&model, &alone).remove(0);
        assert_eq!(alone.parameters.prompt, picture.parameters.prompt);
        assert_eq!(alone.image, picture.image);
    }
}
