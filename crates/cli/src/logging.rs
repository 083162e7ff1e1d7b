//! What goes to stderr: how much talk, and the log that `TINTYPE_LOG` turns on.

use std::io::{self, IsTerminal};

use tintype::{Error, Result};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::TalkArgs;

/// Variable that turns the log on: a level ("debug") or levels by module ("tintype=debug,warn").
pub(crate) const LOG_VARIABLE: &str = "TINTYPE_LOG";

/// How much is said on stderr beside errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Talk {
    /// Nothing.
    Quiet,
    /// Warnings only: stderr is a file or a pipe, or a log is being written to it.
    Warnings,
    /// Warnings and one line for each stage of the work.
    Lines,
    /// Warnings, progress bars and a summary: somebody is watching.
    Bars,
}

/// Starts the log if it is asked for and decides how much else is said.
pub(crate) fn start(args: &TalkArgs) -> Result<Talk> {
    let logging = start_log()?;
    let talk = if args.quiet {
        Talk::Quiet
    } else if io::stderr().is_terminal() && !logging {
        Talk::Bars
    } else if args.verbose {
        Talk::Lines
    } else {
        Talk::Warnings
    };
    Ok(talk)
}

fn start_log() -> Result<bool> {
    let Some(value) = std::env::var_os(LOG_VARIABLE) else {
        return Ok(false);
    };
    let value = value.to_string_lossy();
    if value.is_empty() {
        return Ok(false);
    }
    let targets: Targets = value.parse().map_err(|error| {
        Error::invalid(format!("{LOG_VARIABLE} is `{value}`: {error}")).with_hint(
            "use a level (error, warn, info, debug, trace) or levels by module (tintype=debug,warn)",
        )
    })?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let on = targets.iter().any(|(_, level)| level != LevelFilter::OFF)
        || targets
            .default_level()
            .is_some_and(|level| level != LevelFilter::OFF);
    tracing_subscriber::registry()
        .with(lines)
        .with(targets)
        .init();
    Ok(on)
}
