//! One cluster's workers, always in memory: listed once, watched from then on, checked against etcd
//! all the time.
//!
//! [`state`] decides; the other modules ask etcd: `listing` for everything, `watch` for changes,
//! `check` for proofs.

mod check;
mod counters;
mod listing;
pub(super) mod progress;
mod state;
mod tables;
mod watch;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use backon::BackoffBuilder;
use etcd_client::proto::PbKeyValue;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

pub use self::counters::ViewCounters;
#[cfg(fuzzing)]
pub(super) use self::state::script::run as run_script;
use self::state::{FreshnessProbe, PROOF_AFTER, Relist, State, Verdict};
pub(crate) use self::tables::KeyRange;
use self::tables::{Pair, Stamp};
use super::endpoints::{Call, Endpoints, retry_delays};
use super::keep_running::keep_running;
use super::keys::Keys;
use crate::boottime::BootTime;
use crate::error::{Error, ErrorKind, Result};
use crate::jitter::jittered;
use crate::log;
use crate::log_limit::LogLimit;
use crate::view::{ClusterView, SkippedRecord};
use crate::worker::WorkerIdentity;

/// Largest answer to accept. etcd stores values of up to 1.5 MB, so that a page can be larger than
/// gRPC's own 4 MB.
const MAX_MESSAGE: usize = 64 << 20;
/// The view has never been etcd's.
const NEVER: i64 = i64::MIN;
/// Time for each page of the first try of a listing; each failed one doubles it, for networks that
/// are slow but work.
const FIRST_PAGE_LIMIT: Duration = Duration::from_secs(4);
const LONGEST_PAGE_LIMIT: Duration = Duration::from_secs(30);
/// How many bad records are logged in a [`QUIET`] time.
const SKIPPED_LINES: u32 = 3;
/// How long a line is only counted after it was logged.
const QUIET: Duration = Duration::from_secs(60);
/// A table that was not listed again for this long is followed well.
const CALM: Duration = Duration::from_secs(60);

/// The roster of one cluster; ends its tasks when dropped.
pub(crate) struct Roster {
    shared: Arc<Shared>,
    task: tokio::task::AbortHandle,
}

struct Shared {
    endpoints: Arc<Endpoints>,
    keys: Keys,
    state: Mutex<State>,
    /// Why etcd could not be asked, since it last could.
    last_error: Mutex<Option<Error>>,
    /// The version of the view, to be read without the lock of the state; 0 before the first
    /// listing.
    version: AtomicU64,
    /// The view of a version, once a caller asked for it, to be read without the lock of the state.
    view: ArcSwapOption<ClusterView>,
    /// When the view was last known to be etcd's, in milliseconds after `started`, or `NEVER`.
    /// Negative: before it.
    fresh_at: AtomicI64,
    started: BootTime,
    /// Changes with everything that may end a caller's wait: the state, an error.
    changed: tokio::sync::watch::Sender<()>,
    /// Asks for a check at once.
    check: Notify,
    /// Asks the watch for its progress, where the server's word can be trusted.
    ask_progress: Notify,
    tells_progress: AtomicBool,
    /// How many watches in a row ended soon after they began.
    short_watches: AtomicU64,
    counters: Mutex<ViewCounters>,
    /// The bad records that were logged.
    logged: Mutex<HashSet<SkippedRecord>>,
    log_limit: LogLimit,
    /// Of the lines about bad records.
    skipped_limit: LogLimit,
}

impl Roster {
    /// Starts listing and watching. `has_ring`: false for SERVICE_REGISTRY.
    pub(crate) fn start(endpoints: Arc<Endpoints>, keys: Keys, has_ring: bool) -> Self {
        let shared = Arc::new(Shared {
            endpoints,
            keys,
            state: Mutex::new(State::new(has_ring, jittered(PROOF_AFTER))),
            last_error: Mutex::default(),
            version: AtomicU64::new(0),
            view: ArcSwapOption::empty(),
            fresh_at: AtomicI64::new(NEVER),
            started: BootTime::now(),
            changed: tokio::sync::watch::Sender::new(()),
            check: Notify::new(),
            ask_progress: Notify::new(),
            tells_progress: AtomicBool::new(false),
            short_watches: AtomicU64::new(0),
            counters: Mutex::default(),
            logged: Mutex::default(),
            log_limit: LogLimit::new(1, QUIET),
            skipped_limit: LogLimit::new(SKIPPED_LINES, QUIET),
        });
        let running = shared.clone();
        let task = tokio::spawn(async move {
            let what = format!("the watching of {}", running.keys.live_prefix());
            keep_running(what, || running.clone().run()).await;
        });
        let task = task.abort_handle();
        Roster { shared, task }
    }

    /// Returns the version of the view in memory, or 0 before the first listing. Takes nanoseconds.
    pub(crate) fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }

    /// Returns the version of the view in memory, or `None` if there is no view or an older one.
    /// Takes nanoseconds.
    pub(crate) fn version_within(&self, max_staleness: Duration) -> Option<u64> {
        let age = self.age()?;
        (age <= max_staleness).then(|| self.version())
    }

    /// Returns how long the view may have differed from etcd's; `None` before the first listing.
    pub(crate) fn age(&self) -> Option<Duration> {
        let at = self.shared.fresh_at.load(Ordering::Acquire);
        let now = milliseconds(self.shared.started.elapsed());
        (at != NEVER).then(|| Duration::from_millis(u64::try_from(now - at).unwrap_or(0)))
    }

    /// The view in memory, however old; `None` before the first listing.
    pub(crate) fn view(&self) -> Option<Arc<ClusterView>> {
        self.shared.view()
    }

    /// The view in memory if it is fresh enough; else waits for etcd.
    pub(crate) async fn cached(
        &self,
        max_staleness: Duration,
        deadline: Instant,
    ) -> Result<Arc<ClusterView>> {
        loop {
            let mut changed = self.shared.changed.subscribe();
            if self.version_within(max_staleness).is_some()
                && let Some(view) = self.view()
            {
                return Ok(view);
            }
            // A view that grew old because etcd is away is refused at once. One that grew old
            // because this process was stopped is checked first.
            if let Some(error) = self.error(self.age().is_some()) {
                return Err(error);
            }
            self.shared.check.notify_one();
            if timeout_at(deadline, changed.changed()).await.is_err() {
                return Err(self.error(true).unwrap_or_else(|| self.shared.no_answer()));
            }
        }
    }

    /// The view of a moment after this call: proven by etcd to show everything written before.
    pub(crate) async fn linearizable(&self, deadline: Instant) -> Result<Arc<ClusterView>> {
        let probe = self.shared.state.lock().probe(BootTime::now());
        // There must be a view to compare with. If it was listed just now, that is all.
        self.cached(Duration::MAX, deadline).await?;
        self.shared.catch_up_with(&probe, deadline).await?;
        self.view().ok_or_else(|| self.shared.no_answer())
    }

    /// Waits for a view of a greater version.
    pub(crate) async fn newer_than(
        &self,
        version: u64,
        deadline: Instant,
    ) -> Option<Arc<ClusterView>> {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if self.shared.version.load(Ordering::Acquire) > version {
                return self.view();
            }
            timeout_at(deadline, changed.changed()).await.ok()?.ok()?;
        }
    }

    /// Waits until the worker's record written at `revision`, or a newer one, is in the view.
    pub(crate) async fn saw(
        &self,
        range: KeyRange,
        identity: &WorkerIdentity,
        revision: i64,
        deadline: Instant,
    ) {
        self.saw_key(range, identity, deadline, |mod_revision| {
            mod_revision >= Some(revision)
        })
        .await;
    }

    /// Waits until a record of the worker written up to `revision` is gone from the view.
    pub(crate) async fn saw_gone(
        &self,
        range: KeyRange,
        identity: &WorkerIdentity,
        revision: i64,
        deadline: Instant,
    ) {
        self.saw_key(range, identity, deadline, |mod_revision| {
            mod_revision.is_none_or(|at| at > revision)
        })
        .await;
    }

    /// Waits until the watch delivers this process's own write, so that the next view which the
    /// process reads shows it. The wait is bounded: the write itself has succeeded, whatever
    /// becomes of the watch.
    async fn saw_key(
        &self,
        range: KeyRange,
        identity: &WorkerIdentity,
        deadline: Instant,
        seen: impl Fn(Option<i64>) -> bool,
    ) {
        let key = match range {
            KeyRange::Ring => self.shared.keys.ring_key(identity),
            KeyRange::Live => self.shared.keys.live_key(identity),
        };
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let unreadable = self.age().is_none() && self.error(true).is_some();
            let shown = self.shared.state.lock().shown(range, key.as_bytes());
            if unreadable || seen(shown) {
                return;
            }
            let pause = deadline.min(Instant::now() + Duration::from_millis(500));
            if timeout_at(pause, changed.changed()).await.is_err() {
                if Instant::now() >= deadline {
                    return;
                }
                // Perhaps the watch is dead.
                self.shared.check.notify_one();
            }
        }
    }

    pub(crate) fn counters(&self) -> ViewCounters {
        *self.shared.counters.lock()
    }

    /// Why etcd cannot be asked at present.
    pub(crate) fn last_error(&self) -> Option<Error> {
        self.error(true)
    }

    /// Why etcd could not be asked: always for errors that waiting does not mend, else only if
    /// `also_passing`.
    fn error(&self, also_passing: bool) -> Option<Error> {
        let error = self.shared.last_error.lock().clone()?;
        (also_passing || !error.kind().is_retryable()).then_some(error)
    }
}

impl Drop for Roster {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    async fn run(self: Arc<Self>) {
        let mut failures = retry_delays();
        let mut relists = relist_delays();
        let mut limit = FIRST_PAGE_LIMIT;
        let mut why = None;
        loop {
            match self.list(limit, why).await {
                Ok(()) => {
                    failures = retry_delays();
                    limit = FIRST_PAGE_LIMIT;
                    let listed_at = Instant::now();
                    let reason = tokio::select! {
                        reason = self.follow() => reason,
                        reason = self.keep_checking() => reason,
                    };
                    self.log_relist(reason);
                    why = Some(reason);
                    if listed_at.elapsed() > CALM {
                        relists = relist_delays();
                    }
                    tokio::time::sleep(relists.next().unwrap_or_default()).await;
                }
                Err(error) => {
                    self.failed(error);
                    limit = (limit * 2).min(LONGEST_PAGE_LIMIT);
                    tokio::time::sleep(failures.next().unwrap_or_default()).await;
                }
            }
        }
    }

    fn view(&self) -> Option<Arc<ClusterView>> {
        let version = self.version.load(Ordering::Acquire);
        if let Some(view) = self.view.load_full()
            && view.version() == version
        {
            return Some(view);
        }
        let view = {
            let mut state = self.state.lock();
            let view = state.view();
            self.view.store(view.clone());
            view
        };
        if let Some(view) = &view {
            self.log_skipped(view);
        }
        view
    }

    /// Logs each bad record once, and only counts those beyond a few a minute.
    fn log_skipped(&self, view: &ClusterView) {
        let before = {
            let mut logged = self.logged.lock();
            if view.skipped().is_empty() && logged.is_empty() {
                return;
            }
            std::mem::replace(&mut *logged, view.skipped().iter().cloned().collect())
        };
        // Without the lock: the logger belongs to the caller, and may do anything.
        let mut withheld = 0;
        for skipped in view.skipped().iter().filter(|it| !before.contains(*it)) {
            match self.skipped_limit.admit("skipped") {
                Some(_) => log::warn!("{} is not listed: {}", skipped.key, skipped.reason),
                None => withheld += 1,
            }
        }
        if withheld > 0 {
            log::limited!(
                self.log_limit,
                "skipped",
                Warn,
                "{withheld} more records are not listed; the view names them"
            );
        }
    }

    /// Changes the state, publishes what callers read without its lock, and wakes every caller that
    /// waits.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        self.version.store(state.version(), Ordering::Release);
        if let Some(fresh_at) = state.fresh_at() {
            let after = milliseconds(fresh_at - self.started);
            let before = milliseconds(self.started - fresh_at);
            self.fresh_at.store(after - before, Ordering::Release);
        }
        drop(state);
        self.changed.send_replace(());
        result
    }

    fn no_answer(&self) -> Error {
        Error::with_cause(
            ErrorKind::Unavailable,
            format!(
                "Exhausted retry for (Getting children for path:{}), retries:1, last exception:",
                self.keys.live_prefix().trim_end_matches('/')
            ),
            self.endpoints.no_answer(),
        )
    }

    fn failed(&self, error: Error) {
        let before = self.last_error.lock().replace(error.clone());
        if before.is_none() {
            log::warn!(
                "The workers of {} cannot be read: {error}",
                self.keys.live_prefix()
            );
        }
        self.changed.send_replace(());
    }

    /// etcd answered.
    fn worked(&self) {
        self.last_error.lock().take();
    }

    /// Reads both ranges, in pages that may take this long each, and replaces the tables. `why`
    /// says why they were listed before and are listed again.
    async fn list(&self, page_limit: Duration, why: Option<Relist>) -> Result<()> {
        let has_ring = self.state.lock().has_ring();
        let listed = listing::list(&self.endpoints, &self.keys, has_ring, page_limit).await?;
        self.worked();
        let revision = listed.revision;
        let lost_newest =
            why == Some(Relist::OtherHistory) && self.state.lock().lacks_newest(&listed);
        let (went_back_from, _old) = self.change(|state| state.listed(listed));
        self.counters.lock().listings += 1;
        let evidence = match went_back_from {
            Some(before) => format!(
                "was wiped or restored from a backup: its revision went back from {before} to {revision}"
            ),
            None if lost_newest => {
                "no longer has the change that it reported last, as after a restore from a backup"
                    .into()
            }
            None => return Ok(()),
        };
        self.counters.lock().other_histories += 1;
        let etcd = &self.endpoints;
        log::limited!(
            self.log_limit,
            "other history",
            Warn,
            "etcd at {etcd} {evidence}"
        );
        Ok(())
    }

    fn log_relist(&self, why: Relist) {
        let prefix = self.keys.live_prefix();
        match why {
            // Logged once the listing has shown it.
            Relist::OtherHistory => {}
            // These happen to a sound etcd.
            Relist::Compacted | Relist::Forgotten => log::debug!("Listing {prefix} again: {why}"),
            Relist::WentBack
            | Relist::Differs
            | Relist::Misfit
            | Relist::LostChange
            | Relist::Unproven
            | Relist::NoChanges => {
                let limit = &self.log_limit;
                log::limited!(
                    limit,
                    why,
                    Warn,
                    "The workers of {prefix} are listed again: {why}"
                );
            }
        }
    }

    /// Waits until the view is etcd's of the time of this probe, or of a later time.
    async fn catch_up_with(&self, probe: &FreshnessProbe, deadline: Instant) -> Result<()> {
        while !self.state.lock().is_settled(probe) {
            match self.verify(deadline).await? {
                Verdict::Fresh => break,
                Verdict::Behind => {}
                Verdict::Relist(_) => self.check.notify_one(),
            }
            let pause = deadline.min(Instant::now() + Duration::from_millis(100));
            if self.settles(probe, pause).await {
                break;
            }
            if Instant::now() >= deadline {
                return Err(self.no_answer());
            }
        }
        Ok(())
    }

    /// Waits until the view is etcd's of the time of the probe; false if it is not until then.
    async fn settles(&self, probe: &FreshnessProbe, until: Instant) -> bool {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if self.state.lock().is_settled(probe) {
                return true;
            }
            if !matches!(timeout_at(until, changed.changed()).await, Ok(Ok(()))) {
                return false;
            }
        }
    }

    fn prefix(&self, range: KeyRange) -> &str {
        match range {
            KeyRange::Ring => self.keys.ring_prefix(),
            KeyRange::Live => self.keys.live_prefix(),
        }
    }
}

/// Pauses before one listing and the next: none at first, at most 5 s, each a random part of its
/// limit, without end.
fn relist_delays() -> impl Iterator<Item = Duration> {
    let delays = backon::ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
        .build();
    let jittered = delays.map(|limit| limit.mul_f64(rand::random_range(0.5..=1.0)));
    std::iter::once(Duration::ZERO).chain(jittered)
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}

fn getting_children(keys: &Keys, deadline: Instant) -> Call {
    let path = keys.live_prefix().trim_end_matches('/');
    Call::new(format!("Getting children for path:{path}"), deadline)
}

impl<'a> From<&'a PbKeyValue> for Pair<'a> {
    fn from(kv: &'a PbKeyValue) -> Self {
        Pair {
            key: &kv.key,
            value: &kv.value,
            stamp: stamp(kv),
        }
    }
}

fn stamp(kv: &PbKeyValue) -> Stamp {
    Stamp {
        modified: kv.mod_revision,
        created: kv.create_revision,
        version: kv.version,
        lease: kv.lease,
    }
}
