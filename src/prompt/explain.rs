//! What a prompt means, as data: parts, texts over the steps, chunks, tokens and their weights.

use serde::Serialize;

use super::attention::Piece;
use super::chunks::{Chunk, chunks};
use super::options::{PromptOptions, PromptSyntax};
use super::parts::{Prompt, Role};
use super::schedule::Schedule;
use crate::error::Result;
use crate::tokenizer::ClipTokenizer;

/// A prompt taken apart for a reader.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// Evaluations of the model in the run.
    pub steps: usize,
    /// Joined by `AND`.
    pub parts: Vec<ExplainedPart>,
    /// Networks asked for, as typed; they cannot be applied yet.
    pub networks: Vec<String>,
    /// Embeddings asked for, as typed; they cannot be applied yet.
    pub embeddings: Vec<String>,
    /// Comments, as typed.
    pub comments: Vec<String>,
    /// What is odd, with its place.
    pub warnings: Vec<String>,
}

/// One of the texts that `AND` joins.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedPart {
    /// Weight in the composition.
    pub weight: f64,
    /// In order of time; runs of the same text are one.
    pub texts: Vec<ExplainedText>,
}

/// A text and what the text tower gets of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedText {
    /// The first evaluation that takes it, counted from 1.
    pub from: usize,
    /// The last one.
    pub to: usize,
    /// The text, weights still in it.
    pub text: String,
    /// The runs of the tower.
    pub chunks: Vec<ExplainedChunk>,
    /// What does not fit, in plain syntax.
    pub lost: Option<String>,
}

/// One run of the tower.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedChunk {
    /// Markers and padding left out.
    pub tokens: Vec<ExplainedToken>,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedToken {
    /// Its number in the vocabulary.
    pub id: u32,
    /// What it stands for.
    pub text: String,
    /// How much it counts.
    pub weight: f64,
}

/// Takes a prompt, whose choices are made, apart for a run of `steps` evaluations.
///
/// # Errors
/// As [`Prompt::parse`] and [`Prompt::schedule`]; networks are listed and not refused.
pub fn explain(
    text: &str,
    role: Role,
    options: &PromptOptions,
    steps: usize,
    tokenizer: &ClipTokenizer,
) -> Result<Explanation> {
    let plain = options.syntax == PromptSyntax::Plain;
    let mut explanation = Explanation {
        steps,
        parts: Vec::new(),
        networks: Vec::new(),
        embeddings: Vec::new(),
        comments: Vec::new(),
        warnings: Vec::new(),
    };
    let schedule = if plain {
        Schedule::constant(text, steps)
    } else {
        let prompt = Prompt::parse(text, role)?;
        let late = prompt.changes_out_of_range(steps);
        let warnings = prompt.warnings.iter().chain(&late);
        explanation.warnings = warnings.map(ToString::to_string).collect();
        explanation.networks = prompt.networks.iter().map(ToString::to_string).collect();
        let embeddings = prompt.embeddings.iter();
        explanation.embeddings = embeddings.map(ToString::to_string).collect();
        let typed = |span: &super::Span| {
            text.get(span.start..span.end)
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        explanation.comments = prompt.comments.iter().map(typed).collect();
        prompt.schedule(steps)?
    };
    for part in &schedule.parts {
        let mut texts: Vec<ExplainedText> = Vec::new();
        let mut last = None;
        for evaluation in 0..steps.max(1) {
            let id = part.text_at(evaluation);
            if last == Some(id)
                && let Some(known) = texts.last_mut()
            {
                known.to = evaluation + 1;
                continue;
            }
            last = Some(id);
            texts.push(explain_text(
                &schedule.texts[id],
                evaluation + 1,
                options,
                tokenizer,
            )?);
        }
        explanation.parts.push(ExplainedPart {
            weight: part.weight,
            texts,
        });
    }
    Ok(explanation)
}

fn explain_text(
    text: &str,
    from: usize,
    options: &PromptOptions,
    tokenizer: &ClipTokenizer,
) -> Result<ExplainedText> {
    let length = tokenizer.max_length().saturating_sub(2).max(1);
    let (laid, lost) = if options.syntax == PromptSyntax::Plain {
        let mut tokens = tokenizer.tokens(text);
        let lost = tokenizer.encode(text).lost;
        tokens.truncate(length);
        let weights = vec![1.0; tokens.len()];
        (vec![Chunk { tokens, weights }], lost)
    } else {
        let pieces: Vec<Piece> = options.emphasis.pieces(text)?;
        let comma = tokenizer.tokens(",").first().copied();
        let laid = chunks(&pieces, length, comma, |words| tokenizer.tokens(words));
        (laid, None)
    };
    let token = |(&id, &weight): (&u32, &f64)| ExplainedToken {
        id,
        text: tokenizer.decode(&[id]),
        weight,
    };
    Ok(ExplainedText {
        from,
        to: from,
        text: text.to_owned(),
        chunks: laid
            .iter()
            .map(|chunk| ExplainedChunk {
                tokens: chunk.tokens.iter().zip(&chunk.weights).map(token).collect(),
            })
            .collect(),
        lost,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Emphasis;

    fn explained(text: &str, options: &PromptOptions) -> Explanation {
        explain(
            text,
            Role::Positive,
            options,
            10,
            &ClipTokenizer::embedded(),
        )
        .unwrap()
    }

    #[test]
    fn texts_chunks_tokens_and_weights_are_shown() {
        let text = "# note\na [red:blue:3] (cat:1.5) BREAK x AND b:0.5 <lora:l:1>";
        let found = explained(text, &PromptOptions::default());
        let parts: Vec<_> = found
            .parts
            .iter()
            .map(|part| {
                let texts = part.texts.iter();
                let texts: Vec<_> = texts
                    .map(|text| (text.from, text.to, text.text.trim()))
                    .collect();
                (part.weight, texts)
            })
            .collect();
        let red = (1, 4, "a red (cat:1.5) BREAK x");
        let blue = (5, 10, "a blue (cat:1.5) BREAK x");
        assert_eq!(parts, [(1.0, vec![red, blue]), (0.5, vec![(1, 10, "b")])]);
        let chunks = &found.parts[0].texts[0].chunks;
        assert_eq!(chunks.len(), 2);
        let tokens: Vec<_> = chunks[0]
            .tokens
            .iter()
            .map(|token| (token.id, token.text.as_str(), token.weight))
            .collect();
        assert_eq!(
            tokens,
            [(320, "a", 1.0), (736, "red", 1.0), (2368, "cat", 1.5)]
        );
        assert_eq!(found.networks, ["<lora:l:1>"]);
        assert_eq!(found.comments, ["# note"]);
    }

    #[test]
    fn plain_syntax_says_what_is_lost() {
        let options = PromptOptions {
            syntax: PromptSyntax::Plain,
            emphasis: Emphasis::Original,
            ..PromptOptions::default()
        };
        let found = explained(&("cat ".repeat(75) + "zebra"), &options);
        let text = &found.parts[0].texts[0];
        assert_eq!(text.lost.as_deref(), Some("zebra"));
        assert_eq!(text.chunks[0].tokens.len(), 75);
    }
}
