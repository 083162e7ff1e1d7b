//! `tintype replay` on tiny models.

use serde_json::Value;
use tintype::metadata::{Parameters, read_picture, write_png};
use tintype_testkit::{Single, TinyModel};

use crate::support::Place;

fn place_with(family: &str) -> Place {
    let place = Place::new();
    place.write_model(family);
    place
}

fn generate(place: &Place, prompt: &str, more: &[&str]) {
    let request = ["generate", prompt, "--width", "64", "--height", "64"];
    place.run([&request[..], more].concat()).ok();
}

#[track_caller]
fn replay(place: &Place, picture: &str, model: &str) -> Value {
    let run = place.run(["replay", picture, "--model", model, "--json"]);
    serde_json::from_str(&run.ok()).unwrap()
}

/// Writes the pixels of `x.png` with another text as `name`.
fn retell(place: &Place, name: &str, text: &str) {
    let pixels = read_picture(&place.path("x.png")).unwrap().pixels;
    let bytes = write_png(&pixels, Some(&Parameters::parse(text))).unwrap();
    std::fs::write(place.path(name), bytes).unwrap();
}

/// Replaying `picture` fails with `code`, names the picture and says `words`.
pub(crate) fn refuses(place: &Place, picture: &str, code: i32, words: &str) {
    let stderr = place
        .run(["replay", picture, "--model", "nowhere"])
        .fails_with(code);
    assert!(
        stderr.contains(words) && stderr.contains(picture),
        "{stderr}"
    );
}

#[test]
fn our_own_pictures_repeat_bit_for_bit() {
    let requests: &[&[&str]] = &[
        &[],
        &[
            "--sampler",
            "euler_a",
            "--schedule",
            "karras",
            "--s-noise",
            "1.01",
        ],
        &["--sampler", "dpmpp_sde", "--eta", "0.7", "--clip-skip", "1"],
        &[
            "--sampler",
            "euler",
            "--sigmas",
            "14.6,3.3,0.7",
            "--s-churn",
            "5",
        ],
        &[
            "--sampler",
            "ddim",
            "--eta",
            "0.5",
            "--guidance-rescale",
            "0.3",
        ],
        &[
            "--prompt-syntax",
            "plain",
            "--guidance",
            "1",
            "--negative",
            "dog: big",
        ],
        &[
            "--emphasis",
            "comfy",
            "--guidance",
            "4.25",
            "--clip-skip",
            "2",
        ],
    ];
    repeat(requests);
}

#[test]
fn every_kind_of_seed_and_guidance_repeats() {
    let requests: &[&[&str]] = &[
        &[
            "--sampler",
            "euler_a",
            "--variation-seed",
            "7",
            "--variation-strength",
            "0.3",
        ],
        // The drawn variation seed is in the text.
        &["--rng", "gpu", "--variation-strength", "0.15"],
        &[
            "--seed-resize-from",
            "32x48",
            "--variation-seed",
            "9",
            "--variation-strength",
            "1",
        ],
        &["--sampler", "euler_a", "--ensd", "31337", "--rng", "numpy"],
        &["--sampler", "dpmpp_2s_ancestral", "--ensd=-3"],
        &["--sampler", "euler_a", "--fresh-rng", "gpu"],
        &["--sampler", "dpmpp_2m", "--levels-as", "comfyui"],
        &["--sampler", "ddim", "--levels-as", "webui"],
        &[
            "--sampler",
            "euler",
            "--schedule",
            "karras",
            "--rho",
            "5",
            "--sigma-min",
            "0.1",
            "--sigma-max",
            "9",
            "--discard-penultimate",
            "--full-start",
        ],
        &["--sampler", "lcm_webui", "--schedule", "sgm_uniform"],
        &["--sampler", "sa_solver_pece", "--eta", "0.5"],
        &["--pag", "3", "--sag", "0.5", "--freeu", "on"],
        &[
            "--guidance-schedule",
            "7..2:cosine",
            "--guidance-interval",
            "0.1..0.8",
            "--guidance-method",
            "apg",
        ],
    ];
    repeat(requests);
}

/// Each request gives a picture that comes back bit for bit.
#[track_caller]
fn repeat(requests: &[&[&str]]) {
    let place = place_with("sd15");
    for more in requests {
        let steps: &[&str] = if more.contains(&"--sigmas") {
            &[]
        } else {
            &["--steps", "3"]
        };
        let files = ["--model", "model", "--seed", "42", "--out", "x.png"];
        let request = [steps, &files[..], *more].concat();
        generate(&place, "a {red|green|blue} (cat:1.3), [a:b:0.5]", &request);
        let found = replay(&place, "x.png", "model");
        assert_eq!(found["identical"], true, "{more:?}: {found}");
        assert_eq!(found["difference"]["worst"], 0);
        assert_eq!(found["difference"]["psnr_db"], Value::Null);
        assert_eq!(found["not_honoured"], Value::Array(vec![]), "{more:?}");
        assert_eq!(found["absent"], Value::Array(vec![]), "{more:?}");
        assert_eq!(found["warnings"], Value::Array(vec![]), "{more:?}");
    }
}

#[test]
fn diffusers_pictures_come_back_within_one() {
    for (family, names) in [
        ("sd15", &["sd15-ddim", "sd15-euler-a"][..]),
        ("sd21", &["sd21-dpmpp-2m-karras"][..]),
    ] {
        let place = place_with(family);
        for name in names {
            let file = format!("../../tests/data/replay/{name}.png");
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let run = place.run([
                "replay",
                path.to_str().unwrap(),
                "--model",
                "model",
                "--precision",
                "f32",
                "--json",
            ]);
            let found: Value = serde_json::from_str(&run.ok()).unwrap();
            let worst = found["difference"]["worst"].as_u64();
            assert!(worst <= Some(1) && worst.is_some(), "{name}: {found}");
            assert_eq!(found["not_honoured"], Value::Array(vec![]), "{name}");
            assert_eq!(found["absent"], Value::Array(vec![]), "{name}");
            assert_eq!(found["warnings"], Value::Array(vec![]), "{name}: {found}");
        }
    }
}

/// Loops of k-diffusion by the webui's and ComfyUI's rules, with the text and the graph that they would write.
#[test]
fn the_webuis_and_comfyuis_pictures_come_back_within_one() {
    for (family, name, named) in [
        ("sd15", "webui-euler-a", 0),
        ("sd15", "webui-dpmpp-2m-karras", 0),
        ("sd15", "forge-euler-karras", 0),
        ("sd15", "comfyui-dpmpp-2m-karras", 0),
        // The webui leaves out no layer of SD2's text tower.
        ("sd21", "webui-sd2-clip-skip", 1),
    ] {
        let place = place_with(family);
        let file = format!("../../tests/data/replay/{name}.png");
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let path = path.to_str().unwrap();
        let request = [
            "replay",
            path,
            "--model",
            "model",
            "--precision",
            "f32",
            "--json",
        ];
        let found: Value = serde_json::from_str(&place.run(request).ok()).unwrap();
        let worst = found["difference"]["worst"].as_u64();
        assert!(worst <= Some(1) && worst.is_some(), "{name}: {found}");
        assert_eq!(
            found["not_honoured"].as_array().unwrap().len(),
            named,
            "{name}: {found}"
        );
        let parameters = found["parameters"].as_str().unwrap();
        assert!(!parameters.contains("Clip skip"), "{parameters}");
    }
}

#[test]
fn the_second_of_a_batch_repeats_and_the_new_picture_is_written() {
    let place = place_with("sd15");
    generate(
        &place,
        "a {cat|dog|horse}",
        &[
            "--model", "model", "--steps", "2", "--seed", "5", "--batch", "2", "--out", "x.png",
        ],
    );
    let replay = [
        "replay",
        "x-2.png",
        "--model",
        "model",
        "--out",
        "again.png",
    ];
    let text = place.run(replay).ok();
    assert!(
        text.contains("difference  none, the same bit for bit"),
        "{text}"
    );
    assert!(text.contains("written     again.png"), "{text}");
    // The template is gone: the new picture was asked for with the choices made.
    let pixels = |name: &str| read_picture(&place.path(name)).unwrap().pixels;
    assert!(pixels("again.png") == pixels("x-2.png"));
    assert!(pixels("again.png") != pixels("x-1.png"));
}

#[test]
fn another_model_differs_and_is_warned_about() {
    let place = place_with("sd15");
    let model = TinyModel::family("sd15");
    model.write_single_file(&place.path("m.safetensors"), Single::default());
    let from_file = ["--model", "m.safetensors", "--config", "model"];
    let request = ["--steps", "2", "--seed", "42", "--out", "x.png"];
    generate(&place, "a cat", &[&from_file[..], &request].concat());

    let again = [&["replay", "x.png", "--json"], &from_file[..]].concat();
    let same: Value = serde_json::from_str(&place.run(&again).ok()).unwrap();
    assert_eq!(same["identical"], true, "{same}");
    assert_eq!(same["warnings"], Value::Array(vec![]), "{same}");

    let text = read_picture(&place.path("x.png"))
        .unwrap()
        .parameters
        .unwrap()
        .to_text();
    let mut other = Parameters::parse(&text);
    other.set("Model hash", "0123456789").set("Seed", 43);
    retell(&place, "other.png", &other.to_text());
    let mut again = again;
    again[1] = "other.png";
    let run = place.run(&again);
    assert!(
        run.stderr.contains("model of hash 0123456789"),
        "{}",
        run.stderr
    );
    let found: Value = serde_json::from_str(&run.ok()).unwrap();
    assert_eq!(found["identical"], false);
    assert!(
        found["difference"]["worst"].as_u64().unwrap() > 0,
        "{found}"
    );
    assert!(
        found["difference"]["psnr_db"].as_f64().unwrap() > 0.0,
        "{found}"
    );

    let folder = replay(&place, "x.png", "model");
    let warning = folder["warnings"][0].as_str().unwrap();
    assert!(warning.contains("no single file"), "{folder}");
}

#[test]
fn a_webuis_text_is_taken_as_far_as_it_goes() {
    let place = place_with("sd15");
    generate(
        &place,
        "a cat",
        &[
            "--model", "model", "--steps", "2", "--seed", "42", "--out", "x.png",
        ],
    );
    let text = "a cat\nNegative prompt: dog: big\nSteps: 2, Sampler: DPM++ 2M Karras, Seed: 42, Size: 32x64, \
        Hires upscale: 2, Wonder: 7, Version: v1.6.0";
    retell(&place, "webui.png", text);
    let found = replay(&place, "webui.png", "model");
    let keys: Vec<&str> = found["not_honoured"]
        .as_array()
        .unwrap()
        .iter()
        .map(|setting| setting["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, ["Hires upscale", "Wonder"]);
    assert_eq!(found["absent"][0], "CFG scale");
    assert_eq!(found["difference"], Value::Null);
    let new = found["parameters"].as_str().unwrap();
    assert!(
        new.contains("Sampler: DPM++ 2M, Schedule type: Karras"),
        "{new}"
    );
    let warnings = found["warnings"].to_string();
    assert!(
        warnings.contains("32x64") && warnings.contains("CFG scale"),
        "{warnings}"
    );
}

#[test]
fn refuses_what_cannot_be_made_again_before_looking_for_the_model() {
    let place = place_with("sd15");
    generate(
        &place,
        "a cat",
        &[
            "--model", "model", "--steps", "1", "--seed", "1", "--out", "x.png",
        ],
    );
    let cases = [
        (
            "a cat\nSteps: 2, Sampler: Euler, CFG scale: 7",
            7,
            "no Seed",
        ),
        ("a cat\nSteps: x, Sampler: Euler, Seed: 7", 2, "Steps"),
        (
            "a cat\nSteps: 2, Sampler: Eulr, Seed: 7",
            2,
            "unknown sampler",
        ),
        (
            "a cat\nSteps: 2, Size: 9000x64, Seed: 7",
            2,
            "width is 9000",
        ),
    ];
    for (text, code, words) in cases {
        retell(&place, "bad.png", text);
        refuses(&place, "bad.png", code, words);
    }
    std::fs::write(place.path("no.gif"), "GIF89a").unwrap();
    let stderr = place
        .run(["replay", "no.gif", "--model", "nowhere"])
        .fails_with(3);
    assert!(stderr.contains("expected a PNG, JPEG or WebP"), "{stderr}");
}
