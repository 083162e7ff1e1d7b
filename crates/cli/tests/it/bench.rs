//! `tintype bench`, `--profile` and the choice of precision.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::Value;

use crate::support::Place;

fn place() -> Place {
    let place = Place::new();
    place.write_model("sd15");
    place
}

const BENCH: [&str; 8] = [
    "bench",
    "--model=model",
    "--width=64",
    "--height=64",
    "--repeats=2",
    "--batch=2",
    "--threads=2",
    "--json",
];

#[test]
fn a_bench_names_every_stage_and_the_kernels_of_the_precision() {
    for (precision, kernels) in [
        // The processor decides which of the kernels as precise as f32 it is.
        (
            "f32",
            [
                &["product-f32", "product-3xbf16"][..],
                &["attention-f32", "attention-3xbf16"],
            ],
        ),
        ("fast", [&["product-bf16"], &["attention-bf16"]]),
    ] {
        let chosen = format!("--precision={precision}");
        let arguments = [&BENCH[..], &[chosen.as_str()]].concat();
        let document: Value = serde_json::from_str(&place().run(arguments).ok()).unwrap();
        assert_eq!(document["precision"], precision);
        let stages = document["stages"].as_array().unwrap();
        let names: Vec<_> = stages.iter().map(|stage| &stage["stage"]).collect();
        assert_eq!(names, ["text", "unet", "vae"]);
        for stage in stages {
            assert_eq!(stage["ms"].as_array().unwrap().len(), 2, "{stage}");
            assert!(stage["gflop"].as_f64().unwrap() > 0.0, "{stage}");
        }
        let rows = document["profile"]["rows"].as_array().unwrap();
        for kernels in kernels {
            let found = rows
                .iter()
                .filter(|row| row["stage"] == "unet")
                .any(|row| kernels.iter().any(|kernel| row["kernel"] == *kernel));
            assert!(found, "none of {kernels:?} in {rows:?}");
        }
        assert!(document["profile"]["peak_gflops"].as_f64().unwrap() > 0.1);
    }
}

#[test]
fn a_program_takes_turns() {
    let place = place();
    let mut child = place
        .command([
            "bench",
            "--model=model",
            "--width=64",
            "--height=64",
            "--stage=unet",
            "--interactive",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let ready = next();
    assert_eq!(
        (&ready["ready"], &ready["stage"]),
        (&true.into(), &"unet".into())
    );
    let mut runs = Vec::new();
    for _ in 0..2 {
        writeln!(stdin, "go").unwrap();
        let run = next();
        assert!(run["ms"].as_f64().unwrap() > 0.0);
        assert!(run["gflop"].as_f64().unwrap() > 0.0);
        runs.push((run["mean"].clone(), run["std"].as_f64().unwrap()));
    }
    assert!(runs[0] == runs[1] && runs[0].1 > 0.0, "{runs:?}");
    writeln!(stdin, "peak").unwrap();
    assert!(next()["peak_gflops"].as_f64().unwrap() > 0.1);
    writeln!(stdin, "stop").unwrap();
    assert_eq!(next()["error"], "found \"stop\", expected go or peak");
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_bench_that_makes_no_sense_says_why() {
    let place = place();
    for (arguments, expected) in [
        (vec!["--repeats=0"], "repeats is 0, expected 1 to 1000"),
        (
            vec!["--stage=lora"],
            "stage is \"lora\", expected one of text, unet, vae",
        ),
        (vec!["--stage=all", "--interactive"], "stage is all"),
        (vec!["--width=60"], "width is 60, expected"),
        (
            vec!["--precision=int8"],
            "precision is \"int8\", expected f32 or fast",
        ),
        (
            vec!["--engine=candle", "--precision=fast"],
            "precision fast with engine candle",
        ),
        (
            vec!["--engine=candle", "--memory=low"],
            "memory low with engine candle",
        ),
    ] {
        let run = place.run([&["bench", "--model=model"][..], &arguments].concat());
        assert_ne!(run.code, Some(0), "{arguments:?}");
        assert!(
            run.stderr.contains(expected),
            "{arguments:?}: {}",
            run.stderr
        );
    }
}

#[test]
fn candles_stages_are_timed_without_layers() {
    let arguments = [&BENCH[..], &["--engine=candle", "--stage=vae"]].concat();
    let document: Value = serde_json::from_str(&place().run(arguments).ok()).unwrap();
    assert_eq!(document.get("profile"), Some(&Value::Null));
    assert_eq!(document.get("precision"), Some(&Value::Null));
    assert!(document["stages"][0]["median_ms"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_run_can_say_where_its_time_went_and_in_which_precision() {
    let place = place();
    let base = [
        "generate",
        "a cat",
        "--model=model",
        "--seed=1",
        "--steps=2",
        "--width=64",
        "--height=64",
        "--json",
    ];
    for precision in ["f32", "fast"] {
        let chosen = format!("--precision={precision}");
        let run = place.run([&base[..], &["--profile", "--verbose", &chosen]].concat());
        let document: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(document["settings"]["precision"], precision);
        let parameters = document["images"][0]["parameters"].as_str().unwrap();
        assert!(
            parameters.contains(&format!("Engine: cpu cpu {precision}")),
            "{parameters}"
        );
        assert!(
            run.stderr.contains(&format!("(cpu cpu {precision})")),
            "{}",
            run.stderr
        );
        assert!(run.stderr.contains("OF PEAK"), "{}", run.stderr);
        let rows = document["profile"]["rows"].as_array().unwrap();
        for stage in ["text", "unet", "vae"] {
            assert!(rows.iter().any(|row| row["stage"] == stage), "{stage}");
        }
    }
    let run = place.run([&base[..], &["--profile", "--engine=candle"]].concat());
    assert_eq!(run.code, Some(4), "{}", run.stderr);
    assert!(
        run.stderr.contains("profile with engine candle"),
        "{}",
        run.stderr
    );
}
