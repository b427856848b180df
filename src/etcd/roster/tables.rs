//! The contents of a cluster's two key ranges, as one process knows them: no I/O, no clock.

use std::collections::HashSet;
use std::sync::Arc;

use crate::record;
use crate::view::{ClusterView, MAX_SKIPPED, Member, RangeRevisions, SkippedRecord};
use crate::worker::{Worker, WorkerIdentity, WorkerState};

/// Rows of a chunk that was filled by a listing. A change copies one chunk, which holds at most twice as many.
const CHUNK: usize = 256;

/// One of the two key ranges of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyRange {
    /// The keys of registered workers.
    Ring,
    /// The keys of live workers.
    Live,
}

/// What etcd notes about the last write of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The revision of the last write.
    pub(super) modified: i64,
    /// The revision of the first write since the key was last absent.
    pub(super) created: i64,
    /// The number of writes since then, the first one included.
    pub(super) version: i64,
    /// The lease of the key; 0 for none.
    pub(super) lease: i64,
}

/// A key, its value, and what etcd notes about both, as etcd sends them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) stamp: Stamp,
}

/// A key and its decoded value.
#[derive(Debug)]
pub(super) struct Row {
    key: Box<[u8]>,
    stamp: Stamp,
    record: Record,
    /// Whether the key is named after the identity in the record, as it should be.
    own_name: bool,
}

/// A decoded value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Record {
    Worker {
        worker: Arc<Worker>,
        /// Records of Alluxio 304 have no identity and are listed under the number 0, never as live.
        has_identity: bool,
    },
    Unusable {
        reason: String,
    },
}

/// A change of one key, as a watch delivers it.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) key: Vec<u8>,
    pub(super) modified: i64,
    /// The key's new row; `None` for a deletion.
    pub(super) row: Option<Arc<Row>>,
}

impl Change {
    /// `prefix` is the prefix of the key's range.
    pub(super) fn put(prefix: &str, pair: Pair<'_>) -> Self {
        Change {
            key: pair.key.to_vec(),
            modified: pair.stamp.modified,
            row: Some(Arc::new(Row::decode(pair, prefix.len()))),
        }
    }

    pub(super) fn delete(key: &[u8], modified: i64) -> Self {
        Change {
            key: key.to_vec(),
            modified,
            row: None,
        }
    }
}

impl Change {
    /// Whether the key did not exist before.
    pub(super) fn creates(&self) -> bool {
        self.row.as_ref().is_some_and(|row| row.stamp.version == 1)
    }
}

/// What a change did to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    Nothing,
    /// The same worker was written again.
    Stamps,
    /// The list of workers differs.
    Workers,
}

/// All keys of one range, in their order.
///
/// A copy shares the chunks of the original, so that copying costs little and a change copies one chunk.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    prefix: Arc<[u8]>,
    /// None of them is empty.
    chunks: Vec<Arc<Vec<Arc<Row>>>>,
    len: usize,
}

impl Table {
    /// An empty table of the keys with this prefix.
    pub(super) fn new(prefix: &str) -> Self {
        Table {
            prefix: prefix.as_bytes().into(),
            ..Table::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What etcd notes about the key, if the key exists.
    pub(super) fn stamp(&self, key: &[u8]) -> Option<Stamp> {
        self.row(key).map(|row| row.stamp)
    }

    fn row(&self, key: &[u8]) -> Option<&Row> {
        let (chunk, place) = self.place(key);
        let place = place.ok()?;
        Some(&*self.chunks[chunk][place])
    }

    /// The chunk that has the key, or would get it, and the key's place there.
    fn place(&self, key: &[u8]) -> (usize, Result<usize, usize>) {
        let later = self.chunks.partition_point(|chunk| *chunk[0].key <= *key);
        let chunk = later.saturating_sub(1);
        let place = self.chunks.get(chunk).map_or(Err(0), |rows| {
            rows.binary_search_by(|row| (*row.key).cmp(key))
        });
        (chunk, place)
    }

    /// Whether the change can follow what the table has: a put continues the key's versions or begins them, and only a
    /// key that exists is deleted. If it cannot, a change in between was not delivered.
    pub(super) fn fits(&self, change: &Change) -> bool {
        let known = self.stamp(&change.key);
        match (&change.row, known) {
            (None, known) => known.is_some(),
            (Some(row), None) => row.stamp.version == 1 && row.stamp.created == row.stamp.modified,
            (Some(row), Some(known)) => {
                row.stamp.created == known.created
                    && known.version.checked_add(1) == Some(row.stamp.version)
            }
        }
    }

    /// Whether the table already shows the effect of this change, or of a later one of the same key.
    pub(super) fn shows(&self, change: &Change) -> bool {
        match (&change.row, self.stamp(&change.key)) {
            (Some(_), Some(known)) => known.modified >= change.modified,
            (None, Some(known)) => known.modified > change.modified,
            (Some(_), None) => false,
            (None, None) => true,
        }
    }

    pub(super) fn apply(&mut self, change: &Change) -> Effect {
        let (number, place) = self.place(&change.key);
        let Some(row) = &change.row else {
            return match place {
                Ok(place) => self.remove(number, place),
                Err(_) => Effect::Nothing,
            };
        };
        let Some(chunk) = self.chunks.get_mut(number) else {
            self.push(row.clone());
            return Effect::Workers;
        };
        let rows = Arc::make_mut(chunk);
        match place {
            Ok(place) => {
                let old = std::mem::replace(&mut rows[place], row.clone());
                match old.record == row.record {
                    true => Effect::Stamps,
                    false => Effect::Workers,
                }
            }
            Err(place) => {
                rows.insert(place, row.clone());
                self.len += 1;
                if rows.len() > 2 * CHUNK {
                    let rest = rows.split_off(CHUNK);
                    self.chunks.insert(number + 1, Arc::new(rest));
                }
                Effect::Workers
            }
        }
    }

    fn remove(&mut self, number: usize, place: usize) -> Effect {
        let rows = Arc::make_mut(&mut self.chunks[number]);
        rows.remove(place);
        self.len -= 1;
        if rows.is_empty() {
            self.chunks.remove(number);
        } else if let Some(next) = self.chunks.get(number + 1)
            && self.chunks[number].len() + next.len() <= CHUNK
        {
            let next = self.chunks.remove(number + 1);
            Arc::make_mut(&mut self.chunks[number]).extend(next.iter().cloned());
        }
        Effect::Workers
    }

    /// Adds a row that comes after all others.
    fn push(&mut self, row: Arc<Row>) {
        self.len += 1;
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => Arc::make_mut(chunk).push(row),
            _ => {
                let mut rows = Vec::with_capacity(CHUNK);
                rows.push(row);
                self.chunks.push(Arc::new(rows));
            }
        }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.chunks
            .iter()
            .flat_map(|chunk| chunk.iter().map(|row| &**row))
    }

    /// The key that was written last.
    pub(super) fn newest(&self) -> Option<(Vec<u8>, Stamp)> {
        let newest = self.rows().max_by_key(|row| row.stamp.modified)?;
        Some((newest.key.to_vec(), newest.stamp))
    }

    /// Whether both have the same keys, as they were written last.
    pub(super) fn same_stamps(&self, other: &Table) -> bool {
        self.len == other.len
            && self
                .rows()
                .zip(other.rows())
                .all(|(a, b)| std::ptr::eq(a, b) || (a.stamp == b.stamp && a.key == b.key))
    }

    /// Whether both list the same workers, whatever the revisions of their keys.
    fn same_listing(&self, other: &Table) -> bool {
        self.len == other.len
            && self
                .rows()
                .zip(other.rows())
                .all(|(a, b)| std::ptr::eq(a, b) || (a.key == b.key && a.record == b.record))
    }

    /// Returns the usable records in key order, each identity once, and the rest with reasons.
    fn workers(&self) -> (Vec<(&Arc<Worker>, bool)>, Vec<SkippedRecord>) {
        let mut workers: Vec<(&Arc<Worker>, bool)> = Vec::with_capacity(self.len);
        let mut skipped = Vec::new();
        // A key of an identity's own name wins over others that claim the identity.
        let mut claimed: HashSet<WorkerIdentity> = HashSet::new();
        for row in self.rows() {
            let reason = match &row.record {
                Record::Unusable { reason } => reason.clone(),
                Record::Worker {
                    worker,
                    has_identity,
                } => {
                    let identity = worker.identity;
                    if row.own_name || (!self.has(&identity) && claimed.insert(identity)) {
                        workers.push((worker, *has_identity));
                        continue;
                    }
                    format!("another key lists the identity {identity} too")
                }
            };
            skipped.push(SkippedRecord {
                key: String::from_utf8_lossy(&row.key).into_owned(),
                reason,
            });
        }
        (workers, skipped)
    }

    /// Whether the identity is listed under its own name.
    fn has(&self, identity: &WorkerIdentity) -> bool {
        let own_key = [&self.prefix, identity.to_string().as_bytes()].concat();
        self.row(&own_key).is_some_and(|row| row.own_name)
    }

    /// Whether there is a key of this name after the prefix.
    pub(super) fn has_name(&self, name: &[u8]) -> bool {
        self.row(&[&self.prefix, name].concat()).is_some()
    }

    /// The part of a key after the prefix.
    pub(super) fn name<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        key.get(self.prefix.len()..).unwrap_or_default()
    }
}

impl Row {
    fn decode(pair: Pair<'_>, prefix_len: usize) -> Self {
        let name = pair.key.get(prefix_len..).unwrap_or_default();
        Row::new(pair, name, Record::decode(name, pair.value))
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Returns the record's worker, or why the record cannot be used.
    pub(super) fn worker(&self) -> Result<&Arc<Worker>, &str> {
        match &self.record {
            Record::Worker { worker, .. } => Ok(worker),
            Record::Unusable { reason } => Err(reason),
        }
    }

    fn new(pair: Pair<'_>, name: &[u8], record: Record) -> Self {
        let own_name = match &record {
            Record::Worker { worker, .. } => name == worker.identity.to_string().as_bytes(),
            Record::Unusable { .. } => false,
        };
        Row {
            key: pair.key.into(),
            stamp: pair.stamp,
            record,
            own_name,
        }
    }
}

impl Record {
    /// `name` is the part of the key after the prefix.
    fn decode(name: &[u8], value: &[u8]) -> Self {
        if name.contains(&b'/') {
            let reason = "the key belongs to another cluster, whose name continues this one's";
            return Record::Unusable {
                reason: reason.into(),
            };
        }
        match record::decode(value) {
            Err(reason) => Record::Unusable { reason },
            Ok(stored) => match stored.address {
                None => Record::Unusable {
                    reason: "the record has no WorkerNetAddress".into(),
                },
                Some(address) => Record::Worker {
                    has_identity: stored.identity.is_some(),
                    worker: Arc::new(Worker {
                        identity: stored.identity.unwrap_or(WorkerIdentity::V0(0)),
                        address,
                    }),
                },
            },
        }
    }
}

/// The tables of both ranges. `ring` is `None` for SERVICE_REGISTRY, which has live keys only.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    pub(super) ring: Option<Table>,
    pub(super) live: Table,
}

impl Tables {
    pub(super) fn table(&self, range: KeyRange) -> Option<&Table> {
        match range {
            KeyRange::Ring => self.ring.as_ref(),
            KeyRange::Live => Some(&self.live),
        }
    }

    /// Adds a page of the listing. Both keys of a worker usually have the same record, which is decoded once then.
    pub(super) fn add_page<'a, P>(&mut self, ring: &'a [P], live: &'a [P])
    where
        &'a P: Into<Pair<'a>>,
    {
        // The values of the page's ring keys and their records, in the order of the names.
        let mut decoded = Vec::new();
        if let Some(table) = &mut self.ring {
            for pair in ring.iter().map(Into::<Pair>::into) {
                let row = Row::decode(pair, table.prefix.len());
                decoded.push((table.name(pair.key), pair.value, row.record.clone()));
                table.push(Arc::new(row));
            }
        }
        let mut decoded = decoded.into_iter().peekable();
        for pair in live.iter().map(Into::<Pair>::into) {
            let name = self.live.name(pair.key);
            while decoded.next_if(|(other, ..)| *other < name).is_some() {}
            let twin = decoded.next_if(|(other, value, _)| *other == name && *value == pair.value);
            let record = match twin {
                Some((_, _, record)) => record,
                None => Record::decode(name, pair.value),
            };
            self.live.push(Arc::new(Row::new(pair, name, record)));
        }
    }

    /// The part of a key of a range after the range's prefix.
    pub(super) fn name<'a>(&self, range: KeyRange, key: &'a [u8]) -> &'a [u8] {
        self.table(range).map_or(key, |table| table.name(key))
    }

    pub(super) fn same_listing(&self, other: &Tables) -> bool {
        self.live.same_listing(&other.live)
            && match (&self.ring, &other.ring) {
                (Some(a), Some(b)) => a.same_listing(b),
                (None, None) => true,
                _ => false,
            }
    }

    /// The view these tables make: states as Alluxio's `getAllMembers`, `getLiveMembers` and `getFailedMembers` give them.
    pub(super) fn view(&self, version: u64, revisions: RangeRevisions) -> ClusterView {
        let member = |worker: &Arc<Worker>, state| Member {
            worker: worker.clone(),
            state,
        };
        let (live_workers, mut skipped) = self.live.workers();
        let live: Vec<Member> = live_workers
            .iter()
            .map(|(worker, _)| member(worker, WorkerState::Live))
            .collect();
        let (all, lost) = match &self.ring {
            None => (live.clone(), Vec::new()),
            Some(ring) => {
                let mut live_identities: Vec<WorkerIdentity> = live_workers
                    .iter()
                    .filter(|(_, has_identity)| *has_identity)
                    .map(|(worker, _)| worker.identity)
                    .collect();
                live_identities.sort_unstable();
                let mut next = 0;
                let mut is_live = |identity: &WorkerIdentity| {
                    // Where no worker is lost, both are in the same order, and this is the next one.
                    if live_identities.get(next) != Some(identity) {
                        next = live_identities.partition_point(|it| it < identity);
                    }
                    let is_live = live_identities.get(next) == Some(identity);
                    next += usize::from(is_live);
                    is_live
                };
                let (ring_workers, ring_skipped) = ring.workers();
                skipped.splice(0..0, ring_skipped);
                let all: Vec<Member> = ring_workers
                    .iter()
                    .map(|(worker, _)| {
                        if is_live(&worker.identity) {
                            member(worker, WorkerState::Live)
                        } else {
                            member(worker, WorkerState::Lost)
                        }
                    })
                    .collect();
                let lost = all
                    .iter()
                    .filter(|member| member.state == WorkerState::Lost)
                    .cloned()
                    .collect();
                (all, lost)
            }
        };
        let skipped_more = skipped.len().saturating_sub(MAX_SKIPPED);
        skipped.truncate(MAX_SKIPPED);
        ClusterView {
            version,
            revisions,
            all,
            live,
            lost,
            skipped,
            skipped_more,
            ..ClusterView::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn put(key: &str, created: i64, modified: i64, version: i64) -> Change {
        let stamp = Stamp {
            modified,
            created,
            version,
            lease: 0,
        };
        let pair = Pair {
            key: key.as_bytes(),
            value: b"{}",
            stamp,
        };
        Change::put("/", pair)
    }

    #[test]
    fn a_table_is_a_sorted_map_and_a_copy_of_it_stays_as_it_was() {
        let mut rng = StdRng::seed_from_u64(1);
        let (mut table, mut model) = (Table::new("/"), BTreeMap::new());
        for revision in 1..20_000 {
            // More keys at first, fewer in the end.
            let key = format!("/{:05}", rng.random_range(0..3_000));
            let before = (table.clone(), table.rows().count());
            if rng.random_range(0..20_000) > revision {
                table.apply(&put(&key, revision, revision, 1));
                model.insert(key.clone(), revision);
            } else {
                table.apply(&Change::delete(key.as_bytes(), revision));
                model.remove(&key);
            }
            let modified = table.stamp(key.as_bytes()).map(|stamp| stamp.modified);
            assert_eq!(modified, model.get(&key).copied());
            assert_eq!(
                (table.len(), before.0.rows().count()),
                (model.len(), before.1)
            );
            let sizes = table.chunks.iter().map(|chunk| chunk.len());
            assert!(sizes.clone().all(|size| (1..=2 * CHUNK).contains(&size)));
        }
        let keys = table.rows().map(|row| String::from_utf8_lossy(&row.key));
        assert!(keys.eq(model.keys().map(String::as_str)));
    }

    #[test]
    fn a_change_that_skips_another_one_does_not_fit() {
        let mut table = Table::new("/");
        assert!(table.fits(&put("/a", 5, 5, 1)));
        assert!(!table.fits(&put("/a", 5, 6, 2)), "its creation is missing");
        assert!(
            !table.fits(&Change::delete(b"/a", 5)),
            "there is no such key"
        );
        table.apply(&put("/a", 5, 5, 1));
        assert!(table.fits(&put("/a", 5, 7, 2)));
        assert!(!table.fits(&put("/a", 5, 7, 3)), "a write is missing");
        assert!(!table.fits(&put("/a", 7, 7, 1)), "a deletion is missing");
        assert!(table.fits(&Change::delete(b"/a", 7)));
    }
}
