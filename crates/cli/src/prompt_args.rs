//! How prompts are read, as flags that `generate` and `explain` share.

use clap::Args;
use tintype::Result;
use tintype::prompt::{Emphasis, PromptOptions, PromptSyntax};

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
}

impl PromptArgs {
    /// What the library takes.
    pub(crate) fn options(&self) -> Result<PromptOptions> {
        Ok(PromptOptions {
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
