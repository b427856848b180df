//! What a listing returns: all workers of a cluster.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

/// The etcd revisions at which a view shows the two key ranges of its cluster. Only one of them grows when only that range
/// has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RangeRevisions {
    /// The revision of the registered workers; that of the live ones for a cluster that has no ring.
    pub ring: i64,
    /// The revision of the live workers.
    pub live: i64,
}

/// All workers of a cluster. Immutable; `all`, `live` and `lost` never contradict one another.
#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    pub(crate) version: u64,
    pub(crate) revisions: RangeRevisions,
    pub(crate) all: Vec<Member>,
    pub(crate) live: Vec<Member>,
    pub(crate) lost: Vec<Member>,
    pub(crate) skipped: Vec<SkippedRecord>,
    /// Records that are not listed, beyond those in `skipped`.
    pub(crate) skipped_more: usize,
    pub(crate) confirmed: Confirmed,
}

/// When a view, and all that was made of it, was last known to be etcd's. By default always, as for a hosts file.
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
    /// Grows by at least one with each change, while the cluster stays open; never 0. May begin anew when it is opened
    /// again.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the etcd revision up to which both key ranges are complete in this view; 0 for a STATIC cluster.
    pub fn revision(&self) -> i64 {
        self.revisions.ring.min(self.revisions.live)
    }

    /// Returns the etcd revisions at which this view shows the two key ranges; 0 for a STATIC cluster.
    pub fn revisions(&self) -> RangeRevisions {
        self.revisions
    }

    /// How long ago etcd was last known to have exactly these workers. Stays small while they are the newest, which
    /// etcd is asked for all the time, and grows from then on. Zero for a STATIC cluster.
    pub fn age(&self) -> Duration {
        self.confirmed.age()
    }

    /// The members asked for, in the order of their keys (STATIC: in the order of the file).
    pub fn members(&self, filter: MemberFilter) -> &[Member] {
        match filter {
            MemberFilter::All => &self.all,
            MemberFilter::Live => &self.live,
            MemberFilter::Lost => &self.lost,
        }
    }

    /// The registered worker of this identity.
    pub fn find(&self, identity: &WorkerIdentity) -> Option<&Member> {
        self.all
            .iter()
            .find(|member| member.worker.identity == *identity)
    }

    /// Whether a worker of this identity is live.
    pub fn is_live(&self, identity: &WorkerIdentity) -> bool {
        self.live
            .iter()
            .any(|member| member.worker.identity == *identity)
    }

    /// Records that are not listed, the first hundred of them.
    pub fn skipped(&self) -> &[SkippedRecord] {
        &self.skipped
    }

    /// How many records are not listed.
    pub fn skipped_count(&self) -> usize {
        self.skipped.len() + self.skipped_more
    }

    /// Returns the text of `showAllMembers` for a cluster in etcd: what `alluxio info nodes` prints.
    ///
    /// A host with a tab or a line end could draw rows of its own there. Here the control characters of a host are
    /// escaped, see [`OneLine`]. Every other host stands there as Alluxio prints it.
    pub fn to_table(&self) -> String {
        self.table_of(MemberFilter::All)
    }

    /// Some rows of that text.
    pub fn table_of(&self, filter: MemberFilter) -> String {
        let live: HashSet<&WorkerIdentity> = self.live.iter().map(|m| &m.worker.identity).collect();
        table(self.members(filter).iter().map(|member| {
            let worker = &member.worker;
            let status = if live.contains(&worker.identity) {
                "ONLINE"
            } else {
                "OFFLINE"
            };
            (worker.identity.to_string(), &**worker, status)
        }))
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
    /// What happened to each worker since an older view of the same cluster, in the order of their identities. All
    /// workers of this view are new to an empty one.
    pub fn changes_since(&self, older: &ClusterView) -> Vec<Change> {
        let (before, now) = (older.by_identity(), self.by_identity());
        let identities = before.keys().chain(now.keys());
        let identities: std::collections::BTreeSet<&WorkerIdentity> = identities.copied().collect();
        let change = |identity| {
            let (kind, member) = match (before.get(identity), now.get(identity)) {
                (None, Some(now)) => (ChangeKind::Added, now),
                (Some(before), None) => (ChangeKind::Removed, before),
                (Some(before), Some(now)) if before.state != now.state => match now.state {
                    WorkerState::Live => (ChangeKind::Live, now),
                    WorkerState::Lost => (ChangeKind::Lost, now),
                },
                (Some(before), Some(now)) if before.worker != now.worker => {
                    (ChangeKind::Moved, now)
                }
                _ => return None,
            };
            Some(Change {
                kind,
                member: (*member).clone(),
            })
        };
        identities.into_iter().filter_map(change).collect()
    }

    /// Registered workers, and live ones that are not registered.
    fn by_identity(&self) -> BTreeMap<&WorkerIdentity, &Member> {
        let members = self.live.iter().chain(&self.all);
        members
            .map(|member| (&member.worker.identity, member))
            .collect()
    }
}

/// Writes the rows of `showAllMembers`: id, address and status, each row ended by a newline. No host breaks a row.
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
        let of_state = |state| all.iter().filter(|m| m.state == state).cloned().collect();
        ClusterView {
            all: all.to_vec(),
            live: of_state(WorkerState::Live),
            lost: of_state(WorkerState::Lost),
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
            spoofed.to_table(),
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
            table,
            format!("WorkerId\tAddress\tStatus\nworker-1\t{host}:0\tONLINE\n")
        );
    }

    #[test]
    fn a_live_worker_off_the_ring_is_not_overlooked() {
        let mut now = view(&[]);
        now.live.push(member(1, "h", WorkerState::Live));
        let changes = now.changes_since(&ClusterView::default());
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].kind, ChangeKind::Added);
        let registered = view(&now.live);
        assert_eq!(registered.changes_since(&now), []);
        assert_eq!(now.changes_since(&registered), []);
    }
}
