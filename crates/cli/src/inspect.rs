//! `tintype inspect`: what a model holds and needs, or how a picture was made.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use tintype::metadata::PictureFormat;
use tintype::weights::Card;
use tintype::{ComponentReport, ModelReport};

use crate::args::InspectArgs;
use crate::chosen;
use crate::logging::Talk;
use crate::output::{self, Form, columns};
use crate::picture;
use crate::progress::Progress;

/// Most names of tensors nobody asks for that are listed for a person; a program gets them all.
const UNUSED_LISTED: usize = 8;

/// Runs the command.
pub(crate) fn run(args: &InspectArgs, talk: Talk) -> anyhow::Result<()> {
    if let Some(subject) = args.subject.as_ref().map(Path::new)
        && is_picture(subject)
    {
        return picture::run(subject, args.form.form());
    }
    let options = args.load.options()?;
    let source = chosen::source(args.subject.as_deref())?;
    let progress = Progress::new(talk);
    let report = tintype::inspect(&source, &options, &mut progress.clone());
    progress.clear();
    let report = report?;
    match args.form.form() {
        Form::Json => output::write_json(&report),
        Form::Text => Ok(output::write(text(&report))?),
    }
}

/// Whether the file begins as a picture does; its name says nothing.
fn is_picture(path: &Path) -> bool {
    let mut start = [0; 12];
    path.is_file()
        && File::open(path)
            .and_then(|mut file| file.read_exact(&mut start))
            .is_ok()
        && PictureFormat::of(&start).is_some()
}

fn text(report: &ModelReport) -> String {
    let mut text = columns(&summary(report));
    text.push('\n');
    if let Some(card) = &report.card {
        text.push_str(&about(card));
        text.push('\n');
    }
    let heading = ["COMPONENT", "PARAMETERS", "TENSORS", "STORED AS", "SIZE"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(heading)
        .chain(report.components.iter().map(row))
        .collect();
    text.push_str(&columns(&rows));
    for component in &report.components {
        text.push_str(&faults(component));
    }
    text
}

fn summary(report: &ModelReport) -> Vec<[String; 2]> {
    let (width, height) = report.default_size_px;
    let scheduler = [&report.scheduler, &report.prediction_type];
    let scheduler: Vec<&str> = scheduler
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let pictures = match &report.obstacle {
        Some(obstacle) => format!("no: {obstacle}"),
        None => "yes".to_owned(),
    };
    let memory = format!(
        "{} for weights in {}, activations on top",
        bytes(report.weight_memory_bytes),
        report.arithmetic
    );
    [
        ("model", report.title.clone()),
        ("source", report.source.clone()),
        (
            "family",
            format!("{} ({})", report.family_name, report.family),
        ),
        (
            "scheduler",
            if scheduler.is_empty() {
                "not named".to_owned()
            } else {
                scheduler.join(", ")
            },
        ),
        ("picture", format!("{width}x{height}")),
        ("parameters", grouped(report.parameters)),
        ("memory", memory),
        ("generates", pictures),
    ]
    .map(|(name, value)| [name.to_owned(), value])
    .into()
}

/// What the model's makers say of it.
fn about(card: &Card) -> String {
    let row = |name: &str, value: &str| [name.to_owned(), value.to_owned()];
    let mut rows = vec![row("about", &card.summary)];
    rows.extend(card.notes.iter().map(|note| row("note", note)));
    rows.extend(card.licence.iter().map(|licence| row("licence", licence)));
    for source in &card.data {
        let text = format!("{} ({})", source.name, source.licence);
        rows.push(row("trained on", &text));
    }
    rows.extend(card.prompts.iter().map(|prompt| row("try", prompt)));
    columns(&rows)
}

fn row(component: &ComponentReport) -> [String; 5] {
    let dtypes: Vec<&str> = component.dtypes.keys().map(String::as_str).collect();
    [
        component.name.clone(),
        grouped(component.parameters),
        component.tensors.to_string(),
        dtypes.join(", "),
        bytes(component.stored_bytes),
    ]
}

/// What is wrong with a component, every tensor by name; empty when nothing is.
fn faults(component: &ComponentReport) -> String {
    let name = &component.name;
    let mut paragraphs = Vec::new();
    let mut list = |what: &str, count: usize, mut lines: Vec<String>| {
        if count > 0 {
            lines.insert(0, format!("{name}: {count} {what}"));
            paragraphs.push(lines.join("\n  "));
        }
    };
    list(
        "tensors missing",
        component.missing.len(),
        component.missing.clone(),
    );
    let wrong = component.wrong_shape.iter().map(|tensor| {
        format!(
            "{}: found {:?}, expected {:?}",
            tensor.name, tensor.found, tensor.expected
        )
    });
    list(
        "tensors of a wrong shape",
        component.wrong_shape.len(),
        wrong.collect(),
    );
    let rest = component.unused.len().saturating_sub(UNUSED_LISTED);
    let more = (rest > 0).then(|| format!("and {rest} more, see --json"));
    let unused = component
        .unused
        .iter()
        .take(UNUSED_LISTED)
        .cloned()
        .chain(more);
    list(
        "tensors that nothing uses",
        component.unused.len(),
        unused.collect(),
    );
    paragraphs.extend(
        component
            .obstacle
            .iter()
            .map(|obstacle| format!("{name}: {obstacle}")),
    );
    paragraphs
        .into_iter()
        .fold(String::new(), |text, paragraph| {
            text + "\n" + &paragraph + "\n"
        })
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in powers of 1000, three digits.
fn bytes(size: u64) -> String {
    let mut value = size as f64;
    let mut units = ["B", "kB", "MB", "GB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    let decimals = match value {
        _ if unit == "B" => 0,
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_066_235_307), "1,066,235,307");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(3_438_167_540), "3.44 GB");
        assert_eq!(bytes(492_265_168), "492 MB");
        assert_eq!(bytes(12_345), "12.3 kB");
    }
}
