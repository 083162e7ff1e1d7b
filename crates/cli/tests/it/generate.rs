//! `tintype generate` from the command to the file, on tiny models.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

use serde_json::Value;
use tintype_testkit::{Single, TinyModel};

use crate::support::{Place, Run};

/// A small request with seed 42.
const REQUEST: [&str; 12] = [
    "generate",
    "a photo of a cat",
    "--model",
    "model",
    "--width",
    "64",
    "--height",
    "64",
    "--steps",
    "3",
    "--seed",
    "42",
];

fn place_with(family: &str) -> Place {
    let place = Place::new();
    place.write_model(family);
    place
}

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&REQUEST, more].concat()
}

/// Width and height as a PNG's header has them.
#[track_caller]
fn size_of_png(bytes: &[u8]) -> (u32, u32) {
    assert_eq!(bytes[..8], *b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

/// The compressed pixels of a PNG.
fn pixels(bytes: &[u8]) -> &[u8] {
    let start = find(bytes, b"IDAT").unwrap();
    &bytes[start..find(bytes, b"IEND").unwrap()]
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

#[test]
fn a_prompt_becomes_a_picture_that_says_how_it_was_made() {
    let place = place_with("sd15");
    let run = place.run(with(&[
        "--negative",
        "a dog, blurry",
        "--sampler",
        "euler",
        "--guidance",
        "5",
    ]));
    assert_eq!(run.stderr, "");
    assert_eq!(run.ok(), "tintype-42.png\n");
    assert_eq!(place.pictures(), ["tintype-42.png"]);
    assert_eq!(size_of_png(&place.read("tintype-42.png")), (64, 64));

    let text = place.run(["inspect", "tintype-42.png"]).ok();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "a photo of a cat");
    assert_eq!(lines[1], "Negative prompt: a dog, blurry");
    for setting in [
        "Steps: 3,",
        "Sampler: Euler,",
        "CFG scale: 5,",
        "Seed: 42,",
        "Size: 64x64,",
    ] {
        assert!(
            lines[2].contains(setting),
            "{setting} is not in {}",
            lines[2]
        );
    }
    let document: Value =
        serde_json::from_str(&place.run(["inspect", "tintype-42.png", "--json"]).ok()).unwrap();
    assert_eq!(document["parameters"], text.trim_end());
    assert_eq!(document["negative_prompt"], "a dog, blurry");
    assert_eq!(document["settings"]["Seed"], "42");
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads() {
    let place = place_with("sd15");
    for (threads, name) in [
        ("1", "tintype-42.png"),
        ("2", "tintype-42-2.png"),
        ("3", "tintype-42-3.png"),
    ] {
        assert_eq!(
            place.run(with(&["--threads", threads])).ok().trim_end(),
            name
        );
    }
    let first = place.read("tintype-42.png");
    assert!(place.read("tintype-42-2.png") == first && place.read("tintype-42-3.png") == first);
}

#[test]
fn more_threads_than_the_machine_runs_are_fewer_and_it_says_so() {
    let place = place_with("sd15");
    let run = place.run(with(&["--threads", "1024", "--json"]));
    let stderr = run.stderr.clone();
    let document: Value = serde_json::from_str(&run.ok()).unwrap();
    let there = std::thread::available_parallelism().unwrap().get();
    assert_eq!(document["settings"]["threads"], there);
    let warning = format!("threads is 1024, and this machine runs {there} at a time: took {there}");
    assert!(stderr.contains(&warning), "{stderr}");
}

#[test]
fn a_batch_counts_seeds_and_names_and_each_picture_stands_for_itself() {
    let place = place_with("sd15");
    let stdout = place.run(with(&["--batch", "2", "--out", "cat.png"])).ok();
    assert_eq!(stdout, "cat-1.png\ncat-2.png\n");
    let mut single = REQUEST;
    single[11] = "43";
    std::fs::write(place.path("alone.png"), "is replaced").unwrap();
    place
        .run([&single[..], &["--out", "alone.png"]].concat())
        .ok();
    assert!(place.read("alone.png") == place.read("cat-2.png"));
    assert!(place.read("cat-1.png") != place.read("cat-2.png"));
}

#[test]
fn a_program_reads_one_document() {
    let place = place_with("sd15");
    let prompt = format!("a cat {}", "and another ".repeat(60).trim());
    let mut request = with(&["--json", "--batch", "2", "--prompt-syntax", "plain"]);
    request[1] = &prompt;
    let run = place.run(&request);
    assert!(
        run.stderr.starts_with("warning: ") && run.stderr.contains("another"),
        "{}",
        run.stderr
    );
    let document: Value = serde_json::from_str(&run.ok()).unwrap();
    assert_eq!(document["complete"], true);
    let images = document["images"].as_array().unwrap();
    assert_eq!(images.len(), 2);
    assert_eq!(
        (&images[1]["path"], &images[1]["seed"]),
        (&"tintype-43.png".into(), &43.into())
    );
    assert_eq!(
        (&images[1]["width"], &images[1]["height"]),
        (&64.into(), &64.into())
    );
    let parameters = place.run(["inspect", "tintype-43.png"]).ok();
    assert_eq!(images[1]["parameters"], parameters.trim_end());
    let settings = &document["settings"];
    assert_eq!(
        (&settings["steps"], &settings["seed"]),
        (&3.into(), &42.into())
    );
    assert_eq!(
        (&settings["device"], &settings["dtype"]),
        (&"cpu".into(), &"f32".into())
    );
    assert!(
        settings["sampler"].is_string() && settings["guidance_scale"] == 7.5,
        "{settings}"
    );
    assert_eq!(settings["clip_skip"], 1);
    let timings = &document["timings"];
    let time = |part: &str| timings[part].as_f64().unwrap();
    let parts = time("load") + time("text") + time("denoise") + time("decode");
    assert!(time("denoise") > 0.0 && parts <= time("total"), "{timings}");
    assert_eq!(document["warnings"].as_array().unwrap().len(), 1);
}

#[test]
fn what_the_sampler_and_the_model_decide_is_reported() {
    let place = place_with("sdxl");
    let settings = |more: &[&str]| -> Value {
        let request = [
            "generate", "a cat", "--model", "model", "--width", "64", "--height", "64", "--seed",
            "1", "--json",
        ];
        let run = place.run([&request[..], more].concat());
        let document: Value = serde_json::from_str(&run.ok()).unwrap();
        document["settings"].clone()
    };
    let ancestral = settings(&["--sampler", "euler_a", "--steps", "1"]);
    assert_eq!(ancestral["eta"], 1.0);
    assert_eq!(ancestral["clip_skip"], 2);
    let own = settings(&["--sampler", "euler", "--sigmas", "14,7,2"]);
    assert_eq!((&own["eta"], &own["steps"]), (&Value::Null, &3.into()));
    let said = settings(&[
        "--sampler",
        "ddim",
        "--eta",
        "0.3",
        "--clip-skip",
        "1",
        "--steps",
        "1",
    ]);
    assert_eq!((&said["eta"], &said["clip_skip"]), (&0.3.into(), &1.into()));
}

#[test]
fn what_is_not_given_is_the_models_own() {
    let place = place_with("sd-turbo");
    // 8 latent pixels of 8 each; the published size would only take longer.
    place.edit_json("model/unet/config.json", "sample_size", 8);
    let stdout = place
        .run(["generate", "a cat", "--model", "model", "--json"])
        .ok();
    let settings = &serde_json::from_str::<Value>(&stdout).unwrap()["settings"];
    assert_eq!(
        (&settings["steps"], &settings["guidance_scale"]),
        (&1.into(), &0.0.into())
    );
    assert_eq!(
        (&settings["width"], &settings["height"]),
        (&64.into(), &64.into())
    );
    assert_eq!(settings["sampler"], "Euler");
    let seed = settings["seed"].as_u64().unwrap();
    assert_eq!(
        place.pictures(),
        [format!("tintype-{seed}.png")],
        "the drawn seed is reported"
    );
}

#[test]
fn stages_are_told_only_to_who_asks() {
    let place = place_with("sd15");
    let stderr = place.run(with(&["--verbose", "--sampler", "ddim"])).stderr;
    let stages = [
        "loading unet",
        "loaded in ",
        "encoding text",
        "denoising picture in 3 steps",
        "decoding picture",
        "1 picture in ",
    ];
    let mut rest = stderr.as_str();
    for stage in stages {
        let at = rest
            .find(stage)
            .unwrap_or_else(|| panic!("{stage} is not in {stderr}"));
        rest = &rest[at + stage.len()..];
    }
    let prompt = "cat ".repeat(90);
    let mut request = with(&["--quiet"]);
    request[1] = &prompt;
    assert_eq!(place.run(&request).stderr, "");
}

#[test]
fn a_model_that_lacks_tensors_is_refused_with_all_their_names() {
    let place = place_with("sd15");
    place.edit_json("model/text_encoder/config.json", "num_hidden_layers", 4);
    let stderr = place.run(with(&[])).fails_with(3);
    let report = place.run(["inspect", "model", "--json"]).ok();
    let report: Value = serde_json::from_str(&report).unwrap();
    let parts = report["components"].as_array().unwrap();
    let text_encoder = parts
        .iter()
        .find(|part| part["name"] == "text_encoder")
        .unwrap();
    let missing = text_encoder["missing"].as_array().unwrap();
    assert!(missing.len() > 10, "{report}");
    let text = place.run(["inspect", "model"]).ok();
    for name in missing {
        let name = name.as_str().unwrap();
        assert!(stderr.contains(name), "the error lacks {name}");
        assert!(text.contains(name), "the report lacks {name}");
    }
    assert!(report["obstacle"].is_string(), "{report}");
    assert_eq!(place.pictures(), [""; 0]);
}

#[test]
fn a_single_file_gives_the_folders_pixels() {
    let place = place_with("sd15");
    TinyModel::family("sd15").write_single_file(&place.path("m.safetensors"), Single::default());
    place.run(with(&["--out", "folder.png"])).ok();
    let mut request = with(&["--out", "file.png", "--config", "model"]);
    request[3] = "m.safetensors";
    place.run(&request).ok();
    assert!(pixels(&place.read("file.png")) == pixels(&place.read("folder.png")));
    let report = place
        .run(["inspect", "m.safetensors", "--config", "model"])
        .ok();
    assert!(report.contains("Stable Diffusion 1.x (sd1)"), "{report}");
}

#[test]
fn a_picture_that_breaks_is_not_written() {
    let place = place_with("sd15");
    place.poison(
        "model/unet/diffusion_pytorch_model.safetensors",
        "conv_out.bias",
    );
    let stderr = place.run(with(&[])).fails_with(8);
    assert!(stderr.contains("NaN"), "{stderr}");
    assert_eq!(place.pictures(), [""; 0]);
}

#[test]
fn a_picture_without_settings_says_so() {
    let place = place_with("sd15");
    place.run(with(&["--out", "x.png"])).ok();
    let mut bytes = place.read("x.png");
    let chunk = find(&bytes, b"parameters\0").unwrap();
    let length = u32::from_be_bytes(bytes[chunk - 8..chunk - 4].try_into().unwrap());
    bytes.drain(chunk - 8..chunk + length as usize + 4);
    std::fs::write(place.path("bare.png"), &bytes).unwrap();
    let stderr = place.run(["inspect", "bare.png"]).fails_with(7);
    assert!(
        stderr.contains("bare.png") && stderr.contains("parameters"),
        "{stderr}"
    );
    std::fs::write(place.path("cut.png"), &bytes[..20]).unwrap();
    let stderr = place.run(["inspect", "cut.png"]).fails_with(3);
    assert!(stderr.contains("cut.png"), "{stderr}");
}

#[test]
fn an_inpainting_model_is_told_apart_and_not_generated_from() {
    let place = place_with("inpaint");
    let stderr = place.run(with(&[])).fails_with(4);
    assert!(
        stderr.contains("inpainting") && stderr.contains("hint: "),
        "{stderr}"
    );
    let text = place.run(["inspect", "model"]).ok();
    assert!(
        text.contains("inpainting") && text.contains("generates   no: "),
        "{text}"
    );
}

#[test]
fn inspect_says_what_a_model_holds_and_needs() {
    let place = place_with("sd15");
    let text = place.run(["inspect", "model"]).ok();
    let report: Value =
        serde_json::from_str(&place.run(["inspect", "model", "--json"]).ok()).unwrap();
    let small = [
        "inspect",
        "model",
        "--json",
        "--precision=f32",
        "--memory=low",
    ];
    let small: Value = serde_json::from_str(&place.run(small).ok()).unwrap();
    assert_eq!(
        (&report["family"], &report["obstacle"]),
        (&"sd1".into(), &Value::Null)
    );
    let parameters = report["parameters"].as_u64().unwrap();
    // Vectors of words and positions stay in the file.
    let vectors = (49408 + 77) * 32;
    assert_eq!(small["weight_memory_bytes"], 4 * (parameters - vectors));
    for part in report["components"].as_array().unwrap() {
        assert!(part["parameters"].as_u64().unwrap() > 0, "{part}");
        assert!(part["missing"].as_array().unwrap().is_empty(), "{part}");
        assert!(text.contains(part["name"].as_str().unwrap()), "{text}");
    }
    assert!(
        text.contains("Stable Diffusion 1.x (sd1)") && text.contains("generates   yes"),
        "{text}"
    );
}

#[test]
fn a_size_that_the_model_cannot_make_is_refused_with_those_it_can() {
    for (family, nearest) in [("sd15", "96 or 104"), ("latent16", "96 or 128")] {
        let place = place_with(family);
        let arguments = ["generate", "a cat", "--model", "model", "--width", "100"];
        let stderr = place.run(arguments).fails_with(2);
        assert!(stderr.contains("width is 100"), "{stderr}");
        assert!(stderr.contains(&format!("hint: use {nearest}")), "{stderr}");
        assert!(place.pictures().is_empty());
    }
}

#[test]
fn a_folders_card_is_shown_and_its_settings_stand_in() {
    let place = place_with("sd15");
    let card = r#"{"summary": "a tiny model of random weights", "notes": ["It draws nothing."], "licence": "CC0",
        "data": [{"name": "no pictures", "licence": "none"}], "prompts": ["a cat"],
        "defaults": {"steps": 2, "guidance_scale": 3.5}}"#;
    std::fs::write(place.path("model/tintype.json"), card).unwrap();
    let text = place.run(["inspect", "model"]).ok();
    for line in [
        "about       a tiny model of random weights",
        "note        It draws nothing.",
        "licence     CC0",
        "trained on  no pictures (none)",
        "try         a cat",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let request = [
        "generate", "a cat", "--model", "model", "--width", "64", "--height", "64",
    ];
    let made = place.run([&request[..], &["--json"]].concat()).ok();
    let document: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(document["settings"]["steps"], 2);
    assert_eq!(document["settings"]["guidance_scale"], 3.5);

    std::fs::write(place.path("model/tintype.json"), "{}").unwrap();
    let stderr = place.run(["inspect", "model"]).fails_with(3);
    assert!(
        stderr.contains("tintype.json") && stderr.contains("summary"),
        "{stderr}"
    );
}

#[test]
fn a_reader_who_has_gone_loses_no_picture() {
    let place = place_with("sd15");
    let mut child = place
        .command(with(&["--batch", "2"]))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(place.pictures(), ["tintype-42.png", "tintype-43.png"]);
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    let line = format!("kill -INT {}", child.id());
    let status = std::process::Command::new("sh")
        .args(["-c", &line])
        .status();
    assert!(status.unwrap().success());
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_soon_and_keeps_what_is_finished() {
    let place = place_with("sd15");
    let mut command = place.command(with(&["--batch", "64"]));
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut paths = String::new();
    stdout.read_line(&mut paths).unwrap();
    interrupt(&child);
    stdout.read_to_string(&mut paths).unwrap();
    let run = Run::of(child.wait_with_output().unwrap());
    assert_eq!(run.code, Some(130), "{}", run.stderr);
    assert!(run.stderr.contains("\nerror: cancelled"), "{}", run.stderr);
    let paths: Vec<&str> = paths.lines().collect();
    assert!(!paths.is_empty() && paths.len() < 64, "{paths:?}");
    assert_eq!(place.pictures(), paths);
    for path in paths {
        assert_eq!(size_of_png(&place.read(path)), (64, 64));
    }
}

#[cfg(unix)]
#[test]
fn a_stopped_run_reports_the_pictures_it_made() {
    let place = place_with("sd15");
    let mut command = place.command(with(&["--batch", "64", "--json", "--verbose"]));
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("decoding picture 2 of 64")));
    interrupt(&child);
    lines.for_each(drop);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["complete"], false);
    let images = document["images"].as_array().unwrap();
    assert!(
        !images.is_empty() && images.len() == place.pictures().len(),
        "{document}"
    );
}

#[test]
fn every_combination_is_a_picture_of_its_own() {
    let place = place_with("sd15");
    let mut request = with(&["--json", "--combinatorial", "--out", "x-{index}.png"]);
    request[1] = "a {red|blue} (cat:1.2)";
    let document: Value = serde_json::from_str(&place.run(&request).ok()).unwrap();
    let parameters: Vec<&str> = document["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["parameters"].as_str().unwrap())
        .collect();
    assert_eq!(parameters.len(), 2);
    for (text, colour) in parameters.iter().zip(["red", "blue"]) {
        assert!(
            text.starts_with(&format!("a {colour} (cat:1.2)\n")),
            "{text}"
        );
        assert!(
            text.contains("Template: \"a {red|blue} (cat:1.2)\""),
            "{text}"
        );
    }
    assert_eq!(document["settings"]["combinatorial"], true);
    assert_eq!(document["settings"]["prompt"], request[1]);
}

#[test]
fn seed_options_reach_the_picture_and_its_settings() {
    let place = place_with("sd15");
    let run = place.run(with(&[
        "--rng",
        "NV",
        "--variation-seed",
        "7",
        "--variation-strength",
        "0.3",
        "--seed-resize-from",
        "32x48",
        "--ensd",
        "-5",
        "--batch",
        "2",
        "--out",
        "{seed}.png",
        "--json",
    ]));
    let report: Value = serde_json::from_str(&run.ok()).unwrap();
    for (index, name) in ["42-1.png", "42-2.png"].into_iter().enumerate() {
        let image = &report["images"][index];
        assert_eq!(image["path"], name);
        let text = image["parameters"].as_str().unwrap();
        let expected = format!(
            "Variation seed: {}, Variation seed strength: 0.3, Seed resize from: 32x48, ENSD: -5, RNG: NV",
            7 + index
        );
        assert!(text.contains(&expected), "{text}");
        let inspected = place.run(["inspect", name]).ok();
        assert!(inspected.contains(&expected), "{inspected}");
    }
    assert_eq!(report["settings"]["rng"], "gpu");
    assert_eq!(report["settings"]["variation_seed"], 7);
    assert_eq!(report["settings"]["ensd"], -5);
    for (bad, words) in [
        (["--rng", "dice"], "dice"),
        (["--seed-resize-from", "512"], "512x768"),
        (["--variation-seed", "7"], "--variation-strength"),
    ] {
        let message = place.run(with(&bad)).fails_with(2);
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn guidance_options_reach_the_picture_and_its_settings() {
    let place = place_with("sd15");
    let run = place.run(with(&[
        "--guidance-schedule",
        "7.5->2:cosine",
        "--guidance-interval",
        "sigma:0.1..1000",
        "--negative-min-sigma",
        "0.5",
        "--negative-min-sigma-all",
        "--skip-early-guidance",
        "0.1",
        "--guidance-method",
        "apg:eta=0.5",
        "--pag",
        "2",
        "--sag",
        "0.75",
        "--freeu",
        "on",
        "--out",
        "guided.png",
        "--json",
    ]));
    let report: Value = serde_json::from_str(&run.ok()).unwrap();
    let image = &report["images"][0];
    let text = image["parameters"].as_str().unwrap();
    let expected = [
        "CFG schedule: \"7.5..2:cosine\"",
        "CFG interval: \"sigma:0.1..1000\"",
        "NGMS: 0.5, NGMS all steps: True, Skip Early CFG: 0.1",
        "CFG method: \"apg:momentum=-0.5,threshold=15,eta=0.5\"",
        "PerturbedAttentionGuidance_enabled: True, PerturbedAttentionGuidance_scale: 2",
        "SAG: 0.75",
        "FreeU: \"b1=1.5,b2=1.6,s1=0.9,s2=0.2\"",
    ];
    for words in expected {
        assert!(text.contains(words), "{words}: {text}");
    }
    let settings = &report["settings"];
    for (key, value) in [
        ("guidance_schedule", "7.5..2:cosine"),
        ("guidance_interval", "sigma:0.1..1000"),
        ("guidance_method", "apg:momentum=-0.5,threshold=15,eta=0.5"),
        ("pag", "scale=2,adaptive=0,blocks=mid"),
        ("freeu", "b1=1.5,b2=1.6,s1=0.9,s2=0.2"),
    ] {
        assert_eq!(settings[key], value, "{key}");
    }
    assert_eq!(settings["negative_min_sigma_all"], true);
    assert!(image["unet_passes"].as_u64().unwrap() > 6, "{image}");
    let replayed = place.run(["replay", "guided.png", "--model", "model"]);
    assert!(replayed.ok().contains("none, the same bit for bit"));
    for (bad, words) in [
        (["--guidance-method", "apgg"], "apgg"),
        (["--guidance-interval", "0.5..0.2"], "the smaller end first"),
        (["--pag", "blocks=middle"], "middle"),
        (["--sag", "101"], "sag is 101"),
    ] {
        let message = place.run(with(&bad)).fails_with(2);
        assert!(message.contains(words), "{message}");
    }
}
