//! Writes the keys of one worker and the lease below them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::session::Lease;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::etcd::answers;
use crate::etcd::endpoints::{Call, Endpoints};
use crate::etcd::keys::Keys;
use crate::etcd::lease;
use crate::etcd::ring::{self, revision_of};
use crate::etcd::status;
use crate::worker::{Worker, WorkerIdentity};

/// How many leases of its own a process can tell from those of others, per worker.
const LEASES_KNOWN: usize = 16;
/// A lease that runs out before its key is written this often is too short for the way to etcd.
const MAX_LEASES_PER_JOIN: usize = 3;

/// Where and how one worker is registered.
pub(crate) struct Registrar {
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) keys: Keys,
    pub(crate) identity: WorkerIdentity,
    /// Whether there is a ring key: not for SERVICE_REGISTRY.
    pub(crate) has_ring: bool,
    pub(crate) ttl: Duration,
    pub(crate) leases: Leases,
}

/// The leases that this process has asked etcd for, for one worker. Each may exist on the server and may hold the live key,
/// whatever was answered.
#[derive(Default)]
pub(crate) struct OwnLeases(Mutex<VecDeque<i64>>);

impl OwnLeases {
    fn add(&self, id: i64) {
        let mut ids = self.0.lock();
        if ids.len() >= LEASES_KNOWN {
            ids.pop_front();
        }
        ids.push_back(id);
    }

    pub(super) fn contain(&self, id: i64) -> bool {
        self.0.lock().contains(&id)
    }
}

/// The leases of one registration.
#[derive(Default)]
pub(crate) struct Leases {
    /// Also those of earlier registrations.
    pub(super) own: Arc<OwnLeases>,
    /// The last one asked for by this registration.
    asked_for: Mutex<Option<Lease>>,
    /// The last one that was granted.
    pub(super) granted: watch::Sender<Option<Lease>>,
}

impl Leases {
    pub(crate) fn new(own: Arc<OwnLeases>) -> Self {
        Leases {
            own,
            ..Leases::default()
        }
    }

    fn ask_for(&self, lease: Lease) {
        self.own.add(lease.id);
        self.asked_for.lock().replace(lease);
    }

    pub(super) fn last(&self) -> Option<Lease> {
        *self.asked_for.lock()
    }
}

/// At which revisions a worker's keys were last written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyRevisions {
    /// 0 for SERVICE_REGISTRY.
    pub(crate) ring: i64,
    pub(crate) live: i64,
}

/// How writing the keys ended.
pub(super) enum Registered {
    /// Every key is in place.
    InPlace { lease: Lease },
    /// The live key is held by another lease and was left alone.
    Displaced { lease: Lease, holder: i64 },
    /// The lease to be used does not exist.
    LeaseGone { lease: i64 },
    /// `lease` may exist on the server.
    Failed { lease: Option<Lease>, error: Error },
}

/// An error, and the lease that exists or may exist on the server all the same.
pub(super) type Unfinished = (Option<Lease>, Error);

impl Registrar {
    /// Writes both keys, as a worker that starts does.
    pub(super) async fn join(
        &self,
        worker: &Worker,
        value: &[u8],
        overwrite: bool,
        lease: Option<Lease>,
        deadline: Instant,
    ) -> std::result::Result<(Lease, KeyRevisions), Unfinished> {
        let on_ring = async {
            if self.has_ring {
                ring::register(&self.endpoints, &self.keys, worker, overwrite, deadline).await
            } else {
                Ok(0)
            }
        };
        let granted = async {
            match lease {
                Some(lease) => Ok(lease),
                None => self.grant(deadline).await,
            }
        };
        // Side by side, since etcd brings each to disk.
        let (on_ring, granted) = tokio::join!(on_ring, granted);
        let ring = match on_ring {
            Ok(revision) => revision,
            Err(error) => {
                let mut left = granted.map_or_else(|(lease, _)| lease, Some);
                // Nobody is to see a lease of a worker that was refused.
                if let Some(new) = left
                    && lease.is_none()
                    && self.revoke(new.id, deadline).await.is_ok()
                {
                    left = None;
                }
                return Err((left, error));
            }
        };
        let (lease, live) = self.take_over(value, granted?, deadline).await?;
        Ok((lease, KeyRevisions { ring, live }))
    }

    /// Writes the live key whoever holds it. Returns its revision, and the lease it is on: a new one if that which was
    /// given has ended.
    async fn take_over(
        &self,
        value: &[u8],
        mut lease: Lease,
        deadline: Instant,
    ) -> std::result::Result<(Lease, i64), Unfinished> {
        for already_gone in 0..MAX_LEASES_PER_JOIN {
            // When the time is over, the lease before is why.
            let explained = |(lease, error): Unfinished| match error.kind().is_retryable() {
                true if already_gone > 0 => (lease, self.lease_too_short()),
                _ => (lease, error),
            };
            if already_gone > 0 {
                lease = self.grant(deadline).await.map_err(explained)?;
            }
            let written = self.try_take_over(value, lease, deadline).await;
            if let Some(revision) = written.map_err(explained)? {
                return Ok((lease, revision));
            }
        }
        Err((None, self.lease_too_short()))
    }

    /// `None`: the lease does not exist.
    async fn try_take_over(
        &self,
        value: &[u8],
        lease: Lease,
        deadline: Instant,
    ) -> std::result::Result<Option<i64>, Unfinished> {
        let put = Txn::new().and_then([self.put_live(value, lease)]);
        match self.commit_live(put, deadline).await {
            Ok(answer) => Ok(answer.map(|answer| revision_of(answer.header()))),
            Err(error) => Err((Some(lease), error)),
        }
    }

    fn lease_too_short(&self) -> Error {
        Error::new(
            ErrorKind::Unavailable,
            format!(
                "The lease of {} ended before its key could be written: the way to etcd takes longer than \
                 alluxio.worker.failure.detection.timeout ({} s). Raise it, or bring etcd closer.",
                self.identity,
                self.ttl.as_secs()
            ),
        )
    }

    /// Writes the keys that are missing, and no other.
    pub(super) async fn repair(
        &self,
        value: &[u8],
        lease: Option<Lease>,
        deadline: Instant,
    ) -> Registered {
        let is_new = lease.is_none();
        let lease = match lease {
            Some(lease) => lease,
            None => match self.grant(deadline).await {
                Ok(lease) => lease,
                Err((lease, error)) => return Registered::Failed { lease, error },
            },
        };
        let failed = |error| Registered::Failed {
            lease: Some(lease),
            error,
        };
        if self.has_ring {
            let key = self.keys.ring_key(&self.identity);
            let call = Call::new(
                format!("Create for path:{key}, value bytes len:{}", value.len()),
                deadline,
            );
            let put = Txn::new()
                .when([Compare::version(key.as_str(), CompareOp::Equal, 0)])
                .and_then([TxnOp::put(key.as_str(), value, None)]);
            if let Err(error) = ring::commit(&self.endpoints, &call, put).await {
                return failed(error);
            }
        }
        let key = self.keys.live_key(&self.identity);
        // Nobody's yet. Afterwards: one of our own earlier leases'.
        let mut may_replace = Compare::version(key.as_str(), CompareOp::Equal, 0);
        loop {
            let put = Txn::new()
                .when([may_replace])
                .and_then([self.put_live(value, lease)])
                .or_else([TxnOp::get(key.as_str(), None)]);
            let answer = match self.commit_live(put, deadline).await {
                Ok(Some(answer)) => answer,
                // As for a join; and there is to be a pause before the next try, which will hardly do better.
                Ok(None) if is_new && lease.sent_at.elapsed() >= lease.ttl => {
                    return Registered::Failed {
                        lease: None,
                        error: self.lease_too_short(),
                    };
                }
                Ok(None) => return Registered::LeaseGone { lease: lease.id },
                Err(error) => return failed(error),
            };
            if answer.succeeded() {
                return Registered::InPlace { lease };
            }
            let mut found = answer.op_responses().into_iter();
            let holder = found.next().and_then(ring::first_key).map(|kv| kv.lease());
            may_replace = match holder {
                Some(holder) if holder == lease.id => return Registered::InPlace { lease },
                Some(holder) if self.leases.own.contain(holder) => {
                    Compare::lease(key.as_str(), CompareOp::Equal, holder)
                }
                Some(holder) => return Registered::Displaced { lease, holder },
                // It went away in between.
                None => Compare::version(key.as_str(), CompareOp::Equal, 0),
            };
        }
    }

    fn put_live(&self, value: &[u8], lease: Lease) -> TxnOp {
        TxnOp::put(
            self.keys.live_key(&self.identity),
            value,
            Some(PutOptions::new().with_lease(lease.id)),
        )
    }

    /// `None`: the lease does not exist.
    async fn commit_live(
        &self,
        txn: Txn,
        deadline: Instant,
    ) -> Result<Option<etcd_client::TxnResponse>> {
        let call = Call::new(
            format!(
                "Adding child for parentPath:{}, childPath:{}",
                self.keys.live_prefix(),
                self.identity
            ),
            deadline,
        );
        self.endpoints
            .call(&call, |mut client| {
                let txn = txn.clone();
                async move {
                    match client.txn(txn).await.and_then(answers::complete) {
                        Ok(answer) => Ok(Some(answer)),
                        Err(error) if status::is_lease_not_found(&error) => Ok(None),
                        Err(error) => Err(error),
                    }
                }
            })
            .await
    }

    /// Grants a lease of an id of our own choice, so that a try whose answer was lost can be repeated.
    async fn grant(&self, deadline: Instant) -> std::result::Result<Lease, Unfinished> {
        let asked_for = Lease {
            id: lease::new_id(),
            ttl: self.ttl,
            sent_at: Instant::now(),
        };
        self.leases.ask_for(asked_for);
        match lease::grant(&self.endpoints, asked_for.id, self.ttl, deadline).await {
            Ok(ttl) => {
                let lease = Lease { ttl, ..asked_for };
                self.leases.granted.send_replace(Some(lease));
                Ok(lease)
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => Err((Some(asked_for), error)),
            Err(error) => Err((None, error)),
        }
    }

    /// Revokes the lease. Returns a revision at which the live key is gone; 0 if it is there, on another lease.
    pub(super) async fn revoke(&self, lease: i64, deadline: Instant) -> Result<i64> {
        match lease::revoke(&self.endpoints, lease, deadline).await {
            // It had ended before.
            Ok(0) => Ok(self.live_key_gone_at(deadline).await),
            Ok(revision) => Ok(revision),
            Err(error) => {
                let text = error.cause().map_or("", |cause| cause.text.as_str());
                Err(Error::with_cause(
                    error.kind(),
                    error.message(),
                    Cause {
                        text: format!(
                            "{text}; {} stays listed as live until its lease ends by itself, within {} s",
                            self.identity,
                            self.ttl.as_secs()
                        ),
                        timed_out: error.cause().is_some_and(|cause| cause.timed_out),
                    },
                ))
            }
        }
    }

    /// A revision at which the live key does not exist; 0 if it exists or etcd does not tell.
    async fn live_key_gone_at(&self, deadline: Instant) -> i64 {
        let key = self.keys.live_key(&self.identity);
        let call = Call::new(format!("Getting for path:{key}"), deadline);
        let read = |mut client: etcd_client::Client| {
            let key = key.as_str();
            async move { client.get(key, ring::keys_only()).await }
        };
        match self.endpoints.call(&call, read).await {
            Ok(answer) if answer.kvs().is_empty() => revision_of(answer.header()),
            _ => 0,
        }
    }
}
