//! One picture, held to diffusers on both engines, and to the byte where bytes are promised.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tintype::{EngineKind, Precision, SamplingConfig};
use tintype_kernels::Isa;

use super::{load, load_as, picture};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/box")
        .join(name)
}

/// What diffusers was asked, and the hashes of our own pixels.
fn record() -> Value {
    serde_json::from_slice(&std::fs::read(file("golden.json")).unwrap()).unwrap()
}

fn config(record: &Value) -> SamplingConfig {
    SamplingConfig {
        prompt: record["prompt"].as_str().unwrap().to_owned(),
        seed: record["seed"].as_u64(),
        steps: record["steps"].as_u64().unwrap() as usize,
        guidance_scale: record["guidance"].as_f64().unwrap(),
        ..SamplingConfig::default()
    }
}

#[test]
fn both_engines_make_diffusers_picture() {
    let record = record();
    let expected = image::open(file("golden.png")).unwrap().to_rgb8();
    for engine in [EngineKind::Cpu, EngineKind::Candle] {
        let found = picture(&load(engine), &config(&record)).to_rgb8();
        assert_eq!(found.dimensions(), expected.dimensions());
        let pairs = found.as_raw().iter().zip(expected.as_raw());
        let off = pairs.filter(|(a, b)| a.abs_diff(**b) > 1).count();
        let share = off as f64 / expected.as_raw().len() as f64;
        assert!(share <= 0.001, "{engine}: {share} of all values differ");
    }
}

/// Our engine gives the same bytes on every processor of one instruction set, with any number of threads. Candle's
/// product cuts its sums by the size of the caches it finds, so that it promises no bytes.
#[test]
fn our_engine_gives_the_recorded_bytes() {
    let record = record();
    let isa = Isa::current().name();
    let mut faults = Vec::new();
    for precision in [Precision::F32, Precision::Fast] {
        let made = picture(&load_as(precision), &config(&record)).to_rgb8();
        let mut found = String::new();
        for byte in Sha256::digest(made.as_raw()) {
            write!(found, "{byte:02x}").unwrap();
        }
        let expected = record["sha256"][precision.to_string()][isa].as_str();
        if expected != Some(found.as_str()) {
            faults.push(format!(
                "{precision} {isa}: found {found}, expected {expected:?}"
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
