//! `tintype samplers` and `tintype completions`: what derives from tables alone.

use clap::CommandFactory;
use serde::Serialize;
use tintype::samplers::SAMPLERS;
use tintype::samplers::schedule::SCHEDULES;

use crate::args::Cli;
use crate::output::{self, Form, StdoutError};

#[derive(Serialize)]
struct Listing {
    samplers: Vec<Row>,
    schedules: Vec<Row>,
}

/// A row of a registry.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    /// The webui's name, as pictures record it.
    label: &'static str,
    aliases: &'static [&'static str],
    description: &'static str,
    /// What may stand behind the name and a colon.
    #[serde(skip_serializing_if = "Option::is_none")]
    setting: Option<Setting>,
}

#[derive(Serialize)]
struct Setting {
    name: &'static str,
    values: &'static str,
}

/// Lists the registries.
pub(crate) fn samplers(form: Form) -> anyhow::Result<()> {
    let samplers = SAMPLERS.iter().map(|row| Row {
        name: row.name,
        label: row.label,
        aliases: row.aliases,
        description: row.help,
        setting: None,
    });
    let schedules = SCHEDULES.iter().map(|row| Row {
        name: row.name,
        label: row.label,
        aliases: row.aliases,
        description: row.help,
        setting: row.setting.map(|setting| Setting {
            name: setting.name,
            values: setting.values,
        }),
    });
    let listing = Listing {
        samplers: samplers.collect(),
        schedules: schedules.collect(),
    };
    match form {
        Form::Json => output::write_json(&listing),
        Form::Text => Ok(output::write(text(&listing))?),
    }
}

fn text(listing: &Listing) -> String {
    let rows = |kind: &str, rows: &[Row]| -> Vec<[String; 4]> {
        let cells = |row: &Row| {
            [
                kind.to_owned(),
                row.name.to_owned(),
                also(row),
                row.description.to_owned(),
            ]
        };
        rows.iter().map(cells).collect()
    };
    let mut all = vec![["KIND", "NAME", "ALSO", "DESCRIPTION"].map(str::to_owned)];
    all.extend(rows("sampler", &listing.samplers));
    all.extend(rows("schedule", &listing.schedules));
    output::columns(&all)
}

/// Other spellings, and the name with its setting.
fn also(row: &Row) -> String {
    let setting = row.setting.as_ref();
    let with = setting.map(|setting| format!("{}:{}", row.name, setting.name.to_uppercase()));
    let aliases = row.aliases.iter().map(|alias| (*alias).to_owned());
    let all: Vec<String> = aliases.chain(with).collect();
    all.join(", ")
}

/// Prints the completion script of `shell`.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<(), StdoutError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tintype", &mut script);
    output::write(script)
}
