//! The roster's decisions against an etcd and a network that are made up, on a clock that jumps from event to event.
//!
//! What must hold: every view that is shown is etcd's state at the view's revision; one that counts as fresh is etcd's of a
//! moment after the question; versions grow and revisions do not go back, unless etcd's do; and some seconds after the last
//! misfortune the view is etcd's. The made-up etcd counts watches as synced, catches up, overflows, compacts, loses its
//! data and is restored as the real one does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::etcd::histories;
use crate::etcd::roster::tables::Table;
use crate::record;
use crate::view::MemberFilter;
use crate::worker::{Worker, WorkerIdentity, WorkerNetAddress, WorkerState};

const RING: &str = "/r/";
const LIVE: &str = "/l/";
/// etcd's buffer for the messages of a stream.
const BUFFER: usize = 128;

fn prefix(range: Range) -> &'static str {
    match range {
        Range::Ring => RING,
        Range::Live => LIVE,
    }
}

/// A worker that stays as it is unless etcd loses its data. The others, from 1 on, come and go.
const STEADY: i64 = 6;

/// A key: which range, which worker.
type Key = (u8, i64);

fn range_of(key: Key) -> Range {
    if key.0 == 0 { Range::Ring } else { Range::Live }
}

fn name_of(key: Key) -> Vec<u8> {
    let identity = WorkerIdentity::V0(key.1);
    format!("{}{identity}", prefix(range_of(key))).into_bytes()
}

/// What stands under a key: the port tells one record from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Value {
    port: i32,
    stamp: Stamp,
}

fn bytes_of(key: Key, value: &Value) -> Vec<u8> {
    record::encode(&Worker {
        identity: WorkerIdentity::V0(key.1),
        address: WorkerNetAddress {
            rpc_port: value.port,
            ..WorkerNetAddress::new("h")
        },
    })
}

type Contents = BTreeMap<Key, Value>;

/// A key-value pair as a listing has it.
struct Put {
    key: Vec<u8>,
    value: Vec<u8>,
    stamp: Stamp,
}

impl Put {
    fn new((key, value): (&Key, &Value)) -> Self {
        Put {
            key: name_of(*key),
            value: bytes_of(*key, value),
            stamp: value.stamp,
        }
    }
}

impl<'a> From<&'a Put> for Pair<'a> {
    fn from(put: &'a Put) -> Self {
        Pair {
            key: &put.key,
            value: &put.value,
            stamp: put.stamp,
        }
    }
}

/// A change at a revision; `None` for a deletion.
type Change = (i64, Key, Option<Value>);

/// One history of etcd, from its beginning to its loss.
struct Epoch {
    /// The contents at each revision, from the first one on.
    first: i64,
    contents: Vec<Contents>,
    changes: Vec<Change>,
    /// The one it was restored from.
    parent: Option<usize>,
}

impl Epoch {
    fn revision(&self) -> i64 {
        self.first + self.contents.len() as i64 - 1
    }

    fn now(&self) -> &Contents {
        &self.contents[self.contents.len() - 1]
    }

    fn at(&self, revision: i64) -> Option<&Contents> {
        let place = usize::try_from(revision - self.first).ok()?;
        self.contents.get(place)
    }
}

/// One of the two watches, as the server sees it.
struct Watcher {
    range: Range,
    synced: bool,
    /// From which revision on it has not sent anything.
    next: i64,
    /// What did not fit into the stream's buffer, and is sent as it is before all else.
    victim: Option<(i64, Vec<Change>)>,
}

enum FromServer {
    Created(i64),
    Compacted,
    Events(i64, Vec<Change>),
    Progress(i64),
}

/// Something that arrives later.
enum Arrival {
    Listing(Option<Listed>),
    AuditReachesServer,
    Audit(Option<Listed>, usize),
    Probe(Question, Option<Answer>),
    ProofReachesServer(Question, Vec<Claim>),
    Proof(Question, Vec<Claim>, Option<Option<i64>>),
    /// A message of the stream is no longer in the server's buffer.
    LeftServer(u64),
    Stream(u64, FromServer),
    OpenWatch(u64, [Option<i64>; 2]),
    AskProgress(u64),
    ProgressWasAwaited(Question),
    StreamBroke(u64),
    CatchUp(u64, usize),
    ProbeReachesServer(Question),
    ListReachesServer,
}

/// A listing beside the watch.
enum Audit {
    None,
    UnderWay,
    /// It is of this history, and came at this time.
    Came(Listed, usize, Instant),
}

struct World {
    rng: StdRng,
    start: Instant,
    now: Instant,
    state: State,
    histories: Vec<Epoch>,
    term: u64,
    /// What may be watched begins after this revision,
    compacted: i64,
    /// and what may be read begins here: the time before a backup may be.
    forgotten: i64,
    /// Which history and revision etcd was at from when on.
    timeline: VecDeque<(Instant, usize, i64)>,
    arrivals: BinaryHeap<Reverse<(Instant, u64)>>,
    contents_of_arrivals: std::collections::HashMap<u64, Arrival>,
    sequence: u64,
    stream: u64,
    watchers: Vec<Watcher>,
    /// Messages of the stream that are still in the server's buffer, and when the last will leave it.
    in_buffer: usize,
    stream_clear_at: Instant,
    last_sent_at: Instant,
    /// How long messages of the stream take from there.
    lag: Duration,
    listing: bool,
    audit: Audit,
    audits: u64,
    checking: bool,
    check_asked: bool,
    check_at: Instant,
    cut_until: Instant,
    trusted: bool,
    writes_until: Instant,
    last_trouble: Instant,
    shown: Option<Arc<ClusterView>>,
    shown_history: usize,
    /// What was found to be up to date: the view's version, the history and its revision.
    compared: (u64, usize, i64),
    relists: u64,
    doubts: u64,
    fresh: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let now = Instant::now();
        let has_ring = rng.random_bool(0.9);
        let trusted = rng.random_bool(0.5);
        let mut world = World {
            rng,
            start: now,
            now,
            state: State::new(has_ring),
            histories: vec![Epoch {
                first: 1,
                contents: vec![Contents::new()],
                changes: Vec::new(),
                parent: None,
            }],
            term: 2,
            compacted: 0,
            forgotten: 0,
            timeline: VecDeque::from([(now, 0, 1)]),
            arrivals: BinaryHeap::new(),
            contents_of_arrivals: Default::default(),
            sequence: 0,
            stream: 0,
            watchers: Vec::new(),
            in_buffer: 0,
            stream_clear_at: now,
            last_sent_at: now,
            lag: Duration::ZERO,
            listing: false,
            audit: Audit::None,
            audits: 0,
            checking: false,
            check_asked: false,
            check_at: now,
            cut_until: now,
            trusted,
            writes_until: now,
            last_trouble: now,
            shown: None,
            shown_history: 0,
            compared: (0, 0, 0),
            relists: 0,
            doubts: 0,
            fresh: 0,
        };
        world.steady_worker_joins();
        world.list();
        world
    }

    fn arrives(&mut self, after: Duration, arrival: Arrival) {
        self.sequence += 1;
        self.arrivals
            .push(Reverse((self.now + after, self.sequence)));
        self.contents_of_arrivals.insert(self.sequence, arrival);
    }

    fn trip(&mut self) -> Duration {
        Duration::from_micros(self.rng.random_range(100..20_000))
    }

    fn is_cut(&self) -> bool {
        self.now < self.cut_until
    }

    // --- what the server does ---

    fn history(&self) -> &Epoch {
        &self.histories[self.histories.len() - 1]
    }

    /// One transaction: all changes get one revision. None at all: somebody else's keys.
    fn write(&mut self, changes: &[(Key, Option<(i32, i64)>)]) {
        let place = self.histories.len() - 1;
        let revision = self.history().revision() + 1;
        if changes
            .iter()
            .any(|change| self.was_written(change, revision))
        {
            // Nothing would tell the two histories apart.
            self.write(&[]);
            return self.write(changes);
        }
        let history = &mut self.histories[place];
        let mut contents = history.now().clone();
        let mut made = Vec::new();
        for (key, value) in changes {
            let value = value.map(|(port, lease)| Value {
                port,
                stamp: Stamp {
                    mod_revision: revision,
                    lease,
                },
            });
            match value {
                Some(value) => {
                    contents.insert(*key, value);
                    made.push((revision, *key, Some(value)));
                }
                None if contents.remove(key).is_some() => made.push((revision, *key, None)),
                None => {}
            }
        }
        history.contents.push(contents);
        history.changes.extend(&made);
        self.timeline.push_back((self.now, place, revision));
        // Synced watches get it at once, the older watch first.
        for number in 0..self.watchers.len() {
            let watcher = &self.watchers[number];
            let events: Vec<Change> = made
                .iter()
                .filter(|(_, key, _)| range_of(*key) == watcher.range)
                .copied()
                .collect();
            if !watcher.synced || events.is_empty() {
                continue;
            }
            if self.in_buffer >= BUFFER {
                let watcher = &mut self.watchers[number];
                watcher.synced = false;
                watcher.next = revision + 1;
                watcher.victim = Some((revision, events));
                self.catch_up_later(number);
                continue;
            }
            self.watchers[number].next = revision + 1;
            self.send_in_parts(revision, events);
        }
    }

    /// Whether a key without a lease was written at the same revision of a history that is lost.
    fn was_written(&self, (key, value): &(Key, Option<(i32, i64)>), revision: i64) -> bool {
        let lost = &self.histories[..self.histories.len() - 1];
        matches!(value, Some((_, 0)))
            && lost.iter().any(|lost| {
                let known = lost.at(revision).and_then(|contents| contents.get(key));
                known.is_some_and(|known| known.stamp.mod_revision == revision)
            })
    }

    /// Now and then in fragments.
    fn send_in_parts(&mut self, revision: i64, events: Vec<Change>) {
        let split = if events.len() > 1 && self.rng.random_bool(0.3) {
            self.rng.random_range(1..events.len())
        } else {
            events.len()
        };
        let (first, rest) = events.split_at(split);
        self.send(FromServer::Events(revision, first.to_vec()));
        if !rest.is_empty() {
            self.send(FromServer::Events(revision, rest.to_vec()));
        }
    }

    fn send(&mut self, message: FromServer) {
        if self.is_cut() {
            // The stream is cut too: it will break.
            return;
        }
        let trip = self.trip();
        // What was sent in one go arrives in one.
        let pause = Duration::from_micros(20);
        let at = if self.last_sent_at == self.now {
            self.stream_clear_at + pause
        } else {
            (self.now + trip).max(self.stream_clear_at + pause)
        };
        self.last_sent_at = self.now;
        self.stream_clear_at = at;
        self.in_buffer += 1;
        let stream = self.stream;
        self.arrives(at - self.now, Arrival::LeftServer(stream));
        self.arrives(at + self.lag - self.now, Arrival::Stream(stream, message));
    }

    fn catch_up_later(&mut self, number: usize) {
        let pause = Duration::from_millis(self.rng.random_range(1..120));
        let stream = self.stream;
        self.arrives(pause, Arrival::CatchUp(stream, number));
    }

    /// A watch that was behind is sent what it lacks, and counts as synced.
    fn catch_up(&mut self, number: usize) {
        let Some(watcher) = self.watchers.get_mut(number) else {
            return;
        };
        if self.in_buffer >= BUFFER {
            return self.catch_up_later(number);
        }
        let (next, range) = (watcher.next, watcher.range);
        let victim = watcher.victim.take();
        let history = self.history();
        let revision = history.revision();
        if let Some((at, events)) = victim {
            self.watchers[number].synced = next > revision;
            self.send_in_parts(at, events);
            if next <= revision {
                self.catch_up_later(number);
            }
            return;
        }
        let missed: Vec<Change> = history
            .changes
            .iter()
            .filter(|(at, key, _)| *at >= next && range_of(*key) == range)
            .copied()
            .collect();
        let watcher = &mut self.watchers[number];
        watcher.synced = true;
        watcher.next = watcher.next.max(revision + 1);
        if !missed.is_empty() {
            self.send_in_parts(revision, missed);
        }
    }

    fn open_watch(&mut self, from: [Option<i64>; 2]) {
        self.watchers.clear();
        self.in_buffer = 0;
        let revision = self.history().revision();
        for (range, from) in [Range::Live, Range::Ring].into_iter().zip(from) {
            let Some(from) = from else { continue };
            self.send(FromServer::Created(revision));
            if from <= self.compacted {
                self.send(FromServer::Compacted);
                return;
            }
            let synced = from > revision;
            self.watchers.push(Watcher {
                range,
                synced,
                next: from,
                victim: None,
            });
            if !synced {
                self.catch_up_later(self.watchers.len() - 1);
            }
        }
    }

    fn progress(&mut self) {
        if !self.watchers.is_empty() && self.watchers.iter().all(|watcher| watcher.synced) {
            let revision = self.history().revision();
            self.send(FromServer::Progress(revision));
        }
    }

    fn listing_of(&self, asked_at: Instant) -> Listed {
        let history = self.history();
        let table = |range| Table::new(prefix(range), history.revision());
        let mut tables = Tables {
            ring: self.state.has_ring().then(|| table(Range::Ring)),
            live: table(Range::Live),
        };
        let [ring, live] = [Range::Ring, Range::Live].map(|range| {
            let contents = history.now().iter();
            let of_range = contents.filter(|(key, _)| range_of(**key) == range);
            of_range.map(Put::new).collect::<Vec<_>>()
        });
        tables.add_page(
            &ring[..if self.state.has_ring() { ring.len() } else { 0 }],
            &live,
        );
        Listed {
            tables,
            revision: history.revision(),
            term: self.term,
            asked_at,
        }
    }

    fn lose_data(&mut self) {
        let last = self.history().revision();
        let oldest = self.history().first.max(last - 30);
        // A wiped etcd begins anew, a restored one at an older revision.
        let (first, contents) = if self.rng.random_bool(0.6) {
            (1, Contents::new())
        } else {
            let revision = self.rng.random_range(oldest..=last);
            (
                revision,
                self.history().at(revision).cloned().unwrap_or_default(),
            )
        };
        let is_wiped = contents.is_empty() && first == 1;
        let parent = self.histories.len() - 1;
        self.histories.push(Epoch {
            first,
            contents: vec![contents],
            changes: Vec::new(),
            parent: (!is_wiped).then_some(parent),
        });
        // What came before a backup cannot be watched, but perhaps be read.
        self.compacted = if first > 1 { first } else { 0 };
        if is_wiped || self.rng.random_bool(0.3) {
            self.forgotten = self.compacted;
        }
        self.term = 2;
        let place = self.histories.len() - 1;
        self.timeline.push_back((self.now, place, first));
        self.break_stream();
        self.cut_until = self.now + Duration::from_millis(self.rng.random_range(50..1_500));
        self.trouble_until(self.cut_until);
        // Everybody comes back before anyone can ask: the revision may grow beyond the old one.
        for _ in 0..self.rng.random_range(0..60) {
            self.write_something();
        }
        // A worker whose lease is in the backup notices nothing.
        if self.rng.random_bool(0.5) || !self.history().now().contains_key(&(1, STEADY)) {
            self.steady_worker_joins();
        }
    }

    // --- what the driver does, as the real one ---

    fn list(&mut self) {
        self.listing = true;
        self.checking = false;
        self.stream += 1;
        self.watchers.clear();
        let trip = self.trip();
        self.arrives(trip, Arrival::ListReachesServer);
    }

    fn relist(&mut self) {
        self.relists += 1;
        self.list();
    }

    fn watch(&mut self) {
        self.stream += 1;
        self.in_buffer = 0;
        self.stream_clear_at = self.now;
        self.lag = Duration::ZERO;
        if self.rng.random_bool(0.2) {
            self.lag = Duration::from_millis(self.rng.random_range(1..500));
        }
        let from = self.state.watch_opens();
        let (stream, trip) = (self.stream, self.trip());
        self.arrives(trip, Arrival::OpenWatch(stream, from));
        // Any stream ends at some time.
        let life = Duration::from_millis(self.rng.random_range(100..30_000));
        self.arrives(life, Arrival::StreamBroke(stream));
    }

    fn break_stream(&mut self) {
        self.watchers.clear();
        let stream = self.stream;
        self.arrives(Duration::from_millis(1), Arrival::StreamBroke(stream));
    }

    fn audit_begins(&mut self) {
        self.audit = Audit::UnderWay;
        self.state.audit_begins();
        let trip = self.trip();
        self.arrives(trip, Arrival::AuditReachesServer);
    }

    /// The view was found to be etcd's of this time.
    fn audit_as_of(&mut self, asked_at: Instant) {
        match std::mem::replace(&mut self.audit, Audit::None) {
            Audit::Came(listed, history, came_at) if asked_at >= came_at => {
                let drift = self.state.audit_ends(Some(&listed));
                // In another history anything may be otherwise.
                if history == self.histories.len() {
                    assert_eq!(drift, 0, "what was proven was wrong");
                    self.audits += 1;
                }
            }
            other => self.audit = other,
        }
    }

    fn check(&mut self) {
        self.checking = true;
        self.check_asked = false;
        let question = self.state.question(self.now);
        let trip = self.trip();
        self.arrives(trip, Arrival::ProbeReachesServer(question));
    }

    fn check_ended(&mut self, question: &Question, verdict: Option<Verdict>) {
        self.checking = false;
        let why = match verdict {
            Some(verdict) => {
                if verdict == Verdict::Fresh {
                    self.is_fresh_since(question.asked_at);
                    self.audit_as_of(question.asked_at);
                }
                self.state.checked(verdict, self.now)
            }
            None => {
                self.state.check_failed();
                None
            }
        };
        if let Some(why) = why {
            self.doubts += u64::from(why == Relist::Doubtful);
            self.relist();
            return;
        }
        self.check_at = self.now + self.state.check_in(self.now).max(Duration::from_millis(20));
    }

    fn handle(&mut self, arrival: Arrival) {
        let trip = self.trip();
        match arrival {
            Arrival::ListReachesServer => {
                let listed = (!self.is_cut()).then(|| self.listing_of(self.now));
                self.arrives(trip, Arrival::Listing(listed));
            }
            Arrival::Listing(None) => {
                let pause = Duration::from_millis(self.rng.random_range(50..500));
                self.arrives(pause, Arrival::ListReachesServer);
            }
            Arrival::Listing(Some(listed)) => {
                let asked_at = listed.asked_at;
                self.state.listed(listed);
                self.listing = false;
                self.is_fresh_since(asked_at);
                self.check_at = self.now + self.state.check_in(self.now);
                self.watch();
            }
            Arrival::AuditReachesServer => {
                let listed = (!self.is_cut()).then(|| self.listing_of(self.now));
                self.arrives(trip, Arrival::Audit(listed, self.histories.len()));
            }
            Arrival::Audit(Some(listed), history) => {
                self.audit = Audit::Came(listed, history, self.now);
            }
            Arrival::Audit(None, _) => {
                self.state.audit_ends(None);
                self.audit = Audit::None;
            }
            Arrival::OpenWatch(stream, from) if stream == self.stream => {
                if self.is_cut() {
                    self.break_stream();
                } else {
                    self.open_watch(from);
                }
            }
            Arrival::CatchUp(stream, number) if stream == self.stream => self.catch_up(number),
            Arrival::AskProgress(stream) if stream == self.stream && !self.is_cut() => {
                self.progress();
            }
            Arrival::LeftServer(stream) if stream == self.stream => {
                self.in_buffer = self.in_buffer.saturating_sub(1);
            }
            Arrival::Stream(stream, message) if stream == self.stream => self.message(&message),
            Arrival::StreamBroke(stream) if stream == self.stream && !self.listing => {
                self.watchers.clear();
                self.watch();
            }
            Arrival::ProbeReachesServer(question) => {
                let answer = (!self.is_cut()).then(|| {
                    let history = self.history();
                    Answer {
                        revision: history.revision(),
                        term: self.term,
                        past: self.remembers(&question.past),
                    }
                });
                self.arrives(trip, Arrival::Probe(question, answer));
            }
            Arrival::Probe(question, answer) if !self.listing => match answer {
                None => self.check_ended(&question, None),
                Some(answer) => match self.state.answered(&question, answer) {
                    Next::Done(verdict) => self.check_ended(&question, Some(verdict)),
                    Next::Compare if self.trusted => {
                        let stream = self.stream;
                        self.arrives(trip, Arrival::AskProgress(stream));
                        let patience = Duration::from_millis(300);
                        self.arrives(patience, Arrival::ProgressWasAwaited(question));
                    }
                    Next::Compare => self.ask_for_proof(question),
                },
            },
            Arrival::ProgressWasAwaited(question) if !self.listing => {
                if self.state.is_settled(&question) {
                    self.check_ended(&question, Some(Verdict::Fresh));
                } else {
                    self.ask_for_proof(question);
                }
            }
            Arrival::ProofReachesServer(question, claims) => {
                let answer = (!self.is_cut()).then(|| {
                    let history = self.history();
                    let holds = |claim: &Claim| {
                        let keys = || {
                            let contents = history.now().iter();
                            contents.filter(|(key, _)| range_of(**key) == claim.range)
                        };
                        keys().count() == claim.len
                            && keys().all(|(_, value)| value.stamp.mod_revision <= claim.applied)
                    };
                    claims.iter().all(holds).then(|| history.revision())
                });
                self.arrives(trip, Arrival::Proof(question, claims, answer));
            }
            Arrival::Proof(question, claims, answer) if !self.listing => {
                let verdict = answer.map(|at| self.state.proven(&question, &claims, at));
                self.check_ended(&question, verdict);
            }
            // Of a stream or a check that is given up.
            _ => {}
        }
    }

    /// The contents at a revision, of the time before a backup too.
    fn past(&self, revision: i64) -> Option<&Contents> {
        let mut history = self.history();
        while revision < history.first {
            history = &self.histories[history.parent?];
        }
        history.at(revision)
    }

    fn remembers(&self, past: &[Memory]) -> Past {
        let is_known = |memory: &Memory| {
            memory.revision >= self.forgotten && self.past(memory.revision).is_some()
        };
        if past.is_empty() || !past.iter().all(is_known) {
            return Past::Unknown;
        }
        let is_same = |memory: &Memory| {
            let contents = self.past(memory.revision).expect("known");
            let keys = || {
                let of_range = contents.iter();
                of_range.filter(|(key, _)| range_of(**key) == memory.range)
            };
            let newest = memory.newest.as_ref();
            let later = newest.map_or(0, |(_, stamp)| stamp.mod_revision);
            newest.is_none_or(|(name, stamp)| {
                keys().any(|(key, value)| name_of(*key) == *name && value.stamp == *stamp)
            }) && memory.len.is_none_or(|len| {
                keys().count() == len && keys().all(|(_, value)| value.stamp.mod_revision <= later)
            })
        };
        match past.iter().all(is_same) {
            true => Past::Same,
            false => Past::Other,
        }
    }

    fn ask_for_proof(&mut self, question: Question) {
        let (claims, trip) = (self.state.claims(), self.trip());
        self.arrives(trip, Arrival::ProofReachesServer(question, claims));
    }

    fn message(&mut self, message: &FromServer) {
        let none = Vec::new();
        let (kind, revision, changes) = match message {
            FromServer::Compacted => return self.relist(),
            FromServer::Created(revision) => (Kind::Created, *revision, &none),
            FromServer::Progress(revision) => (Kind::Progress, *revision, &none),
            FromServer::Events(revision, changes) => (Kind::Events, *revision, changes),
        };
        let owned: Vec<OwnedEvent> = changes
            .iter()
            .map(|(mod_revision, key, value)| {
                let deleted = Stamp {
                    mod_revision: *mod_revision,
                    lease: 0,
                };
                OwnedEvent {
                    range: range_of(*key),
                    key: name_of(*key),
                    value: value.map(|value| bytes_of(*key, &value)),
                    stamp: value.map_or(deleted, |value| value.stamp),
                }
            })
            .collect();
        let events = owned.iter().map(OwnedEvent::as_event).collect();
        let message = Message {
            kind,
            revision,
            events,
        };
        let fresh_before = self.state.fresh_at();
        self.check_asked |= self.state.message(&message, self.now);
        if self.state.fresh_at() > fresh_before
            && let Some(at) = self.state.fresh_at()
        {
            self.is_fresh_since(at);
        }
    }

    // --- what happens to them ---

    fn steady_worker_joins(&mut self) {
        let lease = self.rng.random_range(1..i64::MAX);
        self.write(&[((0, STEADY), Some((1, 0))), ((1, STEADY), Some((1, lease)))]);
    }

    fn write_something(&mut self) {
        let id = self.rng.random_range(1..STEADY);
        let (port, lease) = (
            self.rng.random_range(1..4),
            self.rng.random_range(1..i64::MAX),
        );
        let (ring, live) = ((0, id), (1, id));
        match self.rng.random_range(0..8) {
            0 => self.write(&[]),
            1 => self.write(&[(ring, Some((port, 0)))]),
            2 => self.write(&[(ring, None)]),
            3..=5 => self.write(&[(live, Some((port, lease)))]),
            6 => self.write(&[(live, None)]),
            // A worker joins. One transaction over both keys of a known one may be seen in two steps.
            _ => {
                let known = [ring, live].map(|key| self.history().now().contains_key(&key));
                match known {
                    [false, false] => {
                        self.write(&[(ring, Some((port, 0))), (live, Some((port, lease)))]);
                    }
                    [false, true] => self.write(&[(ring, Some((port, 0)))]),
                    [true, _] => self.write(&[(live, Some((port, lease)))]),
                }
            }
        }
    }

    fn trouble_until(&mut self, until: Instant) {
        self.last_trouble = self.last_trouble.max(until);
    }

    fn misfortune(&mut self) {
        let now = self.now;
        match self.rng.random_range(0..3_000) {
            0..=2 => {
                self.break_stream();
                self.trouble_until(now);
            }
            3 => {
                let length = Duration::from_millis(self.rng.random_range(10..6_000));
                self.cut_until = now + length;
                self.trouble_until(now + length);
                self.break_stream();
            }
            4 => self.lose_data(),
            5..=6 => {
                self.compacted = self.history().revision();
                self.forgotten = self.compacted;
            }
            7 => self.term += 1,
            201..=210 if matches!(self.audit, Audit::None) => self.audit_begins(),
            // Many writes at once.
            8..=9 => {
                for _ in 0..self.rng.random_range(20..400) {
                    self.write_something();
                }
                self.trouble_until(now);
            }
            // And many for a while.
            10..=12 => {
                let length = Duration::from_millis(self.rng.random_range(10..8_000));
                self.writes_until = now + length;
                self.trouble_until(now + length);
            }
            13..=200 => {
                self.write_something();
                self.trouble_until(now);
            }
            _ => {}
        }
    }

    fn step(&mut self) {
        let mut next = self.now + Duration::from_millis(100);
        if let Some(Reverse((at, _))) = self.arrivals.peek() {
            next = next.min(*at);
        }
        if !self.listing && !self.checking {
            next = next.min(self.check_at);
        }
        if let Some(at) = self.state.show_at() {
            next = next.min(at);
        }
        if self.now < self.writes_until {
            // Up to thousands a second.
            let pause = Duration::from_micros(self.rng.random_range(200..5_000));
            next = next.min(self.now + pause);
        }
        self.now = next.max(self.now);
        self.state.show(self.now);
        self.look();
        if self.now < self.writes_until {
            self.write_something();
        }
        while let Some(Reverse((at, number))) = self.arrivals.peek().copied()
            && at <= self.now
        {
            self.arrivals.pop();
            if let Some(arrival) = self.contents_of_arrivals.remove(&number) {
                self.handle(arrival);
                self.look();
            }
        }
        let due = self.now >= self.check_at || self.check_asked;
        if !self.listing && !self.checking && due {
            self.check();
        }
        self.misfortune();
        self.look();
        self.is_up_to_date();
        while self.timeline.len() > 20_000 {
            self.timeline.pop_front();
        }
    }

    // --- what must hold ---

    /// What a view of these contents shows: state and port of each worker, and the live ones' ports.
    fn expected(&self, contents: &Contents) -> Shown {
        let port = |key| contents.get(&key).map(|value: &Value| value.port);
        let ids = || 1..=STEADY;
        let live: Vec<(i64, i32)> = ids().filter_map(|id| Some((id, port((1, id))?))).collect();
        let all = if self.state.has_ring() {
            ids()
                .filter_map(|id| {
                    let state = match port((1, id)) {
                        Some(_) => WorkerState::Live,
                        None => WorkerState::Lost,
                    };
                    Some((id, port((0, id))?, state))
                })
                .collect()
        } else {
            live.iter()
                .map(|(id, port)| (*id, *port, WorkerState::Live))
                .collect()
        };
        (all, live)
    }

    /// Looks at the view that is shown now.
    fn look(&mut self) {
        let Some(view) = self.state.view() else {
            return;
        };
        let before = self.shown.replace(view.clone());
        if before
            .as_ref()
            .is_some_and(|before| Arc::ptr_eq(before, &view))
        {
            return;
        }
        let went_back = before
            .as_ref()
            .is_some_and(|before| view.revision() < before.revision());
        let of_history = |number: &usize| {
            let contents = self.histories[*number].at(view.revision());
            let is_it = contents.is_some_and(|contents| self.expected(contents) == shown(&view));
            is_it && (!went_back || *number > self.shown_history)
        };
        // The oldest that it may be of: what a backup has is the same in both, and a view of the lost history may be
        // shown for as long as nobody has noticed.
        let history = (self.shown_history..self.histories.len()).find(of_history);
        let history = history.unwrap_or_else(|| {
            panic!(
                "version {} at revision {}, after {:?}, is not etcd's: {:?}\nhistory: {:?}",
                view.version(),
                view.revision(),
                before.as_ref().map(|before| before.revision()),
                shown(&view),
                self.history()
                    .at(view.revision())
                    .map(|it| self.expected(it)),
            )
        });
        if let Some(before) = before {
            assert!(view.version() > before.version(), "a version twice");
        }
        self.shown_history = history;
    }

    /// The view counts as etcd's of a moment after `asked_at`: it must be.
    fn is_fresh_since(&mut self, asked_at: Instant) {
        self.fresh += 1;
        self.look();
        let Some(view) = self.state.view() else {
            panic!("fresh, but nothing to show");
        };
        let view = shown(&view);
        let mut moments = self.timeline.iter().rev();
        let mut is_fresh = false;
        for (at, history, revision) in &mut moments {
            let contents = self.histories[*history].at(*revision);
            is_fresh |= contents.is_some_and(|contents| self.expected(contents) == view);
            if *at < asked_at || is_fresh {
                break;
            }
        }
        let now = self.expected(self.history().now());
        assert!(
            is_fresh,
            "taken for fresh, but older than {:?} before now: {view:?}, now {now:?}",
            self.now - asked_at
        );
    }

    fn is_up_to_date(&mut self) {
        if self.now < self.last_trouble + Duration::from_secs(8) {
            return;
        }
        let now = (
            self.state.version(),
            self.histories.len(),
            self.history().revision(),
        );
        if std::mem::replace(&mut self.compared, now) != now {
            let expected = self.expected(self.history().now());
            let view = self.state.view().expect("listed long ago");
            assert_eq!(
                shown(&view),
                expected,
                "{:?} after the start, not up to date after 8 s",
                self.now - self.start
            );
        }
        let age = self.state.fresh_at().map(|at| self.now - at);
        assert!(age < Some(Duration::from_secs(6)), "not fresh: {age:?}");
    }
}

/// Each worker's port and state, and the live ones' ports.
type Shown = (Vec<(i64, i32, WorkerState)>, Vec<(i64, i32)>);

fn shown(view: &ClusterView) -> Shown {
    let id = |worker: &Worker| match worker.identity {
        WorkerIdentity::V0(id) => id,
        WorkerIdentity::V1(_) => unreachable!("no such worker is written"),
    };
    let all = view.members(MemberFilter::All).iter();
    let live = view.members(MemberFilter::Live).iter();
    let mut shown: Shown = (
        all.map(|it| (id(&it.worker), it.worker.address.rpc_port, it.state))
            .collect(),
        live.map(|it| (id(&it.worker), it.worker.address.rpc_port))
            .collect(),
    );
    shown.0.sort_by_key(|it| it.0);
    shown.1.sort_by_key(|it| it.0);
    shown
}

#[test]
fn every_generated_history_is_shown_as_it_was() {
    let number = 40 * histories::times();
    let (mut fresh, mut relists, mut doubts, mut losses, mut audits) = (0, 0, 0, 0, 0);
    let mut simulated = Duration::ZERO;
    for seed in 0..number {
        let mut world = World::new(seed);
        histories::run(&format!("seed {seed}"), || {
            for _ in 0..10_000 {
                world.step();
            }
        });
        fresh += world.fresh;
        relists += world.relists;
        doubts += world.doubts;
        losses += world.histories.len() - 1;
        audits += world.audits;
        simulated += world.now - world.start;
    }
    eprintln!(
        "{simulated:?} simulated: {fresh} times fresh, {relists} listings ({doubts} for doubt), data lost {losses} times, {audits} audits"
    );
    // They were eventful, and the view was found to be etcd's every 1.4 s at least: longer histories, more often.
    assert!(fresh as f64 > simulated.as_secs_f64() / 1.4);
    assert!(relists > 2 * number && losses > 0 && audits > number);
}
