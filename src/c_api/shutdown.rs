//! The end of the library.

use std::time::Duration;

use super::convert::invalid;
use super::error::{axm_error_t, guard};
use super::log::in_callback;
use crate::runtime::shut_down;

/// Ends the library before the process ends.
///
/// Ends every registration, then every thread except the threads of subscriptions, which end on
/// their own. Waits for at most timeout_ms, and some tenths of a second for the threads. Running
/// calls end with AXM_ERROR_CLOSED, and so do later calls. The library cannot be started again.
/// What was opened must still be freed. Does nothing if no membership was ever opened, or if the
/// library was shut down before. Must not be called from the log callback. Blocks.
///
/// \param timeout_ms The limit for ending the registrations, in milliseconds; 0 or more.
/// \return NULL, or an error. After the errors AXM_ERROR_UNAVAILABLE, AXM_ERROR_UNAUTHENTICATED and
/// AXM_ERROR_PERMISSION_DENIED the library has ended too, but etcd revokes some lease only when it
/// runs out. AXM_ERROR_UNAVAILABLE also means that another thread has been shutting down for longer
/// than timeout_ms. Others: AXM_ERROR_INVALID_ARGUMENT, AXM_ERROR_FORKED.
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
