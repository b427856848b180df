//! The workers of one cluster in memory. They are listed once, then watched, and compared with etcd
//! regularly.
//!
//! [`state`] decides. The other modules send requests to etcd: `listing` lists everything, `watch`
//! receives changes, `check` proves that the tables are complete.

mod check;
mod counters;
mod history;
mod listing;
pub(super) mod progress;
mod row;
mod state;
mod stored;
mod tables;
mod views;
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
pub use self::history::{History, PastChange, PastKind};
use self::row::{Pair, Stamp};
#[cfg(fuzzing)]
pub(super) use self::state::script::run as run_script;
use self::state::{FreshnessProbe, PROOF_AFTER, Relist, State, Verdict};
pub use self::stored::{StoredCluster, StoredKey, StoredWorker};
pub use self::tables::KeyRange;
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

/// The largest accepted answer. etcd stores values of up to 1.5 MB, so a page can exceed gRPC's
/// default of 4 MB.
const MAX_MESSAGE: usize = 64 << 20;
/// The view was never confirmed by etcd.
const NEVER: i64 = i64::MIN;
/// The time limit of each page in the first try of a listing. It doubles after each failed try, for
/// networks that are slow but work.
const FIRST_PAGE_LIMIT: Duration = Duration::from_secs(4);
const LONGEST_PAGE_LIMIT: Duration = Duration::from_secs(30);
/// The number of bad records that are logged in each [`QUIET`] time.
const SKIPPED_LINES: u32 = 3;
/// How long lines are only counted after one was logged.
const QUIET: Duration = Duration::from_secs(60);
/// Without a repeated listing for this long, the watch works well.
const CALM: Duration = Duration::from_secs(60);

/// The roster of one cluster. Dropping this ends its tasks.
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
    /// The version of the view, readable without the lock of the state; 0 before the first listing.
    version: AtomicU64,
    /// The view of a version, after a caller asked for it, readable without the lock of the state.
    view: ArcSwapOption<ClusterView>,
    /// When etcd last confirmed the view, in milliseconds after `started`, or `NEVER`. A negative
    /// time is before `started`.
    fresh_at: AtomicI64,
    started: BootTime,
    /// Notified of everything that may end a caller's wait: a change of the state, or an error.
    changed: tokio::sync::watch::Sender<()>,
    /// Requests a check at once.
    check: Notify,
    /// Requests the progress of the watch, if the server reports it correctly.
    ask_progress: Notify,
    tells_progress: AtomicBool,
    /// The number of watches in a row that ended soon after they began.
    short_watches: AtomicU64,
    counters: Mutex<ViewCounters>,
    /// The bad records that were logged.
    logged: Mutex<HashSet<SkippedRecord>>,
    log_limit: LogLimit,
    /// The limit of the lines about bad records.
    skipped_limit: LogLimit,
}

impl Roster {
    /// Starts listing and watching. `has_ring` is false for SERVICE_REGISTRY.
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

    /// Returns how long the view may have differed from etcd; `None` before the first listing.
    pub(crate) fn age(&self) -> Option<Duration> {
        let at = self.shared.fresh_at.load(Ordering::Acquire);
        let now = milliseconds(self.shared.started.elapsed());
        (at != NEVER).then(|| Duration::from_millis(u64::try_from(now - at).unwrap_or(0)))
    }

    /// Returns the view in memory, whatever its age; `None` before the first listing.
    pub(crate) fn view(&self) -> Option<Arc<ClusterView>> {
        self.shared.view()
    }

    /// Returns the view in memory if it is fresh enough, or waits for etcd.
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
            // A view that is old because etcd is unreachable is refused at once. A view that is old
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

    /// Returns a view that is at least as new as this call. etcd proves that it shows everything
    /// written before.
    pub(crate) async fn linearizable(&self, deadline: Instant) -> Result<Arc<ClusterView>> {
        let probe = self.shared.state.lock().probe(BootTime::now());
        // A comparison needs a view. If the view was listed just now, it is new enough.
        self.cached(Duration::MAX, deadline).await?;
        self.shared.catch_up_with(&probe, deadline).await?;
        self.view().ok_or_else(|| self.shared.no_answer())
    }

    /// Waits for a view with a greater version.
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

    /// Waits until the view has the worker's record of `revision`, or a newer record.
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

    /// Waits until the view has no record of the worker from before or at `revision`.
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

    /// Waits until the watch delivers this process's own write, so that the next view that the
    /// process reads shows it. The wait is limited, because the write itself has succeeded, whether
    /// or not the watch works.
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
                // The watch may be dead.
                self.shared.check.notify_one();
            }
        }
    }

    pub(crate) fn counters(&self) -> ViewCounters {
        *self.shared.counters.lock()
    }

    /// Returns why etcd cannot be asked at present.
    pub(crate) fn last_error(&self) -> Option<Error> {
        self.error(true)
    }

    /// Returns why etcd could not be asked. Returns errors that waiting cannot solve, and other
    /// errors only if `also_passing`.
    fn error(&self, also_passing: bool) -> Option<Error> {
        let error = self.shared.last_error.lock().clone()?;
        (also_passing || !error.kind().is_retryable()).then_some(error)
    }
}

#[cfg(test)]
impl Roster {
    /// Lists this many generated workers, and asks etcd nothing any more.
    pub(crate) fn list_generated(&self, workers: u32) {
        self.task.abort();
        self.shared
            .change(|state| *state = state::cost::following(workers));
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

    /// Logs each bad record once, and only counts them above a limit per minute.
    fn log_skipped(&self, view: &ClusterView) {
        let before = {
            let mut logged = self.logged.lock();
            if view.skipped().is_empty() && logged.is_empty() {
                return;
            }
            std::mem::replace(&mut *logged, view.skipped().iter().cloned().collect())
        };
        // Called without the lock, because the logger is the caller's code and may do anything.
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

    /// Changes the state, publishes the parts that callers read without its lock, and wakes every
    /// waiting caller.
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

    /// Records that etcd answered.
    fn worked(&self) {
        self.last_error.lock().take();
    }

    /// Lists both ranges, in pages with this time limit, and replaces the tables. `why` is the
    /// reason for another listing.
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
                "was wiped or restored from a backup: its revision went back from {before} to \
                 {revision}"
            ),
            None if lost_newest => {
                "no longer has the last change that it reported, as after a restore from a backup"
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
            // Logged after the listing has confirmed it.
            Relist::OtherHistory => {}
            // These also occur with a healthy etcd.
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

    /// Waits until etcd has confirmed the view for the time of this probe, or a later time.
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

    /// Waits until etcd has confirmed the view for the time of the probe. Returns false at the time
    /// limit.
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

/// Returns the pauses between listings, without end. The first is zero, and they grow to at most 5
/// s. Each is a random part of its limit.
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
