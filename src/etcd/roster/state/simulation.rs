//! Runs the roster's decisions against a simulated etcd and network, on a clock that jumps from
//! event to event.
//!
//! These rules must hold. Every view shows each range as etcd had it at that range's revision. A
//! view that counts as fresh shows etcd at a moment after the question. Versions grow, and no range
//! goes back in its revision unless etcd does. Some seconds after the last fault the view equals
//! etcd.
//!
//! The simulated etcd counts watches as synced, catches up, overflows, compacts, loses its data and
//! is restored like a real etcd. In some histories it loses, delays or reorders a single change. In
//! that case the rules must hold again half a minute later.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::etcd::histories;
use crate::etcd::roster::row::Pair;
use crate::etcd::roster::tables::Table;
use crate::record;
use crate::view::{MemberFilter, RangeRevisions};
use crate::worker::{Worker, WorkerIdentity, WorkerNetAddress, WorkerState};

const RING: &str = "/r/";
const LIVE: &str = "/l/";
/// etcd's buffer for the messages of a stream.
const BUFFER: usize = 128;
/// How long after the last fault the view may differ from etcd: changes are late, then the next
/// listing waits.
const UP_TO_DATE: Duration = Duration::from_secs(12);
/// How long a change that the watch lost may remain unnoticed: the longest doubt, a check, and a
/// listing.
const NOTICED: Duration = Duration::from_secs(36);

fn prefix(range: KeyRange) -> &'static str {
    match range {
        KeyRange::Ring => RING,
        KeyRange::Live => LIVE,
    }
}

/// A worker that does not change unless etcd loses its data. The workers from 1 on come and go.
const STEADY: i64 = 6;

/// A key: its range and its worker.
type Key = (u8, i64);

fn range_of(key: Key) -> KeyRange {
    if key.0 == 0 {
        KeyRange::Ring
    } else {
        KeyRange::Live
    }
}

fn name_of(key: Key) -> Vec<u8> {
    let identity = WorkerIdentity::V0(key.1);
    format!("{}{identity}", prefix(range_of(key))).into_bytes()
}

/// The value of a key. Each record has its own port.
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

/// A key-value pair of a listing.
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

/// A write of a key at a revision; `None` for a deletion.
type Written = (i64, Key, Option<Value>);

/// etcd's judgement of claims, or `None` if it does not answer.
type Judged = Option<(i64, Vec<Judgement>)>;

/// One history of etcd, from its beginning to its loss.
struct Epoch {
    /// The contents at each revision, from the first one on.
    first: i64,
    contents: Vec<Contents>,
    changes: Vec<Written>,
    /// The history from which this one was restored.
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
    range: KeyRange,
    synced: bool,
    /// The watch has sent everything before this revision.
    next: i64,
    /// Changes that did not fit into the stream's buffer. They are sent unchanged before all
    /// others.
    victim: Option<(i64, Vec<Written>)>,
}

enum FromServer {
    Created(i64),
    Compacted,
    /// The changes of one watch, and whether more of them follow.
    Events(i64, Vec<Written>, bool),
    Progress(i64),
}

/// Something that arrives later.
enum Arrival {
    Listing(Option<Listed>),
    Probe(FreshnessProbe, Option<ProbeReply>),
    ClaimsReachServer(FreshnessProbe, Vec<Claim>),
    Claims(FreshnessProbe, Vec<Claim>, Judged),
    ProofsReachServer(Proofs),
    Proofs(Proofs, Judged),
    PresentReachesServer(Proofs, Vec<Judgement>),
    /// The other key of a worker did not arrive in time.
    Show(u64),
    /// A delayed message is sent.
    Late(u64, i64, Vec<Written>),
    /// A message of the stream is no longer in the server's buffer.
    LeftServer(u64),
    Stream(u64, FromServer),
    OpenWatch(u64, Vec<(KeyRange, i64)>),
    AskProgress(u64),
    ProgressWasAwaited(FreshnessProbe),
    StreamBroke(u64),
    CatchUp(u64, usize),
    ProbeReachesServer(FreshnessProbe),
    ListReachesServer,
}

struct World {
    rng: StdRng,
    start: BootTime,
    now: BootTime,
    state: State,
    histories: Vec<Epoch>,
    term: u64,
    /// Watches may begin after this revision.
    compacted: i64,
    /// Reads may begin at this revision. The time before a backup may be readable.
    forgotten: i64,
    /// The history and revision of etcd over time.
    timeline: VecDeque<(BootTime, usize, i64)>,
    arrivals: BinaryHeap<Reverse<(BootTime, u64)>>,
    contents_of_arrivals: std::collections::HashMap<u64, Arrival>,
    sequence: u64,
    stream: u64,
    watchers: Vec<Watcher>,
    /// The messages of the stream in the server's buffer, and when the last one leaves it.
    in_buffer: usize,
    stream_clear_at: BootTime,
    last_sent_at: BootTime,
    /// How long messages of the stream take from there.
    lag: Duration,
    listing: bool,
    listed_at: BootTime,
    /// The number of listings in a row that did not last.
    relists_in_row: u32,
    checking: bool,
    check_asked: bool,
    check_at: BootTime,
    cut_until: BootTime,
    /// Until this time every watch ends as soon as it is open.
    refused_until: BootTime,
    /// Whether the watch sometimes loses, delays or reorders the changes of one message.
    misdelivers: bool,
    /// When the watch last did so.
    misdelivered_at: Option<BootTime>,
    /// Whether the next message will be lost or delayed.
    misdelivers_next: bool,
    /// The worker of that message. It is not written for some time, because its next change would
    /// reveal the loss.
    spared: Option<(i64, BootTime)>,
    trusted: bool,
    writes_until: BootTime,
    /// Until this time nothing new happens.
    quiet_until: BootTime,
    last_trouble: BootTime,
    shown: Option<Arc<ClusterView>>,
    shown_history: usize,
    /// The last confirmed state: the view's version, the history and its revision.
    compared: (u64, usize, i64),
    relists: Vec<Relist>,
    fresh: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let now = BootTime::now();
        let has_ring = rng.random_bool(0.9);
        let trusted = rng.random_bool(0.5);
        let misdelivers = rng.random_bool(0.4);
        let proof_after = PROOF_AFTER.mul_f64(rng.random_range(0.8..=1.2));
        let mut world = World {
            rng,
            start: now,
            now,
            state: State::new(has_ring, proof_after),
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
            listed_at: now,
            relists_in_row: 0,
            checking: false,
            check_asked: false,
            check_at: now,
            cut_until: now,
            refused_until: now,
            misdelivers,
            misdelivered_at: None,
            misdelivers_next: false,
            spared: None,
            trusted,
            writes_until: now,
            quiet_until: now,
            last_trouble: now,
            shown: None,
            shown_history: 0,
            compared: (0, 0, 0),
            relists: Vec::new(),
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

    // --- the server ---

    fn history(&self) -> &Epoch {
        &self.histories[self.histories.len() - 1]
    }

    /// Writes one transaction, with one revision for all changes. Without changes, it writes keys
    /// outside both ranges.
    fn write(&mut self, changes: &[(Key, Option<(i32, i64)>)]) {
        let place = self.histories.len() - 1;
        let revision = self.history().revision() + 1;
        if changes
            .iter()
            .any(|change| self.was_written(change, revision))
        {
            // Nothing would distinguish the two histories.
            self.write(&[]);
            return self.write(changes);
        }
        let history = &mut self.histories[place];
        let mut contents = history.now().clone();
        let mut made = Vec::new();
        for (key, value) in changes {
            let before = contents.get(key).map(|value| value.stamp);
            let value = value.map(|(port, lease)| Value {
                port,
                stamp: Stamp {
                    modified: revision,
                    created: before.map_or(revision, |stamp| stamp.created),
                    version: before.map_or(1, |stamp| stamp.version + 1),
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
        // Synced watches receive it at once, the older watch first.
        for number in 0..self.watchers.len() {
            let watcher = &self.watchers[number];
            let events: Vec<Written> = made
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

    /// Whether a key without a lease was written at the same revision of a lost history.
    fn was_written(&self, (key, value): &(Key, Option<(i32, i64)>), revision: i64) -> bool {
        let lost = &self.histories[..self.histories.len() - 1];
        matches!(value, Some((_, 0)))
            && lost.iter().any(|lost| {
                let known = lost.at(revision).and_then(|contents| contents.get(key));
                known.is_some_and(|known| known.stamp.modified == revision)
            })
    }

    /// Sends the changes, sometimes in fragments, and in some worlds with faults.
    fn send_in_parts(&mut self, revision: i64, mut events: Vec<Written>) {
        if std::mem::take(&mut self.misdelivers_next) {
            self.misdelivered_at = Some(self.now);
            let place = self.rng.random_range(0..events.len());
            let late = events.split_off(place);
            let (late, rest) = late.split_at(1);
            if self.rng.random_bool(0.5) {
                let (_, (_, id), _) = late[0];
                self.spared = Some((id, self.now + NOTICED));
            }
            events.extend(rest);
            if self.rng.random_bool(0.5) {
                let pause = Duration::from_millis(self.rng.random_range(1..3_000));
                let stream = self.stream;
                self.arrives(pause, Arrival::Late(stream, revision, late.to_vec()));
            }
            if events.is_empty() {
                return;
            }
        }
        let split = if events.len() > 1 && self.rng.random_bool(0.3) {
            self.rng.random_range(1..events.len())
        } else {
            events.len()
        };
        let (first, rest) = events.split_at(split);
        self.send(FromServer::Events(
            revision,
            first.to_vec(),
            !rest.is_empty(),
        ));
        if !rest.is_empty() {
            self.send(FromServer::Events(revision, rest.to_vec(), false));
        }
    }

    fn send(&mut self, message: FromServer) {
        if self.is_cut() {
            // The stream is cut too, so it will break.
            return;
        }
        let trip = self.trip();
        // Parts that were sent together arrive together.
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

    /// A watch that was behind receives the missing changes, and then counts as synced.
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
        let missed: Vec<Written> = history
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

    fn open_watch(&mut self, from: Vec<(KeyRange, i64)>) {
        self.watchers.clear();
        self.in_buffer = 0;
        let revision = self.history().revision();
        for (range, from) in from {
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

    fn listing_of(&self, asked_at: BootTime) -> Listed {
        let history = self.history();
        let mut tables = Tables {
            ring: self.state.has_ring().then(|| Table::new(RING)),
            live: Table::new(LIVE),
        };
        let [ring, live] = [KeyRange::Ring, KeyRange::Live].map(|range| {
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
        // A wiped etcd begins at revision 1, a restored one at an older revision.
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
        // Changes from before a backup cannot be watched, but may be readable.
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
        // All workers come back before etcd can be asked. The revision may grow beyond the old one.
        for _ in 0..self.rng.random_range(0..60) {
            self.write_something();
        }
        // A worker whose lease is in the backup notices nothing.
        if self.rng.random_bool(0.5) || !self.history().now().contains_key(&(1, STEADY)) {
            self.steady_worker_joins();
        }
    }

    // --- the driver, like the real one ---

    fn list(&mut self) {
        self.listing = true;
        self.checking = false;
        self.stream += 1;
        self.watchers.clear();
        let trip = self.trip();
        self.arrives(trip, Arrival::ListReachesServer);
    }

    fn relist(&mut self, why: Relist) {
        self.relists.push(why);
        if self.now > self.listed_at + Duration::from_secs(60) {
            self.relists_in_row = 0;
        }
        self.listing = true;
        self.checking = false;
        self.stream += 1;
        self.watchers.clear();
        let pause = match self.relists_in_row {
            0 => Duration::ZERO,
            times => {
                (Duration::from_millis(100) * 2u32.pow(times.min(10))).min(Duration::from_secs(5))
            }
        };
        self.relists_in_row += 1;
        let pause = pause.mul_f64(self.rng.random_range(0.5..=1.0));
        self.arrives(pause, Arrival::ListReachesServer);
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
        // Any stream ends at some time. Its end may reveal lost changes.
        let longest = if self.misdelivers { 300_000 } else { 30_000 };
        let life = Duration::from_millis(self.rng.random_range(100..longest));
        self.arrives(life, Arrival::StreamBroke(stream));
    }

    fn break_stream(&mut self) {
        self.watchers.clear();
        let stream = self.stream;
        self.arrives(Duration::from_millis(1), Arrival::StreamBroke(stream));
    }

    fn check(&mut self) {
        self.checking = true;
        self.check_asked = false;
        let probe = self.state.probe(self.now);
        let trip = self.trip();
        self.arrives(trip, Arrival::ProbeReachesServer(probe));
    }

    fn check_ended(&mut self, probe: &FreshnessProbe, verdict: Option<Verdict>) {
        let relist = verdict.and_then(|verdict| {
            if verdict == Verdict::Fresh {
                self.is_fresh_since(probe.asked_at);
            }
            self.state.checked(verdict, self.now)
        });
        if let Some(why) = relist {
            return self.relist(why);
        }
        let proofs = self.state.proofs(self.now);
        if verdict.is_some() && !proofs.claims.is_empty() {
            let trip = self.trip();
            return self.arrives(trip, Arrival::ProofsReachServer(proofs));
        }
        self.check_is_over();
    }

    fn check_is_over(&mut self) {
        self.checking = false;
        self.check_at = self.now + self.state.check_in().max(Duration::from_millis(20));
    }

    fn proofs_ended(&mut self, proofs: &Proofs, judgements: &[Judgement]) {
        match self.state.proven(proofs, judgements) {
            Some(why) => self.relist(why),
            None => self.check_is_over(),
        }
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
                self.listed_at = self.now;
                if self.misdelivered_at.is_some_and(|at| asked_at > at) {
                    self.misdelivered_at = None;
                }
                self.is_fresh_since(asked_at);
                self.check_at = self.now + self.state.check_in();
                self.watch();
            }
            Arrival::OpenWatch(stream, from) if stream == self.stream => {
                if self.is_cut() {
                    self.break_stream();
                } else if self.now < self.refused_until {
                    // The watch opens, and ends before it delivers anything.
                    let revision = self.history().revision();
                    for _ in from {
                        self.send(FromServer::Created(revision));
                    }
                    let pause = Duration::from_millis(self.rng.random_range(1..500));
                    self.arrives(pause, Arrival::StreamBroke(stream));
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
            Arrival::Late(stream, revision, events) if stream == self.stream => {
                self.send(FromServer::Events(revision, events, false));
            }
            Arrival::Stream(stream, message) if stream == self.stream => self.message(&message),
            Arrival::Show(stream) if stream == self.stream => self.state.show(),
            Arrival::StreamBroke(stream) if stream == self.stream && !self.listing => {
                self.watchers.clear();
                self.watch();
            }
            Arrival::ProbeReachesServer(probe) => {
                let reply = (!self.is_cut()).then(|| ProbeReply {
                    revision: self.history().revision(),
                    term: self.term,
                    past: self
                        .judge(&probe.past)
                        .into_iter()
                        .max()
                        .unwrap_or(Judgement::Unknown),
                });
                self.arrives(trip, Arrival::Probe(probe, reply));
            }
            Arrival::Probe(probe, reply) if !self.listing => match reply {
                None => self.check_ended(&probe, None),
                Some(reply) => match self.state.answered(&probe, reply) {
                    Step::Done(verdict) => self.check_ended(&probe, Some(verdict)),
                    Step::Compare if self.trusted => {
                        let stream = self.stream;
                        self.arrives(trip, Arrival::AskProgress(stream));
                        let patience = Duration::from_millis(300);
                        self.arrives(patience, Arrival::ProgressWasAwaited(probe));
                    }
                    Step::Compare => self.claim(probe),
                },
            },
            Arrival::ProgressWasAwaited(probe) if !self.listing => {
                if self.state.is_settled(&probe) {
                    self.check_ended(&probe, Some(Verdict::Fresh));
                } else {
                    self.claim(probe);
                }
            }
            Arrival::ClaimsReachServer(probe, claims) => {
                let judged = self.judged(&claims);
                self.arrives(trip, Arrival::Claims(probe, claims, judged));
            }
            Arrival::Claims(probe, claims, judged) if !self.listing => {
                let verdict = judged.map(|(revision, judgements)| {
                    self.state.judged(&probe, &claims, &judgements, revision)
                });
                self.check_ended(&probe, verdict);
            }
            Arrival::ProofsReachServer(proofs) => {
                let judged = self.judged(&proofs.claims);
                self.arrives(trip, Arrival::Proofs(proofs, judged));
            }
            Arrival::Proofs(proofs, judged) if !self.listing => match judged {
                None => self.check_is_over(),
                Some((_, judgements)) if judgements.contains(&Judgement::Unknown) => {
                    self.arrives(trip, Arrival::PresentReachesServer(proofs, judgements));
                }
                Some((_, judgements)) => self.proofs_ended(&proofs, &judgements),
            },
            // The answer arrives at once.
            Arrival::PresentReachesServer(proofs, mut judgements) if !self.listing => {
                let present: Vec<Claim> = proofs.claims.iter().map(Claim::of_the_present).collect();
                if let Some((_, of_present)) = self.judged(&present) {
                    for (judgement, of_present) in judgements.iter_mut().zip(of_present) {
                        if *judgement == Judgement::Unknown && of_present == Judgement::Holds {
                            *judgement = Judgement::Holds;
                        }
                    }
                }
                self.proofs_ended(&proofs, &judgements);
            }
            // An arrival of a stream or check that was given up.
            _ => {}
        }
    }

    /// Returns the contents of a history at a revision, also from before a backup.
    fn past(&self, mut history: usize, revision: i64) -> Option<&Contents> {
        while revision < self.histories[history].first {
            history = self.histories[history].parent?;
        }
        self.histories[history].at(revision)
    }

    fn judged(&self, claims: &[Claim]) -> Judged {
        (!self.is_cut()).then(|| (self.history().revision(), self.judge(claims)))
    }

    fn judge(&self, claims: &[Claim]) -> Vec<Judgement> {
        let judge = |claim: &Claim| {
            let contents = match claim.at {
                Some(at) if at < self.forgotten => None,
                Some(at) => self.past(self.histories.len() - 1, at),
                None => Some(self.history().now()),
            };
            let Some(contents) = contents else {
                return Judgement::Unknown;
            };
            let keys = || {
                let all = contents.iter();
                all.filter(|(key, _)| range_of(**key) == claim.range)
            };
            let later = keys().filter(|(_, value)| value.stamp.modified > claim.since);
            let later: Vec<(Vec<u8>, Stamp)> = later
                .map(|(key, value)| (name_of(*key), value.stamp))
                .collect();
            let limit = usize::try_from(claim.limit).expect("a limit");
            let sent: Vec<(&[u8], Stamp)> = later
                .iter()
                .take(limit)
                .map(|(key, stamp)| (key.as_slice(), *stamp))
                .collect();
            claim.judge(keys().count() as i64, &sent, later.len() > limit)
        };
        claims.iter().map(judge).collect()
    }

    fn claim(&mut self, probe: FreshnessProbe) {
        let (claims, trip) = (self.state.claims(), self.trip());
        self.arrives(trip, Arrival::ClaimsReachServer(probe, claims));
    }

    fn message(&mut self, message: &FromServer) {
        let (revision, kind) = match message {
            FromServer::Compacted => return self.relist(Relist::Compacted),
            FromServer::Created(revision) => (*revision, Kind::Created),
            FromServer::Progress(revision) => (*revision, Kind::Progress),
            FromServer::Events(revision, written, is_fragment) => {
                let change = |(modified, key, value): &Written| match value {
                    Some(value) => {
                        let pair = Pair {
                            key: &name_of(*key),
                            value: &bytes_of(*key, value),
                            stamp: value.stamp,
                        };
                        Change::put(prefix(range_of(*key)), pair)
                    }
                    None => Change::delete(&name_of(*key), *modified),
                };
                let kind = Kind::Changes {
                    range: range_of(written[0].1),
                    changes: written.iter().map(change).collect(),
                    is_fragment: *is_fragment,
                };
                (*revision, kind)
            }
        };
        let fresh_before = self.state.fresh_at();
        let reaction = self.state.message(Message { revision, kind }, self.now);
        if reaction.is_half {
            let stream = self.stream;
            self.arrives(Duration::from_millis(5), Arrival::Show(stream));
        } else {
            self.state.show();
        }
        self.check_asked |= reaction.check;
        if self.state.fresh_at() > fresh_before
            && let Some(at) = self.state.fresh_at()
        {
            self.is_fresh_since(at);
        }
        if let Some(why) = reaction.relist {
            self.relist(why);
        }
    }

    // --- events ---

    fn steady_worker_joins(&mut self) {
        let lease = self.rng.random_range(1..i64::MAX);
        self.write(&[((0, STEADY), Some((1, 0))), ((1, STEADY), Some((1, lease)))]);
    }

    fn write_something(&mut self) {
        let id = self.rng.random_range(1..STEADY);
        if self
            .spared
            .is_some_and(|(spared, until)| spared == id && self.now < until)
        {
            return self.write(&[]);
        }
        let (port, lease) = (
            self.rng.random_range(1..4),
            self.rng.random_range(1..i64::MAX),
        );
        let (ring, live) = ((0, id), (1, id));
        match self.rng.random_range(0..10) {
            0 => self.write(&[]),
            // A lease ends that both keys have.
            8 => self.write(&[(live, None), ((1, id % (STEADY - 1) + 1), None)]),
            // A worker comes or goes.
            9 => {
                self.write(&[(live, Some((port, lease)))]);
                self.write(&[(live, None)]);
            }
            1 => self.write(&[(ring, Some((port, 0)))]),
            2 => self.write(&[(ring, None)]),
            3..=5 => self.write(&[(live, Some((port, lease)))]),
            6 => self.write(&[(live, None)]),
            // A worker joins. One transaction over both keys of a known worker may be visible in
            // two steps.
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

    fn trouble_until(&mut self, until: BootTime) {
        self.last_trouble = self.last_trouble.max(until);
    }

    fn misfortune(&mut self) {
        let now = self.now;
        if now < self.quiet_until {
            return;
        }
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
            // For a while nothing can be watched, but everything can be read.
            201..=202 => {
                let length = Duration::from_millis(self.rng.random_range(10..60_000));
                self.refused_until = now + length;
                self.break_stream();
            }
            231..=233 => self.quiet_until = now + UP_TO_DATE * 2,
            203..=230 if self.misdelivers && self.misdelivered_at.is_none() => {
                self.misdelivers_next = true;
            }
            // Many writes at once.
            8..=9 => {
                for _ in 0..self.rng.random_range(20..400) {
                    self.write_something();
                }
                self.trouble_until(now);
            }
            // Many writes for a while.
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
        if self.now < self.writes_until {
            // Up to thousands a second.
            let pause = Duration::from_micros(self.rng.random_range(200..5_000));
            next = next.min(self.now + pause);
        }
        self.now = next.max(self.now);
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

    // --- rules ---

    /// Whether the watch has lost or delayed a change that may still be unnoticed.
    fn may_be_wrong(&self) -> bool {
        self.misdelivered_at
            .is_some_and(|at| self.now < (at + NOTICED).max(self.cut_until + UP_TO_DATE))
    }

    /// Returns the expected view of these contents.
    fn expected(&self, contents: &Contents) -> Shown {
        self.expected_of(contents, contents)
    }

    /// Returns the expected view of these ring and live keys: state and port of each worker, and
    /// the ports of live workers.
    fn expected_of(&self, ring: &Contents, live: &Contents) -> Shown {
        let port = |contents: &Contents, key| contents.get(&key).map(|value: &Value| value.port);
        let ids = || 1..=STEADY;
        let shown_live: Vec<(i64, i32)> = ids()
            .filter_map(|id| Some((id, port(live, (1, id))?)))
            .collect();
        let all = if self.state.has_ring() {
            ids()
                .filter_map(|id| {
                    let state = match port(live, (1, id)) {
                        Some(_) => WorkerState::Live,
                        None => WorkerState::Lost,
                    };
                    Some((id, port(ring, (0, id))?, state))
                })
                .collect()
        } else {
            shown_live
                .iter()
                .map(|(id, port)| (*id, *port, WorkerState::Live))
                .collect()
        };
        (all, shown_live)
    }

    /// Returns the expected view of a history at these revisions.
    fn expected_at(&self, history: usize, revisions: RangeRevisions) -> Option<Shown> {
        let ring = self.past(history, revisions.ring)?;
        let live = self.past(history, revisions.live)?;
        Some(self.expected_of(ring, live))
    }

    /// Checks the present view.
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
        let revisions = view.revisions();
        let went_back = before.as_ref().is_some_and(|before| {
            let before = before.revisions();
            revisions.ring < before.ring || revisions.live < before.live
        });
        let of_history = |number: &usize| {
            let is_it = self.expected_at(*number, revisions) == Some(shown(&view));
            is_it && (!went_back || *number > self.shown_history)
        };
        // The oldest possible history of the view. A backup shares its contents with the lost
        // history, and the lost history may be shown until the loss is noticed.
        let history = (self.shown_history..self.histories.len()).find(of_history);
        let history = history.unwrap_or_else(|| {
            assert!(
                self.may_be_wrong(),
                "version {} at {revisions:?}, after {:?}, is not etcd's: {:?}\nhistory: {:?}",
                view.version(),
                before.as_ref().map(|before| before.revisions()),
                shown(&view),
                self.expected_at(self.histories.len() - 1, revisions),
            );
            self.shown_history
        });
        if let Some(before) = before {
            assert!(view.version() > before.version(), "a version twice");
        }
        self.shown_history = history;
    }

    /// Checks a view that counts as confirmed for a moment after `asked_at`.
    fn is_fresh_since(&mut self, asked_at: BootTime) {
        self.fresh += 1;
        self.look();
        if self.may_be_wrong() {
            return;
        }
        let Some(view) = self.state.view() else {
            panic!("fresh, but nothing to show");
        };
        let view = shown(&view);
        // The moments since the question, and the one before.
        let mut moments = Vec::new();
        for (at, history, revision) in self.timeline.iter().rev() {
            moments.extend(self.histories[*history].at(*revision));
            if *at < asked_at {
                break;
            }
        }
        let live = moments.iter().find(|live| self.expected(live).1 == view.1);
        let is_fresh = live.is_some_and(|live| {
            let shows = |ring| self.expected_of(ring, live) == view;
            moments.iter().any(|ring| shows(ring))
        });
        let now = self.expected(self.history().now());
        assert!(
            is_fresh,
            "taken for fresh, but older than {:?} before now: {view:?}, now {now:?}",
            self.now - asked_at
        );
    }

    fn is_up_to_date(&mut self) {
        if self.may_be_wrong() || self.now < self.last_trouble + UP_TO_DATE {
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
                "{:?} after the start, not up to date after {UP_TO_DATE:?}",
                self.now - self.start
            );
        }
        let age = self.state.fresh_at().map(|at| self.now - at);
        assert!(age < Some(Duration::from_secs(10)), "not fresh: {age:?}");
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
    let (mut fresh, mut relists, mut losses) = (0, Vec::new(), 0);
    let mut simulated = Duration::ZERO;
    for seed in 0..number {
        let mut world = World::new(seed);
        histories::run(&format!("seed {seed}"), || {
            for _ in 0..10_000 {
                world.step();
            }
        });
        fresh += world.fresh;
        relists.append(&mut world.relists);
        losses += world.histories.len() - 1;
        simulated += world.now - world.start;
    }
    let reasons: BTreeMap<String, usize> = relists.iter().fold(BTreeMap::new(), |mut all, why| {
        *all.entry(format!("{why:?}")).or_default() += 1;
        all
    });
    eprintln!(
        "{simulated:?} simulated: {fresh} times fresh, data lost {losses} times, listed again for \
         {reasons:?}"
    );
    // The histories were eventful, and the view was found to equal etcd at least every 2.2 s. With
    // longer histories this happened more often.
    assert!(fresh as f64 > simulated.as_secs_f64() / 2.2);
    assert!(relists.len() as u64 > 2 * number && losses > 0);
    for why in [Relist::Misfit, Relist::LostChange, Relist::NoChanges] {
        assert!(relists.contains(&why), "{why:?} never happened");
    }
}
