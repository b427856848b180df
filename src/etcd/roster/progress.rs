//! Decides whether a server reports the progress of its watches correctly.
//!
//! On request, a server reports that it has sent everything up to a revision on all watches of the
//! stream. Older servers answer at once, without looking at the watches (etcd issues 15220 and
//! 17507), or lose the deletion of a key when they are compacted at its revision (18089 and 19179).

use std::sync::Arc;
use std::time::Duration;

use etcd_client::Client;

use crate::etcd::endpoints::{Endpoint, Purpose, TRY_TIMEOUT};

/// The watch id of a report about all watches of a stream.
pub(super) const OF_ALL_WATCHES: i64 = -1;
/// How long the report may take. After that, the roster asks in another way.
pub(super) const PATIENCE: Duration = Duration::from_millis(300);

/// Returns the id of the member behind this endpoint if it reports progress correctly.
pub(super) async fn trusted_member(endpoint: &Arc<Endpoint>) -> Option<u64> {
    let status = endpoint.attempt(
        Purpose::Requests,
        TRY_TIMEOUT,
        |client: Client| async move { client.maintenance_client().status().await },
    );
    let status = status.await.ok()?;
    let member = status.header()?.member_id();
    can_be_trusted(status.version()).then_some(member)
}

/// Whether this version of etcd has the corrections of all these bugs.
pub(in crate::etcd) fn can_be_trusted(version: &str) -> bool {
    let (numbers, is_final) = match version.split_once('-') {
        Some((numbers, _)) => (numbers, false),
        None => (version, true),
    };
    let mut numbers = numbers.split('.').map(|number| number.parse().ok());
    let mut next = || numbers.next().flatten().unwrap_or(0u32);
    match (next(), next(), next()) {
        (3, 4, patch) => patch >= 36,
        (3, 5, patch) => patch >= 18,
        (3, 6, 0) => is_final,
        version => version > (3, 6, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_not_trusted() {
        for version in [
            "3.4.23",
            "3.4.35",
            "3.5.17",
            "3.6.0-alpha.0",
            "3.3.27",
            "2.3.8",
            "",
            "x",
        ] {
            assert!(!can_be_trusted(version), "{version}");
        }
        for version in [
            "3.4.36",
            "3.5.18",
            "3.5.21",
            "3.6.0",
            "3.6.16",
            "3.7.0-alpha.0",
            "4.0.0",
        ] {
            assert!(can_be_trusted(version), "{version}");
        }
    }
}
