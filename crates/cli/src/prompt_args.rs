//! How prompts are read, as flags that `generate` and `explain` share.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use tintype::backend::sampling::MAX_BATCH;
use tintype::prompt::{Choices, Chooser, Emphasis, PromptOptions, PromptSyntax, Styles};
use tintype::{Error, Result, SamplingConfig};

/// How the two prompts are read.
#[derive(Debug, Args)]
#[command(next_help_heading = "Prompt")]
pub(crate) struct PromptArgs {
    /// Language of the prompts: webui ((a:1.2), [a:b:0.5], AND, BREAK, any length) or plain (every character is
    /// text, cut after 75 tokens as in diffusers) [default: webui]
    #[arg(long, value_name = "NAME", env = "TINTYPE_PROMPT_SYNTAX")]
    prompt_syntax: Option<String>,
    /// What weights do: original (scale, then restore the mean), no-norm (scale), ignore (nothing), none (brackets
    /// are text) or comfy (away from the empty prompt, as ComfyUI) [default: original]
    #[arg(long, value_name = "NAME", env = "TINTYPE_EMPHASIS")]
    emphasis: Option<String>,
    /// Folder of wildcards: `__name__` takes a line of name.txt in it, by the picture's seed [default: none, such
    /// names are text]
    #[arg(long, value_name = "FOLDER", env = "TINTYPE_WILDCARDS")]
    wildcards: Option<PathBuf>,
    /// Take every combination of `{a|b}` and wildcards in turn instead of one by chance; without --batch as many
    /// pictures as there are combinations [default: off]
    #[arg(long, env = "TINTYPE_COMBINATORIAL", value_parser = BoolishValueParser::new())]
    combinatorial: bool,
    /// The webui's file of styles, with the columns name, prompt and negative_prompt [default: none]
    #[arg(long, value_name = "FILE", env = "TINTYPE_STYLES")]
    styles: Option<PathBuf>,
    /// Style of that file to apply; may be given several times [default: none]
    #[arg(long, value_name = "NAME", env = "TINTYPE_STYLE")]
    style: Vec<String>,
}

/// What the user typed, as the library takes it.
#[derive(Debug, Clone)]
pub(crate) struct Typed {
    pub(crate) prompt: String,
    pub(crate) negative: Option<String>,
    pub(crate) options: PromptOptions,
}

impl PromptArgs {
    /// Both prompts with the styles applied.
    pub(crate) fn read(&self, prompt: &str, negative: Option<&str>) -> Result<Typed> {
        let options = self.options()?;
        let (prompt, negative) = match (&self.styles, self.style.as_slice()) {
            (None, []) => (prompt.to_owned(), negative.map(str::to_owned)),
            (None, [name, ..]) => {
                return Err(Error::invalid(format!(
                    "the style {name:?} is asked for and no file of styles is named"
                ))
                .with_hint("name the webui's styles.csv with --styles"));
            }
            (Some(file), names) => Styles::read(file)?.apply(names, prompt, negative)?,
        };
        Ok(Typed {
            prompt,
            negative,
            options,
        })
    }

    fn options(&self) -> Result<PromptOptions> {
        Ok(PromptOptions {
            wildcards: self.wildcards.clone(),
            choices: if self.combinatorial {
                Choices::Combinatorial
            } else {
                Choices::Random
            },
            syntax: self
                .prompt_syntax
                .as_deref()
                .map_or(Ok(PromptSyntax::default()), str::parse)?,
            emphasis: self
                .emphasis
                .as_deref()
                .map_or(Ok(Emphasis::default()), str::parse)?,
        })
    }
}

impl Typed {
    /// `config` with these prompts, and where `batch` was not given, one picture for each combination.
    ///
    /// # Errors
    /// When there are more combinations than a batch may have, or wildcards cannot be read.
    pub(crate) fn over(
        &self,
        mut config: SamplingConfig,
        batch: Option<usize>,
    ) -> Result<SamplingConfig> {
        config.prompt.clone_from(&self.prompt);
        if self.negative.is_some() {
            config.negative_prompt.clone_from(&self.negative);
        }
        config.text = self.options.clone();
        if self.options.choices == Choices::Combinatorial && batch.is_none() {
            let negative = self.negative.as_deref();
            let count = Chooser::new(&self.prompt, negative, &self.options)?.combinations()?;
            config.batch = usize::try_from(count)
                .ok()
                .filter(|&count| count <= MAX_BATCH)
                .ok_or_else(|| {
                    Error::invalid(format!(
                        "the prompts have {count} combinations, expected at most {MAX_BATCH} in one run"
                    ))
                    .with_hint("--batch 64 makes the first 64 of them")
                })?;
        }
        Ok(config)
    }
}
