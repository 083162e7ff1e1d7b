//! `tintype bench`: how long each stage of a picture takes on this machine, and in which kernels.

use std::fmt::Write;

use clap::Args;
use clap::builder::BoolishValueParser;
use serde::Serialize;
use tintype::backend::bench::{Bench, Stage};
use tintype::{Error, Result, SamplingConfig};

use crate::args::{FormArgs, LoadArgs, parse_count};
use crate::logging::Talk;
use crate::output::{self, Form};
use crate::profile::{Detail, Profile};
use crate::progress::Progress;
use crate::report::Machine;
use crate::{cancel, chosen, generate};

mod turns;

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Model: a diffusers folder, a .safetensors or .ckpt file, or a hub id `owner/name[@revision]`
    /// [default: the small model in the box, where it was compiled in]
    #[arg(short, long, value_name = "PATH_OR_ID", env = "TINTYPE_MODEL")]
    model: Option<String>,
    /// What to run: text (the texts through the first tower), unet (one pass over the batch), vae (one picture) or all
    /// [default: all]
    #[arg(long, value_name = "STAGE", env = "TINTYPE_STAGE")]
    stage: Option<String>,
    /// Runs of each stage, 1 to 1000, after one that warms up; the median counts [default: 3]
    #[arg(
        long,
        value_name = "COUNT",
        env = "TINTYPE_REPEATS",
        value_parser = parse_count,
        conflicts_with = "interactive"
    )]
    repeats: Option<usize>,
    /// Width in pixels [default: the model's own]
    #[arg(short = 'W', long, value_name = "PIXELS", env = "TINTYPE_WIDTH", value_parser = parse_count)]
    width: Option<usize>,
    /// Height in pixels [default: the model's own]
    #[arg(short = 'H', long, value_name = "PIXELS", env = "TINTYPE_HEIGHT", value_parser = parse_count)]
    height: Option<usize>,
    /// Items in the UNet's pass and texts in the text tower's, 1 to 64; a guided step has two [default: 2]
    #[arg(short, long, value_name = "COUNT", env = "TINTYPE_BATCH", value_parser = parse_count)]
    batch: Option<usize>,
    /// One line for each shape instead of each kernel [default: off]
    #[arg(long, env = "TINTYPE_SHAPES", value_parser = BoolishValueParser::new(), conflicts_with_all = ["interactive", "json"])]
    shapes: bool,
    /// Run one stage once for each line `go` on stdin and answer each with one line of JSON, for programs that
    /// take turns; takes --stage [default: off]
    #[arg(long, env = "TINTYPE_INTERACTIVE", value_parser = BoolishValueParser::new())]
    interactive: bool,
    #[command(flatten)]
    load: LoadArgs,
    /// CPU threads, 1 or more [default: all]
    #[arg(long, value_name = "COUNT", env = "TINTYPE_THREADS", help_heading = "Model", value_parser = parse_count)]
    threads: Option<usize>,
    #[command(flatten)]
    form: FormArgs,
}

/// The document of `bench --json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    machine: &'a Machine,
    isa: &'static str,
    width: usize,
    height: usize,
    batch: usize,
    stages: Vec<StageReport>,
    profile: Option<Profile>,
    /// The most memory the process ever had, where the system says so.
    peak_memory_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct StageReport {
    stage: &'static str,
    /// Of each run.
    ms: Vec<f64>,
    median_ms: f64,
    gflop: f64,
}

/// Runs the command.
pub(crate) fn run(args: &BenchArgs, talk: Talk) -> anyhow::Result<()> {
    let stages = args.stages()?;
    let repeats = args.repeats()?;
    // Whatever is wrong with the request is said before minutes of loading.
    args.config(SamplingConfig::default()).validate()?;
    let options = args.load.options()?;
    options.open_engine()?;
    let fewer = generate::use_threads(args.threads)?;
    let source = chosen::source(args.model.as_deref())?;
    let cancel = cancel::on_interrupt()?;
    let progress = Progress::new(talk);
    if let Some(fewer) = fewer {
        progress.warn(&fewer);
    }
    let model = generate::load(&source, &options, &progress, &cancel)?;
    let config = args.config(model.default_config());
    let bench = Bench::new(&model, (config.width, config.height), config.batch)?;
    let machine = Machine::new(&source, &options, &model);
    if args.interactive {
        return turns::take(&bench, stages[0], (model.engine(), &machine), &cancel);
    }
    let mut layers = Vec::new();
    let mut reports = Vec::new();
    for stage in stages {
        bench.run(stage)?;
        let counted = bench.profile(stage)?;
        let mut ms = Vec::with_capacity(repeats);
        for _ in 0..repeats {
            cancel.check()?;
            ms.push(1e3 * bench.run(stage)?.0.as_secs_f64());
        }
        let flops: f64 = counted.iter().map(|(_, spent)| spent.flops).sum();
        reports.push(StageReport::new(stage, ms, flops / 1e9));
        layers.extend(counted);
    }
    let profile = (!layers.is_empty()).then(|| Profile::new(model.engine(), &layers));
    let document = Document {
        machine: &machine,
        isa: tintype::nn::instruction_set(),
        width: config.width,
        height: config.height,
        batch: config.batch,
        stages: reports,
        profile,
        peak_memory_bytes: peak_memory(),
    };
    match args.form.form() {
        Form::Json => output::write_json(&document),
        Form::Text => {
            let detail = if args.shapes {
                Detail::Shapes
            } else {
                Detail::Kernels
            };
            Ok(output::write(document.text(model.title(), detail))?)
        }
    }
}

impl BenchArgs {
    fn stages(&self) -> Result<Vec<Stage>> {
        match self.stage.as_deref() {
            None | Some("all") if self.interactive => Err(Error::invalid(
                "stage is all, expected text, unet or vae with --interactive",
            )),
            None | Some("all") => Ok(Stage::ALL.to_vec()),
            Some(stage) => Ok(vec![stage.parse()?]),
        }
    }

    fn repeats(&self) -> Result<usize> {
        match self.repeats.unwrap_or(3) {
            repeats @ 1..=1000 => Ok(repeats),
            repeats => Err(Error::invalid(format!(
                "repeats is {repeats}, expected 1 to 1000"
            ))),
        }
    }

    /// `base` in the size that was asked for.
    fn config(&self, base: SamplingConfig) -> SamplingConfig {
        SamplingConfig {
            width: self.width.unwrap_or(base.width),
            height: self.height.unwrap_or(base.height),
            batch: self.batch.unwrap_or(2),
            ..base
        }
    }
}

impl StageReport {
    fn new(stage: Stage, ms: Vec<f64>, gflop: f64) -> Self {
        let mut sorted = ms.clone();
        sorted.sort_by(f64::total_cmp);
        Self {
            stage: stage.name(),
            median_ms: sorted[sorted.len() / 2],
            ms,
            gflop,
        }
    }
}

impl Document<'_> {
    fn text(&self, title: &str, detail: Detail) -> String {
        let mut text = format!(
            "{title} {}x{}, batch {}, {} on {}, {} threads\n",
            self.width,
            self.height,
            self.batch,
            self.machine.engine_line(),
            self.isa,
            self.machine.threads()
        );
        for stage in &self.stages {
            let _ = write!(text, "{:<5} {:9.1} ms", stage.stage, stage.median_ms);
            if stage.gflop > 0.0 {
                let rate = stage.gflop / stage.median_ms * 1e3;
                let _ = write!(text, ", {:.1} GFLOP, {rate:.0} GFLOP/s", stage.gflop);
            }
            text.push('\n');
        }
        if let Some(bytes) = self.peak_memory_bytes {
            let _ = writeln!(text, "peak memory {} MiB", bytes >> 20);
        }
        if let Some(profile) = &self.profile {
            let _ = write!(text, "\n{}", profile.table(detail));
        }
        text
    }
}

/// The most memory this process ever had: `VmHWM` of Linux' /proc/self/status.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
