//! Writing data to stdout.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

/// Who reads stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A person, or a shell that takes lines.
    Text,
    /// A program.
    Json,
}

/// Stdout could not be written to. A type of its own, because a pipe closed by its reader is forgiven and
/// a broken pipe anywhere else is not.
#[derive(Debug)]
pub(crate) struct StdoutError(pub(crate) io::Error);

impl fmt::Display for StdoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot write to stdout: {}", self.0)
    }
}

impl std::error::Error for StdoutError {}

/// Writes `text` as it is.
pub(crate) fn write(text: impl AsRef<[u8]>) -> Result<(), StdoutError> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_ref())
        .and_then(|()| stdout.flush())
        .map_err(StdoutError)
}

/// Writes `line` and ends it.
pub(crate) fn write_line(line: impl fmt::Display) -> Result<(), StdoutError> {
    write(format!("{line}\n"))
}

/// Writes one JSON document, indented, with a line end.
pub(crate) fn write_json(document: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(document)?;
    text.push('\n');
    write(text)?;
    Ok(())
}

/// Forgives a reader who has gone, where something else than stdout is what the user is after.
pub(crate) fn unless_gone(written: Result<(), StdoutError>) -> Result<(), StdoutError> {
    match written {
        Err(StdoutError(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Rows of text in columns, the last one ragged.
pub(crate) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns_columns_and_leaves_no_blanks_at_the_end() {
        let rows = [["a", "bb", ""], ["éé", "c", "d"]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(&rows), "a   bb\néé  c   d\n");
    }
}
