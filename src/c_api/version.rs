//! Versions, for programs that load the library at run time.

use std::ffi::{CStr, c_char};

/// The version of this interface. It grows with every addition; the number in the name of the shared library
/// changes when something is changed or taken away.
pub const AXM_ABI_VERSION: u32 = 1;

/// The version of the library that is loaded, such as "0.1.0". Static.
#[unsafe(no_mangle)]
pub extern "C" fn axm_version_string() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("a version has no NUL"),
        };
    VERSION.as_ptr()
}

/// The AXM_ABI_VERSION of the library that is loaded. One that is at least the header's has everything the header
/// declares.
#[unsafe(no_mangle)]
pub extern "C" fn axm_abi_version() -> u32 {
    AXM_ABI_VERSION
}
