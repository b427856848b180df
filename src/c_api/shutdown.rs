//! The end of the library.

use std::time::Duration;

use super::convert::invalid;
use super::error::{axm_error_t, guard};
use super::log::in_callback;
use crate::runtime::shut_down;

/// Ends the library before the process ends: ends every registration, then every thread but those of subscriptions, which
/// end by themselves. Waits for at most timeout_ms, and some tenths of a second for the threads. Calls that are running end
/// with AXM_ERROR_CLOSED, as do later ones; there is no way back. What was opened must still be freed. Does nothing if no
/// membership was ever opened, and if the library was shut down already. Not from the log callback. Blocks.
///
/// Errors: UNAVAILABLE, UNAUTHENTICATED, PERMISSION_DENIED (a lease could not be revoked in time; the library has ended all
/// the same), UNAVAILABLE also if another thread is shutting down for longer than timeout_ms; INVALID_ARGUMENT, FORKED.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_shutdown(timeout_ms: i64) -> Option<Box<axm_error_t>> {
    guard(|| {
        let timeout = u64::try_from(timeout_ms)
            .map_err(|_| invalid(format!("timeout_ms is {timeout_ms}, expected 0 or more")))?;
        if in_callback() {
            return Err(invalid("axm_shutdown was called by the log callback"));
        }
        shut_down(Duration::from_millis(timeout))
    })
}
