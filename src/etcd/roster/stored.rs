//! The keys of a cluster with what etcd notes about each, for operators.

use std::sync::Arc;

use etcd_client::proto::PbKeyValue;
use etcd_client::{Txn, TxnOp};
use tokio::time::Instant;

use super::listing;
use super::row::{Pair, Row};
use super::state::Listed;
use super::tables::KeyRange;
use crate::error::{Error, ErrorKind, Result};
use crate::etcd::answers::{revision_of, take_ranges};
use crate::etcd::endpoints::Call;
use crate::etcd::inspect::LeaseTime;
use crate::etcd::{Cluster, status};
use crate::view::{ClusterView, Confirmed, RangeRevisions};
use crate::worker::{Worker, WorkerIdentity};

/// All keys of a cluster at one revision of etcd.
#[derive(Debug)]
pub struct StoredCluster {
    /// The workers that the keys list.
    pub view: ClusterView,
    /// The ring keys, then the live keys, each in their order.
    pub keys: Vec<StoredKey>,
}

/// The keys of one worker at one revision of etcd, and its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredWorker {
    /// The revision of etcd.
    pub revision: i64,
    /// The key that registers the worker; `None` for an unregistered worker.
    pub ring: Option<StoredKey>,
    /// The key that makes the worker live; `None` for a worker that is not live.
    pub live: Option<StoredKey>,
    /// The lease of the live key; `None` for a key without a lease, and for a lease that has ended
    /// since.
    pub lease: Option<LeaseTime>,
}

/// A key of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// The range that the key belongs to.
    pub range: KeyRange,
    /// The key; bytes that are not UTF-8 are replaced.
    pub key: String,
    /// The revision at which the key was created since it was last absent.
    pub created: i64,
    /// The revision of the last write.
    pub modified: i64,
    /// The number of writes since the key was created, the first one included.
    pub version: i64,
    /// The lease of the key; 0 for none.
    pub lease: i64,
    /// The worker in the record, or why the record cannot be used.
    pub worker: std::result::Result<Arc<Worker>, String>,
}

impl StoredKey {
    fn of(range: KeyRange, key: &[u8], row: &Row) -> Self {
        let stamp = row.stamp;
        StoredKey {
            range,
            key: String::from_utf8_lossy(key).into_owned(),
            created: stamp.created,
            modified: stamp.modified,
            version: stamp.version,
            lease: stamp.lease,
            worker: row.worker().cloned().map_err(str::to_owned),
        }
    }
}

impl Cluster {
    /// Reads both ranges at one revision, or as they are.
    pub(crate) async fn stored(
        &self,
        revision: Option<i64>,
        deadline: Instant,
    ) -> Result<StoredCluster> {
        let (endpoints, keys) = (&self.endpoints, &self.keys);
        let limit = deadline.saturating_duration_since(Instant::now());
        let listed = match revision {
            None => listing::list(endpoints, keys, self.has_ring, limit).await?,
            Some(revision) if revision < 1 => return Err(no_revision(revision)),
            Some(revision) => {
                let newest = self.newest_revision(deadline).await?;
                if revision > newest {
                    return Err(not_reached(revision, newest));
                }
                let listed = listing::list_at(endpoints, keys, self.has_ring, revision, limit);
                listed.await?.ok_or_else(|| compacted(revision))?
            }
        };
        let Listed {
            tables,
            revision,
            asked_at,
            ..
        } = listed;
        let revisions = RangeRevisions {
            ring: revision,
            live: revision,
        };
        let rows = [KeyRange::Ring, KeyRange::Live].map(|range| {
            let tables = tables.table(range).into_iter();
            tables.flat_map(move |table| {
                table
                    .rows()
                    .map(move |row| StoredKey::of(range, &table.key(row), row))
            })
        });
        Ok(StoredCluster {
            keys: rows.into_iter().flatten().collect(),
            view: ClusterView {
                confirmed: Confirmed::as_of(asked_at),
                version: 1,
                revisions,
                ..tables.whole_view(1)
            },
        })
    }

    /// Reads the keys of one worker with one request, and the lease of its live key with another.
    pub(crate) async fn stored_worker(
        &self,
        identity: &WorkerIdentity,
        deadline: Instant,
    ) -> Result<StoredWorker> {
        let keys = [self.keys.ring_key(identity), self.keys.live_key(identity)];
        let call = Call::new(format!("Getting the keys of {identity}"), deadline);
        let (revision, [ring, live]) = self
            .endpoints
            .call(&call, |client| ask(client, &keys))
            .await?;
        let stored = |range, prefix: &str, kv: Option<PbKeyValue>| {
            let kv = kv?;
            let row = Row::decode(Pair::from(&kv), prefix.len());
            Some(StoredKey::of(range, &kv.key, &row))
        };
        let ring = stored(KeyRange::Ring, self.keys.ring_prefix(), ring);
        let live = stored(KeyRange::Live, self.keys.live_prefix(), live);
        let lease = match live.as_ref().map_or(0, |key| key.lease) {
            0 => None,
            id => self.lease(id, deadline).await?,
        };
        Ok(StoredWorker {
            revision,
            ring: ring.filter(|_| self.has_ring),
            live,
            lease,
        })
    }
}

/// Reads two keys at one revision, which it returns too.
async fn ask(
    mut client: etcd_client::Client,
    keys: &[String; 2],
) -> std::result::Result<(i64, [Option<PbKeyValue>; 2]), etcd_client::Error> {
    let gets = keys.each_ref().map(|key| TxnOp::get(key.as_str(), None));
    let answer = client.txn(Txn::new().and_then(gets)).await?;
    let revision = revision_of(answer.header());
    let mut found = [None, None];
    let ranges = take_ranges(answer, keys.len())?;
    for ((found, range), key) in found.iter_mut().zip(ranges).zip(keys) {
        *found = range.kvs.into_iter().next();
        if found.as_ref().is_some_and(|kv| kv.key != key.as_bytes()) {
            return Err(status::wrong_answer(format!(
                "its answer to a read of {key} has another key"
            )));
        }
    }
    Ok((revision, found))
}

fn no_revision(revision: i64) -> Error {
    let text = format!("{revision} is no revision of etcd: they begin with 1");
    Error::new(ErrorKind::InvalidArgument, text)
}

pub(super) fn not_reached(revision: i64, newest: i64) -> Error {
    let text = format!("etcd has not reached revision {revision}: its newest is {newest}");
    Error::new(ErrorKind::InvalidArgument, text)
}

pub(super) fn compacted(revision: i64) -> Error {
    let text = format!("etcd has compacted revision {revision}, and remembers later ones only");
    Error::new(ErrorKind::InvalidArgument, text)
}
