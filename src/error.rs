//! The one error type of the library.

use std::fmt;

use crate::text::Message;

/// `Result` with this library's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, in terms of what a caller can do about it.
///
/// The numbers are part of the C and Java interfaces: they are never changed and never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum ErrorKind {
    /// An argument cannot be used, or the operation does not fit the worker's state. Not worth
    /// repeating.
    InvalidArgument = 1,
    /// A property has a value that cannot be used. Correct the configuration.
    InvalidConfig = 2,
    /// A property without a default is not set. Set it.
    MissingConfig = 3,
    /// A file named by the configuration does not exist.
    NotFound = 4,
    /// Another worker holds this identity.
    AlreadyExists = 5,
    /// A stored record that had to be understood could not be.
    Corrupt = 6,
    /// etcd did not answer, or not in time. May be repeated.
    Unavailable = 7,
    /// etcd refused the user name or the password.
    Unauthenticated = 8,
    /// The etcd user lacks a permission.
    PermissionDenied = 9,
    /// A file could not be read.
    Io = 10,
    /// The manager was closed before or during the call.
    Closed = 11,
    /// This process was forked after its parent had used the library, which works in the parent
    /// only.
    Forked = 12,
    /// A bug in this library.
    Internal = 13,
    /// The system grants this process no more threads or file descriptors. May be repeated.
    ResourceExhausted = 14,
}

impl ErrorKind {
    /// Every kind, in the order of the numbers.
    pub const ALL: [ErrorKind; 14] = [
        ErrorKind::InvalidArgument,
        ErrorKind::InvalidConfig,
        ErrorKind::MissingConfig,
        ErrorKind::NotFound,
        ErrorKind::AlreadyExists,
        ErrorKind::Corrupt,
        ErrorKind::Unavailable,
        ErrorKind::Unauthenticated,
        ErrorKind::PermissionDenied,
        ErrorKind::Io,
        ErrorKind::Closed,
        ErrorKind::Forked,
        ErrorKind::Internal,
        ErrorKind::ResourceExhausted,
    ];

    /// Whether the same call may succeed later without anybody correcting anything.
    pub fn is_retryable(self) -> bool {
        matches!(self, ErrorKind::Unavailable | ErrorKind::ResourceExhausted)
    }
}

/// An error: its kind, what was attempted, and why it failed.
///
/// The texts of an error are safe to show, see [`Safe`](crate::text::Safe): each is one line,
/// whatever it quotes, and is cut after 4 KiB.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    cause: Option<Cause>,
}

/// The reason below an [`Error`], for example the last answer of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Names the endpoint, key or file, and what it said.
    pub text: String,
    /// No answer came in time.
    pub timed_out: bool,
}

impl Error {
    /// An error without a deeper cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error {
            kind,
            message: Message(message.into()).to_string(),
            cause: None,
        }
    }

    /// An error with the reason below it.
    pub fn with_cause(kind: ErrorKind, message: impl Into<String>, cause: Cause) -> Self {
        Error {
            kind,
            message: Message(message.into()).to_string(),
            cause: Some(Cause {
                text: Message(cause.text).to_string(),
                timed_out: cause.timed_out,
            }),
        }
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was attempted, without the cause. Where Alluxio's own Java class has a text for the
    /// case, this is that text.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The reason below, if there is one.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.cause {
            Some(cause) => write!(f, " {}", cause.text),
            None => Ok(()),
        }
    }
}

/// The source is the [`Cause`], if there is one.
impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause as _)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Cause {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_whatever_it_quotes() {
        let error = Error::with_cause(
            ErrorKind::Unavailable,
            "a\n2026-01-01 ERROR forged",
            Cause {
                text: "\u{1b}[31mred".to_owned(),
                timed_out: false,
            },
        );
        let shown = "a\\n2026-01-01 ERROR forged \\u{1b}[31mred";
        assert_eq!(error.to_string(), shown);
        let long = Error::new(ErrorKind::Corrupt, "x".repeat(10_000));
        assert!(long.message().len() < 5_000);
        assert!(long.message().ends_with("x... (10000 bytes)"));
    }
}
