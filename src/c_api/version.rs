//! The versions of the header and of the library.

use std::ffi::{CStr, c_char};

/// The version of this interface. It grows with every addition. The number in the name of the
/// shared library changes when something is changed or removed.
pub const AXM_ABI_VERSION: u32 = 1;

/// Returns the version of the library that is loaded, such as "0.1.0".
///
/// A program that was compiled with the header of the same release finds #AXM_VERSION_STRING here.
///
/// \return The version. The text lives as long as the process.
#[unsafe(no_mangle)]
pub extern "C" fn axm_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("a version has no NUL"),
        };
    VERSION.as_ptr()
}

/// Returns the #AXM_ABI_VERSION of the library that is loaded.
///
/// \return The version. A library whose version is at least the header's has everything that the
/// header declares.
#[unsafe(no_mangle)]
pub extern "C" fn axm_abi_version() -> u32 {
    AXM_ABI_VERSION
}
