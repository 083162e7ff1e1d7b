//! Writes a tiny model to disk, to try the command line with: `cargo run -p tintype-testkit --example write-model -- sd15 folder target/tiny`.

use std::path::Path;
use std::process::ExitCode;

use tintype_testkit::{Form, Single, TinyModel};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [family, form, path] = arguments.as_slice() else {
        return usage();
    };
    let model = TinyModel::family(family);
    let path = Path::new(path);
    match form.as_str() {
        "folder" => model.write_folder(path, &Form::default()),
        "single" => model.write_single_file(path, Single::default()),
        "ckpt" => model.write_ckpt(path, Single::default()),
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "a usage line is for people")]
fn usage() -> ExitCode {
    eprintln!(
        "usage: write-model FAMILY folder|single|ckpt PATH; families: {}",
        TinyModel::families().join(" ")
    );
    ExitCode::FAILURE
}
