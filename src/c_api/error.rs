//! `axm_error_t` and the guard around every function that can fail.

use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::convert::c_text;
use super::numbers;
use crate::aside::{bug, panic_text};
use crate::error::{Error, ErrorKind, Result};

/// What went wrong, in terms of what a caller can do about it. Later versions may add kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum axm_error_kind_t {
    /// Nothing went wrong.
    AXM_OK = 0,
    /// An argument cannot be used, the worker is in a state that the operation does not allow, or
    /// the log callback called the function.
    AXM_ERROR_INVALID_ARGUMENT = 1,
    /// A property has a value that cannot be used. Correct the configuration.
    AXM_ERROR_INVALID_CONFIG = 2,
    /// A property without a default is not set. Set the property.
    AXM_ERROR_MISSING_CONFIG = 3,
    /// A file that the configuration names does not exist.
    AXM_ERROR_NOT_FOUND = 4,
    /// Another worker has this identity.
    AXM_ERROR_ALREADY_EXISTS = 5,
    /// A stored record that the operation needs cannot be read.
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
    /// The process was forked after its parent had opened a membership. See \ref fork.
    AXM_ERROR_FORKED = 12,
    /// A bug in this library.
    AXM_ERROR_INTERNAL = 13,
    /// The system grants this process no more threads or file descriptors. The same call may
    /// succeed later.
    AXM_ERROR_RESOURCE_EXHAUSTED = 14,
}

impl From<ErrorKind> for axm_error_kind_t {
    fn from(kind: ErrorKind) -> Self {
        use axm_error_kind_t::*;
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

/// Why a call failed. One thread at a time may use an error.
pub struct axm_error_t {
    kind: ErrorKind,
    is_timeout: bool,
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
            is_timeout: error.cause().is_some_and(|cause| cause.timed_out),
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

/// Returns the kind of an error.
///
/// \param error An error, or NULL.
/// \return The kind; AXM_OK for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_error_kind(error: Option<&axm_error_t>) -> numbers::axm_error_kind_t {
    error.map_or(axm_error_kind_t::AXM_OK, |error| error.kind.into()) as i32
}

/// Returns the name of a kind of error, for logs.
///
/// \param kind A kind.
/// \return The name in this header, such as "AXM_ERROR_UNAVAILABLE", or "unknown" for a number that
/// the library does not know. The text lives as long as the process.
#[unsafe(no_mangle)]
pub extern "C" fn axm_error_name(kind: numbers::axm_error_kind_t) -> *const c_char {
    const NAMES: [&CStr; 15] = [
        c"AXM_OK",
        c"AXM_ERROR_INVALID_ARGUMENT",
        c"AXM_ERROR_INVALID_CONFIG",
        c"AXM_ERROR_MISSING_CONFIG",
        c"AXM_ERROR_NOT_FOUND",
        c"AXM_ERROR_ALREADY_EXISTS",
        c"AXM_ERROR_CORRUPT",
        c"AXM_ERROR_UNAVAILABLE",
        c"AXM_ERROR_UNAUTHENTICATED",
        c"AXM_ERROR_PERMISSION_DENIED",
        c"AXM_ERROR_IO",
        c"AXM_ERROR_CLOSED",
        c"AXM_ERROR_FORKED",
        c"AXM_ERROR_INTERNAL",
        c"AXM_ERROR_RESOURCE_EXHAUSTED",
    ];
    let name = usize::try_from(kind).ok().and_then(|kind| NAMES.get(kind));
    name.unwrap_or(&c"unknown").as_ptr()
}

/// Returns what failed and why, for people.
///
/// \param error An error, or NULL.
/// \return The text, which lives as long as the error; NULL for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_error_message(error: Option<&axm_error_t>) -> *const c_char {
    error.map_or(std::ptr::null(), |error| error.message.as_ptr())
}

/// Returns whether the same call may succeed later without any correction.
///
/// \param error An error, or NULL.
/// \return True for AXM_ERROR_UNAVAILABLE and AXM_ERROR_RESOURCE_EXHAUSTED; false for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_error_is_retryable(error: Option<&axm_error_t>) -> bool {
    error.is_some_and(|error| error.kind.is_retryable())
}

/// Returns whether a call failed because no answer of etcd came in time.
///
/// Then etcd may have done what the call asked for, or may do it later:
/// - If the first axm_membership_join of a worker fails, the library ends the registration: it
///   revokes the lease, or the lease runs out. A later join of a registered worker may have changed
///   its record, and the registration continues.
/// - axm_membership_leave, axm_membership_leave_worker and axm_membership_close have ended the
///   renewals, so the lease runs out.
/// - axm_membership_remove may have removed the worker. Then the same call fails with
///   AXM_ERROR_INVALID_ARGUMENT, because the worker is unknown.
///
/// The other functions only read.
///
/// \param error An error, or NULL.
/// \return True if no answer came in time; false for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn axm_error_is_timeout(error: Option<&axm_error_t>) -> bool {
    error.is_some_and(|error| error.is_timeout)
}

/// Frees an error.
///
/// \param error An error, or NULL.
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
        (axm_error_kind(Some(&error)), message)
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
    fn kinds_have_the_numbers_and_names_of_the_header() {
        let name = |kind| {
            // SAFETY: axm_error_name returns texts of the library.
            unsafe { CStr::from_ptr(axm_error_name(kind)) }
                .to_str()
                .expect("UTF-8")
        };
        for (index, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as i32, index as i32 + 1);
            let in_c = axm_error_kind_t::from(kind);
            assert_eq!(in_c as i32, kind as i32);
            assert_eq!(name(kind as i32), format!("{in_c:?}"));
        }
        assert_eq!(axm_error_kind(None), 0);
        assert_eq!(name(0), "AXM_OK");
        for unknown in [-1, ErrorKind::ALL.len() as i32 + 1, i32::MAX, i32::MIN] {
            assert_eq!(name(unknown), "unknown");
        }
    }
}
