//! The configurations that Stability, RunwayML and others published, as they are, where a copy lies beside the project.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tintype::models::{ClipTextConfig, UNetConfig, VaeConfig};
use tintype::{Result, SchedulerConfig};

/// What is refused on purpose: the model, the component and the key that the error names.
const REFUSED: [(&str, &str, &str); 2] = [
    ("stable-diffusion-x4-upscaler", "unet", "num_class_embeds"),
    ("playground-v2.5-1024px-aesthetic", "scheduler", "EDM"),
];

#[test]
fn published_configurations_are_honoured_or_refused_by_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/configs");
    if !root.is_dir() {
        eprintln!(
            "SKIPPED: {} is absent, so no published configuration was read",
            root.display()
        );
        return;
    }
    let mut failures = Vec::new();
    let mut read = 0;
    for model in folders(&root).iter().flat_map(|owner| folders(owner)) {
        for component in folders(&model) {
            let (model, component_name) = (name(&model), name(&component));
            let Some(outcome) = parse(&component_name, &component) else {
                continue;
            };
            read += 1;
            let refused = REFUSED
                .iter()
                .find(|row| row.0 == model && row.1 == component_name);
            let fault = match (outcome, refused) {
                (Ok(()), None) => continue,
                (Ok(()), Some(row)) => format!("accepted in spite of {}", row.2),
                (Err(error), Some(row)) if error.to_string().contains(row.2) => continue,
                (Err(error), _) => error.to_string(),
            };
            failures.push(format!("{model}/{component_name}: {fault}"));
        }
    }
    assert!(read > 30, "only {read} configurations found");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Reads the configuration of a component that this crate knows.
fn parse(name: &str, folder: &Path) -> Option<Result<()>> {
    let json = |file: &str| -> Value {
        serde_json::from_slice(&std::fs::read(folder.join(file)).unwrap()).unwrap()
    };
    Some(match name {
        "unet" => UNetConfig::from_json(name, &json("config.json")).map(drop),
        "vae" => VaeConfig::from_json(name, &json("config.json")).map(drop),
        "text_encoder" | "text_encoder_2" => {
            ClipTextConfig::from_json(name, &json("config.json")).map(drop)
        }
        "scheduler" => {
            let config = SchedulerConfig::from_json(&json("scheduler_config.json"));
            let request = tintype::backend::scheduler::SchedulerRequest {
                sampler: None,
                schedule: None,
                steps: 20,
                noise: tintype::samplers::NoiseOptions::default(),
                levels: None,
                options: tintype::samplers::schedule::LevelOptions::default(),
                step_table: tintype::samplers::schedule::StepTable::Sd15,
            };
            config.and_then(|config| tintype::Scheduler::new(&config, &request).map(drop))
        }
        _ => return None,
    })
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}
