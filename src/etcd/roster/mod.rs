//! One cluster's workers, always in memory: listed once, watched from then on, checked against etcd all the time.

mod counters;
mod listing;
mod tables;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use etcd_client::{
    Client, EventType, GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse, WatchOptions,
    WatchResponse, WatchStream,
};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use self::counters::Counters;
pub use self::counters::ViewCounters;
use self::listing::Listing;
pub(crate) use self::tables::Range;
use self::tables::{Pair, Table, Tables};
use super::endpoints::{Call, Endpoint, Endpoints, TRY_TIMEOUT, retry_delays};
use super::keys::{Keys, range_end};
use super::ring::{self, keys_only, revision_of};
use super::status;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::jitter::jittered;
use crate::view::{ClusterView, Confirmed};
use crate::worker::WorkerIdentity;

/// Largest answer to accept. etcd stores values of up to 1.5 MB, so that a page can be larger than gRPC's own 4 MB.
const MAX_MESSAGE: usize = 64 << 20;
/// How often etcd is asked whether the view is still its own.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How long events that etcd has and the watch has not brought may be on their way.
const LATE_EVENTS: Duration = Duration::from_secs(3);
/// How long etcd may take to count a watch as synced that has nothing to catch up on: it looks every 100 ms.
const CATCH_UP: Duration = Duration::from_millis(300);
/// Everything is listed anew this often, though each check proves that nothing is missing: an etcd that was wiped and
/// has grown beyond its old revision since can look complete.
const RELIST_INTERVAL: Duration = Duration::from_secs(3600);
/// Time for each page of the first try of a listing; each failed one doubles it, for networks that are slow but work.
const FIRST_PAGE_LIMIT: Duration = Duration::from_secs(4);
const LONGEST_PAGE_LIMIT: Duration = Duration::from_secs(30);

/// The roster of one cluster; ends its tasks when dropped.
pub(crate) struct Roster {
    shared: Arc<Shared>,
    task: tokio::task::AbortHandle,
}

struct Shared {
    endpoints: Arc<Endpoints>,
    keys: Keys,
    state: Mutex<State>,
    /// Of the tables; 0 before the first listing. Grows with each change.
    version: AtomicU64,
    /// The view of a version, built when somebody asks.
    view: ArcSwapOption<ClusterView>,
    started: Instant,
    /// Milliseconds after `started`, plus 1, at which the view was last known to be etcd's; 0 for never.
    fresh_at: AtomicU64,
    /// Changes with everything that may end somebody's wait: the version, the revisions, an error.
    changed: watch::Sender<()>,
    /// Asks for a check at once.
    check: Notify,
    counters: Counters,
}

struct State {
    tables: Tables,
    order: Order,
    /// The tables have changes that the view does not show yet.
    unpublished: bool,
    /// The revision up to which the tables are proven to be complete.
    verified: i64,
    /// The highest revision etcd was ever seen at. Going back means that it lost data.
    highest: i64,
    /// Why etcd could not be asked, since it last could.
    last_error: Option<Error>,
}

/// Whether the two watches bring their events in one order.
///
/// They do once etcd counts both as synced, since they share a stream. While one of them is still catching up, the other
/// may be ahead: a view of that moment would show workers as live that are not registered, or as lost that are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Every event is published at once.
    InStep,
    /// Nothing is published before etcd has proven, in an answer to a question of this time or later, that the tables
    /// are complete.
    InStepAfter(Instant),
    /// Nothing is published: the watches are not open yet.
    Unknown,
}

/// What a comparison with etcd found.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The view is etcd's.
    Fresh,
    /// etcd has changes that the watch has not brought yet.
    Behind,
    /// etcd's revision went back: it lost data or was restored.
    WentBack,
}

impl Roster {
    /// Starts listing and watching. `has_ring`: false for SERVICE_REGISTRY.
    pub(crate) fn start(endpoints: Arc<Endpoints>, keys: Keys, has_ring: bool) -> Self {
        let shared = Arc::new(Shared {
            endpoints,
            keys,
            state: Mutex::new(State {
                tables: Tables {
                    ring: has_ring.then(Table::default),
                    live: Table::default(),
                },
                order: Order::Unknown,
                unpublished: false,
                verified: 0,
                highest: 0,
                last_error: None,
            }),
            version: AtomicU64::new(0),
            view: ArcSwapOption::empty(),
            started: Instant::now(),
            fresh_at: AtomicU64::new(0),
            changed: watch::Sender::new(()),
            check: Notify::new(),
            counters: Counters::default(),
        });
        let task = tokio::spawn(shared.clone().run()).abort_handle();
        Roster { shared, task }
    }

    /// The version of the view in memory if it is at most this old, else 0. Takes nanoseconds.
    pub(crate) fn current_version(&self, max_staleness: Duration) -> u64 {
        match self.age() {
            Some(age) if age <= max_staleness => self.shared.version.load(Ordering::Acquire),
            _ => 0,
        }
    }

    /// Since when the view may differ from etcd's; `None` before the first listing.
    pub(crate) fn age(&self) -> Option<Duration> {
        match self.shared.fresh_at.load(Ordering::Acquire) {
            0 => None,
            at => Some(
                self.shared
                    .started
                    .elapsed()
                    .saturating_sub(Duration::from_millis(at - 1)),
            ),
        }
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
            if self.current_version(max_staleness) != 0
                && let Some(view) = self.view()
            {
                return Ok(view);
            }
            // A view that grew old because etcd is away is refused at once. One that grew old because this process was
            // stopped is checked first.
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
        // There must be a view to compare with.
        self.cached(Duration::MAX, deadline).await?;
        let behind_since = Instant::now();
        loop {
            let mut changed = self.shared.changed.subscribe();
            match self.shared.verify(deadline).await? {
                Verdict::Fresh => {
                    return self.view().ok_or_else(|| self.shared.no_answer());
                }
                Verdict::Behind if behind_since.elapsed() < LATE_EVENTS => {}
                Verdict::Behind | Verdict::WentBack => self.shared.check.notify_one(),
            }
            let pause = deadline.min(Instant::now() + Duration::from_millis(100));
            let _ = timeout_at(pause, changed.changed()).await;
            if Instant::now() >= deadline {
                return Err(self.shared.no_answer());
            }
        }
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
        range: Range,
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
        range: Range,
        identity: &WorkerIdentity,
        revision: i64,
        deadline: Instant,
    ) {
        self.saw_key(range, identity, deadline, |mod_revision| {
            mod_revision.is_none_or(|at| at > revision)
        })
        .await;
    }

    /// Waits for this process's own write to come back by the watch, so that the next view it reads shows it. Bounded:
    /// the write itself has succeeded, whatever becomes of the watch.
    async fn saw_key(
        &self,
        range: Range,
        identity: &WorkerIdentity,
        deadline: Instant,
        seen: impl Fn(Option<i64>) -> bool,
    ) {
        let key = match range {
            Range::Ring => self.shared.keys.ring_key(identity),
            Range::Live => self.shared.keys.live_key(identity),
        };
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.borrow_and_update();
            {
                let state = self.shared.state.lock();
                let unreadable = self.age().is_none() && state.last_error.is_some();
                let Some(table) = state.tables.table(range) else {
                    return;
                };
                let seen = || seen(table.mod_revision(key.as_bytes()));
                if unreadable || (!state.unpublished && seen()) {
                    return;
                }
            }
            if !matches!(timeout_at(deadline, changed.changed()).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    pub(crate) fn counters(&self) -> ViewCounters {
        self.shared.counters.get()
    }

    /// Why etcd cannot be asked at present.
    pub(crate) fn last_error(&self) -> Option<Error> {
        self.error(true)
    }

    /// Why etcd could not be asked: always for errors that waiting does not mend, else only if `also_passing`.
    fn error(&self, also_passing: bool) -> Option<Error> {
        let error = self.shared.state.lock().last_error.clone()?;
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
        let mut delays = retry_delays();
        let mut limit = FIRST_PAGE_LIMIT;
        loop {
            match self.list(limit).await {
                Ok(()) => {
                    delays = retry_delays();
                    limit = FIRST_PAGE_LIMIT;
                    let why = tokio::select! {
                        why = self.follow() => why,
                        why = self.keep_checking() => why,
                        () = tokio::time::sleep(jittered(RELIST_INTERVAL)) => "it is time to",
                    };
                    log::debug!("Listing {} anew: {why}", self.keys.live_prefix());
                }
                Err(error) => {
                    self.failed(error);
                    limit = (limit * 2).min(LONGEST_PAGE_LIMIT);
                    tokio::time::sleep(delays.next().unwrap_or_default()).await;
                }
            }
        }
    }

    fn view(&self) -> Option<Arc<ClusterView>> {
        let version = self.version.load(Ordering::Acquire);
        if version == 0 {
            return None;
        }
        if let Some(view) = self.view.load_full()
            && view.version() == version
        {
            return Some(view);
        }
        Some(self.build_view(&self.state.lock()))
    }

    /// The view of the current version. Under the lock, the version belongs to the tables unless they are unpublished;
    /// then the view was built before.
    fn build_view(&self, state: &State) -> Arc<ClusterView> {
        let version = self.version.load(Ordering::Acquire);
        if let Some(view) = self.view.load_full()
            && view.version() == version
        {
            return view;
        }
        let revision = state.tables.revision().max(state.verified);
        let fresh_at = self.fresh_at.load(Ordering::Acquire).saturating_sub(1);
        let view = Arc::new(ClusterView {
            confirmed: Confirmed::at(self.started.into_std(), fresh_at),
            ..state.tables.view(version, revision)
        });
        self.view.store(Some(view.clone()));
        view
    }

    /// From now on, changes are kept back.
    fn keep_back(&self, state: &mut State, order: Order) {
        if !state.unpublished {
            self.build_view(state);
        }
        state.order = order;
    }

    /// Shows what was kept back.
    fn publish(&self, state: &mut State) {
        if std::mem::take(&mut state.unpublished) {
            self.version.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn no_answer(&self) -> Error {
        Error::with_cause(
            ErrorKind::Unavailable,
            format!(
                "Exhausted retry for (Getting children for path:{}), retries:1, last exception:",
                self.keys.live_prefix().trim_end_matches('/')
            ),
            Cause {
                text: format!("no answer in time from etcd at {}", self.endpoints),
                timed_out: true,
            },
        )
    }

    fn failed(&self, error: Error) {
        let mut state = self.state.lock();
        if state.last_error.is_none() {
            log::warn!(
                "The workers of {} cannot be read: {error}",
                self.keys.live_prefix()
            );
        }
        state.last_error = Some(error);
        drop(state);
        self.changed.send_replace(());
    }

    /// The view was etcd's when a request sent at `asked_at` was answered. Under the lock, so that the view is this one.
    fn fresh_as_of(&self, _state: &State, asked_at: Instant) {
        let millis = asked_at.saturating_duration_since(self.started).as_millis();
        let at = u64::try_from(millis).unwrap_or(u64::MAX - 1) + 1;
        self.fresh_at.fetch_max(at, Ordering::AcqRel);
        if let Some(view) = self.view.load_full()
            && view.version() == self.version.load(Ordering::Acquire)
        {
            view.confirmed.again(at - 1);
        }
        self.changed.send_replace(());
    }

    /// Reads both ranges, in pages that may take this long each, and replaces the tables.
    async fn list(&self, page_limit: Duration) -> Result<()> {
        let has_ring = self.state.lock().tables.ring.is_some();
        let listing = listing::list(&self.endpoints, &self.keys, has_ring, page_limit).await?;
        self.replace(listing);
        Ok(())
    }

    fn replace(&self, listing: Listing) {
        let Listing {
            tables,
            revision,
            asked_at,
        } = listing;
        let mut state = self.state.lock();
        if revision < state.highest {
            log::warn!(
                "etcd at {} went back from revision {} to {revision}: it was wiped or restored from a backup",
                self.endpoints,
                state.highest
            );
        }
        // What was kept back is in the old tables and not in the view.
        let changed = self.version.load(Ordering::Acquire) == 0
            || state.unpublished
            || !state.tables.same_listing(&tables);
        let new = State {
            tables,
            order: Order::Unknown,
            unpublished: false,
            verified: revision,
            highest: revision,
            last_error: None,
        };
        let old = std::mem::replace(&mut *state, new);
        if changed {
            self.version.fetch_add(1, Ordering::AcqRel);
        }
        self.counters.listings.count();
        self.fresh_as_of(&state, asked_at);
        drop(state);
        // Large tables take a while to drop: not under the lock.
        drop(old);
    }

    /// Watches both ranges, on one endpoint after another, until a listing is needed.
    async fn follow(&self) -> &'static str {
        let mut delays = retry_delays();
        loop {
            let endpoint = self.endpoints.pick();
            let opened_at = Instant::now();
            match self.watch_on(&endpoint).await {
                Ok(why) => return why,
                Err(reason) => log::debug!(
                    "Watching {} at {}: {reason}",
                    self.keys.live_prefix(),
                    endpoint.connection.url()
                ),
            }
            if opened_at.elapsed() > Duration::from_secs(10) {
                delays = retry_delays();
            }
            tokio::time::sleep(delays.next().unwrap_or_default()).await;
            // If nothing happened meanwhile, the watches begin in step. If this fails, so does the watch.
            let _ = self.verify(Instant::now() + TRY_TIMEOUT).await;
        }
    }

    /// `Ok`: why a listing is needed; `Err`: why the watch ended, to be opened again where it stopped.
    async fn watch_on(
        &self,
        endpoint: &Arc<Endpoint>,
    ) -> std::result::Result<&'static str, String> {
        let from = {
            let mut state = self.state.lock();
            self.keep_back(&mut state, Order::Unknown);
            [Range::Live, Range::Ring].map(|range| state.watch_from(range))
        };
        let mut stream = self.open_watch(endpoint, from).await?;
        let mut to_be_created = from.iter().flatten().count();
        let mut in_step = true;
        let mut burst = Burst::default();
        loop {
            let message = match stream.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return Err("etcd closed the watch".into()),
                Err(error) => return Err(status::describe(&error)),
            };
            if message.compact_revision() > 0 {
                return Ok("what the watch missed has been compacted");
            }
            if message.canceled() {
                let reason = message.cancel_reason();
                if status::is_token_message(reason) || reason.contains("permission denied") {
                    endpoint.connection.forget_token().await;
                }
                return Err(format!("canceled: {reason}"));
            }
            let revision = revision_of(message.header());
            // A member that lags behind says so here too; the check asks the cluster.
            if revision < self.state.lock().highest {
                self.check.notify_one();
            }
            if message.created() {
                // Created before anything it could have missed was written: etcd counts it as synced at once.
                in_step &= from.iter().flatten().all(|from| revision < *from);
                to_be_created = to_be_created.saturating_sub(1);
                if to_be_created == 0 {
                    self.watches_are_open(in_step);
                }
            }
            self.apply(&message);
            if burst.overflows() {
                let mut state = self.state.lock();
                let order = state.order.not_before(Instant::now());
                self.keep_back(&mut state, order);
                self.check.notify_one();
            }
        }
    }

    fn watches_are_open(&self, in_step: bool) {
        self.counters.watches.count();
        let mut state = self.state.lock();
        if in_step {
            state.order = Order::InStep;
            self.publish(&mut state);
        } else {
            state.order = Order::InStepAfter(Instant::now() + CATCH_UP);
            self.check.notify_one();
        }
        drop(state);
        self.changed.send_replace(());
    }

    async fn open_watch(
        &self,
        endpoint: &Arc<Endpoint>,
        [live_from, ring_from]: [Option<i64>; 2],
    ) -> std::result::Result<WatchStream, String> {
        let options = |prefix: &str, from: i64| {
            Some(
                WatchOptions::new()
                    .with_range(range_end(prefix))
                    .with_start_revision(from)
                    .with_fragment(),
            )
        };
        let live_prefix = self.keys.live_prefix();
        let ring_prefix = self.keys.ring_prefix();
        endpoint
            .attempt(TRY_TIMEOUT * 2, |client: Client| async move {
                let mut stream = client
                    .watch_client()
                    .max_decoding_message_size(MAX_MESSAGE)
                    .watch(live_prefix, options(live_prefix, live_from.unwrap_or(0)))
                    .await?;
                if let Some(ring_from) = ring_from {
                    stream
                        .watch(ring_prefix, options(ring_prefix, ring_from))
                        .await?;
                }
                Ok(stream)
            })
            .await
            .map_err(|error| error.cause.text)
    }

    fn apply(&self, message: &WatchResponse) {
        if message.events().is_empty() {
            return;
        }
        let mut state = self.state.lock();
        let mut changed = false;
        for event in message.events() {
            let Some(kv) = event.kv() else { continue };
            let range = if kv.key().starts_with(self.keys.live_prefix().as_bytes()) {
                Range::Live
            } else {
                Range::Ring
            };
            let Some(table) = state.tables.table_mut(range) else {
                continue;
            };
            changed |= match event.event_type() {
                EventType::Put => table.put(pair(kv)),
                EventType::Delete => table.delete(kv.key(), kv.mod_revision()),
            };
        }
        state.highest = state.highest.max(state.tables.revision());
        state.unpublished |= changed;
        if state.order == Order::InStep {
            self.publish(&mut state);
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Compares with etcd again and again; ends when a listing is needed.
    async fn keep_checking(&self) -> &'static str {
        let mut behind_since: Option<Instant> = None;
        loop {
            let order = self.state.lock().order;
            let interval = match order {
                Order::InStepAfter(when) => when
                    .saturating_duration_since(Instant::now())
                    .max(Duration::from_millis(100)),
                _ if behind_since.is_some() => Duration::from_millis(200),
                _ => jittered(CHECK_INTERVAL),
            };
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = self.check.notified() => {}
            }
            let deadline = Instant::now() + TRY_TIMEOUT * 2;
            match self.verify(deadline).await {
                Ok(Verdict::Fresh) => {
                    self.counters.checks.count();
                    behind_since = None;
                }
                Ok(Verdict::Behind) => {
                    self.counters.checks_behind.count();
                    if behind_since.get_or_insert_with(Instant::now).elapsed() > LATE_EVENTS {
                        return "the watch brings no events";
                    }
                }
                Ok(Verdict::WentBack) => return "etcd's revision went back",
                // This process was stopped meanwhile; that says nothing about etcd.
                Err(_) if Instant::now() > deadline + TRY_TIMEOUT => self.check.notify_one(),
                Err(error) => {
                    self.counters.checks_failed.count();
                    self.failed(error);
                }
            }
        }
    }

    /// Asks etcd whether the tables show everything. Costs one read of one key while nothing in etcd changes, whatever
    /// the number of workers, and one more small answer if something did.
    async fn verify(&self, deadline: Instant) -> Result<Verdict> {
        let call = getting_children(&self.keys, deadline);
        let asked_at = Instant::now();
        // Taken before the request is sent: an event may overtake the answer.
        let (has_ring, highest) = {
            let state = self.state.lock();
            (state.tables.ring.is_some(), state.highest)
        };
        let probed_key = if has_ring {
            self.keys.ring_prefix()
        } else {
            self.keys.live_prefix()
        };
        let answer = self
            .endpoints
            .call(&call, |mut client| async move {
                client.get(probed_key, keys_only()).await
            })
            .await?;
        let revision = revision_of(answer.header());
        let tables: Vec<(&str, i64, usize)> = {
            let mut state = self.state.lock();
            if revision < highest {
                return Ok(Verdict::WentBack);
            }
            state.highest = state.highest.max(revision);
            state.last_error = None;
            if revision == state.verified {
                return Ok(self.complete(state, revision, asked_at));
            }
            [Range::Ring, Range::Live]
                .into_iter()
                .filter_map(|range| {
                    let table = state.tables.table(range)?;
                    Some((self.prefix(range), table.applied(), table.len()))
                })
                .collect()
        };
        // Something was written somewhere. No key of a range is newer than the table and both have equally many: then
        // each key was last written when the table already had it, and none is missing.
        let proof = Txn::new().and_then(
            tables
                .iter()
                .map(|(prefix, applied, _)| {
                    let newer = GetOptions::new()
                        .with_range(range_end(prefix))
                        .with_min_mod_revision(applied + 1)
                        .with_limit(1)
                        .with_keys_only();
                    TxnOp::get(*prefix, Some(newer))
                })
                .collect::<Vec<_>>(),
        );
        let answer = ring::commit(&self.endpoints, &call, proof).await?;
        let complete = answer.op_responses().into_iter().zip(&tables).all(
            |(answer, (_, _, len))| match answer {
                TxnOpResponse::Get(answer) => {
                    answer.kvs().is_empty() && usize::try_from(answer.count()) == Ok(*len)
                }
                _ => false,
            },
        );
        if !complete {
            return Ok(Verdict::Behind);
        }
        let revision = revision_of(answer.header());
        Ok(self.complete(self.state.lock(), revision, asked_at))
    }

    /// The tables were complete at `revision`, when etcd answered a question asked at `asked_at`.
    fn complete(
        &self,
        mut state: MutexGuard<'_, State>,
        revision: i64,
        asked_at: Instant,
    ) -> Verdict {
        state.verified = state.verified.max(revision);
        state.highest = state.highest.max(revision);
        if matches!(state.order, Order::InStepAfter(when) if asked_at >= when) {
            state.order = Order::InStep;
            self.publish(&mut state);
        }
        if state.unpublished {
            return Verdict::Behind;
        }
        self.fresh_as_of(&state, asked_at);
        Verdict::Fresh
    }

    fn prefix(&self, range: Range) -> &str {
        match range {
            Range::Ring => self.keys.ring_prefix(),
            Range::Live => self.keys.live_prefix(),
        }
    }
}

impl Order {
    /// Needs a proof of this time or later.
    fn not_before(self, time: Instant) -> Order {
        match self {
            Order::InStep => Order::InStepAfter(time),
            Order::InStepAfter(when) => Order::InStepAfter(when.max(time)),
            Order::Unknown => Order::Unknown,
        }
    }
}

impl State {
    /// From which revision the watch of a range, if there is one, has to start: the latest change once more unless it is
    /// proven to be complete, since the rest of it may have been lost with the connection.
    fn watch_from(&self, range: Range) -> Option<i64> {
        let applied = self.tables.table(range)?.applied();
        Some(if self.verified >= applied {
            self.verified + 1
        } else {
            applied
        })
    }
}

/// Counts messages that come without a pause.
///
/// etcd buffers 128 messages of a stream. What does not fit is sent later, and one watch may then overtake the other.
#[derive(Default)]
struct Burst {
    count: u32,
    last: Option<Instant>,
}

impl Burst {
    const PAUSE: Duration = Duration::from_millis(10);
    const LIMIT: u32 = 64;

    /// Notes a message; true if etcd's buffer may have been full.
    fn overflows(&mut self) -> bool {
        let paused = self.last.is_none_or(|last| last.elapsed() > Self::PAUSE);
        self.count = if paused { 1 } else { self.count + 1 };
        self.last = Some(Instant::now());
        self.count >= Self::LIMIT
    }
}

fn getting_children(keys: &Keys, deadline: Instant) -> Call {
    let path = keys.live_prefix().trim_end_matches('/');
    Call::new(format!("Getting children for path:{path}"), deadline)
}

fn pair(kv: &KeyValue) -> Pair<'_> {
    Pair {
        key: kv.key(),
        value: kv.value(),
        mod_revision: kv.mod_revision(),
    }
}
