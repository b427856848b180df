//! The C API: what `include/alluxio_membership.h` declares. Its conventions stand at the top of that header
//! (`cbindgen.toml`); the doc comments of the exported functions are the header's comments.

// The types carry the names they have in C.
#![allow(non_camel_case_types)]

mod config;
mod convert;
mod error;
mod log;
mod membership;
mod shutdown;
mod snapshot;
mod status;
mod subscription;
mod version;
mod worker;
