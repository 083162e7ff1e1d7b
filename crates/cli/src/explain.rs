//! `tintype explain`: what a prompt means, for a person or a program.

use std::fmt::Write as _;

use serde::Serialize;
use tintype::backend::sampling::MAX_STEPS;
use tintype::prompt::{Chooser, ExplainedText, Explanation, Role, explain};
use tintype::tokenizer::ClipTokenizer;
use tintype::{Error, LoadOptions, ModelSource, Result, SDModel};

use crate::args::ExplainArgs;
use crate::output::{self, Form};

/// Steps of a run where neither the user nor a model says.
const STEPS: usize = 20;

/// The document of `explain --json`.
#[derive(Debug, Serialize)]
struct Document {
    /// The prompt with its choices made.
    prompt: String,
    #[serde(flatten)]
    explanation: Explanation,
    #[serde(skip_serializing_if = "Option::is_none")]
    negative: Option<Box<Self>>,
}

/// Runs the command.
pub(crate) fn run(args: &ExplainArgs) -> anyhow::Result<()> {
    let typed = args.text.read(&args.prompt, args.negative.as_deref())?;
    let (tokenizer, steps) = match &args.model {
        Some(name) => SDModel::reading_of(&ModelSource::parse(name)?, &LoadOptions::default())?,
        None => (ClipTokenizer::embedded(), STEPS),
    };
    let steps = args.steps.unwrap_or(steps);
    if !(1..=MAX_STEPS).contains(&steps) {
        return Err(Error::invalid(format!("steps is {steps}, expected 1 to {MAX_STEPS}")).into());
    }
    let mut chooser = Chooser::new(&typed.prompt, typed.negative.as_deref(), &typed.options)?;
    let (prompt, negative) = chooser.picture(0, args.seed.unwrap_or(0))?;
    let document = |prompt: String, role| -> Result<Document> {
        let explanation = explain(&prompt, role, &typed.options, steps, &tokenizer)?;
        Ok(Document {
            prompt,
            explanation,
            negative: None,
        })
    };
    let negative = negative
        .map(|text| document(text, Role::Negative))
        .transpose()?;
    let mut document = document(prompt, Role::Positive)?;
    document.negative = negative.map(Box::new);
    match args.form.form() {
        Form::Json => output::write_json(&document),
        Form::Text => Ok(output::write(text(&document))?),
    }
}

fn text(document: &Document) -> String {
    let mut out = one("prompt", document);
    if let Some(negative) = &document.negative {
        out.push_str(&one("negative prompt", negative));
    }
    out
}

fn one(name: &str, document: &Document) -> String {
    let Explanation {
        steps,
        parts,
        networks,
        embeddings,
        comments,
        warnings,
    } = &document.explanation;
    let mut out = format!("{name}: {}\n", document.prompt);
    for (index, part) in parts.iter().enumerate() {
        if parts.len() > 1 || (part.weight - 1.0).abs() > 0.0 {
            let _ = writeln!(
                out,
                "part {} of {}, weight {}",
                index + 1,
                parts.len(),
                part.weight
            );
        }
        for text in &part.texts {
            let when = match (text.from, text.to) {
                (1, to) if to == *steps => format!("all {steps} steps"),
                (from, to) if from == to => format!("step {from}"),
                (from, to) => format!("steps {from} to {to}"),
            };
            let _ = writeln!(out, "  {when}: {}", text.text.trim());
            chunks(text, &mut out);
        }
    }
    for asked in networks.iter().chain(embeddings) {
        let _ = writeln!(out, "not supported yet: {asked}");
    }
    for comment in comments {
        let _ = writeln!(out, "comment: {comment}");
    }
    for warning in warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

/// Each chunk on a line, tokens of one weight together.
fn chunks(text: &ExplainedText, out: &mut String) {
    for (index, chunk) in text.chunks.iter().enumerate() {
        let count = chunk.tokens.len();
        let plural = if count == 1 { "" } else { "s" };
        let _ = write!(out, "    chunk {}, {count} token{plural}:", index + 1);
        let same = |a: &tintype::prompt::ExplainedToken, b: &tintype::prompt::ExplainedToken| {
            a.weight.to_bits() == b.weight.to_bits()
        };
        for group in chunk.tokens.chunk_by(same) {
            let words: Vec<&str> = group.iter().map(|token| token.text.as_str()).collect();
            let words = words.join(" ");
            let weight = group.first().map_or(1.0, |token| token.weight);
            let _ = if (weight - 1.0).abs() > 0.0 {
                write!(out, " ({words}:{})", rounded(weight))
            } else {
                write!(out, " {words}")
            };
        }
        out.push('\n');
    }
    if let Some(lost) = &text.lost {
        let _ = writeln!(out, "    does not fit: {lost}");
    }
}

/// Four digits are enough for a reader.
fn rounded(weight: f64) -> f64 {
    (weight * 1e4).round() / 1e4
}
