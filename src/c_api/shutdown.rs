//! The end of the library.

use std::time::Duration;

use super::convert::invalid;
use super::error::{axm_error_t, guard};
use crate::runtime::shut_down;

/// Ends the library before the process ends: ends every registration, then every thread but those of subscriptions, which
/// end by themselves. Waits for at most timeout_ms. Calls that are running end with AXM_ERROR_CLOSED, as do later ones;
/// there is no way back. What was opened must still be freed. Does nothing if no membership was ever opened. An error says
/// that a lease could not be revoked; the library has ended all the same. Not from callbacks. Blocks.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn axm_shutdown(timeout_ms: i64) -> Option<Box<axm_error_t>> {
    guard(|| {
        let timeout = u64::try_from(timeout_ms)
            .map_err(|_| invalid(format!("timeout_ms is {timeout_ms}, expected 0 or more")))?;
        shut_down(Duration::from_millis(timeout))
    })
}
