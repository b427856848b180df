//! What a listing returns: all workers of a cluster.

mod chunks;
mod members;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub(crate) use self::chunks::{Chunk, Chunks, Update, unshared};
pub use self::members::{Members, MembersIter};
use crate::boottime::BootTime;
use crate::text::OneLine;
use crate::worker::{Worker, WorkerIdentity, WorkerState};

/// Which members of a view are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum MemberFilter {
    /// Every registered worker, live or lost.
    All = 0,
    /// Workers that renew their lease.
    Live = 1,
    /// Registered workers whose lease has ended.
    Lost = 2,
}

/// One worker in a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who and where.
    pub worker: Arc<Worker>,
    /// Live or lost, at the view's revision.
    pub state: WorkerState,
}

/// The skipped records that a view carries at most. It counts the others.
pub(crate) const MAX_SKIPPED: usize = 100;

/// A key under the cluster's prefixes that is not listed, and why.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SkippedRecord {
    /// The etcd key; bytes that are not UTF-8 are replaced.
    pub key: String,
    /// Why its value could not be used.
    pub reason: String,
}

/// The etcd revisions at which a view shows the two key ranges of its cluster. If only one range
/// has changed, only its revision grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RangeRevisions {
    /// The revision of the registered workers. Equals `live` for a cluster without a ring.
    pub ring: i64,
    /// The revision of the live workers.
    pub live: i64,
}

/// All workers of a cluster. Immutable; the lists of its members never contradict one another.
///
/// A view shares the members that did not change with the view before it.
#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    pub(crate) version: u64,
    pub(crate) revisions: RangeRevisions,
    pub(crate) chunks: Chunks,
    pub(crate) skipped: Skipped,
    pub(crate) confirmed: Confirmed,
    /// The text of `showAllMembers`, once a caller asked for it.
    pub(crate) table: OnceLock<Arc<str>>,
}

/// The records that are not listed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Skipped {
    first: Arc<[SkippedRecord]>,
    /// The number of records beyond the first.
    more: usize,
}

impl From<Vec<SkippedRecord>> for Skipped {
    fn from(mut records: Vec<SkippedRecord>) -> Self {
        let more = records.len().saturating_sub(MAX_SKIPPED);
        records.truncate(MAX_SKIPPED);
        Skipped {
            first: records.into(),
            more,
        }
    }
}

/// The time at which etcd was last known to have exactly the workers of a view. By default always,
/// as for a hosts file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Confirmed(Option<Arc<Confirmation>>);

#[derive(Debug)]
struct Confirmation {
    first: BootTime,
    /// Milliseconds after the first.
    latest: AtomicU64,
}

impl Confirmed {
    pub(crate) fn as_of(first: BootTime) -> Self {
        Confirmed(Some(Arc::new(Confirmation {
            first,
            latest: AtomicU64::new(0),
        })))
    }

    /// Notes that the view was etcd's at this later time, too.
    pub(crate) fn again(&self, at: BootTime) {
        if let Some(confirmation) = &self.0 {
            let after = u64::try_from((at - confirmation.first).as_millis()).unwrap_or(u64::MAX);
            confirmation.latest.fetch_max(after, Ordering::AcqRel);
        }
    }

    pub(crate) fn age(&self) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |confirmation| {
            let after = Duration::from_millis(confirmation.latest.load(Ordering::Acquire));
            confirmation.first.elapsed().saturating_sub(after)
        })
    }
}

impl ClusterView {
    /// Returns the version, which is never 0 and grows by at least one with each change while the
    /// cluster stays open. The version may restart at 1 when the cluster is opened again.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the etcd revision up to which both key ranges are complete in this view, or 0 for a
    /// STATIC cluster.
    pub fn revision(&self) -> i64 {
        self.revisions.ring.min(self.revisions.live)
    }

    /// Returns the etcd revisions at which this view shows the two key ranges, or 0 for a STATIC
    /// cluster.
    pub fn revisions(&self) -> RangeRevisions {
        self.revisions
    }

    /// Returns how long ago etcd was last known to have exactly these workers. The library confirms
    /// the newest view every 2 s, so its age stays small. The age of an older view grows. Zero for
    /// a STATIC cluster.
    pub fn age(&self) -> Duration {
        self.confirmed.age()
    }

    /// The members asked for, in the order of their keys (STATIC: in the order of the file).
    pub fn members(&self, filter: MemberFilter) -> Members<'_> {
        Members::new(&self.chunks, filter)
    }

    /// The registered worker of this identity.
    pub fn find(&self, identity: &WorkerIdentity) -> Option<&Member> {
        self.chunks.find(MemberFilter::All, identity)
    }

    /// Whether a worker of this identity is live.
    pub fn is_live(&self, identity: &WorkerIdentity) -> bool {
        self.chunks.find(MemberFilter::Live, identity).is_some()
    }

    /// Records that are not listed, the first hundred of them.
    pub fn skipped(&self) -> &[SkippedRecord] {
        &self.skipped.first
    }

    /// How many records are not listed.
    pub fn skipped_count(&self) -> usize {
        self.skipped.first.len() + self.skipped.more
    }

    /// Returns the text of `showAllMembers` for a cluster in etcd: what `alluxio info nodes`
    /// prints.
    ///
    /// A host with a tab or a line end could add rows. Therefore the control characters of a host
    /// are escaped, see [`OneLine`]. Every other host is printed as Alluxio prints it.
    ///
    /// The view makes the text once and keeps it.
    pub fn to_table(&self) -> Arc<str> {
        self.table_by(|| {
            let live = self.members(MemberFilter::Live).iter();
            let live: HashSet<&WorkerIdentity> = live.map(|it| &it.worker.identity).collect();
            table(self.members(MemberFilter::All).iter().map(|member| {
                let worker = &*member.worker;
                let status = match live.contains(&worker.identity) {
                    true => WorkerState::Live.status(),
                    false => WorkerState::Lost.status(),
                };
                (worker.identity.to_string(), worker, status)
            }))
        })
    }

    /// Returns the text that the view keeps, which is made when it is asked for the first time.
    pub(crate) fn table_by(&self, make: impl FnOnce() -> String) -> Arc<str> {
        self.table.get_or_init(|| make().into()).clone()
    }
}

/// What happened to a worker between two views.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum ChangeKind {
    /// It is new.
    Added = 1,
    /// It is no longer listed at all.
    Removed = 2,
    /// It was lost and is live again.
    Live = 3,
    /// It was live and is lost.
    Lost = 4,
    /// It is as live as before, under another address.
    Moved = 5,
}

/// A change between two views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The worker as it is now; as it was, if it was removed.
    pub member: Member,
}

impl ClusterView {
    /// Returns the change of each worker since an older view of the same cluster, in the order of
    /// their identities. Compared with an empty view, all workers are new. Compares only members
    /// that the views do not share.
    pub fn changes_since(&self, older: &ClusterView) -> Vec<Change> {
        let (now, before) = self.chunks.unshared(&older.chunks);
        let (now, before) = (by_identity(&now), by_identity(&before));
        let removed = before
            .iter()
            .filter(|(identity, _)| !now.contains_key(*identity))
            .map(|(identity, member)| (*identity, ChangeKind::Removed, *member));
        let others = now.iter().filter_map(|(identity, now)| {
            let kind = match before.get(identity) {
                None => ChangeKind::Added,
                Some(before) if before.state != now.state => match now.state {
                    WorkerState::Live => ChangeKind::Live,
                    WorkerState::Lost => ChangeKind::Lost,
                },
                Some(before) if before.worker != now.worker => ChangeKind::Moved,
                Some(_) => return None,
            };
            Some((*identity, kind, *now))
        });
        let mut changes: Vec<_> = removed.chain(others).collect();
        changes.sort_unstable_by_key(|(identity, ..)| *identity);
        let change = |(_, kind, member): (_, ChangeKind, &Member)| Change {
            kind,
            member: member.clone(),
        };
        changes.into_iter().map(change).collect()
    }
}

/// Registered workers, and live ones that are not registered.
fn by_identity<'a>(chunks: &[&'a Chunk]) -> HashMap<&'a WorkerIdentity, &'a Member> {
    let lists = [MemberFilter::Live, MemberFilter::All].into_iter();
    let members = lists.flat_map(|filter| chunks.iter().flat_map(move |it| &**it.members(filter)));
    members
        .map(|member| (&member.worker.identity, member))
        .collect()
}

/// Writes the rows of `showAllMembers`: id, address and status, and a newline. No host breaks a
/// row.
pub(crate) fn table<'a>(rows: impl Iterator<Item = (String, &'a Worker, &'static str)>) -> String {
    let mut text = String::from("WorkerId\tAddress\tStatus\n");
    for (id, worker, status) in rows {
        let host = OneLine(worker.address.host.as_deref().unwrap_or("null"));
        text.push_str(&format!(
            "{id}\t{host}:{}\t{status}\n",
            worker.address.rpc_port
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::WorkerNetAddress;

    fn member(id: i64, host: &str, state: WorkerState) -> Member {
        Member {
            worker: Arc::new(Worker {
                identity: WorkerIdentity::V0(id),
                address: WorkerNetAddress::new(host),
            }),
            state,
        }
    }

    fn view(all: &[Member]) -> ClusterView {
        let is_live = |member: &&Member| member.state == WorkerState::Live;
        let live: Vec<Member> = all.iter().filter(is_live).cloned().collect();
        ClusterView {
            chunks: Chunks::new(1, all, &live),
            ..ClusterView::default()
        }
    }

    #[test]
    fn changes_say_what_happened_to_each_worker() {
        use WorkerState::{Live, Lost};
        let before = view(&[
            member(5, "stays", Live),
            member(4, "moves", Live),
            member(3, "ends", Live),
            member(2, "returns", Lost),
            member(1, "goes", Lost),
        ]);
        let now = view(&[
            member(5, "stays", Live),
            member(4, "moved", Live),
            member(3, "ends", Lost),
            member(2, "returned", Live),
            member(0, "comes", Lost),
        ]);
        let changes = |a: &ClusterView, b: &ClusterView| -> Vec<(ChangeKind, String)> {
            let changes = a.changes_since(b).into_iter();
            changes
                .map(|c| (c.kind, c.member.worker.address.host.clone().unwrap()))
                .collect()
        };
        assert_eq!(
            changes(&now, &before),
            [
                (ChangeKind::Added, "comes".to_owned()),
                (ChangeKind::Removed, "goes".to_owned()),
                (ChangeKind::Live, "returned".to_owned()),
                (ChangeKind::Lost, "ends".to_owned()),
                (ChangeKind::Moved, "moved".to_owned()),
            ]
        );
        assert_eq!(changes(&now, &now), []);
        assert_eq!(changes(&now, &ClusterView::default()).len(), 5);
    }

    #[test]
    fn no_host_breaks_a_row_of_the_table() {
        let spoofed = view(&[
            member(1, "x:1\tONLINE\nworker-2\tfake", WorkerState::Lost),
            member(3, "\u{1b}[2K\u{9b}1A\u{85}", WorkerState::Live),
        ]);
        assert_eq!(
            &*spoofed.to_table(),
            "WorkerId\tAddress\tStatus\n\
             worker-1\tx:1\\tONLINE\\nworker-2\\tfake:0\tOFFLINE\n\
             worker-3\t\\u{1b}[2K\\u{9b}1A\\u{85}:0\tONLINE\n"
        );
    }

    #[test]
    fn a_host_without_control_characters_stands_in_the_table_as_it_is() {
        let host = "größe\u{2028}\u{202e}\u{200b}\u{feff}\u{e0041}\\n";
        let table = view(&[member(1, host, WorkerState::Live)]).to_table();
        assert_eq!(
            &*table,
            format!("WorkerId\tAddress\tStatus\nworker-1\t{host}:0\tONLINE\n")
        );
    }

    #[test]
    fn a_live_worker_off_the_ring_is_not_overlooked() {
        let live = [member(1, "h", WorkerState::Live)];
        let now = ClusterView {
            chunks: Chunks::new(1, &[], &live),
            ..ClusterView::default()
        };
        let changes = now.changes_since(&ClusterView::default());
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].kind, ChangeKind::Added);
        let registered = view(&live);
        assert_eq!(registered.changes_since(&now), []);
        assert_eq!(now.changes_since(&registered), []);
    }
}
