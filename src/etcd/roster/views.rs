//! The view that the tables of a cluster make.

use std::collections::HashSet;
use std::sync::Arc;

use super::row::{Lists, Row};
use super::tables::{Table, Tables};
use crate::view::{Chunks, ClusterView, Confirmed, Member, RangeRevisions, SkippedRecord, Update};
use crate::worker::{Worker, WorkerIdentity, WorkerState};

/// A view, and the tables that it was made of.
pub(super) struct Made {
    tables: Tables,
    pub(super) view: Arc<ClusterView>,
}

impl Made {
    /// The view of a version, which usually shares most of its members with the view before it.
    pub(super) fn new(
        tables: &Tables,
        before: Option<Made>,
        version: u64,
        revisions: RangeRevisions,
        confirmed: Confirmed,
    ) -> Made {
        let after = before.and_then(|before| tables.view_after(&before, version));
        let view = after.unwrap_or_else(|| tables.whole_view(version));
        Made {
            tables: tables.clone(),
            view: Arc::new(ClusterView {
                version,
                revisions,
                confirmed,
                ..view
            }),
        }
    }
}

fn member(worker: &Arc<Worker>, state: WorkerState) -> Member {
    Member {
        worker: worker.clone(),
        state,
    }
}

impl Table {
    /// Returns the usable records in key order, each identity once, and the other records with
    /// reasons. The flag of a worker says whether its record has an identity.
    fn workers(&self) -> (Vec<(&Arc<Worker>, bool)>, Vec<SkippedRecord>) {
        let mut workers: Vec<(&Arc<Worker>, bool)> = Vec::with_capacity(self.len());
        let mut skipped = Vec::new();
        // A key of an identity's own name wins over others that claim the identity.
        let mut claimed: HashSet<WorkerIdentity> = HashSet::new();
        for row in self.rows() {
            let reason = match row.lists() {
                Lists::Own(worker) => {
                    workers.push((worker, true));
                    continue;
                }
                Lists::Nothing(reason) => reason.to_owned(),
                Lists::Foreign {
                    worker,
                    has_identity,
                } => {
                    let identity = worker.identity;
                    let is_free = || !self.has(&identity);
                    if row.has_own_name() || (is_free() && claimed.insert(identity)) {
                        workers.push((worker, has_identity));
                        continue;
                    }
                    format!("another key lists the identity {identity} too")
                }
            };
            skipped.push(self.skipped(row, reason));
        }
        (workers, skipped)
    }

    /// The rows that list nothing, of a table without foreign ones.
    fn unusable(&self) -> impl Iterator<Item = SkippedRecord> {
        self.rows().filter_map(|row| match row.lists() {
            Lists::Nothing(reason) => Some(self.skipped(row, reason.to_owned())),
            Lists::Own(_) | Lists::Foreign { .. } => None,
        })
    }

    fn skipped(&self, row: &Row, reason: String) -> SkippedRecord {
        SkippedRecord {
            key: String::from_utf8_lossy(&self.key(row)).into_owned(),
            reason,
        }
    }
}

impl Tables {
    /// Returns the view of these tables, with the states of Alluxio's `getAllMembers`,
    /// `getLiveMembers` and `getFailedMembers`.
    pub(super) fn whole_view(&self, version: u64) -> ClusterView {
        let (live_workers, mut skipped) = self.live.workers();
        let live: Vec<Member> = live_workers
            .iter()
            .map(|(worker, _)| member(worker, WorkerState::Live))
            .collect();
        let Some(ring) = &self.ring else {
            return ClusterView {
                chunks: Chunks::new(version, &live, &live),
                skipped: skipped.into(),
                ..ClusterView::default()
            };
        };
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
        ClusterView {
            chunks: Chunks::new(version, &all, &live),
            skipped: skipped.into(),
            ..ClusterView::default()
        }
    }

    /// Returns the view of these tables, built from an older view and the differences of the
    /// tables. `None` if a worker's place in the view depends on more keys than those of its own
    /// name.
    fn view_after(&self, before: &Made, version: u64) -> Option<ClusterView> {
        if self.has_foreign() || before.tables.has_foreign() {
            return None;
        }
        let mut differences = self.live.differences(&before.tables.live);
        match (&self.ring, &before.tables.ring) {
            (Some(ring), Some(before)) => differences.extend(ring.differences(before)),
            (None, None) => {}
            _ => return None,
        }
        let rows = differences
            .iter()
            .flat_map(|(now, then)| now.iter().chain(then));
        let mut identities: Vec<WorkerIdentity> = rows
            .clone()
            .filter_map(|row| row.own_worker())
            .map(|worker| worker.identity)
            .collect();
        identities.sort_unstable_by(WorkerIdentity::cmp_keys);
        identities.dedup();
        let updates: Vec<Update> = identities.iter().map(|it| self.update(it)).collect();
        let skipped = match rows.clone().all(|row| row.own_worker().is_some()) {
            true => before.view.skipped.clone(),
            false => {
                let ring = self.ring.iter().flat_map(Table::unusable);
                ring.chain(self.live.unusable()).collect::<Vec<_>>().into()
            }
        };
        Some(ClusterView {
            chunks: before.view.chunks.updated(version, &updates)?,
            skipped,
            ..ClusterView::default()
        })
    }

    fn has_foreign(&self) -> bool {
        self.live.has_foreign() || self.ring.as_ref().is_some_and(Table::has_foreign)
    }

    /// What becomes of a worker, in tables without foreign rows.
    fn update(&self, identity: &WorkerIdentity) -> Update {
        let live = self.live.own_worker(identity);
        let live = live.map(|worker| member(worker, WorkerState::Live));
        let registered = match &self.ring {
            None => live.clone(),
            Some(ring) => ring.own_worker(identity).map(|worker| {
                let state = match live {
                    Some(_) => WorkerState::Live,
                    None => WorkerState::Lost,
                };
                member(worker, state)
            }),
        };
        Update {
            identity: *identity,
            registered,
            live,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::super::row::{Pair, Stamp};
    use super::super::tables::Change;
    use super::*;
    use crate::record;
    use crate::view::{ChangeKind, MemberFilter};
    use crate::worker::WorkerNetAddress;

    fn identity(number: u8) -> WorkerIdentity {
        match number % 3 {
            0 => WorkerIdentity::V0(number.into()),
            _ => WorkerIdentity::V1(uuid::Uuid::from_bytes([number; 16])),
        }
    }

    /// A put of a worker's key, with the record of another worker now and then.
    fn put(rng: &mut StdRng, prefix: &str, number: u8, has_foreign: bool) -> Change {
        let key = format!("{prefix}{}", identity(number));
        let named = match has_foreign && rng.random_range(0..10) == 0 {
            true => rng.random_range(0..200),
            false => number,
        };
        let value = match rng.random_range(0..20) {
            0 => b"not a record".to_vec(),
            _ => record::encode(&Worker {
                identity: identity(named),
                address: WorkerNetAddress {
                    rpc_port: rng.random_range(0..2),
                    ..WorkerNetAddress::new("h")
                },
            }),
        };
        let stamp = Stamp {
            modified: 1,
            created: 1,
            version: 1,
            lease: 0,
        };
        let pair = Pair {
            key: key.as_bytes(),
            value: &value,
            stamp,
        };
        Change::put(prefix, pair)
    }

    /// What happened to each worker, by comparing two whole views.
    fn compared(
        now: &ClusterView,
        before: &ClusterView,
    ) -> BTreeMap<WorkerIdentity, (ChangeKind, Member)> {
        let by_identity = |view: &ClusterView| -> BTreeMap<WorkerIdentity, Member> {
            let lists = [MemberFilter::Live, MemberFilter::All];
            let members = lists.iter().flat_map(|filter| view.members(*filter));
            members
                .map(|member| (member.worker.identity, member.clone()))
                .collect()
        };
        let (now, before) = (by_identity(now), by_identity(before));
        let mut changes = BTreeMap::new();
        for (identity, member) in &before {
            if !now.contains_key(identity) {
                changes.insert(*identity, (ChangeKind::Removed, member.clone()));
            }
        }
        for (identity, member) in now {
            let kind = match before.get(&identity) {
                None => ChangeKind::Added,
                Some(then) if *then == member => continue,
                Some(then) if then.state == member.state => ChangeKind::Moved,
                Some(_) if member.state == WorkerState::Live => ChangeKind::Live,
                Some(_) => ChangeKind::Lost,
            };
            changes.insert(identity, (kind, member));
        }
        changes
    }

    /// A view that is built from the view before it equals the whole view, and reports all changes.
    #[test]
    fn a_view_after_another_is_the_view_of_its_tables() {
        let mut rng = StdRng::seed_from_u64(1);
        let (mut after, mut whole) = (0, 0);
        for has_ring in [true, true, true, false] {
            let mut tables = Tables {
                ring: has_ring.then(|| Table::new("/r/")),
                live: Table::new("/l/"),
            };
            let mut made: Option<Made> = None;
            for version in 1..1_500 {
                // Other identities than the names come and go.
                let has_foreign = version / 100 % 3 == 2;
                for _ in 0..rng.random_range(0..6) {
                    let number = rng.random_range(0..200);
                    let (prefix, table) = match &mut tables.ring {
                        Some(ring) if rng.random_range(0..2) == 0 => ("/r/", ring),
                        _ => ("/l/", &mut tables.live),
                    };
                    let mut change = put(&mut rng, prefix, number, has_foreign);
                    if rng.random_range(0..4) == 0 {
                        change.row = None;
                    }
                    table.apply(change);
                }
                if !has_foreign && tables.has_foreign() {
                    for table in tables.ring.iter_mut().chain([&mut tables.live]) {
                        let foreign = table.rows().filter(|row| row.is_foreign());
                        let keys: Vec<_> = foreign.map(|row| table.key(row)).collect();
                        for key in keys {
                            table.apply(Change::delete(&key, 1));
                        }
                    }
                }
                let before = made.as_ref().map(|made| made.view.clone());
                match made
                    .as_ref()
                    .and_then(|made| tables.view_after(made, version))
                {
                    Some(_) => after += 1,
                    None => whole += 1,
                }
                let revisions = RangeRevisions::default();
                let now = Made::new(&tables, made, version, revisions, Confirmed::default());
                let expected = tables.whole_view(version);
                for filter in [MemberFilter::All, MemberFilter::Live, MemberFilter::Lost] {
                    assert_eq!(
                        now.view.members(filter),
                        expected.members(filter),
                        "{version}"
                    );
                    assert_eq!(
                        now.view.members(filter).len(),
                        expected.members(filter).len()
                    );
                }
                assert_eq!(now.view.skipped(), expected.skipped(), "{version}");
                if let Some(before) = before {
                    let changes = now.view.changes_since(&before).into_iter();
                    let changes =
                        changes.map(|it| (it.member.worker.identity, (it.kind, it.member)));
                    assert!(changes.eq(compared(&now.view, &before)), "{version}");
                }
                made = Some(now);
            }
        }
        assert!(after > 2_000 && whole > 1_000, "{after} {whole}");
    }
}
