//! The `tintype` command: arguments in, pictures and reports out.
//!
//! Data goes to stdout and talk to stderr, so that every command can stand in a pipe. All work is the
//! library's; here live only what a terminal needs: names of files, progress bars and exit codes.

mod args;
mod bench;
mod cancel;
mod chosen;
mod command_line;
mod explain;
mod failure;
mod gallery;
mod generate;
mod guidance_args;
mod inspect;
mod level_args;
mod listing;
mod logging;
mod naming;
mod output;
mod picture;
mod profile;
mod progress;
mod prompt_args;
mod pull;
mod replay;
mod report;

use std::process::ExitCode;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    match run(command_line::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let talk = logging::start(&cli.talk)?;
    match cli.command {
        Command::Generate(args) => generate::run(&args, talk),
        Command::Replay(args) => replay::run(&args, talk),
        Command::Inspect(args) => inspect::run(&args, talk),
        Command::Bench(args) => bench::run(&args, talk),
        Command::Explain(args) => explain::run(&args),
        Command::Pull(args) => pull::run(&args, talk),
        Command::Samplers(args) => listing::samplers(args.form()),
        Command::Completions { shell } => Ok(listing::completions(shell)?),
    }
}
