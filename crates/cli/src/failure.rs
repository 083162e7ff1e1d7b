//! From an error to what the user reads and to the exit code that a script branches on.

use std::io::{self, Write};
use std::process::ExitCode;

use tintype::ErrorKind;

/// Prints `error` on stderr, its way out on a `hint:` line, and returns the exit code.
///
/// A reader that went away (`tintype samplers | head -1`) is no failure: it has what it wanted.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    let mut stderr = io::stderr().lock();
    // Nobody is left to tell when stderr itself is closed.
    let _ = writeln!(stderr, "error: {}", message(error));
    for hint in library_errors(error).filter_map(tintype::Error::hint) {
        let _ = writeln!(stderr, "hint: {hint}");
    }
    ExitCode::from(exit_code(error))
}

/// The exit code of a class of failure; `docs/cli.md` holds the same table.
pub(crate) fn code_of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Internal => 1,
        ErrorKind::InvalidConfig => 2,
        ErrorKind::Malformed | ErrorKind::UnsafeFile | ErrorKind::WeightMismatch => 3,
        ErrorKind::Unsupported => 4,
        ErrorKind::Device => 5,
        ErrorKind::Network => 6,
        ErrorKind::NotFound | ErrorKind::Io => 7,
        ErrorKind::NonFinite => 8,
        // What a shell reports of a program that Ctrl-C ended: 128 + SIGINT.
        ErrorKind::Cancelled => 130,
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    library_errors(error)
        .next()
        .map_or(1, |error| code_of(error.kind()))
}

fn library_errors(error: &anyhow::Error) -> impl Iterator<Item = &tintype::Error> {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<tintype::Error>())
}

/// The causes in one line, outermost first; a cause that its parent already quotes is not repeated.
fn message(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = match cause.downcast_ref::<tintype::Error>() {
            Some(error) => error.message().to_owned(),
            None => cause.to_string(),
        };
        if line.is_empty() {
            line = text;
        } else if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
    }
    line
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<crate::output::StdoutError>())
        .any(|cause| cause.0.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use tintype::Error;

    use super::*;

    #[test]
    fn joins_causes_and_leaves_hints_to_their_own_line() {
        let inner = Error::new(ErrorKind::NotFound, "x.safetensors: no such file")
            .with_hint("download it")
            .with_source(io::Error::other("no such file"));
        let error = anyhow::Error::new(inner).context("cannot load the model");
        assert_eq!(
            message(&error),
            "cannot load the model: x.safetensors: no such file"
        );
        assert_eq!(exit_code(&error), 7);
    }

    #[test]
    fn only_a_broken_stdout_is_forgiven() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&crate::output::StdoutError(broken()).into()));
        assert!(!is_broken_pipe(&anyhow::Error::new(broken())));
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert!(!is_broken_pipe(&crate::output::StdoutError(full).into()));
    }

    #[test]
    fn errors_of_nobody_are_internal() {
        assert_eq!(exit_code(&anyhow::anyhow!("odd")), 1);
    }
}
