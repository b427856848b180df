//! `axm_error_t` and the guard around every function that can fail.

use std::ffi::{CString, c_char};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::convert::c_text;
use crate::aside::{bug, panic_text};
use crate::error::{Error, ErrorKind, Result};

/// What went wrong, in terms of what a caller can do about it. Later versions may add codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum axm_error_code_t {
    /// An argument cannot be used, the operation does not fit the worker's state, or the log callback called.
    AXM_ERROR_INVALID_ARGUMENT = 1,
    /// A property has a value that cannot be used. Correct the configuration.
    AXM_ERROR_INVALID_CONFIG = 2,
    /// A property without a default is not set. Set it.
    AXM_ERROR_MISSING_CONFIG = 3,
    /// A file named by the configuration does not exist.
    AXM_ERROR_NOT_FOUND = 4,
    /// Another worker holds this identity.
    AXM_ERROR_ALREADY_EXISTS = 5,
    /// A stored record that had to be understood could not be.
    AXM_ERROR_CORRUPT = 6,
    /// etcd did not answer, or not in time. The same call may succeed later.
    AXM_ERROR_UNAVAILABLE = 7,
    /// etcd refused the user name or the password.
    AXM_ERROR_UNAUTHENTICATED = 8,
    /// The etcd user lacks a permission.
    AXM_ERROR_PERMISSION_DENIED = 9,
    /// A file could not be read.
    AXM_ERROR_IO = 10,
    /// The membership was closed before or during the call.
    AXM_ERROR_CLOSED = 11,
    /// This process was forked after its parent had opened a membership. See "Fork" above.
    AXM_ERROR_FORKED = 12,
    /// A bug in this library.
    AXM_ERROR_INTERNAL = 13,
    /// The system grants this process no more threads or file descriptors. The same call may succeed later.
    AXM_ERROR_RESOURCE_EXHAUSTED = 14,
}

impl From<ErrorKind> for axm_error_code_t {
    fn from(kind: ErrorKind) -> Self {
        use axm_error_code_t::*;
        match kind {
            ErrorKind::InvalidArgument => AXM_ERROR_INVALID_ARGUMENT,
            ErrorKind::InvalidConfig => AXM_ERROR_INVALID_CONFIG,
            ErrorKind::MissingConfig => AXM_ERROR_MISSING_CONFIG,
            ErrorKind::NotFound => AXM_ERROR_NOT_FOUND,
            ErrorKind::AlreadyExists => AXM_ERROR_ALREADY_EXISTS,
            ErrorKind::Corrupt => AXM_ERROR_CORRUPT,
            ErrorKind::Unavailable => AXM_ERROR_UNAVAILABLE,
            ErrorKind::Unauthenticated => AXM_ERROR_UNAUTHENTICATED,
            ErrorKind::PermissionDenied => AXM_ERROR_PERMISSION_DENIED,
            ErrorKind::Io => AXM_ERROR_IO,
            ErrorKind::Closed => AXM_ERROR_CLOSED,
            ErrorKind::Forked => AXM_ERROR_FORKED,
            ErrorKind::Internal => AXM_ERROR_INTERNAL,
            ErrorKind::ResourceExhausted => AXM_ERROR_RESOURCE_EXHAUSTED,
        }
    }
}

/// Why a call failed.
pub struct axm_error_t {
    kind: ErrorKind,
    message: CString,
}

impl fmt::Display for axm_error_t {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message.to_string_lossy())
    }
}

impl From<Error> for axm_error_t {
    fn from(error: Error) -> Self {
        axm_error_t {
            kind: error.kind(),
            message: c_text(&error.to_string()),
        }
    }
}

/// Runs the body of an exported function; its error, or its panic, is the answer for C.
pub(super) fn guard(body: impl FnOnce() -> Result<()>) -> Option<Box<axm_error_t>> {
    // Whatever a panic leaves behind is behind locks that do not poison, or not used again.
    let result =
        catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(bug(panic_text(&*panic))));
    result.err().map(|error| Box::new(error.into()))
}

/// One of the AXM_ERROR_* values; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_error_code(error: Option<&axm_error_t>) -> i32 {
    error.map_or(0, |error| axm_error_code_t::from(error.kind) as i32)
}

/// What failed and why, for people. Belongs to the error.
#[unsafe(no_mangle)]
pub extern "C" fn axm_error_message(error: Option<&axm_error_t>) -> *const c_char {
    error.map_or(std::ptr::null(), |error| error.message.as_ptr())
}

/// Whether the same call may succeed later without anybody correcting anything.
#[unsafe(no_mangle)]
pub extern "C" fn axm_error_is_retryable(error: Option<&axm_error_t>) -> bool {
    error.is_some_and(|error| error.kind.is_retryable())
}

/// Frees an error.
#[unsafe(no_mangle)]
pub extern "C" fn axm_error_free(error: Option<Box<axm_error_t>>) {
    drop(error);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: impl FnOnce() -> Result<()>) -> (i32, String) {
        let error = guard(body).expect("an error");
        let message = error.message.to_str().expect("UTF-8").to_owned();
        (axm_error_code(Some(&error)), message)
    }

    #[test]
    fn success_is_null() {
        assert!(guard(|| Ok(())).is_none());
    }

    #[test]
    fn errors_keep_their_kind_and_text() {
        let error = || Error::new(ErrorKind::Unavailable, "no etcd\0here");
        assert_eq!(answer(|| Err(error())), (7, "no etcd\\u{0}here".to_owned()));
        let error = guard(|| Err(error()));
        assert!(axm_error_is_retryable(error.as_deref()));
    }

    #[test]
    fn panics_become_internal_errors_with_their_text() {
        let internal = (13, "A bug in the membership library: plain".to_owned());
        assert_eq!(answer(|| panic!("plain")), internal);
    }

    #[test]
    fn codes_are_the_numbers_of_the_kinds() {
        for (index, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as i32, index as i32 + 1);
            assert_eq!(axm_error_code_t::from(kind) as i32, kind as i32);
        }
    }
}
