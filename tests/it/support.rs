//! What the tests of whole runs share.

use std::path::Path;

use tintype::prompt::{PromptOptions, PromptSyntax};
use tintype::samplers::NoiseOptions;
use tintype::{
    CancelToken, EngineKind, GeneratedImage, LoadOptions, Precision, SDModel, SamplingConfig,
};
use tintype_testkit::{Case, Form, Golden, TinyModel};

/// A tiny model of `family`, loaded from a folder that is removed when the value is dropped.
pub(crate) fn load(family: &str, engine: EngineKind) -> (tempfile::TempDir, SDModel) {
    let folder = tempfile::tempdir().unwrap();
    TinyModel::family(family).write_folder(folder.path(), &Form::default());
    let model = load_path(folder.path(), engine);
    (folder, model)
}

/// Products in f32 on every processor.
pub(crate) fn exact() -> LoadOptions {
    LoadOptions {
        precision: Some(Precision::F32),
        ..LoadOptions::default()
    }
}

/// The model at `path`.
pub(crate) fn load_path(path: &Path, engine: EngineKind) -> SDModel {
    SDModel::load(path.to_str().unwrap(), &LoadOptions { engine, ..exact() })
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A small, quick request.
pub(crate) fn quick() -> SamplingConfig {
    SamplingConfig {
        prompt: "a photo of a cat".into(),
        steps: 3,
        seed: Some(42),
        width: 64,
        height: 64,
        ..SamplingConfig::default()
    }
}

/// The pictures of `config`.
pub(crate) fn generate(model: &SDModel, config: &SamplingConfig) -> Vec<GeneratedImage> {
    model
        .generate(config, &mut |_: &tintype::Event| {}, &CancelToken::new())
        .unwrap_or_else(|error| panic!("{config:?}: {error}"))
}

/// What a recorded case asks for.
pub(crate) fn config_of(golden: &Golden, case: &Case) -> SamplingConfig {
    // diffusers counts skipped layers from the one it uses anyhow: the last, or for SDXL the last but one.
    let default_layer = if golden.notes()["tokens"].get("cond_2").is_some() {
        2
    } else {
        1
    };
    SamplingConfig {
        prompt: case.prompt.clone(),
        negative_prompt: case.negative.clone(),
        steps: case.steps,
        guidance_scale: case.guidance,
        guidance_rescale: case.guidance_rescale,
        seed: Some(case.seeds[0]),
        width: case.width,
        height: case.height,
        batch: case.seeds.len(),
        sampler: case
            .sampler
            .as_ref()
            .map(|name| name.trim_end_matches("-eta05").to_owned()),
        levels: None,
        noise: NoiseOptions {
            eta: (case.eta > 0.0).then_some(case.eta),
            ..NoiseOptions::default()
        },
        clip_skip: case.clip_skip.map(|left_out| left_out + default_layer),
        // diffusers' pipelines read no syntax and cut long prompts.
        text: PromptOptions {
            syntax: PromptSyntax::Plain,
            ..PromptOptions::default()
        },
        ..SamplingConfig::default()
    }
}
