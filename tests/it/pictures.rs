//! Whole runs against diffusers' own: every family, every recorded case, both engines, every file form.

use std::path::Path;

use tintype::events::Silent;
use tintype::weights::EmbeddedFolder;
use tintype::{
    CancelToken, EngineKind, Event, GeneratedImage, LoadOptions, MemoryUse, ModelSource, SDModel,
};
use tintype_testkit::{DType, Form, Golden, Single, TinyModel, compare};

use crate::support::{config_of, exact, generate, load, load_path, quick};

/// Families that make pictures from text alone.
const TEXT_TO_IMAGE: [&str; 13] = [
    "sd15",
    "sd21",
    "sd21-base",
    "sd21-zsnr",
    "sdxl",
    "sd-turbo",
    "sdxl-turbo",
    "latent16",
    "lcm",
    "bk-sdm-small",
    "bk-sdm-tiny",
    "ssd-1b",
    "vega",
];

/// Families shipped as single files.
const SINGLE_FILES: [&str; 3] = ["sd15", "sd21", "sdxl"];

/// Final latents may differ by this much, whatever their size.
const LATENT_TOLERANCE: f64 = 1e-4;

/// Everything that is wrong with `made`, against case `name` of `golden`.
fn faults(golden: &Golden, name: &str, made: &[GeneratedImage]) -> Vec<String> {
    let expected = golden.tensor(&format!("run.{name}.latents"));
    let latents: Vec<f32> = made
        .iter()
        .flat_map(|picture| picture.latents.data().to_vec())
        .collect();
    let difference = compare(&expected.shape, &expected.data, &latents);
    println!("{} {name}: {difference}", golden.notes()["family"]);
    let mut faults = Vec::new();
    if difference.max_abs > LATENT_TOLERANCE {
        faults.push(format!("latents: {difference}"));
    }
    if golden.has(&format!("run.{name}.image")) {
        let (_, expected) = golden.image(name);
        let pixels: Vec<u8> = made
            .iter()
            .flat_map(|picture| picture.image.to_rgb8().into_raw())
            .collect();
        let worst = pixels
            .iter()
            .zip(&expected)
            .map(|(own, other)| own.abs_diff(*other))
            .max();
        if worst > Some(1) || pixels.len() != expected.len() {
            faults.push(format!("pixels differ by up to {worst:?} of 255"));
        }
    }
    faults
}

fn holds_to_diffusers(engine: EngineKind) {
    let mut failures = Vec::new();
    for family in TEXT_TO_IMAGE {
        let (_folder, model) = load(family, engine);
        let golden = Golden::of(family);
        for name in golden.cases() {
            let made = generate(&model, &config_of(&golden, &golden.case(&name)));
            let wrong = faults(&golden, &name, &made);
            failures.extend(
                wrong
                    .into_iter()
                    .map(|fault| format!("{family} {name}: {fault}")),
            );
        }
    }
    assert!(
        failures.is_empty(),
        "{} of diffusers' runs missed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn our_engine_makes_diffusers_pictures() {
    holds_to_diffusers(EngineKind::Cpu);
}

#[test]
fn candle_makes_diffusers_pictures() {
    holds_to_diffusers(EngineKind::Candle);
}

#[test]
fn every_fixture_family_is_held_to_its_record_or_known_to_make_none() {
    let silent = ["inpaint", "refiner"];
    for family in TinyModel::families() {
        assert!(
            TEXT_TO_IMAGE.contains(&family.as_str()) || silent.contains(&family.as_str()),
            "{family} has a fixture that no test walks"
        );
    }
}

#[test]
fn folder_single_file_and_pickle_give_the_same_bytes() {
    for family in SINGLE_FILES {
        let files = tempfile::tempdir().unwrap();
        let tiny = TinyModel::family(family);
        let (single, pickle) = (
            files.path().join("model.safetensors"),
            files.path().join("model.ckpt"),
        );
        tiny.write_single_file(&single, Single::default());
        tiny.write_ckpt(&pickle, Single::default());
        let (_folder, model) = load(family, EngineKind::Cpu);
        let expected = &generate(&model, &quick())[0];
        for path in [single, pickle] {
            // The tiny widths are no published family's, so the fixture's configurations describe the file.
            let options = LoadOptions {
                config: Some(tiny.path()),
                ..exact()
            };
            let model = SDModel::load(path.to_str().unwrap(), &options).unwrap();
            let found = &generate(&model, &quick())[0];
            assert_eq!(
                found.latents,
                expected.latents,
                "{family} {}",
                path.display()
            );
            assert_eq!(found.image, expected.image, "{family} {}", path.display());
            let hash = found.parameters.get("Model hash").unwrap_or_default();
            assert!(
                hash.len() == 10,
                "{family} {}: model hash {hash:?}",
                path.display()
            );
        }
    }
}

/// The files below `folder` as a program would have them compiled in.
fn embedded(folder: &Path) -> EmbeddedFolder {
    fn collect(root: &Path, folder: &Path, files: &mut Vec<(&'static str, &'static [u8])>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(root, &path, files);
                continue;
            }
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            let name = name.replace('\\', "/");
            files.push((name.leak(), std::fs::read(&path).unwrap().leak()));
        }
    }
    let mut files = Vec::new();
    collect(folder, folder, &mut files);
    EmbeddedFolder::new("tiny", files.leak())
}

#[test]
fn a_folder_in_memory_gives_the_bytes_of_the_one_on_disk() {
    let sharded = Form {
        shard_bytes: Some(300_000),
        ..Form::default()
    };
    for (family, form) in [("sdxl", Form::default()), ("sd15", sharded)] {
        let folder = tempfile::tempdir().unwrap();
        TinyModel::family(family).write_folder(folder.path(), &form);
        let expected = &generate(&load_path(folder.path(), EngineKind::Cpu), &quick())[0];
        let source = ModelSource::Embedded(embedded(folder.path()));
        drop(folder);
        let options = exact();
        let model = SDModel::load_with(&source, &options, &mut Silent, &CancelToken::new());
        let found = &generate(&model.unwrap(), &quick())[0];
        assert_eq!(found.latents, expected.latents, "{family}");
        assert_eq!(found.parameters.get("Model"), Some("tiny"));
    }
}

#[test]
fn half_precision_files_give_the_same_bytes_in_every_form() {
    for dtype in [DType::F16, DType::Bf16] {
        let files = tempfile::tempdir().unwrap();
        let tiny = TinyModel::family("sd15");
        let forms = [
            Form {
                dtype,
                ..Form::default()
            },
            Form {
                dtype,
                shard_bytes: Some(300_000),
                ..Form::default()
            },
            Form {
                dtype,
                variant: Some("fp16"),
                ..Form::default()
            },
            Form {
                dtype,
                old_vae_names: true,
                ..Form::default()
            },
        ];
        let mut pictures = forms.iter().enumerate().map(|(index, form)| {
            let folder = files.path().join(index.to_string());
            tiny.write_folder(&folder, form);
            generate(&load_path(&folder, EngineKind::Cpu), &quick()).remove(0)
        });
        let first = pictures.next().unwrap();
        for (picture, form) in pictures.zip(&forms[1..]) {
            assert_eq!(picture.latents, first.latents, "{form:?}");
        }
        let (_folder, model) = load("sd15", EngineKind::Cpu);
        let full = &generate(&model, &quick())[0];
        assert_ne!(
            first.latents, full.latents,
            "rounded weights change the latents"
        );
    }
}

#[test]
fn a_vae_of_ones_own_replaces_the_checkpoints() {
    let files = tempfile::tempdir().unwrap();
    let other = files.path().join("vae");
    TinyModel::family("sdxl").write_component("vae", &other, &Form::default());
    let (folder, model) = load("sd15", EngineKind::Cpu);
    let own = generate(&model, &quick()).remove(0);
    let options = LoadOptions {
        vae: Some(other),
        ..exact()
    };
    let model = SDModel::load(folder.path().to_str().unwrap(), &options).unwrap();
    let replaced = generate(&model, &quick()).remove(0);
    assert_eq!(replaced.latents, own.latents);
    assert_ne!(replaced.image, own.image);
    assert!(
        replaced
            .parameters
            .settings
            .contains(&("VAE".to_owned(), "vae".to_owned()))
    );
}

#[test]
fn the_thread_count_changes_no_byte() {
    for engine in [EngineKind::Cpu, EngineKind::Candle] {
        let (_folder, model) = load("sdxl", engine);
        let pictures: Vec<_> = (1..=3)
            .map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap();
                pool.install(|| generate(&model, &quick()).remove(0))
            })
            .collect();
        for picture in &pictures[1..] {
            assert_eq!(picture.latents, pictures[0].latents, "{engine}");
            assert_eq!(picture.image, pictures[0].image, "{engine}");
        }
    }
}

/// Text towers are given up between pictures and read again, and the word vectors never leave the file.
#[test]
fn a_model_in_little_memory_makes_the_picture_it_makes_in_much() {
    for family in ["sd15", "sdxl"] {
        let (folder, normal) = load(family, EngineKind::Cpu);
        let source = ModelSource::parse(folder.path().to_str().unwrap()).unwrap();
        let options = LoadOptions {
            memory: MemoryUse::Low,
            ..exact()
        };
        let mut read_at_load = Vec::new();
        let mut observer = |event: &Event| {
            if let Event::Loading { component, .. } = event {
                read_at_load.push(component.clone());
            }
        };
        let low =
            SDModel::load_with(&source, &options, &mut observer, &CancelToken::new()).unwrap();
        assert!(read_at_load.iter().any(|name| name == "unet"));
        assert!(
            !read_at_load
                .iter()
                .any(|name| name.starts_with("text_encoder"))
        );
        for prompt in ["a photo of a cat", "a dog", "a photo of a cat"] {
            let config = tintype::SamplingConfig {
                prompt: prompt.into(),
                ..quick()
            };
            let [low, normal] = [&low, &normal].map(|model| generate(model, &config).remove(0));
            let difference = compare(
                normal.latents.shape(),
                normal.latents.data(),
                low.latents.data(),
            );
            assert!(
                difference.max_rel < 1e-3,
                "{family}, {prompt}: {difference}"
            );
        }
    }
}

#[test]
fn prompt_seed_and_negative_prompt_change_the_picture() {
    let (_folder, model) = load("sd15", EngineKind::Cpu);
    let base = generate(&model, &quick()).remove(0);
    let again = generate(&model, &quick()).remove(0);
    assert_eq!(base.image, again.image);
    let changes = [
        tintype::SamplingConfig {
            prompt: "a red car".into(),
            ..quick()
        },
        tintype::SamplingConfig {
            negative_prompt: Some("blurry".into()),
            ..quick()
        },
        tintype::SamplingConfig {
            seed: Some(43),
            ..quick()
        },
        tintype::SamplingConfig {
            guidance_scale: 3.0,
            ..quick()
        },
    ];
    for config in changes {
        assert_ne!(
            generate(&model, &config).remove(0).image,
            base.image,
            "{config:?}"
        );
    }
}
