//! The text of `--version`.
//!
//! The commit comes from the variable `AXM_COMMIT` of the build. A crate from a registry has none.

use std::env::consts::{ARCH, OS};
use std::sync::LazyLock;

/// Returns the version of the crate, the commit if the build knows it, and the platform.
///
/// The commit comes from the variable `AXM_COMMIT` of the build. A crate from a registry has none.
pub fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let version = env!("CARGO_PKG_VERSION");
        let libc = if cfg!(target_env = "musl") {
            "musl"
        } else {
            "gnu"
        };
        let debug = if cfg!(debug_assertions) {
            ", debug"
        } else {
            ""
        };
        let commit = match option_env!("AXM_COMMIT") {
            Some(commit) if !commit.is_empty() => format!("{commit}, "),
            _ => String::new(),
        };
        format!("{version} ({commit}{ARCH}-{OS}-{libc}{debug})")
    });
    &TEXT
}
