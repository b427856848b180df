//! One cluster's workers, always in memory: listed once, watched from then on, checked against etcd all the time.

mod counters;
mod listing;
mod progress;
mod state;
mod tables;

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use etcd_client::{
    Client, EventType, GetOptions, KeyValue, ResponseHeader, Txn, TxnOp, TxnOpResponse,
    WatchOptions, WatchResponse, WatchStream,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use self::counters::Counters;
pub use self::counters::ViewCounters;
use self::state::{
    Answer, Claim, Event, Kind, Listed, Memory, Message, Next, Past, Question, Relist, State,
    Verdict,
};
pub(crate) use self::tables::Range;
use self::tables::{Pair, Stamp};
use super::answers;
use super::endpoints::{Call, Endpoint, Endpoints, Purpose, TRY_TIMEOUT, retry_delays};
use super::keep_running::keep_running;
use super::keys::{Keys, range_end};
use super::ring::{self, keys_only, revision_of, term_of};
use super::status::{self, Failure};
use crate::error::{Error, ErrorKind, Result};
use crate::jitter::jittered;
use crate::log;
use crate::suspend::Sleeps;
use crate::view::{ClusterView, SkippedRecord};
use crate::worker::WorkerIdentity;

/// Largest answer to accept. etcd stores values of up to 1.5 MB, so that a page can be larger than gRPC's own 4 MB.
const MAX_MESSAGE: usize = 64 << 20;
/// Everything is listed and compared this often, though each check proves that nothing is missing: defects of etcd or of
/// this library would be found.
const AUDIT_INTERVAL: Duration = Duration::from_secs(3600);
/// The view has never been etcd's.
const NEVER: i64 = i64::MIN;
/// How often it is looked whether the machine was suspended.
const NOTICE_SLEEPS: Duration = Duration::from_millis(500);
/// Between two checks.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
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
    /// Why etcd could not be asked, since it last could.
    last_error: Mutex<Option<Error>>,
    /// The state's own, to be read without its lock: the version, 0 before the first listing,
    version: AtomicU64,
    /// the view of a version, once it was built,
    view: ArcSwapOption<ClusterView>,
    /// and when the view was last known to be etcd's: milliseconds after `started`, or before it; `NEVER`.
    fresh_at: AtomicI64,
    started: Instant,
    /// Changes with everything that may end somebody's wait: the state, an error.
    changed: watch::Sender<()>,
    /// Asks for a check at once.
    check: Notify,
    /// Asks the watch for its progress, where the server's word can be trusted.
    ask_progress: Notify,
    tells_progress: AtomicBool,
    counters: Counters,
    /// The bad records that were logged.
    logged: Mutex<HashSet<SkippedRecord>>,
}

impl Roster {
    /// Starts listing and watching. `has_ring`: false for SERVICE_REGISTRY.
    pub(crate) fn start(endpoints: Arc<Endpoints>, keys: Keys, has_ring: bool) -> Self {
        let shared = Arc::new(Shared {
            endpoints,
            keys,
            state: Mutex::new(State::new(has_ring)),
            last_error: Mutex::default(),
            version: AtomicU64::new(0),
            view: ArcSwapOption::empty(),
            fresh_at: AtomicI64::new(NEVER),
            started: Instant::now(),
            changed: watch::Sender::new(()),
            check: Notify::new(),
            ask_progress: Notify::new(),
            tells_progress: AtomicBool::new(false),
            counters: Counters::default(),
            logged: Mutex::default(),
        });
        let running = shared.clone();
        let task = tokio::spawn(async move {
            let what = format!("the watching of {}", running.keys.live_prefix());
            keep_running(what, || running.clone().run()).await;
        });
        let task = task.abort_handle();
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
        let question = self.shared.state.lock().question(Instant::now());
        // There must be a view to compare with. If it was listed just now, that is all.
        self.cached(Duration::MAX, deadline).await?;
        self.shared.catch_up_with(&question, deadline).await?;
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
            let unreadable = self.age().is_none() && self.error(true).is_some();
            let shown = self.shared.state.lock().shown(range, key.as_bytes());
            if unreadable || shown.is_some_and(&seen) {
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
        self.shared.counters.get()
    }

    /// Why etcd cannot be asked at present.
    pub(crate) fn last_error(&self) -> Option<Error> {
        self.error(true)
    }

    /// Why etcd could not be asked: always for errors that waiting does not mend, else only if `also_passing`.
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
        let mut delays = retry_delays();
        let mut limit = FIRST_PAGE_LIMIT;
        loop {
            let mut sleeps = Sleeps::new();
            match self.list(limit).await {
                Ok(()) => {
                    delays = retry_delays();
                    limit = FIRST_PAGE_LIMIT;
                    let why = tokio::select! {
                        why = self.follow() => why,
                        why = self.keep_checking() => why,
                        never = self.notice_sleeps(&mut sleeps) => match never {},
                        why = self.keep_auditing() => why,
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

    /// Each bad record once.
    fn log_skipped(&self, view: &ClusterView) {
        let before = {
            let mut logged = self.logged.lock();
            if view.skipped().is_empty() && logged.is_empty() {
                return;
            }
            std::mem::replace(&mut *logged, view.skipped().iter().cloned().collect())
        };
        // Without the lock: what a log does is its owner's.
        for skipped in view.skipped() {
            if !before.contains(skipped) {
                log::warn!("{} is not listed: {}", skipped.key, skipped.reason);
            }
        }
    }

    /// Changes the state, shows what can be seen without its lock, and wakes everybody who waits.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        self.version.store(state.version(), Ordering::Release);
        if let Some(fresh_at) = state.fresh_at() {
            let after = milliseconds(fresh_at.saturating_duration_since(self.started));
            let before = milliseconds(self.started.saturating_duration_since(fresh_at));
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

    /// Reads both ranges, in pages that may take this long each, and replaces the tables.
    async fn list(&self, page_limit: Duration) -> Result<()> {
        let has_ring = self.state.lock().has_ring();
        let listed = listing::list(&self.endpoints, &self.keys, has_ring, page_limit).await?;
        self.worked();
        let revision = listed.revision;
        let (went_back_from, _old) = self.change(|state| state.listed(listed));
        self.counters.listings.add(1);
        if let Some(before) = went_back_from {
            log::warn!(
                "etcd at {} went back from revision {before} to {revision}",
                self.endpoints,
            );
        }
        Ok(())
    }

    /// Lists everything now and then while the watch goes on; ends if it is otherwise than the tables, which should never
    /// be.
    async fn keep_auditing(&self) -> &'static str {
        loop {
            tokio::time::sleep(jittered(AUDIT_INTERVAL)).await;
            match self.audit().await {
                Ok(0) => {}
                Ok(drift) => {
                    self.counters.drift.add(drift);
                    log::error!(
                        "{drift} keys of {} differ from what was proven to be complete",
                        self.keys.live_prefix()
                    );
                    return "a listing showed something else";
                }
                Err(error) => log::debug!("No comparison with a listing: {error}"),
            }
        }
    }

    /// How many keys a listing shows otherwise than the tables.
    async fn audit(&self) -> Result<u64> {
        self.state.lock().audit_begins();
        let listed = self.list_beside().await;
        let drift = self.state.lock().audit_ends(listed.as_ref().ok());
        listed.map(|_| drift)
    }

    /// A listing that the tables have caught up with.
    async fn list_beside(&self) -> Result<Listed> {
        let has_ring = self.state.lock().has_ring();
        let listed =
            listing::list(&self.endpoints, &self.keys, has_ring, LONGEST_PAGE_LIMIT).await?;
        self.counters.listings.add(1);
        let question = self.state.lock().question(Instant::now());
        self.catch_up_with(&question, Instant::now() + LONGEST_PAGE_LIMIT)
            .await?;
        Ok(listed)
    }

    /// Waits until the view is etcd's of the time of the question, or a later one.
    async fn catch_up_with(&self, question: &Question, deadline: Instant) -> Result<()> {
        while !self.is_settled(question) {
            match self.verify(deadline).await? {
                Verdict::Fresh => break,
                Verdict::Behind => {}
                Verdict::OtherHistory | Verdict::Doubtful => self.check.notify_one(),
            }
            let pause = deadline.min(Instant::now() + Duration::from_millis(100));
            if self.settles(question, pause).await {
                break;
            }
            if Instant::now() >= deadline {
                return Err(self.no_answer());
            }
        }
        Ok(())
    }

    /// Watches both ranges, on one endpoint after another, until a listing is needed.
    async fn follow(&self) -> &'static str {
        let mut delays = retry_delays();
        loop {
            let endpoint = self.endpoints.pick(Purpose::Watches);
            let opened_at = Instant::now();
            let ended = self.watch_on(&endpoint).await;
            self.tells_progress.store(false, Ordering::Release);
            match ended {
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
        self.tells_progress.store(false, Ordering::Release);
        let from = self.change(State::watch_opens);
        let mut stream = self.open_watch(endpoint, from).await?;
        // The member that the watch is on, and the one that was asked for its version: a balancer may have chosen others.
        let (mut member, mut trusted) = (None, None);
        let tells_progress = |member, trusted: Option<u64>| {
            let tells = trusted.is_some() && trusted == member;
            self.tells_progress.store(tells, Ordering::Release);
        };
        let told = progress::trusted_member(endpoint);
        tokio::pin!(told);
        let mut was_told = false;
        let mut is_open = false;
        loop {
            let show_at = self.state.lock().show_at();
            let message = tokio::select! {
                biased;
                message = stream.message() => message,
                () = sleep_until(show_at) => {
                    self.change(|state| state.show(Instant::now()));
                    continue;
                }
                told = &mut told, if !was_told => {
                    was_told = true;
                    trusted = told;
                    tells_progress(member, trusted);
                    continue;
                }
                () = self.ask_progress.notified() => {
                    stream.request_progress().await.map_err(|error| status::describe(&error))?;
                    continue;
                }
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return Err("etcd closed the watch".into()),
                Err(error) => return Err(status::describe(&error)),
            };
            if message.compact_revision() > 0 {
                return Ok("what the watch missed has been compacted");
            }
            if message.canceled() {
                let reason = message.cancel_reason();
                if matches!(
                    status::classify_cancel(reason),
                    Failure::Token | Failure::Permission
                ) {
                    endpoint.connection.forget_token();
                }
                return Err(format!("canceled: {reason}"));
            }
            member = message.header().map(ResponseHeader::member_id);
            tells_progress(member, trusted);
            let is_progress = message.watch_id() == progress::OF_ALL_WATCHES
                && self.tells_progress.load(Ordering::Acquire);
            let message = Message {
                kind: match message.created() {
                    true => Kind::Created,
                    false if is_progress => Kind::Progress,
                    false => Kind::Events,
                },
                revision: revision_of(message.header()),
                events: self.events(&message),
            };
            let now = Instant::now();
            let (ask, is_open_now) =
                self.change(|state| (state.message(&message, now), state.watch_is_open()));
            if is_open_now && !std::mem::replace(&mut is_open, true) {
                self.counters.watches.add(1);
            }
            if ask {
                self.check.notify_one();
            }
        }
    }

    fn events<'a>(&self, message: &'a WatchResponse) -> Vec<Event<'a>> {
        let events = message.events().iter();
        events
            .filter_map(|event| {
                let kv = event.kv()?;
                let range = if kv.key().starts_with(self.keys.live_prefix().as_bytes()) {
                    Range::Live
                } else {
                    Range::Ring
                };
                let is_put = answers::kind_of(event)? == EventType::Put;
                Some(Event {
                    range,
                    key: kv.key(),
                    value: is_put.then(|| kv.value()),
                    stamp: stamp(kv),
                })
            })
            .collect()
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
            .attempt(
                Purpose::Watches,
                TRY_TIMEOUT * 2,
                |client: Client| async move {
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
                },
            )
            .await
            .map_err(|error| error.cause.text)
    }

    /// Compares with etcd again and again; ends when a listing is needed.
    async fn keep_checking(&self) -> &'static str {
        let mut last = None;
        let mut limit = TRY_TIMEOUT * 2;
        loop {
            let now = Instant::now();
            let pause = self.state.lock().check_in(now);
            tokio::select! {
                () = tokio::time::sleep(jittered(pause)) => {}
                () = async {
                    if let Some(last) = last {
                        tokio::time::sleep_until(last + SHORTEST_PAUSE).await;
                    }
                    self.check.notified().await;
                } => {}
            }
            last = Some(Instant::now());
            let deadline = Instant::now() + limit;
            match self.verify(deadline).await {
                Ok(verdict) => {
                    limit = TRY_TIMEOUT * 2;
                    self.counters.count(verdict);
                    match self.change(|state| state.checked(verdict, Instant::now())) {
                        None => {}
                        Some(Relist::NoEvents) => return "the watch brings no events",
                        Some(Relist::Doubtful) => return "etcd may have lost data",
                        Some(Relist::OtherHistory) => {
                            log::warn!(
                                "etcd at {} has another history than before: it was wiped or restored from a backup",
                                self.endpoints
                            );
                            return "etcd has another history";
                        }
                    }
                }
                // This process was stopped meanwhile; that says nothing about etcd.
                Err(_) if Instant::now() > deadline + TRY_TIMEOUT => self.check.notify_one(),
                Err(error) => {
                    self.counters.checks_failed.add(1);
                    // For networks that are slow but work.
                    limit = (limit * 2).min(LONGEST_PAGE_LIMIT);
                    self.change(State::check_failed);
                    self.failed(error);
                }
            }
        }
    }

    /// Has a view that grew old while the machine was suspended count as old, and compared at once.
    async fn notice_sleeps(&self, sleeps: &mut Sleeps) -> Infallible {
        loop {
            if let Some(by) = sleeps.last() {
                self.change(|state| state.slept(by));
                self.check.notify_one();
            }
            tokio::time::sleep(NOTICE_SLEEPS).await;
        }
    }

    /// Asks etcd whether the tables show everything. Costs one read of one key while nothing in etcd changes, whatever
    /// the number of workers, and one more small answer if something did.
    async fn verify(&self, deadline: Instant) -> Result<Verdict> {
        let call = getting_children(&self.keys, deadline);
        let question = self.state.lock().question(Instant::now());
        let key = self.keys.live_prefix();
        let answer = self
            .endpoints
            .call(&call, |mut client| async move {
                client.get(key, keys_only()).await
            })
            .await?;
        let (revision, term) = (revision_of(answer.header()), term_of(answer.header()));
        let past = self.remembers(&call, &question.past, revision).await?;
        let answer = Answer {
            revision,
            term,
            past,
        };
        let verdict = match self.change(|state| state.answered(&question, answer)) {
            Next::Done(verdict) => verdict,
            Next::Compare if self.progresses(&question, deadline).await => Verdict::Fresh,
            Next::Compare => {
                let claims = self.state.lock().claims();
                let at = self.prove(&call, &claims).await?;
                self.change(|state| state.proven(&question, &claims, at))
            }
        };
        self.worked();
        Ok(verdict)
    }

    /// Whether the watch, asked for its progress, answers the question.
    async fn progresses(&self, question: &Question, deadline: Instant) -> bool {
        if !self.tells_progress.load(Ordering::Acquire) {
            return false;
        }
        self.ask_progress.notify_one();
        let patience = deadline.min(Instant::now() + progress::PATIENCE);
        self.settles(question, patience).await
    }

    /// Whether etcd, which is at this revision, remembers all this.
    async fn remembers(&self, call: &Call, past: &[Memory], revision: i64) -> Result<Past> {
        if past.is_empty() || past.iter().any(|memory| memory.revision > revision) {
            return Ok(Past::Unknown);
        }
        let reads = past.iter().flat_map(|memory| {
            let prefix = self.prefix(memory.range);
            let newest = memory.newest.as_ref();
            let key = newest.map(|(key, _)| {
                let options = GetOptions::new()
                    .with_revision(memory.revision)
                    .with_keys_only();
                TxnOp::get(key.as_slice(), Some(options))
            });
            let later = newest.map_or(1, |(_, stamp)| stamp.mod_revision + 1);
            let options = GetOptions::new()
                .with_range(range_end(prefix))
                .with_revision(memory.revision)
                .with_min_mod_revision(later)
                .with_limit(1)
                .with_keys_only();
            key.into_iter().chain([TxnOp::get(prefix, Some(options))])
        });
        let reads = Txn::new().and_then(reads.collect::<Vec<_>>());
        let answers = self.endpoints.call(call, |mut client| {
            let reads = reads.clone();
            async move {
                match client.txn(reads).await.and_then(answers::complete) {
                    Ok(answer) => Ok(Some(answer)),
                    Err(error) if status::is_compacted(&error) => Ok(None),
                    Err(error) => Err(error),
                }
            }
        });
        let Some(answers) = answers.await? else {
            return Ok(Past::Unknown);
        };
        let mut answers = answers.op_responses().into_iter();
        let mut next = || match answers.next() {
            Some(TxnOpResponse::Get(answer)) => Some(answer),
            _ => None,
        };
        for memory in past {
            if let Some((_, written)) = &memory.newest {
                let found = next().and_then(|answer| answer.kvs().first().map(stamp));
                if found != Some(*written) {
                    return Ok(Past::Other);
                }
            }
            // The count is of all keys of the range.
            let is_same = next().is_some_and(|later| {
                memory.len.is_none_or(|len| {
                    later.kvs().is_empty() && usize::try_from(later.count()) == Ok(len)
                })
            });
            if !is_same {
                return Ok(Past::Other);
            }
        }
        Ok(Past::Same)
    }

    fn is_settled(&self, question: &Question) -> bool {
        self.state.lock().is_settled(question)
    }

    /// Waits until the view is etcd's of the time of the question; false if it is not until then.
    async fn settles(&self, question: &Question, until: Instant) -> bool {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if self.is_settled(question) {
                return true;
            }
            if !matches!(timeout_at(until, changed.changed()).await, Ok(Ok(()))) {
                return false;
            }
        }
    }

    /// At which revision all claims hold; `None` if one does not.
    async fn prove(&self, call: &Call, claims: &[Claim]) -> Result<Option<i64>> {
        let newer = |claim: &Claim| {
            let prefix = self.prefix(claim.range);
            let options = GetOptions::new()
                .with_range(range_end(prefix))
                .with_min_mod_revision(claim.applied + 1)
                .with_limit(1)
                .with_keys_only();
            TxnOp::get(prefix, Some(options))
        };
        let proof = Txn::new().and_then(claims.iter().map(newer).collect::<Vec<_>>());
        let answer = ring::commit(&self.endpoints, call, proof).await?;
        let answers = answer.op_responses().into_iter().zip(claims);
        let all = answers.into_iter().all(|(answer, claim)| match answer {
            // The count is of all keys of the range.
            TxnOpResponse::Get(answer) => {
                answer.kvs().is_empty() && usize::try_from(answer.count()) == Ok(claim.len)
            }
            _ => false,
        });
        Ok(all.then(|| revision_of(answer.header())))
    }

    fn prefix(&self, range: Range) -> &str {
        match range {
            Range::Ring => self.keys.ring_prefix(),
            Range::Live => self.keys.live_prefix(),
        }
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}

/// Never resolves without a time.
async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn getting_children(keys: &Keys, deadline: Instant) -> Call {
    let path = keys.live_prefix().trim_end_matches('/');
    Call::new(format!("Getting children for path:{path}"), deadline)
}

impl<'a> From<&'a KeyValue> for Pair<'a> {
    fn from(kv: &'a KeyValue) -> Self {
        Pair {
            key: kv.key(),
            value: kv.value(),
            stamp: stamp(kv),
        }
    }
}

fn stamp(kv: &KeyValue) -> Stamp {
    Stamp {
        mod_revision: kv.mod_revision(),
        lease: kv.lease(),
    }
}
