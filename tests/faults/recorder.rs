//! Records the history of a cluster, and compares the views of a manager with it.
//!
//! A [`Recorder`] records every change of the live keys and the ring keys, with its own client and
//! connection. An [`Observer`] records every view of a manager. [`Recorder::compare`] reports every
//! difference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alluxio_membership::membership::Membership;
use alluxio_membership::view::{ChangeKind, ClusterView, MemberFilter, RangeRevisions};
use alluxio_membership::worker::WorkerState;
use etcd_client::{EventType, GetOptions, Txn, TxnOp, TxnOpResponse, WatchOptions};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::common::{Etcd, eventually};
use super::scene::{LIVE, LONG, RING};

/// Changes with each call of [`Recorder::compare`], which shows that everything before it was
/// recorded.
const MARKER: &str = "/recorder";

type Names = BTreeSet<String>;

pub struct Recorder {
    truth: Arc<Mutex<Truth>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Truth {
    /// The workers at `first`.
    initial: Keys,
    first: i64,
    changes: Vec<Change>,
    /// The revision up to which the history is complete.
    seen: i64,
}

/// The names of the workers that have keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Keys {
    ring: Names,
    live: Names,
}

impl Keys {
    fn of(&mut self, prefix: &str) -> &mut Names {
        if prefix == LIVE {
            &mut self.live
        } else {
            &mut self.ring
        }
    }

    fn apply(&mut self, change: &Change) {
        let names = self.of(change.prefix);
        if change.is_there {
            names.insert(change.name.clone());
        } else {
            names.remove(&change.name);
        }
    }
}

struct Change {
    at: Instant,
    revision: i64,
    prefix: &'static str,
    name: String,
    is_there: bool,
}

impl Recorder {
    /// Starts to record. The server may be killed and restarted, but must not lose its data.
    pub async fn start(etcd: &Etcd) -> Recorder {
        let mut client = etcd.client().await;
        let list = [LIVE, RING].map(|prefix| {
            let options = GetOptions::new().with_prefix().with_keys_only();
            TxnOp::get(prefix, Some(options))
        });
        let listed = client.txn(Txn::new().and_then(list)).await.expect("list");
        let first = listed.header().expect("a header").revision();
        let mut initial = Keys::default();
        for answer in listed.op_responses() {
            let TxnOpResponse::Get(answer) = answer else {
                continue;
            };
            for (prefix, name) in answer.kvs().iter().filter_map(|kv| name(kv.key())) {
                initial.of(prefix).insert(name);
            }
        }
        let truth = Arc::new(Mutex::new(Truth {
            initial,
            first,
            changes: Vec::new(),
            seen: first,
        }));
        let recording = truth.clone();
        let task = tokio::spawn(async move {
            loop {
                let _ = record(client.watch_client(), &recording).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Recorder { truth, task }
    }

    /// Returns the problems of these views: a step back, missing or additional workers or wrong
    /// states for the revisions of the view's two ranges, an impossible change of a worker, or a
    /// change that was visible later than `bound`.
    pub async fn compare(&self, etcd: &Etcd, views: &[Seen], bound: Duration) -> Vec<String> {
        etcd.put(MARKER, "").await;
        let until = etcd.revision().await;
        eventually("the recorder has seen all", LONG, || async {
            self.truth.lock().seen >= until
        })
        .await;
        let truth = self.truth.lock();
        let mut wrong = Vec::new();
        for pair in views.windows(2) {
            let (before, after) = (pair[0].revisions, pair[1].revisions);
            let went_back = after.ring < before.ring || after.live < before.live;
            if pair[1].version <= pair[0].version || went_back {
                wrong.push(format!("{:?} after {:?}", pair[1], pair[0]));
            }
        }
        // The two ranges advance independently.
        let (mut ring, mut live) = (Walk::new(&truth), Walk::new(&truth));
        for view in views {
            if view.revisions.ring.min(view.revisions.live) < truth.first {
                continue;
            }
            let expected = Keys {
                ring: ring.to(view.revisions.ring).ring.clone(),
                live: live.to(view.revisions.live).live.clone(),
            };
            if let Some(difference) = view.difference(&expected) {
                wrong.push(format!("{view:?}: {difference}"));
            }
        }
        wrong.extend(impossible_changes(views));
        let mut later = [LIVE, RING].map(|prefix| (prefix, views.iter().peekable()));
        for change in &truth.changes {
            let of_range = later
                .iter_mut()
                .find(|(prefix, _)| *prefix == change.prefix);
            let Some((_, later)) = of_range else { continue };
            while later
                .next_if(|view| view.revision_of(change.prefix) < change.revision)
                .is_some()
            {}
            match later.peek() {
                Some(view) if view.at > change.at + bound => wrong.push(format!(
                    "{}{} at revision {} was seen {:?} later",
                    change.prefix,
                    change.name,
                    change.revision,
                    view.at - change.at
                )),
                _ => {}
            }
        }
        let at_the_end = Walk::new(&truth).to(until).clone();
        match views.last().map(|last| last.difference(&at_the_end)) {
            Some(None) => {}
            difference => wrong.push(format!(
                "at the end {:?}: {difference:?}, but etcd has {at_the_end:?}",
                views.last()
            )),
        }
        wrong
    }

    /// How many changes of live keys there were.
    pub fn changes(&self) -> usize {
        let truth = self.truth.lock();
        let live = truth.changes.iter().filter(|it| it.prefix == LIVE);
        live.count()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The recorded state at one revision after another.
struct Walk<'a> {
    truth: &'a Truth,
    keys: Keys,
    applied: usize,
}

impl<'a> Walk<'a> {
    fn new(truth: &'a Truth) -> Self {
        Walk {
            truth,
            keys: truth.initial.clone(),
            applied: 0,
        }
    }

    fn to(&mut self, revision: i64) -> &Keys {
        if self.applied > 0 && self.truth.changes[self.applied - 1].revision > revision {
            *self = Walk::new(self.truth);
        }
        let left = &self.truth.changes[self.applied..];
        for change in left.iter().take_while(|it| it.revision <= revision) {
            self.keys.apply(change);
            self.applied += 1;
        }
        &self.keys
    }
}

/// Checks that the [`ClusterView::changes_since`] of each worker are possible from view to view: no
/// worker is lost twice in a row, or comes back without having been lost.
fn impossible_changes(views: &[Seen]) -> Vec<String> {
    use ChangeKind::{Added, Live, Lost, Moved, Removed};
    let mut wrong = Vec::new();
    let mut states: BTreeMap<&str, WorkerState> = BTreeMap::new();
    for view in views {
        for (kind, name, now) in &view.changes {
            let before = states.get(name.as_str()).copied();
            let is_possible = match (kind, before) {
                (Added, None) => true,
                (Removed | Moved, Some(state)) => state == *now,
                (Live, Some(WorkerState::Lost)) => *now == WorkerState::Live,
                (Lost, Some(WorkerState::Live)) => *now == WorkerState::Lost,
                _ => false,
            };
            if !is_possible {
                wrong.push(format!(
                    "{kind:?} of {name} that was {before:?}, now {now:?}"
                ));
            }
            if *kind == Removed {
                states.remove(name.as_str());
            } else {
                states.insert(name, *now);
            }
        }
        let names = |state| {
            let of_state = states.iter().filter(move |(_, it)| **it == state);
            of_state.map(|(name, _)| *name)
        };
        let adds_up = names(WorkerState::Live).eq(view.keys.live.iter().map(String::as_str))
            && names(WorkerState::Lost).eq(view.lost.iter().map(String::as_str));
        if !adds_up {
            wrong.push(format!("{view:?}, but its changes add up to {states:?}"));
        }
    }
    wrong
}

async fn record(
    client: etcd_client::WatchClient,
    truth: &Mutex<Truth>,
) -> Result<(), etcd_client::Error> {
    let next = truth.lock().seen + 1;
    let options = WatchOptions::new().with_prefix().with_start_revision(next);
    let mut client = client.max_decoding_message_size(usize::MAX);
    let mut stream = client.watch("/", Some(options)).await?;
    while let Some(message) = stream.message().await? {
        let mut truth = truth.lock();
        for event in message.events() {
            let Some(kv) = event.kv() else { continue };
            if let Some((prefix, name)) = name(kv.key()) {
                truth.changes.push(Change {
                    at: Instant::now(),
                    revision: kv.mod_revision(),
                    prefix,
                    name,
                    is_there: event.event_type() == EventType::Put,
                });
            }
            truth.seen = truth.seen.max(kv.mod_revision());
        }
    }
    Ok(())
}

fn name(key: &[u8]) -> Option<(&'static str, String)> {
    let key = std::str::from_utf8(key).ok()?;
    [LIVE, RING]
        .into_iter()
        .find_map(|prefix| Some((prefix, key.strip_prefix(prefix)?.to_owned())))
}

/// One view of a manager.
#[derive(Debug)]
pub struct Seen {
    at: Instant,
    version: u64,
    revisions: RangeRevisions,
    /// The registered workers, and the live workers.
    keys: Keys,
    /// The lost workers, in the list of lost workers.
    lost: Names,
    /// The lost workers, by their states in the list of all workers.
    called_lost: Names,
    /// The changes since the previous view, with the state of the worker in this view.
    changes: Vec<(ChangeKind, String, WorkerState)>,
}

impl Seen {
    fn new(view: &ClusterView, before: &ClusterView) -> Seen {
        let names = |filter| -> Names {
            let members = view.members(filter).iter();
            members
                .map(|member| member.worker.identity.to_string())
                .collect()
        };
        let all = view.members(MemberFilter::All).iter();
        let called_lost = all.filter(|member| member.state == WorkerState::Lost);
        let changes = view.changes_since(before).into_iter().map(|change| {
            let member = change.member;
            (
                change.kind,
                member.worker.identity.to_string(),
                member.state,
            )
        });
        Seen {
            at: Instant::now(),
            version: view.version(),
            revisions: view.revisions(),
            keys: Keys {
                ring: names(MemberFilter::All),
                live: names(MemberFilter::Live),
            },
            lost: names(MemberFilter::Lost),
            called_lost: called_lost
                .map(|member| member.worker.identity.to_string())
                .collect(),
            changes: changes.collect(),
        }
    }

    fn revision_of(&self, prefix: &str) -> i64 {
        if prefix == LIVE {
            self.revisions.live
        } else {
            self.revisions.ring
        }
    }

    /// Returns the difference from etcd's keys.
    fn difference(&self, expected: &Keys) -> Option<String> {
        let lost: Names = expected.ring.difference(&expected.live).cloned().collect();
        if self.keys != *expected {
            Some(format!("etcd had {expected:?}"))
        } else if self.lost != lost || self.called_lost != lost {
            Some(format!("lost were {lost:?}"))
        } else {
            None
        }
    }
}

/// Records every view of a manager, as its callers see it.
pub struct Observer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<Seen>>,
}

impl Observer {
    pub fn start(membership: Membership) -> Observer {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut views = Vec::new();
            let mut before = Arc::<ClusterView>::default();
            loop {
                // Reads once more after it was stopped, so that the last view is included.
                let is_last = stopped.load(Ordering::Relaxed);
                let wait = membership.wait_for_change(before.version(), Duration::from_millis(200));
                if let Some(view) = wait.await.expect("open") {
                    views.push(Seen::new(&view, &before));
                    before = view;
                }
                if is_last {
                    return views;
                }
            }
        });
        Observer { stop, task }
    }

    /// All views, in the order they were seen.
    pub async fn views(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the observer")
    }
}
