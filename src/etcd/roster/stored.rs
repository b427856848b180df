//! The keys of a cluster with what etcd notes about each, for operators.

use std::sync::Arc;

use tokio::time::Instant;

use super::listing;
use super::row::Row;
use super::state::Listed;
use super::tables::{KeyRange, Table};
use crate::error::{Error, ErrorKind, Result};
use crate::etcd::Cluster;
use crate::view::{ClusterView, Confirmed, RangeRevisions};
use crate::worker::Worker;

/// All keys of a cluster at one revision of etcd.
#[derive(Debug)]
pub struct StoredCluster {
    /// The workers that the keys list.
    pub view: ClusterView,
    /// The ring keys, then the live keys, each in their order.
    pub keys: Vec<StoredKey>,
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
    fn of(range: KeyRange, table: &Table, row: &Row) -> Self {
        let stamp = row.stamp;
        StoredKey {
            range,
            key: String::from_utf8_lossy(&table.key(row)).into_owned(),
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
                    .map(move |row| StoredKey::of(range, table, row))
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
