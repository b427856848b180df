//! The latest view, and the changes that led to it, shared by all clients.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use alluxio_membership::config::Backend;
use alluxio_membership::error::ErrorKind;
use alluxio_membership::membership::Membership;
use alluxio_membership::status::Status;
use alluxio_membership::view::{Change, ChangeKind, ClusterView, MemberFilter};
use alluxio_membership::worker::WorkerIdentity;
use axum::body::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Context, output};

/// The number of changes that are kept for clients that return.
const KEPT_CHANGES: usize = 10_000;
/// How many updates a client may be behind before it is disconnected. It gets the missed updates
/// when it reconnects.
const UPDATES_BEHIND: usize = 256;
/// The interval at which clients receive the status.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);
/// The pause after a failure that etcd's state does not explain.
const PAUSE: Duration = Duration::from_secs(2);

pub struct Feed {
    membership: Membership,
    pub cluster: String,
    /// The age from which on the view counts as old.
    old_after: Duration,
    /// Whether the view distinguishes live and lost workers.
    knows_states: bool,
    /// The number of workers with a time series of their own.
    pub worker_series: usize,
    /// Distinguishes the ids and versions of this process from those of earlier processes.
    epoch: String,
    log: Mutex<Log>,
    updates: broadcast::Sender<Bytes>,
    status: watch::Sender<Bytes>,
}

/// The latest view and the changes before it.
struct Log {
    shown: Option<Arc<Shown>>,
    /// The time of the first view.
    followed_since: Option<SystemTime>,
    /// The id of the latest change.
    last_id: u64,
    /// The latest changes with their ids, as they are sent.
    changes: VecDeque<(u64, Bytes)>,
}

/// A view, and the times at which its workers changed their states.
pub struct Shown {
    pub view: Arc<ClusterView>,
    /// Whether the view distinguishes live and lost workers.
    pub knows_states: bool,
    /// Without the workers that have not changed since this process started.
    since: HashMap<WorkerIdentity, SystemTime>,
    /// `"workers":[…],"leftOut":[…],"leftOutCount":…}`, for each filter.
    lists: [OnceLock<Bytes>; 3],
}

/// The events for a client: first the past, then the updates.
pub struct Subscription {
    pub first: Bytes,
    pub updates: broadcast::Receiver<Bytes>,
    pub status: watch::Receiver<Bytes>,
}

impl Feed {
    pub fn new(context: &Context, worker_series: usize) -> Feed {
        let (cluster, old_after) = match &context.config.backend {
            Backend::Etcd(etcd) => (etcd.cluster_name.clone(), etcd.max_staleness),
            Backend::Static(_) => ("STATIC".to_owned(), Duration::MAX),
        };
        Feed {
            membership: context.membership.clone(),
            cluster,
            old_after,
            knows_states: context.knows_states(),
            worker_series,
            epoch: Uuid::new_v4().simple().to_string(),
            log: Mutex::new(Log {
                shown: None,
                followed_since: None,
                last_id: 0,
                changes: VecDeque::new(),
            }),
            updates: broadcast::Sender::new(UPDATES_BEHIND),
            status: watch::Sender::default(),
        }
    }

    /// Follows the cluster until `stopping`.
    pub async fn follow(self: Arc<Self>, stopping: CancellationToken) {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = self.follow_changes() => {}
            () = self.follow_status() => {}
        }
    }

    async fn follow_changes(&self) {
        let mut version = 0;
        loop {
            match self
                .membership
                .wait_for_change(version, Duration::MAX)
                .await
            {
                Ok(Some(view)) => {
                    version = view.version();
                    self.show(view);
                }
                Ok(None) => {}
                Err(error) => {
                    log::warn!("Failed to follow the cluster: {error}");
                    if error.kind() == ErrorKind::Closed {
                        return;
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn follow_status(&self) {
        let mut ticks = interval(STATUS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Ok(status) = self.membership.status() {
                let frame = event("status", None, &self.status_json(&status).to_string());
                self.status.send_replace(frame);
            }
        }
    }

    fn show(&self, view: Arc<ClusterView>) {
        let now = SystemTime::now();
        let mut log = self.log.lock();
        let Some(before) = log.shown.take() else {
            log.followed_since = Some(now);
            log.shown = Some(self.shown_since(view, HashMap::new()));
            self.publish(self.list_event(&log));
            return;
        };
        let changes = view.changes_since(&before.view);
        let mut since = before.since.clone();
        let mut update = Vec::new();
        for change in &changes {
            note(&mut since, change, now);
            log.last_id += 1;
            let data = self.change_json(change, &view, now).to_string();
            let frame = event("change", Some(&self.id(log.last_id)), &data);
            update.extend_from_slice(&frame);
            let id = log.last_id;
            log.changes.push_back((id, frame));
        }
        let excess = log.changes.len().saturating_sub(KEPT_CHANGES);
        log.changes.drain(..excess);
        log.shown = Some(self.shown_since(view, since));
        if changes.len() > KEPT_CHANGES {
            update = self.list_event(&log).to_vec();
        }
        if !update.is_empty() {
            self.publish(update.into());
        }
    }

    fn shown_since(
        &self,
        view: Arc<ClusterView>,
        since: HashMap<WorkerIdentity, SystemTime>,
    ) -> Arc<Shown> {
        Arc::new(Shown {
            view,
            knows_states: self.knows_states,
            since,
            lists: Default::default(),
        })
    }

    /// There may be no client.
    fn publish(&self, update: Bytes) {
        let _ = self.updates.send(update);
    }

    /// The latest view; nothing before the first listing.
    pub fn shown(&self) -> Option<Arc<Shown>> {
        self.log.lock().shown.clone()
    }

    /// Returns the status of the manager.
    pub fn status(&self) -> Option<Status> {
        self.membership.status().ok()
    }

    /// Returns the entity tag of a view through a filter. The tag is weak, because the age in the
    /// answer changes while the workers do not.
    pub fn etag(&self, shown: &Shown, filter: MemberFilter) -> String {
        let version = shown.view.version();
        format!("W/\"{}-{version}-{}\"", self.epoch, filter as i32)
    }

    /// Returns the answer of `/api/v1/workers`.
    pub fn list(&self, shown: &Shown, filter: MemberFilter) -> Vec<u8> {
        let view = &shown.view;
        let age = u64::try_from(view.age().as_millis()).unwrap_or(u64::MAX);
        let head = json!({
            "cluster": self.cluster,
            "version": view.version(),
            "revision": view.revision(),
            "ageMs": age,
        });
        let mut text = head.to_string().into_bytes();
        text.pop();
        text.push(b',');
        text.extend_from_slice(&shown.list(filter));
        text
    }

    /// Returns the changes after the one with this id, or all workers if the id is unknown, and
    /// then all further changes.
    pub fn subscribe(&self, last_id: Option<&str>) -> Subscription {
        let log = self.log.lock();
        // Under the lock, so that no change is missed.
        let updates = self.updates.subscribe();
        let mut first = Vec::new();
        match last_id.and_then(|id| self.missed(&log, id)) {
            Some(missed) => missed.for_each(|frame| first.extend_from_slice(frame)),
            None if log.shown.is_some() => first.extend_from_slice(&self.list_event(&log)),
            None => {}
        }
        drop(log);
        let mut status = self.status.subscribe();
        first.extend_from_slice(&status.borrow_and_update());
        Subscription {
            first: first.into(),
            updates,
            status,
        }
    }

    /// The changes after the one with this id; nothing if they are not all known.
    fn missed<'a>(&self, log: &'a Log, id: &str) -> Option<impl Iterator<Item = &'a Bytes>> {
        let (epoch, id) = id.split_once('-')?;
        let id: u64 = id.parse().ok()?;
        let oldest = log.changes.front().map_or(log.last_id + 1, |(id, _)| *id);
        if epoch != self.epoch || log.shown.is_none() || id > log.last_id || id + 1 < oldest {
            return None;
        }
        let later = log.changes.iter().filter(move |(known, _)| *known > id);
        Some(later.map(|(_, frame)| frame))
    }

    fn list_event(&self, log: &Log) -> Bytes {
        let Some(shown) = &log.shown else {
            return Bytes::new();
        };
        let list = self.list(shown, MemberFilter::All);
        let id = self.id(log.last_id);
        event("list", Some(&id), &String::from_utf8_lossy(&list))
    }

    fn id(&self, change: u64) -> String {
        format!("{}-{change}", self.epoch)
    }

    fn change_json(&self, change: &Change, view: &ClusterView, now: SystemTime) -> Value {
        let Change { kind, member } = change;
        let mut worker = output::member_json(member, self.knows_states);
        worker["since"] = json!(time(now));
        json!({
            "time": time(now),
            "change": output::change_name(*kind),
            "version": view.version(),
            "revision": view.revision(),
            "worker": worker,
        })
    }

    /// Returns the answer of `/api/v1/status`.
    pub fn status_json(&self, status: &Status) -> Value {
        let log = self.log.lock();
        let (shown, followed_since) = (log.shown.clone(), log.followed_since);
        drop(log);
        let known = shown.as_ref().filter(|shown| shown.knows_states);
        let count = |filter| known.map(|shown| shown.view.members(filter).len());
        let endpoints = status.endpoints.iter().map(|endpoint| {
            json!({
                "url": endpoint.url,
                "healthy": endpoint.healthy,
                "answered": endpoint.answered,
                "failed": endpoint.failed,
                "lastError": endpoint.last_error,
            })
        });
        let age = status.view_age;
        json!({
            "time": output::now(),
            "cluster": self.cluster,
            "followedSince": followed_since.map(time),
            "ready": self.is_ready(status),
            "version": status.version,
            "revision": shown.as_ref().map(|shown| shown.view.revision()),
            "ageMs": age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            "error": status.view_error.as_ref().map(output::reason),
            "live": count(MemberFilter::Live),
            "lost": count(MemberFilter::Lost),
            "leftOut": shown.as_ref().map(|shown| shown.view.skipped_count()),
            "endpoints": endpoints.collect::<Vec<_>>(),
        })
    }

    /// Whether there is a view that is not too old.
    pub fn is_ready(&self, status: &Status) -> bool {
        status.view_age.is_some_and(|age| age <= self.old_after)
    }
}

impl Shown {
    fn list(&self, filter: MemberFilter) -> Bytes {
        let [all, live, lost] = &self.lists;
        let list = match filter {
            MemberFilter::All => all,
            MemberFilter::Live => live,
            MemberFilter::Lost => lost,
        };
        let encode = || {
            let workers = self.view.members(filter).iter().map(|member| {
                let mut worker = output::member_json(member, self.knows_states);
                let since = self.since.get(&member.worker.identity);
                worker["since"] = json!(since.map(|since| time(*since)));
                worker
            });
            let left_out = self.view.skipped().iter();
            let left_out = left_out.map(|it| json!({"key": it.key, "reason": it.reason}));
            let list = json!({
                "workers": workers.collect::<Vec<_>>(),
                "leftOut": left_out.collect::<Vec<_>>(),
                "leftOutCount": self.view.skipped_count(),
            });
            // Without the opening brace: the head of the answer comes before it.
            Bytes::from(list.to_string()).slice(1..)
        };
        list.get_or_init(encode).clone()
    }
}

/// Records the time at which a worker changed its state.
fn note(since: &mut HashMap<WorkerIdentity, SystemTime>, change: &Change, now: SystemTime) {
    let identity = change.member.worker.identity;
    match change.kind {
        ChangeKind::Removed => {
            since.remove(&identity);
        }
        ChangeKind::Moved => {}
        ChangeKind::Added | ChangeKind::Live | ChangeKind::Lost => {
            since.insert(identity, now);
        }
    }
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// Returns a server-sent event. The JSON contains no line ends, so the data is one line.
fn event(name: &str, id: Option<&str>, data: &str) -> Bytes {
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    Bytes::from(format!("event: {name}\n{id}data: {data}\n\n"))
}
