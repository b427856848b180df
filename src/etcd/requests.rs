//! The log of the requests to etcd: which endpoint was asked what, and how long it took.

use tokio::time::Instant;

use super::endpoints::{Endpoint, TryError};
use crate::log;

/// Logs what became of a request, at debug level.
pub(crate) fn log<T>(
    what: &str,
    endpoint: &Endpoint,
    asked_at: Instant,
    answer: &Result<T, TryError>,
) {
    let milliseconds = asked_at.elapsed().as_secs_f64() * 1000.0;
    match answer {
        Ok(_) => log::debug!(
            "{what}: {} answered in {milliseconds:.1} ms",
            endpoint.connection.shown()
        ),
        // The cause names the endpoint.
        Err(error) => log::debug!("{what}: {}, {milliseconds:.1} ms", error.cause.text),
    }
}
