//! One cluster's workers, always in memory: listed once, watched from then on, checked against etcd all the time.

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

use self::tables::{Pair, Range, Table, Tables};
use super::endpoints::{Call, Endpoint, Endpoints, TRY_TIMEOUT, retry_delays};
use super::keys::{Keys, range_end};
use super::ring::{self, keys_only, revision_of};
use super::status;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::view::ClusterView;
use crate::worker::WorkerIdentity;

/// Keys in the first page of a listing: about 200 kB of ordinary records.
const FIRST_PAGE: i64 = 500;
const SMALLEST_PAGE: i64 = 100;
/// About 1.5 MB of ordinary records.
const LARGEST_PAGE: i64 = 4_000;
/// Pages that take less are doubled, and pages that take twice as long are halved: a slow line carries a listing in
/// small pages, where large ones would be given up and begun again and again.
const QUICK_PAGE: Duration = Duration::from_millis(500);
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
        // The first listing is a linearizable read itself, if it began after this call.
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

    /// Waits until the live record written at `revision`, or a newer one, is in the view.
    pub(crate) async fn saw_live(
        &self,
        identity: &WorkerIdentity,
        revision: i64,
        deadline: Instant,
    ) {
        let key = self.shared.keys.live_key(identity);
        self.saw(deadline, |tables| {
            tables.live.mod_revision(key.as_bytes()) >= Some(revision)
        })
        .await;
    }

    /// Waits until the ring record written at `revision`, or a newer one, is in the view.
    pub(crate) async fn saw_ring(
        &self,
        identity: &WorkerIdentity,
        revision: i64,
        deadline: Instant,
    ) {
        let key = self.shared.keys.ring_key(identity);
        self.saw(deadline, |tables| {
            tables
                .ring
                .as_ref()
                .is_none_or(|ring| ring.mod_revision(key.as_bytes()) >= Some(revision))
        })
        .await;
    }

    /// Waits until a live record written up to `revision` is gone from the view.
    pub(crate) async fn saw_no_live(
        &self,
        identity: &WorkerIdentity,
        revision: i64,
        deadline: Instant,
    ) {
        let key = self.shared.keys.live_key(identity);
        self.saw(deadline, |tables| {
            tables
                .live
                .mod_revision(key.as_bytes())
                .is_none_or(|at| at > revision)
        })
        .await;
    }

    /// Waits until a ring record written up to `revision` is gone from the view.
    pub(crate) async fn saw_no_ring(
        &self,
        identity: &WorkerIdentity,
        revision: i64,
        deadline: Instant,
    ) {
        let key = self.shared.keys.ring_key(identity);
        self.saw(deadline, |tables| {
            tables
                .ring
                .as_ref()
                .and_then(|ring| ring.mod_revision(key.as_bytes()))
                .is_none_or(|at| at > revision)
        })
        .await;
    }

    /// Waits for this process's own write to come back by the watch, so that the next view it reads shows it. Bounded:
    /// the write itself has succeeded, whatever becomes of the watch.
    async fn saw(&self, deadline: Instant, seen: impl Fn(&Tables) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.borrow_and_update();
            {
                let state = self.shared.state.lock();
                let unreadable = self.age().is_none() && state.last_error.is_some();
                if unreadable || (!state.unpublished && seen(&state.tables)) {
                    return;
                }
            }
            if !matches!(timeout_at(deadline, changed.changed()).await, Ok(Ok(()))) {
                return;
            }
        }
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
        let view = Arc::new(state.tables.view(version, revision));
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

    fn call(&self, deadline: Instant) -> Call {
        Call::new(
            format!(
                "Getting children for path:{}",
                self.keys.live_prefix().trim_end_matches('/')
            ),
            deadline,
        )
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

    /// The view was etcd's when a request sent at `asked_at` was answered.
    fn fresh_as_of(&self, asked_at: Instant) {
        let millis = asked_at.saturating_duration_since(self.started).as_millis();
        let at = u64::try_from(millis).unwrap_or(u64::MAX - 1) + 1;
        self.fresh_at.fetch_max(at, Ordering::AcqRel);
        self.changed.send_replace(());
    }

    /// Reads both ranges, in pages that may take this long each, and replaces the tables.
    async fn list(&self, page_limit: Duration) -> Result<()> {
        while !self.list_at_one_revision(page_limit).await? {
            log::info!(
                "Listing {} again: etcd was compacted between two pages",
                self.keys.live_prefix()
            );
        }
        Ok(())
    }

    /// False: the revision of the first page was compacted before the last.
    async fn list_at_one_revision(&self, page_limit: Duration) -> Result<bool> {
        let asked_at = Instant::now();
        let has_ring = self.state.lock().tables.ring.is_some();
        let prefixes: Vec<&str> = has_ring
            .then_some(self.keys.ring_prefix())
            .into_iter()
            .chain([self.keys.live_prefix()])
            .collect();
        let page_call = || Call {
            try_timeout: TRY_TIMEOUT * 2,
            ..self.call(Instant::now() + page_limit)
        };
        let mut size = FIRST_PAGE;
        let txn = Txn::new().and_then(
            prefixes
                .iter()
                .map(|prefix| TxnOp::get(*prefix, Some(page_of(prefix, size))))
                .collect::<Vec<_>>(),
        );
        let first = self
            .endpoints
            .call(&page_call(), |client| {
                let txn = txn.clone();
                async move { large(&client).txn(txn).await }
            })
            .await?;
        size = next_size(size, asked_at.elapsed());
        let revision = revision_of(first.header());
        let mut tables = Vec::new();
        for (prefix, answer) in prefixes.iter().zip(first.op_responses()) {
            let TxnOpResponse::Get(mut answer) = answer else {
                continue;
            };
            let mut more = answer.more();
            let mut page = answer.take_kvs();
            let mut table = Table::listed(prefix, page.iter().map(pair), revision);
            while more && let Some(last) = page.last() {
                let mut next = last.key().to_vec();
                next.push(0);
                let options = page_of(prefix, size).with_revision(revision);
                let page_asked_at = Instant::now();
                let answer = self
                    .endpoints
                    .call(&page_call(), |client| {
                        let (next, options) = (next.clone(), options.clone());
                        async move {
                            match large(&client).get(next, Some(options)).await {
                                Ok(answer) => Ok(Some(answer)),
                                Err(error) if status::is_compacted(&error) => Ok(None),
                                Err(error) => Err(error),
                            }
                        }
                    })
                    .await?;
                let Some(mut answer) = answer else {
                    return Ok(false);
                };
                size = next_size(size, page_asked_at.elapsed());
                more = answer.more();
                // Page by page, so that the renewals of this process never wait for all of them.
                page = answer.take_kvs();
                table.add_page(page.iter().map(pair));
            }
            tables.push(table);
        }
        let live = tables.pop().unwrap_or_default();
        let ring = tables.pop();
        self.replace(Tables { ring, live }, revision, asked_at);
        Ok(true)
    }

    fn replace(&self, tables: Tables, revision: i64, asked_at: Instant) {
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
        *state = State {
            tables,
            order: Order::Unknown,
            unpublished: false,
            verified: revision,
            highest: revision,
            last_error: None,
        };
        if changed {
            self.version.fetch_add(1, Ordering::AcqRel);
        }
        drop(state);
        self.fresh_as_of(asked_at);
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
                Ok(Verdict::Fresh) => behind_since = None,
                Ok(Verdict::Behind) => {
                    if behind_since.get_or_insert_with(Instant::now).elapsed() > LATE_EVENTS {
                        return "the watch brings no events";
                    }
                }
                Ok(Verdict::WentBack) => return "etcd's revision went back",
                // This process was stopped meanwhile; that says nothing about etcd.
                Err(_) if Instant::now() > deadline + TRY_TIMEOUT => self.check.notify_one(),
                Err(error) => self.failed(error),
            }
        }
    }

    /// Asks etcd whether the tables show everything. Costs one read of one key while nothing in etcd changes, whatever
    /// the number of workers, and one more small answer if something did.
    async fn verify(&self, deadline: Instant) -> Result<Verdict> {
        let call = self.call(deadline);
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
        drop(state);
        self.fresh_as_of(asked_at);
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

/// The first page of a range; later pages start at another key and have the same end.
fn page_of(prefix: &str, size: i64) -> GetOptions {
    GetOptions::new()
        .with_range(range_end(prefix))
        .with_limit(size)
}

/// How many keys the next page should have after one of this size took this long.
fn next_size(size: i64, took: Duration) -> i64 {
    if took < QUICK_PAGE {
        (size * 2).min(LARGEST_PAGE)
    } else if took > QUICK_PAGE * 2 {
        (size / 2).max(SMALLEST_PAGE)
    } else {
        size
    }
}

fn large(client: &Client) -> etcd_client::KvClient {
    client.kv_client().max_decoding_message_size(MAX_MESSAGE)
}

fn pair(kv: &KeyValue) -> Pair<'_> {
    Pair {
        key: kv.key(),
        value: kv.value(),
        mod_revision: kv.mod_revision(),
    }
}

/// Up to a fifth more or less, so that many processes do not ask in step.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(rand::random_range(0.8..=1.2))
}
