//! Makes many pictures with one load of a model:
//! `cargo run --release --example sheet -- PATH_OR_ID LIST.json FOLDER [ENGINE]`.
//!
//! LIST.json is a list of `{"prompt", "seed", "file"}`, each with a `negative`, `steps`, `guidance`, `sampler`, `width`
//! and `height` where these shall not be the model's own; other keys are passed over. Pictures that are in FOLDER
//! already are left alone, so that a run that was stopped goes on where it ended.
#![expect(clippy::print_stderr, reason = "an example talks to its reader")]

use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use serde::Deserialize;
use tintype::events::Silent;
use tintype::{CancelToken, EngineKind, LoadOptions, SDModel, SamplingConfig, metadata};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// One picture to make.
#[derive(Debug, Deserialize)]
struct Asked {
    prompt: String,
    #[serde(default)]
    negative: Option<String>,
    seed: u64,
    /// Path inside the folder.
    file: PathBuf,
    steps: Option<usize>,
    guidance: Option<f64>,
    sampler: Option<String>,
    width: Option<usize>,
    height: Option<usize>,
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (source, list, folder, engine) = match arguments.as_slice() {
        [source, list, folder] => (source, list, folder, EngineKind::default()),
        [source, list, folder, engine] => (source, list, folder, engine.parse()?),
        _ => return Err("usage: sheet PATH_OR_ID LIST.json FOLDER [ENGINE]".into()),
    };
    let folder = Path::new(folder);
    let asked: Vec<Asked> = serde_json::from_slice(&std::fs::read(list)?)?;
    let missing = missing(asked, folder)?;
    if missing.is_empty() {
        eprintln!("every picture is there");
        return Ok(());
    }
    let options = LoadOptions {
        engine,
        ..LoadOptions::default()
    };
    let model = SDModel::load(source, &options)?;
    let start = Instant::now();
    for (index, asked) in missing.iter().enumerate() {
        make(&model, asked, folder)?;
        let done = index + 1;
        let rate = start.elapsed().as_secs_f64() / done as f64;
        let count = missing.len();
        eprintln!(
            "{done}/{count} {} {rate:.2} s a picture",
            asked.file.display()
        );
    }
    Ok(())
}

/// Those of `asked` that are not in `folder`.
fn missing(asked: Vec<Asked>, folder: &Path) -> Outcome<Vec<Asked>> {
    let plain = |path: &Path| {
        let mut parts = path.components().peekable();
        parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
    };
    if let Some(bad) = asked.iter().find(|asked| !plain(&asked.file)) {
        let file = bad.file.display();
        return Err(format!("file is {file:?}, expected a path inside the folder").into());
    }
    Ok(asked
        .into_iter()
        .filter(|asked| !folder.join(&asked.file).exists())
        .collect())
}

fn make(model: &SDModel, asked: &Asked, folder: &Path) -> Outcome<()> {
    let own = model.default_config();
    let config = SamplingConfig {
        prompt: asked.prompt.clone(),
        negative_prompt: asked.negative.clone(),
        seed: Some(asked.seed),
        steps: asked.steps.unwrap_or(own.steps),
        guidance_scale: asked.guidance.unwrap_or(own.guidance_scale),
        sampler: asked.sampler.clone(),
        width: asked.width.unwrap_or(own.width),
        height: asked.height.unwrap_or(own.height),
        ..own
    };
    let made = model.generate(&config, &mut Silent, &CancelToken::new())?;
    let picture = made.first().ok_or("the model made no picture")?;
    let path = folder.join(&asked.file);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let bytes = metadata::write_png(&picture.image.to_rgb8(), Some(&picture.parameters))?;
    metadata::write_atomically(&path, &bytes)?;
    Ok(())
}
