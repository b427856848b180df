//! Grants and revokes leases, with ids that this process chooses.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use etcd_client::{LeaseGrantOptions, LeaseGrantResponse};
use tokio::time::Instant;

use super::answers::revision_of;
use super::endpoints::{Call, Endpoints};
use super::status;
use crate::error::Result;

/// The number of low bits of a lease id that are a counter. The other bits are the tag.
const COUNT_BITS: u32 = 24;
/// The longest time to live of a lease, whatever a server answers. etcd's own limit is 285 years.
const LONGEST_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The lease ids of one cluster in one process: a random tag in the high bits, and a counter in the
/// low bits.
///
/// The tag shows that a live key has a lease of this process, even if the answer to the grant was
/// lost.
#[derive(Debug)]
pub(crate) struct LeaseIds {
    tag: i64,
    count: AtomicI64,
}

impl LeaseIds {
    pub(crate) fn new() -> Self {
        LeaseIds {
            tag: rand::random_range(1..1 << (i64::BITS - 1 - COUNT_BITS)),
            count: AtomicI64::new(0),
        }
    }

    /// Returns an id that was never used before.
    pub(crate) fn next(&self) -> i64 {
        let count = self.count.fetch_add(1, Ordering::Relaxed) & ((1 << COUNT_BITS) - 1);
        self.tag << COUNT_BITS | count
    }

    /// Whether the id has the tag of this process.
    pub(crate) fn contain(&self, id: i64) -> bool {
        id >> COUNT_BITS == self.tag
    }
}

/// Grants the lease and returns its time to live, which etcd raises if it is too short. It can
/// repeat a try whose answer was lost, because the caller chose the id.
pub(crate) async fn grant(
    endpoints: &Endpoints,
    call: &Call,
    id: i64,
    ttl: Duration,
) -> Result<Duration> {
    let seconds = seconds(ttl);
    let grant = endpoints.call(call, |mut client| async move {
        let options = LeaseGrantOptions::new().with_id(id);
        match client.lease_grant(seconds, Some(options)).await {
            Ok(answer) => granted(&answer, id),
            Err(error) if status::is_lease_exists(&error) => Ok(ttl),
            Err(error) => Err(error),
        }
    });
    Box::pin(grant).await
}

/// Returns the description of a grant, in the words of Alluxio's etcd client.
pub(crate) fn granting(ttl: Duration) -> String {
    format!("Creating Lease with ttl:{}", seconds(ttl))
}

fn seconds(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)
}

fn granted(
    answer: &LeaseGrantResponse,
    id: i64,
) -> std::result::Result<Duration, etcd_client::Error> {
    if !answer.error().is_empty() {
        let error = answer.error().escape_debug();
        return Err(status::wrong_answer(format!(
            "it granted no lease: \"{error}\""
        )));
    }
    if answer.id() != id {
        return Err(status::wrong_answer(
            "it granted a lease with another id than requested",
        ));
    }
    match u64::try_from(answer.ttl()) {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds).min(LONGEST_TTL)),
        _ => Err(status::wrong_answer(
            "it granted a lease that had already ended",
        )),
    }
}

/// Revokes the lease and returns a revision at which its keys are gone. Returns 0 if the lease did
/// not exist, because etcd's answer then has no such revision.
pub(crate) async fn revoke(endpoints: &Endpoints, id: i64, deadline: Instant) -> Result<i64> {
    let call = Call::new(format!("Revoking Lease:{id}"), deadline);
    let revoke = endpoints.call(&call, |mut client| async move {
        match client.lease_revoke(id).await {
            Ok(answer) => Ok(revision_of(answer.header())),
            Err(error) if status::is_lease_not_found(&error) => Ok(0),
            Err(error) => Err(error),
        }
    });
    Box::pin(revoke).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_positive_and_known_by_their_tag() {
        for _ in 0..1_000 {
            let (ours, others) = (LeaseIds::new(), LeaseIds::new());
            let (first, second) = (ours.next(), ours.next());
            assert!(first > 0 && first != second);
            assert!(ours.contain(first) && ours.contain(second));
            assert!(!others.contain(first) && !ours.contain(0));
        }
    }

    #[test]
    fn the_count_never_changes_the_tag() {
        let ids = LeaseIds {
            tag: 1,
            count: AtomicI64::new((1 << COUNT_BITS) - 1),
        };
        assert!(ids.contain(ids.next()) && ids.contain(ids.next()));
        let ids = LeaseIds {
            tag: (1 << (i64::BITS - 1 - COUNT_BITS)) - 1,
            count: AtomicI64::new(-1),
        };
        let id = ids.next();
        assert!(id > 0 && ids.contain(id));
    }
}
