//! The C API, which `include/alluxio_membership.h` declares. The conventions are at the top of that
//! header (`cbindgen.toml`). The doc comments of the exported functions are the header's comments.

// The types carry the names they have in C.
#![allow(non_camel_case_types)]

mod config;
mod convert;
mod error;
mod log;
mod membership;
mod numbers;
mod shutdown;
mod snapshot;
mod status;
mod subscription;
mod version;
mod worker;

use self::convert::invalid;
use crate::error::Result;

/// Fails inside the log callback, where no function of C works that uses the runtime: the thread
/// that logs may be the one that the function would wait for, or hold what the function needs.
fn check_not_in_log_callback() -> Result<()> {
    if log::in_callback() {
        return Err(invalid(
            "The log callback called a function that may need what the library holds while it logs",
        ));
    }
    Ok(())
}
