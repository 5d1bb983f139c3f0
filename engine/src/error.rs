//! The engine's error: a kind that a program can act on, and a sentence that a person can.

use std::fmt;

/// What a caller can do about an [`Error`].
///
/// ```
/// use nekton_engine::{Error, Kind};
///
/// fn again(error: &Error) -> bool {
///     matches!(error.kind(), Kind::Unavailable)
/// }
/// assert!(!again(&Error::config("--workers 0 leaves nobody to work: give 1 or more")));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A flag, URL, name or program is wrong: correct it and start again.
    Config,
    /// Something that was named does not exist: a folder, a topic, a partition.
    Missing,
    /// Access was refused: credentials or permissions.
    Denied,
    /// A server, peer or port could not be reached or was lost: try again later.
    Unavailable,
    /// Somebody else holds what must be ours alone: a topic's writer, a port, a newer run of this job.
    Conflict,
    /// Input that cannot be read as what it should be.
    BadInput,
    /// Data that should be there is gone: a gap in a topic, a truncated file.
    Lost,
    /// An input/output operation of the machine failed: a disk, a pipe.
    Io,
    /// A defect in nekton or in the program's own closures.
    Internal,
}

/// An error that says what happened, to what, and what to do.
///
/// ```
/// use nekton_engine::{Error, Kind, Result};
/// use std::path::Path;
///
/// fn limits(path: &Path) -> Result<String> {
///     std::fs::read_to_string(path).map_err(|error| Error::io(format!("reading {}", path.display()), &error))
/// }
///
/// let error = limits(Path::new("no/such/limits.toml")).unwrap_err().context("topic \"readings\"");
/// assert_eq!(error.kind(), Kind::Missing);
/// assert!(error.to_string().starts_with("topic \"readings\": reading no/such/limits.toml: "));
/// ```
#[derive(Clone)]
pub struct Error {
    kind: Kind,
    message: String,
}

/// The result of nekton's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Makes an error of `kind`. The message is one or two sentences: what happened, to what, what to do.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into() }
    }
    /// A wrong setting, see [`Kind::Config`].
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }
    /// A failed input/output operation on `what`, see [`Kind::Io`] (or a finer kind where the
    /// operating system says so).
    pub fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => Kind::Missing,
            std::io::ErrorKind::PermissionDenied => Kind::Denied,
            _ => Kind::Io,
        };
        Self::new(kind, format!("{what}: {error}"))
    }
    /// What a caller can do about it.
    pub fn kind(&self) -> Kind {
        self.kind
    }
    /// The code with which a process ends for it: 1 if starting it again may help, 2 if something must be changed first.
    ///
    /// ```
    /// use nekton_engine::{Error, Kind};
    ///
    /// assert_eq!(Error::new(Kind::Unavailable, "the connection to process 1 was lost").exit_code(), 1);
    /// assert_eq!(Error::config("--workers 0 leaves nobody to work: give 1 or more").exit_code(), 2);
    /// ```
    pub fn exit_code(&self) -> i32 {
        match self.kind {
            Kind::Unavailable | Kind::Io | Kind::Internal => 1,
            // Also where another run has taken over: to start again would take it back, for ever.
            Kind::Config | Kind::Missing | Kind::Denied | Kind::Conflict | Kind::BadInput | Kind::Lost => 2,
        }
    }
    /// The same error with `context: ` before its message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.message, self.kind)
    }
}

impl std::error::Error for Error {}
