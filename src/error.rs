//! The library's one error type.
//!
//! A message names the thing, what was found and what was expected; what to do about it goes into the
//! hint. Programs branch on [`ErrorKind`], which is exhaustive on purpose: the crates of this project
//! move together, and a new kind must be mapped to an exit code or a status by hand.

use std::fmt;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What class of failure an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A setting is out of range or makes no sense with the others.
    InvalidConfig,
    /// A file, folder or model is not where it was said to be.
    NotFound,
    /// Reading or writing failed for a reason of the operating system.
    Io,
    /// A file is damaged or is not what its name says.
    Malformed,
    /// A file asks for code to be executed, which is never done.
    UnsafeFile,
    /// Tensors are missing or have another shape than the configuration says.
    WeightMismatch,
    /// Valid input that this version cannot serve.
    Unsupported,
    /// A device is not compiled in, not present, or failed.
    Device,
    /// The network was needed and could not be used.
    Network,
    /// Latents or activations became NaN or infinite.
    NonFinite,
    /// The caller cancelled.
    Cancelled,
    /// An invariant of this crate broke; please report it.
    Internal,
}

/// What went wrong, with the facts and, where there is one, a way out.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Creates an error. `message` is lower case, without a full stop, and holds the facts.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                message: message.into(),
                hint: None,
                source: None,
            }),
        }
    }

    /// Adds what the reader can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint = Some(hint.into());
        self
    }

    /// Adds the underlying cause.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// Puts where it happened in front of the message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.inner.message = format!("{context}: {}", self.inner.message);
        self
    }

    /// The class of failure.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The message without hint and cause.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// What to do, if there is something.
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// Shorthand for an [`ErrorKind::InvalidConfig`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidConfig, message)
    }

    /// Shorthand for an [`ErrorKind::Malformed`].
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Malformed, message)
    }

    /// Shorthand for an [`ErrorKind::Unsupported`].
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// An operating-system error with the path it happened at.
    pub fn io(path: &std::path::Path, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        Self::new(kind, format!("{}: {source}", path.display())).with_source(source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)?;
        if let Some(hint) = &self.inner.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.inner.kind)
            .field("message", &self.inner.message)
            .field("hint", &self.inner.hint)
            .field("source", &self.inner.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

/// Adds context to the error of a result.
pub trait Context<T> {
    /// Puts where it happened in front of the message.
    ///
    /// # Errors
    /// Passes on the error it was called on.
    fn context(self, context: impl fmt::Display) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context(self, context: impl fmt::Display) -> Result<T> {
        self.map_err(|error| error.context(context))
    }
}
