//! Models by hub id, offline, from a cache laid out by hand.

use serde_json::Value;
use tintype_testkit::{Form, TinyModel};

use crate::support::Place;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A place whose cache holds the tiny model `owner/name`, and where it lies.
fn place_with_cache() -> (Place, String) {
    let place = Place::new();
    let repository = place.path(".hub/hub/models--owner--name");
    let snapshot = repository.join("snapshots").join(COMMIT);
    TinyModel::family("sd15").write_folder(&snapshot, &Form::default());
    std::fs::create_dir_all(repository.join("refs")).unwrap();
    std::fs::write(repository.join("refs/main"), COMMIT).unwrap();
    (place, snapshot.display().to_string())
}

#[test]
fn pull_prints_where_the_model_lies() {
    let (place, snapshot) = place_with_cache();
    let run = place.run(["pull", "owner/name"]);
    assert_eq!(run.stderr, "");
    assert_eq!(run.ok(), format!("{snapshot}\n"));
    let document = place.run(["pull", "owner/name@main", "--json"]).ok();
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(
        (&document["id"], &document["path"]),
        (&"owner/name@main".into(), &snapshot.into())
    );
}

#[test]
fn a_cached_model_is_inspected_and_generated_from_offline() {
    let (place, _) = place_with_cache();
    let report = place.run(["inspect", "owner/name"]).ok();
    assert!(report.contains("Stable Diffusion 1.x (sd1)"), "{report}");
    let arguments = [
        "generate",
        "a cat",
        "--model",
        "owner/name",
        "--width",
        "64",
        "--height",
        "64",
    ];
    let more = ["--steps", "1", "--sampler", "ddim", "--out", "x.png"];
    assert_eq!(place.run([&arguments[..], &more].concat()).ok(), "x.png\n");
}

#[test]
fn what_the_cache_lacks_is_refused_offline() {
    let (place, _) = place_with_cache();
    let cases: [(&[&str], i32); 6] = [
        (&["pull", "owner/other"], 6),
        (&["inspect", "owner/other"], 6),
        (&["generate", "a cat", "--model", "owner/other"], 6),
        (&["pull", "owner/name@v2"], 6),
        (&["pull", "owner/name@../x"], 2),
        (&["pull", "no-id"], 7),
    ];
    for (arguments, code) in cases {
        let stderr = place.run(arguments).fails_with(code);
        assert!(
            code == 2 || stderr.contains("\nhint: "),
            "{arguments:?}: {stderr}"
        );
    }
}
