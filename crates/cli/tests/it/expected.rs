//! What a user reads, compared with committed files.
//!
//! The files are plain text under `expected/`, so that a change of wording shows as itself in a review;
//! `TINTYPE_BLESS=1 cargo test -p tintype-cli` writes them anew.

use std::path::Path;

/// Compares `found` with `expected/name.txt`.
#[track_caller]
pub(crate) fn assert_expected(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/expected/{name}.txt"));
    if std::env::var_os("TINTYPE_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; set TINTYPE_BLESS=1 to write it",
            path.display()
        )
    });
    assert!(
        expected == found,
        "{} differs {}\nall of it:\n{found}",
        path.display(),
        first_difference(&expected, found)
    );
}

fn first_difference(expected: &str, found: &str) -> String {
    let pad = || std::iter::repeat("(nothing)");
    let count = expected.lines().count().max(found.lines().count());
    let pairs = expected
        .lines()
        .chain(pad())
        .zip(found.lines().chain(pad()))
        .take(count);
    (1..)
        .zip(pairs)
        .find(|(_, (expected, found))| expected != found)
        .map_or_else(
            || "in its line ends".to_owned(),
            |(line, (expected, found))| {
                format!("at line {line}:\n expected: {expected}\n    found: {found}")
            },
        )
}
