//! Holds a checkpoint to what diffusers made of it and prints the tables of `docs/parity.md`:
//! `cargo run --release --example parity -- MODEL GOLDEN [--engine candle] [--memory low] [--case NAME]..
//! [--skip components]`.
//!
//! GOLDEN is a folder with `golden.json` and `golden.safetensors` as `tools/reference` writes them. Fails when a picture
//! is below 50 dB.
#![expect(clippy::print_stdout, reason = "the tables are the result")]

mod components;
mod golden;
mod runs;

use std::path::PathBuf;

use golden::Golden;
use tintype::{EngineKind, LoadOptions, MemoryUse, Precision};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let arguments = Arguments::parse()?;
    let golden = Golden::open(&arguments.golden)?;
    if arguments.components {
        components::table(&arguments.model, &golden, &arguments.options)?;
    }
    let options = arguments.options;
    runs::table(&arguments.model, &golden, &options, &arguments.cases)
}

/// What was typed.
struct Arguments {
    model: String,
    golden: PathBuf,
    options: LoadOptions,
    cases: Vec<String>,
    components: bool,
}

impl Arguments {
    fn parse() -> Outcome<Self> {
        let mut words = std::env::args().skip(1);
        let mut arguments = Self {
            model: words.next().ok_or("the first argument is a model")?,
            golden: words
                .next()
                .ok_or("the second argument is a folder with golden.json")?
                .into(),
            options: LoadOptions {
                engine: EngineKind::Auto,
                precision: Some(Precision::F32),
                ..LoadOptions::default()
            },
            cases: Vec::new(),
            components: true,
        };
        while let Some(flag) = words.next() {
            let value = words.next().ok_or("each flag takes a value")?;
            match (flag.as_str(), value.as_str()) {
                ("--engine", _) => arguments.options.engine = value.parse()?,
                ("--memory", _) => arguments.options.memory = value.parse::<MemoryUse>()?,
                ("--case", _) => arguments.cases.push(value),
                ("--skip", "components") => arguments.components = false,
                _ => return Err(format!("unknown: {flag} {value}").into()),
            }
        }
        Ok(arguments)
    }
}
