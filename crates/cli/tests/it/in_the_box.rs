//! The first command of a newcomer: no model named.

use serde_json::Value;

use crate::support::{Place, Run};

/// What the model's own card says of it.
fn card() -> Value {
    serde_json::from_str(include_str!("../../../../models/tintype-box/tintype.json")).unwrap()
}

#[test]
fn without_a_model_the_one_in_the_box_makes_the_picture_and_says_so() {
    let place = Place::new();
    let request = [
        "generate",
        "a photo of a cat",
        "--seed",
        "1",
        "--steps",
        "1",
        "--json",
    ];
    let run = place.run(request);
    let stderr = run.stderr.clone();
    let document: Value = serde_json::from_str(&run.ok()).unwrap();
    assert_eq!(document["settings"]["model"], "tintype-box (embedded)");
    assert_eq!(
        (
            &document["settings"]["width"],
            &document["settings"]["height"]
        ),
        (&512.into(), &512.into())
    );
    assert!(document["warnings"].as_array().unwrap().is_empty());
    assert_eq!(place.pictures(), ["tintype-1.png"]);
    // One line: what it is, and how to use another.
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains(card()["summary"].as_str().unwrap()),
        "{stderr}"
    );
    assert!(stderr.contains("--model stabilityai/"), "{stderr}");
    let made = place.run(["inspect", "tintype-1.png"]).ok();
    assert!(made.contains("Model: tintype-box"), "{made}");

    let quiet = place.run([
        "generate",
        "a cat",
        "--steps",
        "1",
        "--quiet",
        "--out",
        "quiet.png",
    ]);
    assert_eq!(quiet.stderr, "");
    quiet.ok();
}

#[test]
fn a_model_named_in_the_environment_goes_before_it() {
    let place = Place::new();
    for arguments in [&["generate", "a cat"][..], &["inspect"]] {
        let mut command = place.command(arguments);
        let output = command.env("TINTYPE_MODEL", "nowhere").output().unwrap();
        let stderr = Run::of(output).fails_with(7);
        assert!(stderr.contains("nowhere"), "{stderr}");
    }
}

#[test]
fn inspect_describes_it_plainly() {
    let text = Place::new().run(["inspect"]).ok();
    let card = card();
    let said = |value: &Value| assert!(text.contains(value.as_str().unwrap()), "{value} in {text}");
    said(&card["summary"]);
    said(&card["licence"]);
    for note in card["notes"].as_array().unwrap() {
        said(note);
    }
    for source in card["data"].as_array().unwrap() {
        said(&source["name"]);
        said(&source["licence"]);
    }
    assert!(text.contains("generates   yes"), "{text}");
}
