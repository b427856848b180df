//! Converts between C's values and Rust's. The unsafe code of the C API is here; it relies on the
//! rules that the header has for callers.

use std::borrow::Cow;
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

/// An object that a function changes, which other threads may use at the same time: its own locks
/// order the changes, so Rust shares it although its type in C is not const.
pub(super) fn shared<'a, T: Sync>(pointer: *mut T, name: &str) -> Result<&'a T> {
    // SAFETY: the caller passes NULL, or an object of this library that no thread frees during the
    // call; no caller of this function keeps the reference longer.
    required(unsafe { pointer.as_ref() }, name)
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
    // SAFETY: the caller passes memory that ends with NUL and does not change during the call; no
    // caller of this function keeps the text longer.
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

/// No version of a struct will be larger; a struct that claims to be was not initialized.
const MAX_STRUCT_SIZE: usize = 4096;

/// A struct that begins with its size, so that later versions can add fields at the end.
///
/// # Safety
///
/// The type is `#[repr(C)]`, its first field is a `usize`, and any bytes are valid for its fields.
pub(super) unsafe trait SizedStruct: Copy {
    /// How errors name the struct.
    const NAME: &str;
    /// The macro of the header that initializes it.
    const INIT: &str;
}

/// The size that the caller's struct says it has: at least the size of the first version.
fn size_of_struct<T: SizedStruct>(pointer: *const T) -> Result<usize> {
    if pointer.is_null() {
        return Err(invalid(format!("{} is NULL", T::NAME)));
    }
    // SAFETY: the caller passes a struct that begins with its size, whatever version of the struct
    // the caller knows.
    let size = unsafe { pointer.cast::<usize>().read() };
    let known = size_of::<T>();
    if !(known..=MAX_STRUCT_SIZE).contains(&size) {
        return Err(invalid(format!(
            "{0}.struct_size is {size}, expected {known}: initialize the {0} with {1}",
            T::NAME,
            T::INIT
        )));
    }
    Ok(size)
}

/// Copies a struct of the caller. Fields that this version does not know must be 0.
pub(super) fn read_struct<T: SizedStruct>(pointer: *const T) -> Result<T> {
    let (size, known) = (size_of_struct(pointer)?, size_of::<T>());
    // SAFETY: the caller's struct has `size` bytes, which are at least the `known` ones.
    let unknown =
        unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known) };
    if unknown.iter().any(|&byte| byte != 0) {
        return Err(invalid(format!(
            "{} has a field that this version of the library does not know",
            T::NAME
        )));
    }
    // SAFETY: as above, and any bytes are valid for the fields.
    Ok(unsafe { pointer.read() })
}

/// Copies a struct to the caller. Leaves the size, and fields that this version does not know.
pub(super) fn write_struct<T: SizedStruct>(pointer: *mut T, value: T) -> Result<()> {
    let size = size_of_struct(pointer)?;
    // SAFETY: the caller's struct has at least the bytes of `T`, and begins with its size.
    unsafe {
        pointer.write(value);
        pointer.cast::<usize>().write(size);
    }
    Ok(())
}

/// A text for C.
pub(super) fn c_text(text: &str) -> CString {
    CString::new(&*without_nul(text)).expect("every NUL was just replaced")
}

/// Replaces each NUL, which ends a text in C.
pub(super) fn without_nul(text: &str) -> Cow<'_, str> {
    match text.contains('\0') {
        true => Cow::Owned(text.replace('\0', "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}

/// A duration for C.
pub(super) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Frees a text made by [`CString::into_raw`].
pub(super) fn free_text(pointer: *mut c_char) {
    if !pointer.is_null() {
        // SAFETY: the pointer is from into_raw of this library, and the caller passes it once.
        drop(unsafe { CString::from_raw(pointer) });
    }
}
