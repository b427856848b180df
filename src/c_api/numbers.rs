//! The enumerations of the header, as they stand in signatures.
//!
//! C may pass any number, and a Rust `enum` must not hold a number that it does not name. So the
//! functions take and return these numbers. cbindgen reads only the last part of a path, and writes
//! the enumeration of the same name into the header. Both have 32 bits.

pub type axm_change_kind_t = i32;
pub type axm_error_kind_t = i32;
pub type axm_filter_t = i32;
pub type axm_k8s_t = i32;
pub type axm_log_level_t = i32;
pub type axm_registration_state_t = i32;
pub type axm_state_t = i32;
