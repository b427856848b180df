//! Writes the keys and the lease of one worker.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnResponse};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::session::{Event, Lease};
use crate::boottime::BootTime;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::etcd::answers::{self, first_key, revision_of};
use crate::etcd::endpoints::{Call, Endpoints, retry_delays};
use crate::etcd::keys::{Keys, keys_only};
use crate::etcd::lease::{self, LeaseIds};
use crate::etcd::ring;
use crate::etcd::status;
use crate::log;
use crate::log_limit::LogLimit;
use crate::worker::{Worker, WorkerIdentity};

/// If this number of leases end before their key is written, the lease is too short for this
/// connection to etcd.
const MAX_LEASES_PER_JOIN: usize = 3;

/// The etcd, the keys and the worker of one registration.
pub(crate) struct Registrar {
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) keys: Keys,
    pub(crate) identity: WorkerIdentity,
    /// Whether the worker has a ring key. SERVICE_REGISTRY has none.
    pub(crate) has_ring: bool,
    pub(crate) ttl: Duration,
    pub(crate) lease_ids: Arc<LeaseIds>,
    pub(crate) log_limit: LogLimit,
}

/// The revisions at which a worker's keys were last written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyRevisions {
    /// 0 for SERVICE_REGISTRY.
    pub(crate) ring: i64,
    pub(crate) live: i64,
}

/// An error, and the lease that exists, or may exist, on the server.
pub(super) type Unfinished = (Option<Lease>, Error);

/// One join or repair. The task of the registration may have to end the lease of a join or repair
/// that was aborted.
pub(super) struct Attempt {
    pub(super) registrar: Arc<Registrar>,
    /// The channel for [`Event::Granted`].
    pub(super) events: mpsc::UnboundedSender<Event>,
    /// The last lease that was requested from etcd. It may exist, whatever the answer was.
    pub(super) asked_for: Arc<Mutex<Option<Lease>>>,
    pub(super) deadline: Instant,
}

impl Attempt {
    /// Writes both keys when a worker starts. One transaction writes them, so that the worker
    /// appears completely.
    pub(super) async fn join(
        &self,
        worker: &Worker,
        value: &[u8],
        overwrite: bool,
        mut lease: Option<Lease>,
    ) -> std::result::Result<(Lease, KeyRevisions), Unfinished> {
        // The last lease that had ended before the keys were written.
        let mut gone = None;
        let mut leases = 0;
        loop {
            // After a timeout, the lease that ended earlier is the reason.
            let explained = |(lease, error): Unfinished| match gone {
                Some(gone) if error.kind().is_retryable() => (lease, self.lease_gone(gone)),
                _ => (lease, error),
            };
            let current = match lease.take() {
                Some(lease) => lease,
                None => {
                    let call = match self.registrar.has_ring {
                        true => self.ring_call(value),
                        false => self.grant_call(),
                    };
                    self.grant(&call).await.map_err(explained)?
                }
            };
            let mut written = self
                .write_both(worker, value, overwrite, current, true)
                .await;
            if let Err(error) = &written
                && error.kind() == ErrorKind::InvalidArgument
            {
                // Both keys are too large for one request, but each key may fit alone.
                written = self
                    .write_both(worker, value, overwrite, current, false)
                    .await;
            }
            let written = written.map_err(|error| explained((Some(current), error)))?;
            if let Some(revisions) = written {
                return Ok((current, revisions));
            }
            leases += 1;
            if leases == MAX_LEASES_PER_JOIN {
                return Err((None, self.lease_gone(current)));
            }
            gone = Some(current);
        }
    }

    /// Writes the live key, even over another process's key, and the ring key unless it belongs to
    /// another worker. `together` writes both in one transaction; without it the ring key is
    /// written first. Returns `None` if the lease does not exist.
    ///
    /// On Kubernetes (`overwrite`) the record of an earlier pod is replaced, because a pod comes
    /// back with another address. Elsewhere a record that differs in more than optional fields
    /// belongs to another worker.
    async fn write_both(
        &self,
        worker: &Worker,
        value: &[u8],
        overwrite: bool,
        lease: Lease,
        together: bool,
    ) -> Result<Option<KeyRevisions>> {
        let live = self.put_live(value, lease);
        if !self.registrar.has_ring {
            return self.write_live(live, 0).await;
        }
        let (call, ring_key) = (self.ring_call(value), self.ring_key());
        let put_ring = TxnOp::put(ring_key.as_str(), value, None);
        let mut both = vec![put_ring];
        both.extend(together.then(|| live.clone()));
        if overwrite {
            let Some(answer) = self.commit(&call, Txn::new().and_then(both)).await? else {
                return Ok(None);
            };
            let at = revision_of(answer.header());
            return match together {
                true => Ok(Some(KeyRevisions { ring: at, live: at })),
                false => self.write_live(live, at).await,
            };
        }
        let is_missing = || Compare::version(ring_key.as_str(), CompareOp::Equal, 0);
        let mut condition = is_missing();
        // The revision of a ring key that needs no change.
        let mut in_place = None;
        let mut delays = retry_delays();
        for tries in 0u32.. {
            if tries > 1 {
                tokio::time::sleep(delays.next().unwrap_or_default()).await;
            }
            let puts = match in_place {
                Some(at) if !together => return self.write_live(live, at).await,
                Some(_) => std::slice::from_ref(&live),
                None => &both,
            };
            let txn = Txn::new()
                .when([condition])
                .and_then(puts)
                .or_else([TxnOp::get(ring_key.as_str(), None)]);
            let Some(answer) = self.commit(&call, txn).await? else {
                return Ok(None);
            };
            let revision = revision_of(answer.header());
            if answer.succeeded() {
                let ring = in_place.unwrap_or(revision);
                return match together {
                    true => Ok(Some(KeyRevisions {
                        ring,
                        live: revision,
                    })),
                    false => self.write_live(live, ring).await,
                };
            }
            // Only the record that was read is kept or replaced, not a newer one.
            (condition, in_place) = match answer.op_responses().into_iter().find_map(first_key) {
                None => (is_missing(), None),
                Some(existing) => {
                    let at = existing.mod_revision();
                    let is_same = existing.value() == value;
                    if !is_same {
                        ring::check_same_worker(&ring_key, existing.value(), worker)?;
                    }
                    let is_unchanged =
                        Compare::mod_revision(ring_key.as_str(), CompareOp::Equal, at);
                    (is_unchanged, is_same.then_some(at))
                }
            };
        }
        Ok(None)
    }

    /// Writes only the live key, after the ring key at that revision.
    async fn write_live(&self, live: TxnOp, ring: i64) -> Result<Option<KeyRevisions>> {
        let call = self.live_call();
        let answer = self.commit(&call, Txn::new().and_then([live])).await?;
        Ok(answer.map(|answer| KeyRevisions {
            ring,
            live: revision_of(answer.header()),
        }))
    }

    /// Returns why a lease was gone when a key was to be written.
    fn lease_gone(&self, lease: Lease) -> Error {
        let identity = self.registrar.identity;
        let cause = if lease.sent_at.elapsed() >= lease.ttl {
            format!(
                "the round trip to etcd takes longer than alluxio.worker.failure.detection.timeout \
                 ({} s). Raise it, or bring etcd closer.",
                self.registrar.ttl.as_secs()
            )
        } else {
            format!(
                "etcd at {} does not have the lease that it has just granted. Check that its \
                 members form one cluster, and check proxies between them and this process.",
                self.registrar.endpoints
            )
        };
        let text =
            format!("The lease of {identity} ended before its key could be written: {cause}");
        Error::new(ErrorKind::Unavailable, text)
    }

    /// Writes only the missing keys.
    pub(super) async fn repair(&self, value: &[u8], lease: Option<Lease>) -> Event {
        let failed = |(lease, error): Unfinished| {
            let identity = self.registrar.identity;
            let limit = &self.registrar.log_limit;
            log::limited!(
                limit,
                identity,
                Warn,
                "Registering {identity} again: {error}"
            );
            Event::RegisterFailed { lease }
        };
        let is_new = lease.is_none();
        let lease = match lease {
            Some(lease) => lease,
            None => match self.grant(&self.grant_call()).await {
                Ok(lease) => lease,
                Err(unfinished) => return failed(unfinished),
            },
        };
        match self.write_missing(value, lease).await {
            Ok(Some(holder)) if holder == lease.id => Event::Registered { lease },
            Ok(Some(holder)) => Event::Displaced { lease, holder },
            // The next try would fail in the same way, so it needs a pause.
            Ok(None) if is_new && lease.sent_at.elapsed() >= lease.ttl => {
                failed((None, self.lease_gone(lease)))
            }
            Ok(None) => Event::RegisterFoundLeaseGone { lease: lease.id },
            Err(error) => failed((Some(lease), error)),
        }
    }

    /// Returns the lease of the live key after that, or `None` if the given lease does not exist.
    async fn write_missing(&self, value: &[u8], lease: Lease) -> Result<Option<i64>> {
        if self.registrar.has_ring {
            let key = self.ring_key();
            let put = Txn::new()
                .when([Compare::version(key.as_str(), CompareOp::Equal, 0)])
                .and_then([TxnOp::put(key.as_str(), value, None)]);
            let call = self.ring_call(value);
            Box::pin(self.registrar.endpoints.commit(&call, put)).await?;
        }
        let key = self.registrar.keys.live_key(&self.registrar.identity);
        let call = self.live_call();
        // At first the key must not exist. Later it may also have an earlier lease of this process.
        let mut may_replace = Compare::version(key.as_str(), CompareOp::Equal, 0);
        let mut delays = retry_delays();
        for tries in 0u32.. {
            if tries > 1 {
                tokio::time::sleep(delays.next().unwrap_or_default()).await;
            }
            let put = Txn::new()
                .when([may_replace])
                .and_then([self.put_live(value, lease)])
                .or_else([TxnOp::get(key.as_str(), None)]);
            let Some(answer) = self.commit(&call, put).await? else {
                return Ok(None);
            };
            if answer.succeeded() {
                return Ok(Some(lease.id));
            }
            let found = answer.op_responses().into_iter().find_map(first_key);
            may_replace = match found.map(|kv| kv.lease()) {
                Some(holder) if holder == lease.id => return Ok(Some(holder)),
                Some(holder) if self.registrar.lease_ids.contain(holder) => {
                    Compare::lease(key.as_str(), CompareOp::Equal, holder)
                }
                Some(holder) => return Ok(Some(holder)),
                // The key was deleted in between.
                None => Compare::version(key.as_str(), CompareOp::Equal, 0),
            };
        }
        Ok(None)
    }

    fn ring_key(&self) -> String {
        self.registrar.keys.ring_key(&self.registrar.identity)
    }

    fn put_live(&self, value: &[u8], lease: Lease) -> TxnOp {
        TxnOp::put(
            self.registrar.keys.live_key(&self.registrar.identity),
            value,
            Some(PutOptions::new().with_lease(lease.id)),
        )
    }

    fn ring_call(&self, value: &[u8]) -> Call {
        let (key, length) = (self.ring_key(), value.len());
        Call::new(
            format!("Create for path:{key}, value bytes len:{length}"),
            self.deadline,
        )
    }

    fn live_call(&self) -> Call {
        let parent = self.registrar.keys.live_prefix();
        let child = self.registrar.identity;
        Call::new(
            format!("Adding child for parentPath:{parent}, childPath:{child}"),
            self.deadline,
        )
    }

    fn grant_call(&self) -> Call {
        Call::new(lease::granting(self.registrar.ttl), self.deadline)
    }

    /// Returns `None` if the lease does not exist.
    async fn commit(&self, call: &Call, txn: Txn) -> Result<Option<TxnResponse>> {
        let commit = self.registrar.endpoints.call(call, |mut client| {
            let txn = txn.clone();
            async move {
                match client.txn(txn).await.and_then(answers::complete) {
                    Ok(answer) => Ok(Some(answer)),
                    Err(error) if status::is_lease_not_found(&error) => Ok(None),
                    Err(error) => Err(error),
                }
            }
        });
        Box::pin(commit).await
    }

    /// Grants a lease with an id that this process chose, so that a try whose answer was lost can
    /// be repeated.
    async fn grant(&self, call: &Call) -> std::result::Result<Lease, Unfinished> {
        let asked_for = Lease {
            id: self.registrar.lease_ids.next(),
            ttl: self.registrar.ttl,
            sent_at: BootTime::now(),
        };
        self.asked_for.lock().replace(asked_for);
        let Lease { id, ttl, .. } = asked_for;
        match lease::grant(&self.registrar.endpoints, call, id, ttl).await {
            Ok(ttl) => {
                let lease = Lease { ttl, ..asked_for };
                // The receiver is gone when the registration ends, which also ends this lease.
                let _ = self.events.send(Event::Granted { lease });
                Ok(lease)
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => Err((Some(asked_for), error)),
            Err(error) => Err((None, error)),
        }
    }
}

impl Registrar {
    /// Revokes the lease. Returns a revision at which the live key is gone, or 0 if the live key
    /// exists on another lease.
    pub(super) async fn revoke(&self, lease: i64, deadline: Instant) -> Result<i64> {
        match lease::revoke(&self.endpoints, lease, deadline).await? {
            // The lease had ended before.
            0 => Ok(self.live_key_gone_at(deadline).await),
            revision => Ok(revision),
        }
    }

    /// Returns a revision at which the live key does not exist, or 0 if it exists or is unknown.
    async fn live_key_gone_at(&self, deadline: Instant) -> i64 {
        let key = self.keys.live_key(&self.identity);
        let call = Call::new(format!("Getting for path:{key}"), deadline);
        let read = |mut client: etcd_client::Client| {
            let key = key.as_str();
            async move { client.get(key, keys_only()).await }
        };
        match Box::pin(self.endpoints.call(&call, read)).await {
            Ok(answer) if answer.kvs().is_empty() => revision_of(answer.header()),
            _ => 0,
        }
    }
}

/// Describes what a failed revocation means for the readers of the cluster.
pub(super) fn stays_listed(
    error: &Error,
    identity: WorkerIdentity,
    has_joined: bool,
    left: Duration,
) -> Error {
    let cause = error.cause();
    let text = cause.map_or("", |cause| cause.text.as_str());
    Error::with_cause(
        error.kind(),
        error.message(),
        Cause {
            text: format!(
                "{text}; {identity} {} listed as live until its lease ends, within {} s",
                if has_joined { "stays" } else { "may be" },
                left.as_secs_f64().ceil()
            ),
            timed_out: cause.is_some_and(|cause| cause.timed_out),
        },
    )
}
