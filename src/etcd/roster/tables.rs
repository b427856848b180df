//! The contents of a cluster's two key ranges, as one process knows them: no I/O, no clock.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::record;
use crate::view::{ClusterView, MAX_SKIPPED, Member, SkippedRecord};
use crate::worker::{Worker, WorkerIdentity, WorkerState};

/// One of the two key ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Range {
    /// Registered workers.
    Ring,
    /// Live workers.
    Live,
}

/// When a key was last written, and on which lease (0 for none).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) mod_revision: i64,
    pub(super) lease: i64,
}

/// A key and what stands under it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    stamp: Stamp,
    record: Record,
    /// Whether the key is named after the identity in the record, as it should be.
    own_name: bool,
}

/// A value, decoded once.
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

/// A key-value pair as etcd sends it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(super) stamp: Stamp,
}

/// All keys of one range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    prefix: Vec<u8>,
    entries: BTreeMap<Vec<u8>, Entry>,
    /// The revision of the listing or of the latest change: earlier changes are in, and of this one at least a part.
    applied: i64,
}

impl Table {
    /// The table of a listing of all keys with this prefix at `revision`, whose pages are to be added.
    pub(crate) fn new(prefix: &str, revision: i64) -> Self {
        Table {
            prefix: prefix.into(),
            entries: BTreeMap::new(),
            applied: revision,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn applied(&self) -> i64 {
        self.applied
    }

    /// The revision at which the key was last written, if it exists.
    pub(crate) fn mod_revision(&self, key: &[u8]) -> Option<i64> {
        self.entries.get(key).map(|entry| entry.stamp.mod_revision)
    }

    /// Applies a put; true if the listing changes. Repeated and outdated events change nothing.
    pub(crate) fn put(&mut self, pair: Pair<'_>) -> bool {
        let mod_revision = pair.stamp.mod_revision;
        if !self.is_news(pair.key, mod_revision) {
            return false;
        }
        self.applied = mod_revision;
        let entry = Entry::decode(pair, self.prefix.len());
        let old = self.entries.insert(pair.key.to_vec(), entry.clone());
        old.is_none_or(|old| old.record != entry.record)
    }

    /// Applies a deletion; true if the listing changes.
    pub(crate) fn delete(&mut self, key: &[u8], mod_revision: i64) -> bool {
        if !self.is_news(key, mod_revision) {
            return false;
        }
        self.applied = mod_revision;
        self.entries.remove(key).is_some()
    }

    fn is_news(&self, key: &[u8], mod_revision: i64) -> bool {
        mod_revision >= self.applied
            && self
                .mod_revision(key)
                .is_none_or(|known| mod_revision > known)
    }

    /// The key that was written last.
    pub(super) fn newest(&self) -> Option<(&[u8], Stamp)> {
        let entries = self.entries.iter();
        entries
            .max_by_key(|(_, entry)| entry.stamp.mod_revision)
            .map(|(key, entry)| (key.as_slice(), entry.stamp))
    }

    /// How many keys were otherwise in a listing of an earlier `revision` than they should have been, by what was written
    /// until then and is still here, and by what was `deleted` since.
    fn drift(&self, listed: &Table, revision: i64, deleted: &HashSet<Vec<u8>>) -> usize {
        let otherwise = listed
            .entries
            .iter()
            .filter(|(key, entry)| match self.entries.get(*key) {
                Some(known) => known.stamp.mod_revision <= revision && known.stamp != entry.stamp,
                None => !deleted.contains(*key),
            });
        let missing = self.entries.iter().filter(|(key, known)| {
            known.stamp.mod_revision <= revision && !listed.entries.contains_key(*key)
        });
        otherwise.count() + missing.count()
    }

    /// Whether the listings are the same, whatever revisions they were written at.
    pub(crate) fn same_listing(&self, other: &Table) -> bool {
        self.entries.len() == other.entries.len()
            && self
                .entries
                .iter()
                .zip(&other.entries)
                .all(|(a, b)| a.0 == b.0 && a.1.record == b.1.record)
    }

    /// Usable records in key order, each identity once, and the rest with reasons.
    fn workers(&self) -> (Vec<(&Arc<Worker>, bool)>, Vec<SkippedRecord>) {
        let mut workers: Vec<(&Arc<Worker>, bool)> = Vec::with_capacity(self.entries.len());
        let mut skipped = Vec::new();
        // A key of an identity's own name wins over others that claim the identity.
        let mut claimed: HashSet<WorkerIdentity> = HashSet::new();
        for (key, entry) in &self.entries {
            let reason = match &entry.record {
                Record::Unusable { reason } => reason.clone(),
                Record::Worker {
                    worker,
                    has_identity,
                } => {
                    let identity = worker.identity;
                    if entry.own_name || (!self.has(&identity) && claimed.insert(identity)) {
                        workers.push((worker, *has_identity));
                        continue;
                    }
                    format!("another key lists the identity {identity} too")
                }
            };
            skipped.push(SkippedRecord {
                key: String::from_utf8_lossy(key).into_owned(),
                reason,
            });
        }
        (workers, skipped)
    }

    /// Whether the identity is listed under its own name.
    fn has(&self, identity: &WorkerIdentity) -> bool {
        let own_key = [&self.prefix, identity.to_string().as_bytes()].concat();
        self.entries
            .get(&own_key)
            .is_some_and(|entry| entry.own_name)
    }

    /// Whether there is a key of this name after the prefix.
    fn has_name(&self, name: &[u8]) -> bool {
        let key = [&self.prefix, name].concat();
        self.entries.contains_key(&key)
    }
}

impl Entry {
    fn decode(pair: Pair<'_>, prefix_len: usize) -> Self {
        let name = pair.key.get(prefix_len..).unwrap_or_default();
        let record = Record::decode(name, pair.value);
        let own_name = match &record {
            Record::Worker { worker, .. } => name == worker.identity.to_string().as_bytes(),
            Record::Unusable { .. } => false,
        };
        Entry {
            stamp: pair.stamp,
            record,
            own_name,
        }
    }
}

impl Record {
    /// `name`: what the key has after the prefix.
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

/// Both ranges. `ring` is `None` for SERVICE_REGISTRY, which has live keys only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tables {
    pub(crate) ring: Option<Table>,
    pub(crate) live: Table,
}

impl Tables {
    pub(super) fn empty(has_ring: bool) -> Self {
        Tables {
            ring: has_ring.then(Table::default),
            live: Table::default(),
        }
    }

    /// Whether a key of one range is the only one of its worker.
    pub(super) fn is_half(&self, range: Range, key: &[u8]) -> bool {
        let Some(ring) = &self.ring else {
            return false;
        };
        let (table, other) = match range {
            Range::Ring => (ring, &self.live),
            Range::Live => (&self.live, ring),
        };
        let name = key.get(table.prefix.len()..).unwrap_or_default();
        !other.has_name(name)
    }

    /// Adds a page of the listing. Both keys of a worker have the same record as a rule, which is read once then.
    pub(super) fn add_page<'a, P>(&mut self, ring: &'a [P], live: &'a [P])
    where
        &'a P: Into<Pair<'a>>,
    {
        let mut ring_pairs = ring.iter().map(Into::into).peekable();
        for live in live.iter().map(Into::<Pair>::into) {
            let name = live.key.get(self.live.prefix.len()..).unwrap_or_default();
            let mut twin = None;
            if let Some(ring) = &mut self.ring {
                let name_of =
                    |pair: &Pair<'a>| pair.key.get(ring.prefix.len()..).unwrap_or_default();
                // Both are in the order of the names.
                while let Some(pair) = ring_pairs.next_if(|pair| name_of(pair) <= name) {
                    let entry = Entry::decode(pair, ring.prefix.len());
                    twin =
                        (name_of(&pair) == name && pair.value == live.value).then(|| entry.clone());
                    ring.entries.insert(pair.key.to_vec(), entry);
                }
            }
            let entry = match twin {
                Some(entry) => Entry {
                    stamp: live.stamp,
                    ..entry
                },
                None => Entry::decode(live, self.live.prefix.len()),
            };
            self.live.entries.insert(live.key.to_vec(), entry);
        }
        if let Some(ring) = &mut self.ring {
            for pair in ring_pairs {
                let entry = Entry::decode(pair, ring.prefix.len());
                ring.entries.insert(pair.key.to_vec(), entry);
            }
        }
    }

    /// See [`Table::drift`].
    pub(super) fn drift(&self, listed: &Tables, revision: i64, deleted: &HashSet<Vec<u8>>) -> u64 {
        let ring = match (&self.ring, &listed.ring) {
            (Some(ring), Some(listed)) => ring.drift(listed, revision, deleted),
            _ => 0,
        };
        (ring + self.live.drift(&listed.live, revision, deleted)) as u64
    }

    pub(crate) fn table(&self, range: Range) -> Option<&Table> {
        match range {
            Range::Ring => self.ring.as_ref(),
            Range::Live => Some(&self.live),
        }
    }

    pub(crate) fn table_mut(&mut self, range: Range) -> Option<&mut Table> {
        match range {
            Range::Ring => self.ring.as_mut(),
            Range::Live => Some(&mut self.live),
        }
    }

    /// The newest revision of which anything is known.
    pub(crate) fn revision(&self) -> i64 {
        let ring = self.ring.as_ref().map_or(0, Table::applied);
        ring.max(self.live.applied())
    }

    pub(crate) fn same_listing(&self, other: &Tables) -> bool {
        self.live.same_listing(&other.live)
            && match (&self.ring, &other.ring) {
                (Some(a), Some(b)) => a.same_listing(b),
                (None, None) => true,
                _ => false,
            }
    }

    /// The view these tables make: states as Alluxio's `getAllMembers`, `getLiveMembers` and `getFailedMembers` give them.
    pub(crate) fn view(&self, version: u64, revision: i64) -> ClusterView {
        let member = |worker: &Arc<Worker>, state| Member {
            worker: worker.clone(),
            state,
        };
        let (live_workers, mut skipped) = self.live.workers();
        let live: Vec<Member> = live_workers
            .iter()
            .map(|(worker, _)| member(worker, WorkerState::Live))
            .collect();
        let (all, failed) = match &self.ring {
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
                    // Both are in the order of the keys, as a rule: the next one is it, where nobody is lost.
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
                let failed = all
                    .iter()
                    .filter(|member| member.state == WorkerState::Lost)
                    .cloned()
                    .collect();
                (all, failed)
            }
        };
        let skipped_more = skipped.len().saturating_sub(MAX_SKIPPED);
        skipped.truncate(MAX_SKIPPED);
        ClusterView {
            version,
            revision,
            all,
            live,
            failed,
            skipped,
            skipped_more,
            ..ClusterView::default()
        }
    }
}
