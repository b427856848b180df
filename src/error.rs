//! The one error type of the library.

use std::fmt;

use crate::text::Message;

/// `Result` with this library's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// The category of an error, which tells a caller how to react.
///
/// The numbers are part of the C and Java interfaces: they never change and are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum ErrorKind {
    /// An argument is invalid, or the operation does not fit the worker's state. A retry does not
    /// help.
    InvalidArgument = 1,
    /// A property has an invalid value. Correct the configuration.
    InvalidConfig = 2,
    /// A property without a default is not set. Set it.
    MissingConfig = 3,
    /// A file that the configuration names does not exist.
    NotFound = 4,
    /// Another worker has this identity.
    AlreadyExists = 5,
    /// A stored record that the operation needs is unreadable.
    Corrupt = 6,
    /// etcd did not answer in time, or could not be reached. A retry may succeed.
    Unavailable = 7,
    /// etcd refused the user name or the password.
    Unauthenticated = 8,
    /// The etcd user lacks a permission.
    PermissionDenied = 9,
    /// A file could not be read.
    Io = 10,
    /// The manager was closed before or during the call.
    Closed = 11,
    /// The process was forked after its parent had used the library. The library works in the
    /// parent only.
    Forked = 12,
    /// A bug in this library.
    Internal = 13,
    /// The system grants this process no more threads or file descriptors. A retry may succeed.
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

    /// Whether a retry of the same call may succeed without any correction.
    pub fn is_retryable(self) -> bool {
        matches!(self, ErrorKind::Unavailable | ErrorKind::ResourceExhausted)
    }
}

/// An error: its kind, the operation that failed, and the reason.
///
/// The texts of an error are safe to show, see [`Safe`](crate::text::Safe). Each text is one line,
/// and is cut after 4 KiB.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    cause: Option<Cause>,
}

/// The reason of an [`Error`], for example the last answer of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The endpoint, key or file, and its answer or problem.
    pub text: String,
    /// Whether no answer came in time.
    pub timed_out: bool,
}

impl Error {
    /// Creates an error without a cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error {
            kind,
            message: Message(message.into()).to_string(),
            cause: None,
        }
    }

    /// Creates an error with a cause.
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

    /// Returns the kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the operation that failed, without the cause. If Alluxio's own Java class has a text
    /// for this case, the message is that text.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the cause, if there is one.
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
