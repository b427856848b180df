//! Between C's values and Rust's. The unsafe code of the C API is here; it relies on what the header demands of callers.

use std::ffi::{CStr, CString, c_char};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::worker::WorkerIdentity;

/// An error about a caller's argument.
pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

/// An argument that must not be NULL.
pub(super) fn required<T>(argument: Option<T>, name: &str) -> Result<T> {
    argument.ok_or_else(|| invalid(format!("{name} is NULL")))
}

/// A text that must not be NULL.
pub(super) fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    required(optional_text(pointer, name)?, name)
}

/// A text that may be NULL.
pub(super) fn optional_text<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller passes memory that ends with NUL and does not change during the call; no caller of this
    // function keeps the text longer.
    let bytes = unsafe { CStr::from_ptr(pointer) };
    bytes
        .to_str()
        .map(Some)
        .map_err(|error| invalid(format!("{name} is not UTF-8: {error}")))
}

/// The identity in a text such as `worker-<uuid>`.
pub(super) fn to_identity(pointer: *const c_char, name: &str) -> Result<WorkerIdentity> {
    let text = optional_text(pointer, name)?.ok_or_else(|| {
        invalid(format!(
            "{name} is NULL, expected worker-<uuid>, the same text whenever this worker starts"
        ))
    })?;
    WorkerIdentity::parse(text)
}

/// A text for C.
pub(super) fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).expect("every NUL was just replaced")
}

/// A duration for C.
pub(super) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Frees a text made by [`CString::into_raw`].
pub(super) fn free_text(pointer: *mut c_char) {
    if !pointer.is_null() {
        // SAFETY: the caller got the pointer from this library, which made it with into_raw, and passes it once.
        drop(unsafe { CString::from_raw(pointer) });
    }
}
