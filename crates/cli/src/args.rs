//! What the user may type. Each flag says effect, unit, range and default, and can be set by its twin in
//! the environment; a flag wins over the variable. Ranges are checked by the library, so that its other
//! callers get the same words.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::{BoolishValueParser, PossibleValue, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use tintype::rng::RngKind;
use tintype::samplers::SAMPLERS;
use tintype::samplers::schedule::SCHEDULES;
use tintype::{Device, EngineKind, LoadOptions, MemoryUse};

use crate::bench::BenchArgs;
use crate::guidance_args::GuidanceArgs;
use crate::level_args::LevelArgs;
use crate::output::Form;
use crate::prompt_args::PromptArgs;

/// Stable Diffusion: a prompt and a checkpoint in, a picture out.
#[derive(Debug, Parser)]
#[command(
    name = "tintype",
    version,
    arg_required_else_help = true,
    subcommand_required = true
)]
#[command(
    after_help = "Exit codes: 0 done, 1 internal, 2 usage, 3 damaged or wrong model file, \
    4 unsupported, 5 device, 6 network, 7 file not found or not writable, 8 picture broke (NaN), 130 Ctrl-C."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) talk: TalkArgs,
}

/// How much is said on stderr.
#[derive(Debug, Args)]
pub(crate) struct TalkArgs {
    /// Say nothing on stderr but errors: no warnings, no progress [default: off]
    #[arg(short, long, global = true, env = "TINTYPE_QUIET", value_parser = BoolishValueParser::new())]
    pub(crate) quiet: bool,
    /// Where there is no terminal for progress bars, say one line for each stage of the work [default: off]
    #[arg(short, long, global = true, env = "TINTYPE_VERBOSE", value_parser = BoolishValueParser::new())]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make pictures from a prompt
    Generate(Box<GenerateArgs>),
    /// Make a picture again from the settings in its file, and compare the two
    Replay(Box<ReplayArgs>),
    /// Say what a model holds and needs, or how a picture was made
    Inspect(InspectArgs),
    /// Show what a prompt means: parts, changes over the steps, chunks, tokens and weights
    Explain(ExplainArgs),
    /// Measure how long each stage of a picture takes here, and in which kernels
    Bench(Box<BenchArgs>),
    /// Fetch a model from the hub into its cache and print where it lies
    Pull(PullArgs),
    /// List samplers and noise schedules
    Samplers(FormArgs),
    /// Print the completion script of a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// Whether stdout is for a person or for a program.
#[derive(Debug, Args)]
pub(crate) struct FormArgs {
    /// Print one JSON document on stdout instead of text [default: off]
    #[arg(long, env = "TINTYPE_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

impl FormArgs {
    pub(crate) fn form(&self) -> Form {
        if self.json { Form::Json } else { Form::Text }
    }
}

/// Arguments of `generate`.
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// What the picture shows
    pub(crate) prompt: String,
    /// Model: a diffusers folder, a .safetensors or .ckpt file, or a hub id `owner/name[@revision]`
    /// [default: the small model in the box, where it was compiled in]
    #[arg(short, long, value_name = "PATH_OR_ID", env = "TINTYPE_MODEL")]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) text: PromptArgs,
    #[command(flatten)]
    pub(crate) picture: PictureArgs,
    #[command(flatten)]
    pub(crate) levels: LevelArgs,
    #[command(flatten)]
    pub(crate) guidance: GuidanceArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// CPU threads, 1 or more [default: all]
    #[arg(
        long,
        value_name = "COUNT",
        env = "TINTYPE_THREADS",
        help_heading = "Model",
        value_parser = parse_count
    )]
    pub(crate) threads: Option<usize>,
    /// Say at the end where the time of layers went, by kernel; costs a little time itself [default: off]
    #[arg(long, env = "TINTYPE_PROFILE", value_parser = BoolishValueParser::new())]
    pub(crate) profile: bool,
    #[command(flatten)]
    pub(crate) files: FileArgs,
    #[command(flatten)]
    pub(crate) form: FormArgs,
}

/// What the picture shall be; what is left out is the model's own choice.
#[derive(Debug, Args)]
#[command(next_help_heading = "Picture", allow_negative_numbers = true)]
pub(crate) struct PictureArgs {
    /// What the picture does not show; without effect at guidance 1 and below [default: the empty text]
    #[arg(short, long, value_name = "TEXT", env = "TINTYPE_NEGATIVE")]
    pub(crate) negative: Option<String>,
    /// Denoising steps, 1 to the model's training steps [default: the model's own, often 20]
    #[arg(long, value_name = "COUNT", env = "TINTYPE_STEPS", value_parser = parse_count)]
    pub(crate) steps: Option<usize>,
    /// Weight of the prompt against the negative prompt, 0 to 1000; 1 and below take one pass a step
    /// instead of two [default: the model's own, often 7.5]
    #[arg(short, long, value_name = "WEIGHT", env = "TINTYPE_GUIDANCE", value_parser = parse_real)]
    pub(crate) guidance: Option<f64>,
    /// Share, 0 to 1, by which guidance is brought back to the contrast of the unguided picture
    /// [default: 0]
    #[arg(long, value_name = "SHARE", env = "TINTYPE_GUIDANCE_RESCALE", value_parser = parse_real)]
    pub(crate) guidance_rescale: Option<f64>,
    /// Seed of the first picture, 0 to 18446744073709551615; picture i takes seed + i [default: drawn
    /// by chance and reported]
    #[arg(short, long, value_name = "NUMBER", env = "TINTYPE_SEED", value_parser = parse_seed)]
    pub(crate) seed: Option<u64>,
    /// Whose random numbers: cpu (torch's; diffusers, ComfyUI, the webui's CPU), gpu (torch's on CUDA, on any
    /// machine; the webui's GPU and NV) or numpy (RandomState; diffusers' ONNX pipelines) [default: cpu]
    #[arg(long, value_name = "NAME", env = "TINTYPE_RNG", value_parser = Names(rng_names).try_map(|name| name.parse::<RngKind>()))]
    pub(crate) rng: Option<RngKind>,
    /// Seed whose noise is mixed into the start; picture i takes variation seed + i and all take the same
    /// seed [default: drawn by chance and reported]
    #[arg(
        long,
        value_name = "NUMBER",
        env = "TINTYPE_VARIATION_SEED",
        value_parser = parse_seed,
        requires = "variation_strength"
    )]
    pub(crate) variation_seed: Option<u64>,
    /// Share of the variation seed's noise, 0 (the seed's own picture) to 1 [default: 0]
    #[arg(long, value_name = "SHARE", env = "TINTYPE_VARIATION_STRENGTH", value_parser = parse_real)]
    pub(crate) variation_strength: Option<f64>,
    /// Size in pixels, such as 512x512, whose noise stands in the middle of the start: a picture of another
    /// size near that one in composition [default: the picture's own]
    #[arg(long, value_name = "WxH", env = "TINTYPE_SEED_RESIZE_FROM", value_parser = parse_size)]
    pub(crate) seed_resize_from: Option<(usize, usize)>,
    /// Added to the seed for the noise that samplers draw on their way (the webui's eta noise seed delta)
    /// [default: 0, which goes on with the generator of the start]
    #[arg(long, value_name = "NUMBER", env = "TINTYPE_ENSD", value_parser = parse_delta)]
    pub(crate) ensd: Option<i64>,
    /// Whose random numbers samplers draw on their way, from a generator of its own with the same seed, as ComfyUI does on
    /// a GPU: cpu, gpu or numpy [default: the generator of the start goes on]
    #[arg(long, value_name = "NAME", env = "TINTYPE_FRESH_RNG", value_parser = Names(rng_names).try_map(|name| name.parse::<RngKind>()))]
    pub(crate) fresh_rng: Option<RngKind>,
    /// Sampler, see `tintype samplers` [default: the model's own scheduler]
    #[arg(long, value_name = "NAME", env = "TINTYPE_SAMPLER", value_parser = Names(sampler_names))]
    pub(crate) sampler: Option<String>,
    /// Spacing of the noise levels, see `tintype samplers` [default: the model's own]
    #[arg(long, value_name = "NAME", env = "TINTYPE_SCHEDULE", value_parser = Names(schedule_names))]
    pub(crate) schedule: Option<String>,
    /// Noise levels of your own, falling sigmas such as 14.6,6,2,0.5; a 0 at the end is added [default: the
    /// schedule's]
    #[arg(
        long,
        value_name = "SIGMA,..",
        env = "TINTYPE_SIGMAS",
        value_delimiter = ',',
        value_parser = parse_real,
        conflicts_with_all = ["schedule", "steps", "timesteps"]
    )]
    pub(crate) sigmas: Option<Vec<f64>>,
    /// Training timesteps of your own, falling, such as 999,749,499,249 [default: the schedule's]
    #[arg(
        long,
        value_name = "TIMESTEP,..",
        env = "TINTYPE_TIMESTEPS",
        value_delimiter = ',',
        value_parser = parse_count,
        conflicts_with_all = ["schedule", "steps"]
    )]
    pub(crate) timesteps: Option<Vec<usize>>,
    /// Share of fresh noise in samplers that draw some, 0 (deterministic) to 1 [default: the sampler's
    /// own: 0 for ddim, 1 for ancestral and SDE samplers]
    #[arg(long, value_name = "SHARE", env = "TINTYPE_ETA", value_parser = parse_real)]
    pub(crate) eta: Option<f64>,
    /// Noise put back over the whole run by euler and its like, 0 to 100 [default: 0]
    #[arg(long, value_name = "AMOUNT", env = "TINTYPE_S_CHURN", value_parser = parse_real)]
    pub(crate) s_churn: Option<f64>,
    /// Smallest sigma at which noise is put back, 0 or more [default: 0]
    #[arg(long, value_name = "SIGMA", env = "TINTYPE_S_TMIN", value_parser = parse_real)]
    pub(crate) s_tmin: Option<f64>,
    /// Largest sigma at which noise is put back, 0 or more [default: no limit]
    #[arg(long, value_name = "SIGMA", env = "TINTYPE_S_TMAX", value_parser = parse_real)]
    pub(crate) s_tmax: Option<f64>,
    /// Factor on noise that a sampler puts back or draws, 0 to 10 [default: 1]
    #[arg(long, value_name = "FACTOR", env = "TINTYPE_S_NOISE", value_parser = parse_real)]
    pub(crate) s_noise: Option<f64>,
    /// Width in pixels, up to 4096, a multiple of the model's reduction, 8 for Stable Diffusion
    /// [default: the model's own, often 512]
    #[arg(short = 'W', long, value_name = "PIXELS", env = "TINTYPE_WIDTH", value_parser = parse_count)]
    pub(crate) width: Option<usize>,
    /// Height in pixels, likewise [default: the model's own, often 512]
    #[arg(short = 'H', long, value_name = "PIXELS", env = "TINTYPE_HEIGHT", value_parser = parse_count)]
    pub(crate) height: Option<usize>,
    /// Pictures to make, 1 to 64 [default: 1]
    #[arg(short, long, value_name = "COUNT", env = "TINTYPE_BATCH", value_parser = parse_count)]
    pub(crate) batch: Option<usize>,
    /// Layer of the text encoder to read, counted from its end: 1 is the last, 2 the last but one
    /// [default: the model's own]
    #[arg(long, value_name = "LAYER", env = "TINTYPE_CLIP_SKIP", value_parser = parse_count)]
    pub(crate) clip_skip: Option<usize>,
    /// Read the negative prompt at --clip-skip too, as the webui does [default: off]
    #[arg(
        long,
        env = "TINTYPE_CLIP_SKIP_NEGATIVE",
        value_parser = BoolishValueParser::new()
    )]
    pub(crate) clip_skip_negative: bool,
}

/// How the model is loaded.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct LoadArgs {
    /// File or folder of a VAE that replaces the model's own [default: none]
    #[arg(long, value_name = "PATH", env = "TINTYPE_VAE")]
    pub(crate) vae: Option<PathBuf>,
    /// Variant of the weight files, such as fp16 [default: the plain files]
    #[arg(long, value_name = "NAME", env = "TINTYPE_VARIANT")]
    pub(crate) variant: Option<String>,
    /// Diffusers folder whose configurations describe a single file of no published shape; its weights
    /// are not needed [default: the family's published ones]
    #[arg(long, value_name = "FOLDER", env = "TINTYPE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Where to compute: cpu, cuda[:INDEX] or metal[:INDEX] [default: cpu]
    #[arg(long, value_name = "DEVICE", env = "TINTYPE_DEVICE")]
    pub(crate) device: Option<String>,
    /// Number type to compute in: f32, f16 or bf16 [default: f32 on the CPU, f16 elsewhere]
    #[arg(long, value_name = "TYPE", env = "TINTYPE_DTYPE")]
    pub(crate) dtype: Option<String>,
    /// What runs the layers: cpu (Tintype's kernels), candle, or auto (cpu on the CPU, candle elsewhere)
    /// [default: auto]
    #[arg(long, value_name = "ENGINE", env = "TINTYPE_ENGINE")]
    pub(crate) engine: Option<String>,
    /// How Tintype's own kernels multiply: f32 (the reference's picture) or fast (16-bit products, f32 sums)
    /// [default: fast where the CPU has instructions for it and no --dtype is given]
    #[arg(long, value_name = "PRECISION", env = "TINTYPE_PRECISION")]
    pub(crate) precision: Option<String>,
    /// Memory for weights: normal (each as its fastest kernel reads it) or low (the smallest form, slower)
    /// [default: normal]
    #[arg(long, value_name = "USE", env = "TINTYPE_MEMORY")]
    pub(crate) memory: Option<String>,
}

/// Where pictures go.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct FileArgs {
    /// File to write, replaced if it exists, or an existing folder for files of the default name. {seed}
    /// and {index} stand for the picture's seed and its place in the batch, from 1; a batch without
    /// either gets -{index} before the extension [default: tintype-{seed}.png, counting up if it exists]
    #[arg(short, long, value_name = "PATH", env = "TINTYPE_OUT")]
    pub(crate) out: Option<PathBuf>,
}

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// A PNG, JPEG or WebP picture with the webui's `parameters` text in it
    #[arg(value_name = "PICTURE")]
    pub(crate) picture: PathBuf,
    /// Model: a diffusers folder, a .safetensors or .ckpt file, or a hub id `owner/name[@revision]`
    /// [default: the small model in the box, where it was compiled in]
    #[arg(short, long, value_name = "PATH_OR_ID", env = "TINTYPE_MODEL")]
    pub(crate) model: Option<String>,
    /// File to write the new picture to, replaced if it exists, or an existing folder [default: it is not
    /// written]
    #[arg(short, long, value_name = "PATH", env = "TINTYPE_OUT")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// CPU threads, 1 or more [default: all]
    #[arg(
        long,
        value_name = "COUNT",
        env = "TINTYPE_THREADS",
        help_heading = "Model",
        value_parser = parse_count
    )]
    pub(crate) threads: Option<usize>,
    #[command(flatten)]
    pub(crate) form: FormArgs,
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A model (folder, .safetensors or .ckpt file, hub id) or a PNG, JPEG or WebP picture [default: the small model in
    /// the box, where it was compiled in]
    #[arg(value_name = "PATH_OR_ID", env = "TINTYPE_MODEL")]
    pub(crate) subject: Option<String>,
    #[command(flatten)]
    pub(crate) form: FormArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The prompt
    pub(crate) prompt: String,
    /// Model whose tokenizer reads the words; its weights are not read [default: the tokenizer of SD 1.x, which all
    /// families share but for special tokens]
    #[arg(short, long, value_name = "PATH_OR_ID", env = "TINTYPE_MODEL")]
    pub(crate) model: Option<String>,
    /// Negative prompt to explain behind the prompt [default: none]
    #[arg(short, long, value_name = "TEXT", env = "TINTYPE_NEGATIVE")]
    pub(crate) negative: Option<String>,
    /// Denoising steps of the run, 1 to 1000 [default: the model's own, or 20]
    #[arg(long, value_name = "COUNT", env = "TINTYPE_STEPS", value_parser = parse_count)]
    pub(crate) steps: Option<usize>,
    /// Seed by which choices are made [default: 0]
    #[arg(short, long, value_name = "NUMBER", env = "TINTYPE_SEED", value_parser = parse_seed)]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) text: PromptArgs,
    #[command(flatten)]
    pub(crate) form: FormArgs,
}

/// Arguments of `pull`.
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Hub id, `owner/name` or `owner/name@revision`
    pub(crate) id: String,
    /// Variant of the weight files, such as fp16 [default: the plain files]
    #[arg(long, value_name = "NAME", env = "TINTYPE_VARIANT")]
    pub(crate) variant: Option<String>,
    #[command(flatten)]
    pub(crate) form: FormArgs,
}

impl LoadArgs {
    /// What the library takes.
    pub(crate) fn options(&self) -> tintype::Result<LoadOptions> {
        Ok(LoadOptions {
            device: self
                .device
                .as_deref()
                .map_or(Ok(Device::default()), str::parse)?,
            dtype: self.dtype.as_deref().map(str::parse).transpose()?,
            engine: self
                .engine
                .as_deref()
                .map_or(Ok(EngineKind::default()), str::parse)?,
            precision: self.precision.as_deref().map(str::parse).transpose()?,
            memory: self
                .memory
                .as_deref()
                .map_or(Ok(MemoryUse::default()), str::parse)?,
            vae: self.vae.clone(),
            variant: self.variant.clone(),
            config: self.config.clone(),
        })
    }
}

pub(crate) fn parse_count(text: &str) -> Result<usize, &'static str> {
    text.parse().map_err(|_| "expected a whole number")
}

pub(crate) fn parse_real(text: &str) -> Result<f64, &'static str> {
    text.parse().map_err(|_| "expected a number")
}

fn parse_seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| {
        format!(
            "expected a whole number from 0 to {}; leave it out to draw one",
            u64::MAX
        )
    })
}

fn parse_delta(text: &str) -> Result<i64, &'static str> {
    text.parse().map_err(|_| "expected a whole number")
}

fn parse_size(text: &str) -> tintype::Result<(usize, usize)> {
    tintype::backend::seeds::parse_size(text)
}

/// A name out of one of the library's registries: the names are listed in help and completions, and the
/// library itself refuses an unknown one, with the nearest as a hint.
#[derive(Clone)]
pub(crate) struct Names(pub(crate) fn() -> Vec<&'static str>);

impl TypedValueParser for Names {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        clap::builder::StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new((self.0)().into_iter().map(PossibleValue::new)))
    }
}

fn rng_names() -> Vec<&'static str> {
    RngKind::ALL.map(RngKind::name).into()
}

fn sampler_names() -> Vec<&'static str> {
    SAMPLERS.iter().map(|row| row.name).collect()
}

fn schedule_names() -> Vec<&'static str> {
    SCHEDULES.iter().map(|row| row.name).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_its_twin_in_the_environment_and_says_its_default() {
        let mut faults = Vec::new();
        let command = Cli::command();
        for subcommand in std::iter::once(&command).chain(command.get_subcommands()) {
            for argument in subcommand
                .get_arguments()
                .filter(|argument| !argument.is_positional())
            {
                let Some(long) = argument.get_long() else {
                    continue;
                };
                let twin = format!("TINTYPE_{}", long.to_uppercase().replace('-', "_"));
                if argument.get_env() != Some(OsStr::new(&twin)) {
                    faults.push(format!("--{long} has no twin {twin}"));
                }
                let help = argument
                    .get_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                if !help.contains("[default: ") && !argument.is_required_set() {
                    faults.push(format!("--{long} does not say its default"));
                }
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    #[test]
    fn the_environment_page_names_every_variable() {
        let page = include_str!("../../../docs/cli.md");
        let command = Cli::command();
        for subcommand in std::iter::once(&command).chain(command.get_subcommands()) {
            for variable in subcommand.get_arguments().filter_map(clap::Arg::get_env) {
                let variable = variable.to_string_lossy();
                assert!(
                    page.contains(&format!("`{variable}`")),
                    "docs/cli.md lacks {variable}"
                );
            }
        }
        assert!(page.contains(&format!("`{}`", crate::logging::LOG_VARIABLE)));
    }
}
