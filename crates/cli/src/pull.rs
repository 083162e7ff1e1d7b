//! `tintype pull`: a model from the hub into its cache.
//!
//! Ctrl-C simply ends the process: the cache keeps what is complete, and nothing points at what is not.

use std::path::Path;

use serde::Serialize;
use tintype::weights::{self, PullOptions};

use crate::args::PullArgs;
use crate::logging::Talk;
use crate::output::{self, Form};
use crate::progress::Progress;

/// The document of `pull --json`.
#[derive(Serialize)]
struct Pulled<'a> {
    id: &'a str,
    path: &'a Path,
}

/// Runs the command.
pub(crate) fn run(args: &PullArgs, talk: Talk) -> anyhow::Result<()> {
    let options = PullOptions {
        variant: args.variant.clone(),
        ..PullOptions::default()
    };
    let progress = Progress::new(talk);
    let path = weights::pull(&args.id, &options, &mut progress.clone());
    progress.clear();
    let path = path?;
    match args.form.form() {
        Form::Text => Ok(output::write_line(path.display())?),
        Form::Json => output::write_json(&Pulled {
            id: &args.id,
            path: &path,
        }),
    }
}
