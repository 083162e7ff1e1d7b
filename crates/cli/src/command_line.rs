//! Reading the command line, which outranks the environment also where the two exclude each other.

use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::{Arg, CommandFactory, FromArgMatches};

use crate::args::Cli;

/// Arguments of which the first two go together and with none of the others, nor those with each other.
const LEVELS: [&str; 4] = ["steps", "schedule", "sigmas", "timesteps"];

/// Reads the program's own command line; ends the program for `--help` and on errors of usage.
pub(crate) fn parse() -> Cli {
    let line: Vec<OsString> = std::env::args_os().collect();
    let silenced = silenced(&line);
    let mut command = Cli::command().mut_subcommands(|command| {
        command.mut_args(|argument| {
            if silenced.contains(&argument.get_id().as_str()) {
                without_environment(argument)
            } else {
                argument
            }
        })
    });
    let mut matches = command.get_matches_mut();
    Cli::from_arg_matches_mut(&mut matches)
        .unwrap_or_else(|error| error.format(&mut command).exit())
}

fn without_environment(argument: Arg) -> Arg {
    argument.env(Resettable::<clap::builder::OsStr>::Reset)
}

/// Which of [`LEVELS`] are not read from the environment, because `line` gives one that excludes them.
fn silenced(line: &[OsString]) -> Vec<&'static str> {
    let given = |name: &str| {
        line.iter()
            .take_while(|word| *word != OsStr::new("--"))
            .any(|word| {
                let word = word.to_string_lossy();
                let flag = word.split('=').next().unwrap_or_default();
                flag.strip_prefix("--") == Some(name)
            })
    };
    let excludes = |one: &str, other: &str| {
        let own_levels = |name: &str| matches!(name, "sigmas" | "timesteps");
        one != other && (own_levels(one) || own_levels(other))
    };
    LEVELS
        .into_iter()
        .filter(|name| !given(name))
        .filter(|name| {
            LEVELS
                .into_iter()
                .any(|other| given(other) && excludes(name, other))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Vec<&'static str> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        silenced(&words)
    }

    #[test]
    fn what_the_line_gives_silences_what_it_excludes() {
        assert_eq!(of("generate cat"), [""; 0]);
        assert_eq!(
            of("generate cat --sigmas 5,2"),
            ["steps", "schedule", "timesteps"]
        );
        assert_eq!(
            of("generate cat --timesteps=9,2"),
            ["steps", "schedule", "sigmas"]
        );
        assert_eq!(of("generate cat --steps 5"), ["sigmas", "timesteps"]);
        assert_eq!(
            of("generate cat --steps 5 --schedule=karras"),
            ["sigmas", "timesteps"]
        );
        // The two are given: an error that clap finds.
        assert_eq!(
            of("generate cat --steps 5 --sigmas 5"),
            ["schedule", "timesteps"]
        );
        assert_eq!(of("generate -- --sigmas"), [""; 0]);
    }
}
