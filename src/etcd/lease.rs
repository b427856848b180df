//! Granting and revoking leases, under ids of our own choice.

use std::time::Duration;

use etcd_client::LeaseGrantOptions;
use tokio::time::Instant;

use super::endpoints::{Call, Endpoints};
use super::ring::revision_of;
use super::status;
use crate::error::Result;

/// An id that nobody uses.
pub(crate) fn new_id() -> i64 {
    rand::random_range(1..=i64::MAX)
}

/// Grants the lease and returns its time to live, which etcd raises where it is too short for it. Since the caller chose
/// the id, a try whose answer was lost can be repeated.
pub(crate) async fn grant(
    endpoints: &Endpoints,
    id: i64,
    ttl: Duration,
    deadline: Instant,
) -> Result<Duration> {
    let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
    let call = Call::new(format!("Creating Lease with ttl:{seconds}"), deadline);
    let granted = endpoints
        .call(&call, |mut client| async move {
            let options = LeaseGrantOptions::new().with_id(id);
            match client.lease_grant(seconds, Some(options)).await {
                Ok(answer) => Ok(answer.ttl()),
                Err(error) if status::is_lease_exists(&error) => Ok(seconds),
                Err(error) => Err(error),
            }
        })
        .await?;
    Ok(u64::try_from(granted).map_or(ttl, Duration::from_secs))
}

/// Revokes the lease and returns a revision at which its keys are gone: 0 if there was no such lease, since
/// etcd does not say at which revision it says so.
pub(crate) async fn revoke(endpoints: &Endpoints, id: i64, deadline: Instant) -> Result<i64> {
    let call = Call::new(format!("Revoking Lease:{id}"), deadline);
    endpoints
        .call(&call, |mut client| async move {
            match client.lease_revoke(id).await {
                Ok(answer) => Ok(revision_of(answer.header())),
                Err(error) if status::is_lease_not_found(&error) => Ok(0),
                Err(error) => Err(error),
            }
        })
        .await
}
