//! The truth about a cluster, and what a manager made of it.
//!
//! A [`Recorder`] notes every change of the live keys as etcd itself tells it, by a client and a connection of its own;
//! an [`Observer`] notes every view of a manager. [`Recorder::compare`] names every difference.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alluxio_membership::membership::Membership;
use alluxio_membership::view::MemberFilter;
use etcd_client::{EventType, GetOptions, WatchOptions};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::common::{Etcd, eventually};
use super::scene::{LIVE, LONG};

/// Changes with each call of [`Recorder::compare`], which so knows that it has seen everything before.
const MARKER: &str = "/recorder";

type Names = BTreeSet<String>;

pub struct Recorder {
    truth: Arc<Mutex<Truth>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Truth {
    /// The live workers at `first`.
    initial: Names,
    first: i64,
    changes: Vec<Change>,
    /// The revision up to which everything is known.
    seen: i64,
}

struct Change {
    at: Instant,
    revision: i64,
    name: String,
    is_live: bool,
}

impl Recorder {
    /// Records from now on. The server may be killed and restarted, but must not lose its data.
    pub async fn start(etcd: &Etcd) -> Recorder {
        let mut client = etcd.client().await;
        let options = GetOptions::new().with_prefix().with_keys_only();
        let listed = client.get(LIVE, Some(options)).await.expect("list");
        let first = listed.header().expect("a header").revision();
        let truth = Arc::new(Mutex::new(Truth {
            initial: listed
                .kvs()
                .iter()
                .filter_map(|kv| name(kv.key()))
                .collect(),
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

    /// What is wrong with these views: a step back, a worker too many or too few for the view's revision, or a change
    /// that took longer than `bound` to be seen.
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
            if pair[1].version <= pair[0].version || pair[1].revision < pair[0].revision {
                wrong.push(format!("{:?} after {:?}", pair[1], pair[0]));
            }
        }
        for view in views.iter().filter(|view| view.revision >= truth.first) {
            let expected = truth.live_at(view.revision);
            if view.live != expected {
                wrong.push(format!("{view:?}, but etcd had {expected:?}"));
            }
        }
        for change in &truth.changes {
            let seen = views
                .iter()
                .find(|view| view.revision >= change.revision && view.at + bound >= change.at);
            match seen {
                Some(view) if view.at > change.at + bound => wrong.push(format!(
                    "{} at revision {} was seen {:?} later",
                    change.name,
                    change.revision,
                    view.at - change.at
                )),
                _ => {}
            }
        }
        match views.last() {
            Some(last) if last.live == truth.live_at(until) => {}
            last => wrong.push(format!(
                "at the end {last:?}, but etcd has {:?}",
                truth.live_at(until)
            )),
        }
        wrong
    }

    /// How many changes of live keys there were.
    pub fn changes(&self) -> usize {
        self.truth.lock().changes.len()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Truth {
    fn live_at(&self, revision: i64) -> Names {
        let mut live = self.initial.clone();
        for change in self.changes.iter().take_while(|c| c.revision <= revision) {
            if change.is_live {
                live.insert(change.name.clone());
            } else {
                live.remove(&change.name);
            }
        }
        live
    }
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
            if let Some(name) = name(kv.key()) {
                truth.changes.push(Change {
                    at: Instant::now(),
                    revision: kv.mod_revision(),
                    name,
                    is_live: event.event_type() == EventType::Put,
                });
            }
            truth.seen = truth.seen.max(kv.mod_revision());
        }
    }
    Ok(())
}

fn name(key: &[u8]) -> Option<String> {
    let key = std::str::from_utf8(key).ok()?;
    key.strip_prefix(LIVE).map(str::to_string)
}

/// One view of a manager.
#[derive(Debug)]
pub struct Seen {
    at: Instant,
    version: u64,
    revision: i64,
    live: Names,
}

/// Notes every view of a manager, as its callers see it.
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
            let mut version = 0;
            loop {
                // Looks once more after it was told to stop: the last view is among them.
                let is_last = stopped.load(Ordering::Relaxed);
                let wait = membership.wait_for_change(version, Duration::from_millis(200));
                if let Some(view) = wait.await.expect("open") {
                    version = view.version();
                    views.push(Seen {
                        at: Instant::now(),
                        version,
                        revision: view.revision(),
                        live: view
                            .members(MemberFilter::Live)
                            .iter()
                            .map(|member| member.worker.identity.to_string())
                            .collect(),
                    });
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
