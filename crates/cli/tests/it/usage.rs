//! Help, refusals and their exit codes: what needs no model.

use std::fmt::Write as _;
use std::process::Stdio;

use tintype_testkit::write_hostile;

use crate::expected::assert_expected;
use crate::support::{Place, Run};

/// Runs every case in one place and writes down what was typed, said and returned.
fn transcript(place: &Place, cases: &[&[&str]]) -> String {
    let mut text = String::new();
    for arguments in cases {
        let run = place.run(*arguments);
        let line = arguments
            .iter()
            .map(|argument| {
                if argument.contains(' ') {
                    format!("{argument:?}")
                } else {
                    (*argument).to_owned()
                }
            })
            .collect::<Vec<_>>()
            .join(" ");
        let code = run.code.unwrap();
        writeln!(
            text,
            "$ tintype {line}\n{}{}[exit {code}]\n",
            run.stdout, run.stderr
        )
        .unwrap();
    }
    text
}

#[test]
fn help_says_what_every_flag_does() {
    let place = Place::new();
    let cases: &[&[&str]] = &[
        &["--help"],
        &["generate", "--help"],
        &["replay", "--help"],
        &["inspect", "--help"],
        &["explain", "--help"],
        &["pull", "--help"],
        &["samplers", "--help"],
    ];
    assert_expected("help", &transcript(&place, cases));
}

#[test]
fn refuses_settings_out_of_range_before_looking_for_the_model() {
    let place = Place::new();
    let settings: &[&[&str]] = &[
        &["--width", "0"],
        &["--height", "5000"],
        &["--height", "wide"],
        &["--steps", "0"],
        &["--steps", "1001"],
        &["--steps", "-1"],
        &["--guidance", "NaN"],
        &["--guidance", "-1"],
        &["--guidance-rescale", "2"],
        &["--eta", "-0.5"],
        &["--s-noise", "11"],
        &["--sigmas", "5,7"],
        &["--sigmas", "5,2", "--steps", "3"],
        &["--timesteps", "999,x"],
        &["--batch", "0"],
        &["--batch", "65"],
        &["--clip-skip", "0"],
        &["--seed", "-1"],
        &["--sampler", "eulr"],
        &["--schedule", "karas"],
        &["--dtype", "f64"],
        &["--engine", "gpu"],
        &["--threads", "0"],
    ];
    let cases: Vec<Vec<&str>> = settings
        .iter()
        .map(|setting| [&["generate", "a cat", "--model", "nowhere"], *setting].concat())
        .collect();
    let cases: Vec<&[&str]> = cases.iter().map(Vec::as_slice).collect();
    let text = transcript(&place, &cases);
    assert!(
        !text.contains("nowhere:"),
        "the model was looked for: {text}"
    );
    assert_eq!(text.matches("[exit 2]").count(), cases.len(), "{text}");
    assert_expected("settings", &text);
}

#[test]
fn refuses_wrong_arguments() {
    let cases: &[&[&str]] = &[
        &["generate"],
        &["generate", "a cat", "--model", "m", "--stepz", "3"],
        &["paint", "a cat"],
        &["completions", "tcsh"],
        &["generate", "a cat", "--model", "m", "--device", "tpu"],
    ];
    assert_expected("arguments", &transcript(&Place::new(), cases));
}

#[test]
fn refuses_outputs_that_cannot_be_written_before_looking_for_the_model() {
    let place = Place::new();
    std::fs::write(place.path("a-file"), "").unwrap();
    std::fs::create_dir(place.path("taken-1.png")).unwrap();
    let outputs: &[&[&str]] = &[
        &["--out", "x.jpg"],
        &["--out", "x"],
        &["--out", "-"],
        &["--out", "nowhere/x.png"],
        &["--out", "a-file/x.png"],
        &["--out", "taken.png", "--batch", "2"],
    ];
    let cases: Vec<Vec<&str>> = outputs
        .iter()
        .map(|output| [&["generate", "a cat", "--model", "no-model"], *output].concat())
        .collect();
    let cases: Vec<&[&str]> = cases.iter().map(Vec::as_slice).collect();
    let text = transcript(&place, &cases);
    assert!(
        !text.contains("no-model\""),
        "the model was looked for: {text}"
    );
    assert_expected("outputs", &text);
    assert_eq!(place.files(), ["a-file", "taken-1.png"]);
}

#[test]
fn refuses_what_is_no_model() {
    let place = Place::new();
    std::fs::create_dir(place.path("empty")).unwrap();
    std::fs::write(place.path("notes.txt"), "to do").unwrap();
    std::fs::write(place.path("short.safetensors"), [8, 0, 0]).unwrap();
    write_hostile(&place.path("evil.ckpt"), "os", "system", "touch owned");
    let cases: &[(&[&str], i32, &str)] = &[
        (
            &["generate", "a cat", "--model", "nowhere"],
            7,
            "\"nowhere\"",
        ),
        (
            &["generate", "a cat", "--model", "empty"],
            7,
            "model_index.json",
        ),
        (
            &["generate", "a cat", "--model", "notes.txt"],
            3,
            "notes.txt",
        ),
        (
            &["generate", "a cat", "--model", "short.safetensors"],
            3,
            "short.safetensors",
        ),
        (&["generate", "a cat", "--model", "evil.ckpt"], 3, "system"),
        (&["inspect", "evil.ckpt"], 3, "system"),
        (&["inspect", "nowhere.png"], 7, "nowhere.png"),
        (&["inspect", "empty"], 7, "model_index.json"),
    ];
    for (arguments, code, fact) in cases {
        let stderr = place.run(*arguments).fails_with(*code);
        assert!(
            stderr.contains(fact) && stderr.contains("\nhint: "),
            "{arguments:?}: {stderr}"
        );
    }
    assert!(!place.path("owned").exists());
}

#[test]
fn refuses_a_device_that_is_not_compiled_in() {
    if cfg!(feature = "cuda") {
        return;
    }
    let place = Place::new();
    std::fs::create_dir(place.path("empty")).unwrap();
    let stderr = place
        .run(["generate", "a cat", "--model", "empty", "--device", "cuda"])
        .fails_with(5);
    assert!(
        stderr.contains("cuda") && stderr.contains("hint: "),
        "{stderr}"
    );
}

/// What was not compiled in cannot be used; what was is tested in `in_the_box`.
#[cfg(not(feature = "model-in-the-box"))]
#[test]
fn without_a_model_in_the_box_one_must_be_named() {
    let place = Place::new();
    for arguments in [&["generate", "a cat"][..], &["inspect"]] {
        let stderr = place.run(arguments).fails_with(2);
        assert!(stderr.contains("no model is named"), "{stderr}");
        assert!(stderr.contains("hint: name a folder"), "{stderr}");
    }
}

#[test]
fn levels_on_the_command_line_outrank_those_of_the_environment() {
    let place = Place::new();
    let of = |name: &str, value: &str, arguments: &[&str]| {
        let mut command = place.command(&["generate", "a", "--model", "absent"]);
        Run::of(command.args(arguments).env(name, value).output().unwrap()).stderr
    };
    for (name, value, arguments) in [
        ("TINTYPE_STEPS", "7", ["--sigmas", "5,2"]),
        ("TINTYPE_SCHEDULE", "karras", ["--timesteps", "900,2"]),
        ("TINTYPE_SIGMAS", "5,2", ["--steps", "3"]),
    ] {
        let stderr = of(name, value, &arguments);
        assert!(stderr.contains("absent"), "{name}: {stderr}");
        assert!(!stderr.contains("cannot be used with"), "{name}: {stderr}");
    }
    let stderr = of(
        "TINTYPE_STEPS",
        "7",
        &["--sigmas", "5,2", "--schedule", "karras"],
    );
    assert!(stderr.contains("cannot be used with"), "{stderr}");
}

#[test]
fn the_environment_stands_in_for_flags_and_flags_win() {
    let place = Place::new();
    let arguments = ["generate", "a cat", "--model", "nowhere"];
    let mut command = place.command(arguments);
    let stderr = Run::of(command.env("TINTYPE_WIDTH", "5000").output().unwrap()).fails_with(2);
    assert!(stderr.contains("width is 5000"), "{stderr}");
    let mut command = place.command(arguments);
    command
        .env("TINTYPE_WIDTH", "5000")
        .args(["--width", "512"]);
    Run::of(command.output().unwrap()).fails_with(7);
}

#[test]
fn the_log_goes_to_stderr_and_a_wrong_level_is_refused() {
    let place = Place::new();
    let mut command = place.command(["samplers"]);
    let stderr =
        Run::of(command.env("TINTYPE_LOG", "tintype=loud").output().unwrap()).fails_with(2);
    assert!(
        stderr.contains("TINTYPE_LOG") && stderr.contains("hint: use a level"),
        "{stderr}"
    );
    let mut command = place.command(["samplers"]);
    let run = Run::of(command.env("TINTYPE_LOG", "trace").output().unwrap());
    assert_eq!(run.ok(), place.run(["samplers"]).ok());
}

#[test]
fn completions_know_commands_flags_and_samplers() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.run(["completions", shell]).ok();
        for word in ["generate", "guidance-rescale", "euler"] {
            assert!(
                script.contains(word) || (shell == "elvish" || shell == "powershell"),
                "{shell} lacks {word}"
            );
        }
        assert!(script.contains("generate"), "{shell}");
    }
}

#[test]
fn samplers_are_listed_for_people_and_programs() {
    let place = Place::new();
    assert_expected("samplers", &place.run(["samplers"]).ok());
    let document: serde_json::Value =
        serde_json::from_str(&place.run(["samplers", "--json"]).ok()).unwrap();
    let names: Vec<&str> = document["samplers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"ddim") && names.contains(&"euler"),
        "{names:?}"
    );
    for row in document["schedules"].as_array().unwrap() {
        assert!(!row["description"].as_str().unwrap().is_empty(), "{row}");
        let setting = row["setting"]["values"].as_str();
        assert_eq!(
            setting.is_some(),
            row["description"].as_str().unwrap().contains(':'),
            "{row}"
        );
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let place = Place::new();
    let mut child = place
        .command(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
}

#[test]
fn prompts_are_explained() {
    let place = Place::new();
    std::fs::write(
        place.path("styles.csv"),
        "name,prompt,negative_prompt\nPhoto,\"photo of {prompt}, 8k\",blurry\n",
    )
    .unwrap();
    std::fs::create_dir(place.path("cards")).unwrap();
    std::fs::write(place.path("cards/colour.txt"), "red\n").unwrap();
    let long = "cat, ".repeat(40);
    let cases: &[&[&str]] = &[
        &[
            "explain",
            "a [red:blue:0.25] (cat:1.3) AND a hat:0.5",
            "--steps",
            "8",
        ],
        &["explain", &long],
        &["explain", &long, "--prompt-syntax", "plain"],
        &[
            "explain",
            "a (b # note\n [c:d:30] <lora:x:1>",
            "--negative",
            "[x|y]",
            "--steps",
            "3",
        ],
        &["explain", "a __colour__ cat", "--wildcards", "cards"],
        &["explain", "a __color__ cat", "--wildcards", "cards"],
        &["explain", "a __../styles__ cat", "--wildcards", "cards"],
        &[
            "explain",
            "a cat",
            "--styles",
            "styles.csv",
            "--style",
            "Photo",
        ],
        &[
            "explain",
            "a cat",
            "--styles",
            "styles.csv",
            "--style",
            "Foto",
        ],
        &["explain", "a cat", "--style", "Photo"],
        &["explain", "(a:1.2.3)"],
        &["explain", "a", "--steps", "0"],
        &["explain", "a", "--emphasis", "orignal"],
        &[
            "generate",
            "{a|b|c} {a|b|c|d|e} {1|2|3|4|5}",
            "--combinatorial",
            "--model",
            "m",
        ],
        &["generate", "a <lora:x:1>", "--model", "m"],
    ];
    let text = transcript(&place, cases);
    let folder = place.path("cards").canonicalize().unwrap();
    let text = text.replace(&folder.display().to_string(), "CARDS");
    assert_expected("explain", &text);
    let asked = place.run(["explain", "(embedding:x:1.5)", "--json"]).ok();
    let asked: serde_json::Value = serde_json::from_str(&asked).unwrap();
    assert_eq!(asked["embeddings"], serde_json::json!(["embedding:x"]));
    let document = place.run(["explain", "a (cat:1.5)", "--json"]).ok();
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let token = &document["parts"][0]["texts"][0]["chunks"][0]["tokens"][1];
    assert_eq!(token["text"], "cat");
    assert_eq!(token["weight"], 1.5);
}
