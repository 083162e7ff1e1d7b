//! Checkpoints that cannot be opened: each a named error with what was found and what to do.

use std::fs;
use std::path::Path;

use tintype::weights::OpenOptions;
use tintype::{Error, ErrorKind};
use tintype_testkit::{Form, Single, TinyModel, write_hostile};

use crate::loading::open;

fn fails(path: &Path, kind: ErrorKind, expected: &[&str]) -> Error {
    fails_with(path, &OpenOptions::default(), kind, expected)
}

fn fails_with(path: &Path, options: &OpenOptions, kind: ErrorKind, expected: &[&str]) -> Error {
    let error = open(path, options).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    for part in expected {
        assert!(error.message().contains(part), "{error}");
    }
    error
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::family("sd15").write_folder(folder.path(), &Form::default());
    folder
}

#[test]
fn what_is_not_there_is_named() {
    let empty = tempfile::tempdir().unwrap();
    fails(
        &empty.path().join("none.safetensors"),
        ErrorKind::NotFound,
        &["none.safetensors", "no file and no folder"],
    );
    let error = fails(
        empty.path(),
        ErrorKind::NotFound,
        &["found no files, expected model_index.json"],
    );
    assert!(error.hint().is_some());
    fs::write(empty.path().join("x.safetensors"), b"").unwrap();
    let error = fails(
        empty.path(),
        ErrorKind::NotFound,
        &["found the files x.safetensors"],
    );
    assert!(error.hint().unwrap().contains("x.safetensors"), "{error}");
    let model = folder();
    let error = fails(
        &model.path().join("unet"),
        ErrorKind::NotFound,
        &["found a single component"],
    );
    assert!(
        error.hint().unwrap().contains("the folder above"),
        "{error}"
    );
}

#[test]
fn incomplete_folders_are_told_by_component() {
    for (missing, kind, expected) in [
        (
            "unet/config.json",
            ErrorKind::NotFound,
            "component unet has no configuration",
        ),
        (
            "unet/diffusion_pytorch_model.safetensors",
            ErrorKind::NotFound,
            "component unet has no weights",
        ),
        (
            "scheduler/scheduler_config.json",
            ErrorKind::NotFound,
            "component scheduler has no configuration",
        ),
        (
            "text_encoder/model.safetensors",
            ErrorKind::NotFound,
            "component text_encoder has no weights",
        ),
    ] {
        let model = folder();
        fs::remove_file(model.path().join(missing)).unwrap();
        fails(model.path(), kind, &[expected]);
    }
    let model = folder();
    fs::remove_dir_all(model.path().join("vae")).unwrap();
    fails(
        model.path(),
        ErrorKind::NotFound,
        &["component vae is missing"],
    );
}

#[test]
fn missing_shards_are_all_named() {
    let model = tempfile::tempdir().unwrap();
    let form = Form {
        shard_bytes: Some(60_000),
        ..Form::default()
    };
    TinyModel::family("sd15").write_folder(model.path(), &form);
    let mut removed = Vec::new();
    for entry in fs::read_dir(model.path().join("unet")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.contains("-of-") && removed.len() < 2 {
            fs::remove_file(path).unwrap();
            removed.push(name);
        }
    }
    fails(
        model.path(),
        ErrorKind::NotFound,
        &["2 of ", "shards are missing", &removed[0], &removed[1]],
    );
}

#[test]
fn damaged_files_are_named_with_their_lengths() {
    let model = folder();
    let unet = model
        .path()
        .join("unet/diffusion_pytorch_model.safetensors");
    let bytes = fs::read(&unet).unwrap();
    fs::write(&unet, &bytes[..bytes.len() - 100]).unwrap();
    let lengths = format!(
        "truncated: found {} bytes, expected {}",
        bytes.len() - 100,
        bytes.len()
    );
    fails(
        model.path(),
        ErrorKind::Malformed,
        &["diffusion_pytorch_model.safetensors", &lengths],
    );
    fs::write(&unet, [&u64::MAX.to_le_bytes()[..], b"{}"].concat()).unwrap();
    fails(
        model.path(),
        ErrorKind::Malformed,
        &["the header claims a length of"],
    );
    fs::remove_file(&unet).unwrap();
    fs::create_dir(&unet).unwrap();
    fails(
        model.path(),
        ErrorKind::NotFound,
        &["component unet has no weights"],
    );
    fs::remove_dir(&unet).unwrap();
    fs::write(&unet, &bytes).unwrap();
    fs::write(model.path().join("unet/config.json"), "[".repeat(100_000)).unwrap();
    fails(
        model.path(),
        ErrorKind::Malformed,
        &["unet/config.json", "not readable as JSON"],
    );
}

#[test]
fn a_pickle_with_code_is_refused_and_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let witness = folder.path().join("witness");
    let path = folder.path().join("evil.ckpt");
    write_hostile(
        &path,
        "os",
        "system",
        &format!("touch {}", witness.display()),
    );
    let error = fails(
        &path,
        ErrorKind::UnsafeFile,
        &["evil.ckpt", "asks for os.system"],
    );
    assert!(error.hint().unwrap().contains(".safetensors"), "{error}");
    assert!(!witness.exists());
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let model = folder();
    let options = OpenOptions {
        variant: Some("bf16".into()),
        ..OpenOptions::default()
    };
    fails_with(
        model.path(),
        &options,
        ErrorKind::NotFound,
        &["weights of variant bf16"],
    );
    let options = OpenOptions {
        config: Some(model.path().to_owned()),
        ..OpenOptions::default()
    };
    fails_with(
        model.path(),
        &options,
        ErrorKind::InvalidConfig,
        &["a folder has its own"],
    );
    let lora = model.path().join("lora.safetensors");
    let tiny = TinyModel::family("sd15");
    fs::copy(model.path().join("text_encoder/model.safetensors"), &lora).unwrap();
    let options = OpenOptions {
        vae: Some(lora.clone()),
        ..OpenOptions::default()
    };
    fails_with(
        model.path(),
        &options,
        ErrorKind::Malformed,
        &["the VAE to use instead", "expected a VAE"],
    );
    fails(&lora, ErrorKind::Unsupported, &["a text encoder alone"]);
    let single = model.path().join("single.safetensors");
    tiny.write_single_file(&single, Single::default());
    let options = OpenOptions {
        vae: Some(model.path().join("none.pt")),
        ..OpenOptions::default()
    };
    fails_with(&single, &options, ErrorKind::NotFound, &["none.pt"]);
}
