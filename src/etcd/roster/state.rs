//! What a roster makes of what etcd says: decisions only, no I/O, no clock.
//!
//! Whoever drives it lists everything first, then keeps a watch open and asks etcd the [`Question`]s that compare the
//! tables with it, and reports every answer.

#[cfg(test)]
mod simulation;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::tables::{Pair, Range, Stamp, Tables};
use crate::view::{ClusterView, Confirmed};

/// How often etcd is asked whether the view is still its own.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// The same while events are missing, or the order of the watches is not known.
const CHECK_INTERVAL_BEHIND: Duration = Duration::from_millis(200);
/// How long events that etcd has and the watch has not brought may be on their way.
const LATE_EVENTS: Duration = Duration::from_secs(3);
/// How long etcd may take to count a watch as synced that has nothing to catch up on: it looks every 100 ms.
const CATCH_UP: Duration = Duration::from_millis(300);
/// How long after that one watch may still be behind the other, if the servers' word for it cannot be had.
const SETTLED: Duration = Duration::from_secs(1);
/// How long one key of a new worker waits for the other before it is shown. Where both were written in one transaction,
/// the watches bring them one right after the other.
const HALF: Duration = Duration::from_millis(5);

/// What is known of etcd, and the view that is shown of it.
pub(super) struct State {
    tables: Tables,
    order: Order,
    history: History,
    watch: Watch,
    /// Grows with each listing and each watch: questions of before are about something else.
    generation: u64,
    /// Of the view; 0 before the first listing. Grows with each change.
    version: u64,
    /// The view of this version, once it was built.
    view: Option<Arc<ClusterView>>,
    /// The tables have changes that the view does not show yet.
    unpublished: bool,
    /// What the watch brought and the tables have not, since the other key of a new worker may come with it.
    held: Option<Held>,
    /// The keys that were deleted since an audit began.
    deleted: Option<HashSet<Vec<u8>>>,
    /// The revision up to which the tables are proven to be complete.
    verified: i64,
    /// The highest one at which etcd itself proved it. What the watch brings of earlier ones later had come to nothing by
    /// then: until all of it is there, the tables are not complete.
    proven: i64,
    /// The highest revision etcd was ever seen at.
    highest: i64,
    /// The term of etcd's last answer.
    term: u64,
    /// The view was etcd's when a question asked at this time was answered.
    fresh_at: Option<Instant>,
    /// The first of the comparisons that found the watch behind and are not settled, and the last.
    behind: Option<[Behind; 2]>,
}

/// etcd was at this revision when it was asked, and the tables were not known to be.
#[derive(Debug, Clone, Copy)]
struct Behind {
    revision: i64,
    asked_at: Instant,
    /// What each watch has brought of later revisions since: how many messages, and the revision of the last one. A
    /// catching-up watch brings one revision, in fragments; the next message after it is from a synced one.
    later: [(u32, i64); 2],
    /// From when on they were counted.
    counted_from: Instant,
}

impl Behind {
    fn note(&mut self, range: Range, revision: i64) {
        let (messages, last) = &mut self.later[range as usize];
        if revision > self.revision && revision > *last {
            *messages += 1;
            *last = revision;
        }
    }

    /// What the watches brought until now says nothing of what they will.
    fn count_anew(&mut self, now: Instant) {
        self.later = [(0, 0); 2];
        self.counted_from = now;
    }

    /// Whether what the watches brought later shows that neither is behind the other by now.
    fn shows_order(&self, has_ring: bool, now: Instant) -> bool {
        let messages = self.later.map(|(messages, _)| messages);
        let is_synced = |range| messages[range as usize] > 1;
        let is_silent = |range| messages[range as usize] == 0;
        let one_is_synced = is_synced(Range::Live) || is_synced(Range::Ring);
        if !has_ring {
            return one_is_synced;
        }
        let waited = now > self.counted_from + SETTLED;
        let both = [Range::Live, Range::Ring];
        one_is_synced
            && both
                .into_iter()
                .all(|range| is_synced(range) || (waited && is_silent(range)))
    }
}

/// Whether the two watches bring their events in one order.
///
/// They do once etcd counts both as synced, since they share a stream. While one of them is still catching up, the other
/// may be ahead: a view of that moment would show workers as live that are not registered, or as lost that are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Every event is published at once.
    InStep,
    /// Nothing is published before it is known that one watch is not behind the other: because the tables were complete
    /// at a question of this time or later, or by what the watches brought since.
    Settles(Instant),
    /// Nothing is published: the watches are not open.
    Unknown,
}

/// Whether etcd still has the history that the tables were made from.
///
/// It may lose it only while it is restarted, which ends every watch. Its revision tells, unless it has grown beyond the
/// old one before anybody asks; then a watch would go on in the middle of another history.
#[derive(Debug, Clone, PartialEq, Eq)]
enum History {
    Continues,
    /// A watch was opened. An etcd that lost its data remembers its past otherwise. No memories: nothing was listed yet.
    Unproven {
        past: Vec<Memory>,
    },
}

/// What a range was like at a revision in the past, to be asked of etcd, which can read the past.
///
/// A key that has been there since before etcd was backed up proves nothing, since it is in the backup too: it is the
/// latest change that an etcd restored from the backup does not know. Only if that wrote the same key anew, at the same
/// revision and without a lease, are the two not told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) range: Range,
    pub(super) revision: i64,
    /// The key that was written last.
    pub(super) newest: Option<(Vec<u8>, Stamp)>,
    /// How many keys there were, none of which was written later, if that is known.
    pub(super) len: Option<usize>,
}

/// What etcd remembers of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Past {
    Same,
    Other,
    /// It has forgotten that time, or was not asked.
    Unknown,
}

/// The watches of both ranges, on one stream.
#[derive(Default)]
struct Watch {
    from: [Option<i64>; 2],
    to_be_created: usize,
    /// Whether etcd counted all as synced from the start.
    in_step: bool,
    opened_at: Option<Instant>,
    burst: Burst,
}

/// What kind of message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One of the watches is open.
    Created,
    Events,
    /// Everything up to the revision has been sent, and both watches are synced: servers that are known to mean it say
    /// so when they are asked.
    Progress,
}

/// What a message of the stream says.
pub(super) struct Message<'a> {
    pub(super) kind: Kind,
    pub(super) revision: i64,
    pub(super) events: Vec<Event<'a>>,
}

impl Message<'_> {
    /// Whether it brings what the watch had missed. A watch that is synced gets each revision in a message of its own,
    /// headed by that revision.
    fn catches_up(&self) -> bool {
        let is_older = |event: &Event<'_>| event.stamp.mod_revision < self.revision;
        self.events.iter().any(is_older)
    }

    /// The revision of its first event.
    fn first(&self) -> Option<i64> {
        let events = self.events.iter();
        events.map(|event| event.stamp.mod_revision).min()
    }
}

/// A change of a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event<'a> {
    pub(super) range: Range,
    pub(super) key: &'a [u8],
    /// `None`: it was deleted.
    pub(super) value: Option<&'a [u8]>,
    pub(super) stamp: Stamp,
}

/// The same, kept.
pub(super) struct OwnedEvent {
    pub(super) range: Range,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) stamp: Stamp,
}

impl OwnedEvent {
    pub(super) fn as_event(&self) -> Event<'_> {
        Event {
            range: self.range,
            key: &self.key,
            value: self.value.as_deref(),
            stamp: self.stamp,
        }
    }
}

/// The events of a message that waits.
struct Held {
    revision: i64,
    until: Instant,
    events: Vec<OwnedEvent>,
}

/// What was listed.
pub(super) struct Listed {
    pub(super) tables: Tables,
    pub(super) revision: i64,
    pub(super) term: u64,
    /// When etcd was asked for the first page.
    pub(super) asked_at: Instant,
}

/// A linearizable read of one key, the first half of a comparison with etcd.
pub(super) struct Question {
    pub(super) asked_at: Instant,
    /// What was known then: an older answer may overtake a newer one.
    highest: i64,
    /// What etcd has to remember; nothing if there is nothing to prove.
    pub(super) past: Vec<Memory>,
    term: u64,
    generation: u64,
}

/// What etcd answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) revision: i64,
    pub(super) term: u64,
    /// Whether it remembers what it has to.
    pub(super) past: Past,
}

/// What to do after the answer.
pub(super) enum Next {
    /// Nothing: the comparison is done.
    Done(Verdict),
    /// Something was written somewhere. The watch may be asked for its progress, or etcd to prove the
    /// [`claims`](State::claims).
    Compare,
}

/// That the table of a range is complete. To be asked of etcd, for all ranges in one transaction: is there a key with a
/// revision greater than `applied`, and are there `len` keys? If there is none, and as many, then each key was last written
/// when the table already had it, and none is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) range: Range,
    pub(super) applied: i64,
    pub(super) len: usize,
}

/// What a comparison with etcd found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The view is etcd's.
    Fresh,
    /// etcd has changes that the watch has not brought yet.
    Behind,
    /// etcd lost data or was restored: its history is not the one that the view shows.
    OtherHistory,
    /// What would prove the history is forgotten.
    Doubtful,
}

/// Why everything is listed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relist {
    OtherHistory,
    Doubtful,
    NoEvents,
}

impl State {
    /// Before the first listing. `has_ring`: false for SERVICE_REGISTRY.
    pub(super) fn new(has_ring: bool) -> Self {
        State {
            tables: Tables::empty(has_ring),
            order: Order::Unknown,
            history: History::Unproven { past: Vec::new() },
            watch: Watch::default(),
            generation: 0,
            version: 0,
            view: None,
            unpublished: false,
            held: None,
            deleted: None,
            verified: 0,
            proven: 0,
            highest: 0,
            term: 0,
            fresh_at: None,
            behind: None,
        }
    }

    pub(super) fn has_ring(&self) -> bool {
        self.tables.ring.is_some()
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn fresh_at(&self) -> Option<Instant> {
        self.fresh_at
    }

    /// The view, built when somebody asks; `None` before the first listing.
    pub(super) fn view(&mut self) -> Option<Arc<ClusterView>> {
        let fresh_at = self.fresh_at?;
        if let Some(view) = &self.view
            && view.version() == self.version
        {
            return Some(view.clone());
        }
        let revision = self.tables.revision().max(self.verified);
        let view = Arc::new(ClusterView {
            confirmed: Confirmed::as_of(fresh_at.into_std()),
            ..self.tables.view(self.version, revision)
        });
        self.view = Some(view.clone());
        Some(view)
    }

    /// The revision at which the view shows the key to be last written: `Some(None)` if it shows no such key, `None`
    /// while changes are kept back.
    pub(super) fn shown(&self, range: Range, key: &[u8]) -> Option<Option<i64>> {
        let table = self.tables.table(range)?;
        (!self.unpublished).then(|| table.mod_revision(key))
    }

    /// Everything was listed. Returns the revision that etcd went back from, if it did, and the old tables: large ones
    /// take a while to drop.
    pub(super) fn listed(&mut self, listed: Listed) -> (Option<i64>, Tables) {
        let Listed {
            tables,
            revision,
            term,
            asked_at,
        } = listed;
        let went_back_from = (revision < self.highest).then_some(self.highest);
        let is_first = self.version == 0;
        // What was kept back is in the old tables and not in the view.
        let changed = is_first || self.unpublished || !self.tables.same_listing(&tables);
        let old = std::mem::replace(&mut self.tables, tables);
        self.generation += 1;
        self.watch = Watch::default();
        self.order = Order::Unknown;
        self.history = History::Continues;
        self.unpublished = false;
        self.held = None;
        self.deleted = None;
        self.verified = revision;
        self.proven = revision;
        self.highest = revision;
        self.term = term;
        self.behind = None;
        self.version += u64::from(changed);
        self.fresh_as_of(asked_at);
        (went_back_from, old)
    }

    /// Everything is about to be listed beside the watch, to be compared.
    pub(super) fn audit_begins(&mut self) {
        self.deleted = Some(HashSet::new());
    }

    /// How many keys this listing shows otherwise than the tables, which are etcd's of a later moment by now. None if
    /// they were replaced meanwhile, or if there is no listing.
    pub(super) fn audit_ends(&mut self, listed: Option<&Listed>) -> u64 {
        match (self.deleted.take(), listed) {
            (Some(deleted), Some(listed)) => {
                self.tables.drift(&listed.tables, listed.revision, &deleted)
            }
            _ => 0,
        }
    }

    /// Watches are about to be opened, live keys first: from which revision each has to start, if there is to be one.
    pub(super) fn watch_opens(&mut self) -> [Option<i64>; 2] {
        self.keep_back(Order::Unknown);
        self.behind = None;
        self.generation += 1;
        if self.history == History::Continues {
            let past = [Range::Ring, Range::Live].into_iter();
            let past = past.filter_map(|range| self.memory(range)).collect();
            self.history = History::Unproven { past };
        }
        let from = [Range::Live, Range::Ring].map(|range| self.watch_from(range));
        self.watch = Watch {
            from,
            to_be_created: from.iter().flatten().count(),
            in_step: true,
            ..Watch::default()
        };
        from
    }

    /// The stream brought a message; true if etcd is to be asked at once.
    pub(super) fn message(&mut self, message: &Message<'_>, now: Instant) -> bool {
        // A member that lags behind says so here too; the check asks the cluster.
        let mut ask = message.revision < self.highest;
        match message.kind {
            Kind::Created => ask |= self.watch_created(message.revision, now),
            Kind::Events => {
                let lags = self.highest - message.revision >= Burst::BUFFER;
                let is_late = message.revision < self.tables.revision();
                let undoes_proof = message.first().filter(|first| *first <= self.proven);
                let overflows = self.watch.burst.overflows(now);
                let may_be_behind = overflows || lags || is_late || message.catches_up();
                if undoes_proof.is_some() || (may_be_behind && self.has_ring()) {
                    match &mut self.order {
                        Order::InStep => {
                            self.keep_back(Order::Settles(now));
                            ask = true;
                        }
                        // What was asked before says nothing of this.
                        Order::Settles(when) => *when = now.max(*when),
                        Order::Unknown => {}
                    }
                    let behind = self.behind.iter_mut().flatten();
                    behind.for_each(|it| it.count_anew(now));
                } else if let (Some(event), Some(behind)) =
                    (message.events.first(), &mut self.behind)
                {
                    for it in behind {
                        it.note(event.range, message.revision);
                    }
                }
                if let Some(first) = undoes_proof {
                    self.verified = self.verified.min(first - 1);
                }
                if self
                    .held
                    .as_ref()
                    .is_some_and(|held| message.revision > held.revision)
                {
                    // The other key was not written with the first.
                    self.release();
                }
                if self.is_half(&message.events) && self.held.is_none() {
                    self.hold(message, now);
                } else {
                    self.apply_held();
                    self.apply(&message.events);
                    self.publish_in_step();
                }
                self.settle(now);
            }
            Kind::Progress => self.progressed(message.revision),
        }
        ask
    }

    /// Whether all watches are open.
    pub(super) fn watch_is_open(&self) -> bool {
        self.watch.opened_at.is_some()
    }

    fn watch_created(&mut self, revision: i64, now: Instant) -> bool {
        // Created before anything it could have missed was written: etcd counts it as synced at once.
        self.watch.in_step &= self
            .watch
            .from
            .iter()
            .flatten()
            .all(|from| revision < *from);
        self.watch.to_be_created = self.watch.to_be_created.saturating_sub(1);
        if self.watch.to_be_created > 0 {
            return false;
        }
        self.watch.opened_at = Some(now);
        let is_alone = !self.has_ring();
        self.order = Order::Settles(if self.watch.in_step || is_alone {
            now
        } else {
            now + CATCH_UP
        });
        true
    }

    fn apply(&mut self, events: &[Event<'_>]) {
        for event in events {
            let Some(table) = self.tables.table_mut(event.range) else {
                continue;
            };
            self.unpublished |= match event.value {
                Some(value) => table.put(Pair {
                    key: event.key,
                    value,
                    stamp: event.stamp,
                }),
                None => {
                    if let Some(deleted) = &mut self.deleted {
                        deleted.insert(event.key.to_vec());
                    }
                    table.delete(event.key, event.stamp.mod_revision)
                }
            };
        }
        self.highest = self.highest.max(self.tables.revision());
    }

    /// Whether this would show a worker with one of its two keys.
    fn is_half(&self, events: &[Event<'_>]) -> bool {
        events.last().is_some_and(|event| {
            event.value.is_some() && self.tables.is_half(event.range, event.key)
        })
    }

    fn hold(&mut self, message: &Message<'_>, now: Instant) {
        let owned = |event: &Event<'_>| OwnedEvent {
            range: event.range,
            key: event.key.to_vec(),
            value: event.value.map(<[u8]>::to_vec),
            stamp: event.stamp,
        };
        self.held = Some(Held {
            revision: message.revision,
            until: now + HALF,
            events: message.events.iter().map(owned).collect(),
        });
    }

    /// When to call [`show`](Self::show).
    pub(super) fn show_at(&self) -> Option<Instant> {
        self.held.as_ref().map(|held| held.until)
    }

    /// Shows what waits for the other key of a worker, if that did not come by now.
    pub(super) fn show(&mut self, now: Instant) {
        if self.held.as_ref().is_some_and(|held| now >= held.until) {
            self.release();
        }
    }

    fn release(&mut self) {
        self.apply_held();
        self.publish_in_step();
    }

    fn apply_held(&mut self) {
        let Some(held) = self.held.take() else {
            return;
        };
        let events = held.events.iter().map(OwnedEvent::as_event);
        self.apply(&events.collect::<Vec<_>>());
    }

    fn publish_in_step(&mut self) {
        if self.order == Order::InStep {
            self.publish();
        }
    }

    /// etcd has sent everything up to this revision.
    fn progressed(&mut self, revision: i64) {
        let is_usable = self.history == History::Continues && self.watch.opened_at.is_some();
        if !is_usable || revision < self.proven {
            return;
        }
        self.order = Order::InStep;
        self.release();
        self.complete_at(revision);
    }

    /// Looks whether the watches have brought more by now than they lacked when etcd was asked. They bring everything in
    /// order, so that nothing older is missing then.
    fn settle(&mut self, now: Instant) {
        let (Some([first, _]), History::Continues) = (self.behind, &self.history) else {
            return;
        };
        let settled = match self.order {
            Order::InStep => self.tables.revision() > first.revision,
            Order::Settles(when) => {
                first.asked_at >= when && first.shows_order(self.has_ring(), now)
            }
            Order::Unknown => false,
        };
        // What was shown by a proof does not go back.
        if settled && first.revision.max(self.tables.revision()) >= self.proven {
            self.order = Order::InStep;
            self.publish();
            self.complete_at(first.revision);
        }
    }

    /// Nothing of this revision or an older one is missing, by what the watches say.
    fn complete_at(&mut self, revision: i64) {
        self.verified = self.verified.max(revision);
        self.highest = self.highest.max(revision);
        let Some([first, last]) = self.behind else {
            return;
        };
        if last.revision <= revision {
            self.behind = None;
            self.fresh_as_of(last.asked_at);
        } else if first.revision <= revision {
            self.behind = Some([last, last]);
            self.fresh_as_of(first.asked_at);
        }
    }

    /// When to compare with etcd the next time, unless somebody asks for it before.
    pub(super) fn check_in(&self, now: Instant) -> Duration {
        match self.order {
            Order::Settles(when) => when
                .saturating_duration_since(now)
                .max(CHECK_INTERVAL_BEHIND),
            _ if self.behind.is_some() => CHECK_INTERVAL_BEHIND,
            _ => CHECK_INTERVAL,
        }
    }

    /// A comparison begins. To be called before the request is sent: an event may overtake the answer.
    pub(super) fn question(&self, now: Instant) -> Question {
        let past = match &self.history {
            History::Continues => Vec::new(),
            History::Unproven { past } => past.clone(),
        };
        Question {
            asked_at: now,
            highest: self.highest,
            term: self.term,
            past,
            generation: self.generation,
        }
    }

    /// etcd answered.
    pub(super) fn answered(&mut self, question: &Question, answer: Answer) -> Next {
        let Answer {
            revision,
            term,
            past,
        } = answer;
        if question.generation != self.generation {
            return Next::Done(Verdict::Behind);
        }
        if revision < question.highest || term < question.term {
            return Next::Done(Verdict::OtherHistory);
        }
        let had_to_remember = !question.past.is_empty();
        match past {
            Past::Other if had_to_remember => return Next::Done(Verdict::OtherHistory),
            Past::Unknown if had_to_remember => return Next::Done(Verdict::Doubtful),
            Past::Same | Past::Other | Past::Unknown => {}
        }
        self.term = self.term.max(term);
        self.highest = self.highest.max(revision);
        if had_to_remember {
            self.history_continues(question);
        }
        if self
            .held
            .as_ref()
            .is_some_and(|held| held.revision <= revision)
        {
            // It cannot be complete without.
            self.keep_back(self.order);
        }
        let is_proven = self.history == History::Continues || had_to_remember;
        if revision == self.verified && is_proven {
            return Next::Done(self.complete(question, revision));
        }
        let behind = Behind {
            revision,
            asked_at: question.asked_at,
            later: [(0, 0); 2],
            counted_from: question.asked_at,
        };
        let was_in_step = |it: Behind| match self.order {
            Order::InStep => true,
            Order::Settles(when) => it.asked_at >= when,
            Order::Unknown => false,
        };
        self.behind = Some(match self.behind {
            None => [behind, behind],
            // What the watches brought since does not answer it.
            Some([first, _]) if !was_in_step(first) && was_in_step(behind) => [behind, behind],
            Some([first, last]) if revision >= last.revision => [first, behind],
            // An answer that was overtaken by another.
            Some(both) => both,
        });
        Next::Compare
    }

    /// What etcd may prove.
    pub(super) fn claims(&self) -> Vec<Claim> {
        let claims = [Range::Ring, Range::Live].into_iter().filter_map(|range| {
            let table = self.tables.table(range)?;
            Some(Claim {
                range,
                applied: table.applied(),
                len: table.len(),
            })
        });
        claims.collect()
    }

    /// etcd answered at which revision all these claims hold; `None`: one does not.
    pub(super) fn proven(
        &mut self,
        question: &Question,
        claims: &[Claim],
        at: Option<i64>,
    ) -> Verdict {
        if self.is_settled(question) {
            return Verdict::Fresh;
        }
        let Some(revision) = at.filter(|_| question.generation == self.generation) else {
            return Verdict::Behind;
        };
        // What came meanwhile and is gone by then: its end is on the way too.
        let is_held = self.held.as_ref().is_some_and(|it| it.revision <= revision);
        let is_as_claimed = |claim: &Claim| {
            self.tables.table(claim.range).is_none_or(|table| {
                let is_same = table.applied() == claim.applied && table.len() == claim.len;
                is_same || table.applied() > revision
            })
        };
        if is_held || !claims.iter().all(is_as_claimed) {
            return Verdict::Behind;
        }
        self.proven = self.proven.max(revision);
        self.complete(question, revision)
    }

    /// Whether the view has become etcd's of the time of this question, or a later one, meanwhile.
    pub(super) fn is_settled(&self, question: &Question) -> bool {
        self.fresh_at >= Some(question.asked_at)
    }

    /// Proven by an answer to a question that was asked after the watch was opened.
    fn history_continues(&mut self, question: &Question) {
        if self
            .watch
            .opened_at
            .is_some_and(|at| question.asked_at >= at)
        {
            self.history = History::Continues;
        }
    }

    /// The tables were complete at `revision`, when etcd answered.
    fn complete(&mut self, question: &Question, revision: i64) -> Verdict {
        self.verified = self.verified.max(revision);
        self.highest = self.highest.max(revision);
        self.history_continues(question);
        if self.history == History::Continues
            && matches!(self.order, Order::Settles(when) if question.asked_at >= when)
        {
            self.order = Order::InStep;
        }
        self.publish_in_step();
        if self.unpublished {
            return Verdict::Behind;
        }
        self.behind = self.behind.and_then(|[first, last]| {
            let left = [first, last].map(|it| it.asked_at > question.asked_at);
            match left {
                [true, _] => Some([first, last]),
                [false, true] => Some([last, last]),
                [false, false] => None,
            }
        });
        self.fresh_as_of(question.asked_at);
        Verdict::Fresh
    }

    /// A check ended: why everything has to be listed anew, if it has to.
    pub(super) fn checked(&mut self, verdict: Verdict, now: Instant) -> Option<Relist> {
        match verdict {
            Verdict::OtherHistory => return Some(Relist::OtherHistory),
            Verdict::Doubtful => return Some(Relist::Doubtful),
            Verdict::Fresh | Verdict::Behind => {}
        }
        self.settle(now);
        let [first, _] = self.behind?;
        (now > first.asked_at + LATE_EVENTS).then_some(Relist::NoEvents)
    }

    /// The machine was suspended, while the clock stood still: the view is older by that, and what was asked before says
    /// nothing of now.
    pub(super) fn slept(&mut self, by: Duration) {
        self.generation += 1;
        self.behind = None;
        self.fresh_at = self.fresh_at.map(|at| at.checked_sub(by).unwrap_or(at));
        if let Some(view) = &self.view {
            view.confirmed.suspended(by);
        }
    }

    /// etcd did not answer: nothing is known of what may be missing.
    pub(super) fn check_failed(&mut self) {
        self.behind = None;
    }

    /// From now on, changes are kept back.
    fn keep_back(&mut self, order: Order) {
        if !self.unpublished {
            // Later the tables show more.
            self.view();
        }
        self.apply_held();
        self.order = order;
    }

    /// Shows what was kept back.
    fn publish(&mut self) {
        self.version += u64::from(std::mem::take(&mut self.unpublished));
    }

    fn fresh_as_of(&mut self, asked_at: Instant) {
        self.fresh_at = self.fresh_at.max(Some(asked_at));
        if let Some(view) = &self.view
            && view.version() == self.version
        {
            view.confirmed.again(asked_at.into_std());
        }
    }

    /// What etcd must remember of this range if its history is still the same.
    fn memory(&self, range: Range) -> Option<Memory> {
        let table = self.tables.table(range)?;
        let newest = table.newest().map(|(key, stamp)| (key.to_vec(), stamp));
        if self.verified >= table.applied() {
            return Some(Memory {
                range,
                revision: self.verified,
                newest,
                len: Some(table.len()),
            });
        }
        // Perhaps not all of the latest revision has arrived.
        let (key, stamp) = newest?;
        Some(Memory {
            range,
            revision: stamp.mod_revision,
            newest: Some((key, stamp)),
            len: None,
        })
    }

    /// The latest change once more unless it is proven to be complete, since the rest of it may have been lost with the
    /// connection.
    fn watch_from(&self, range: Range) -> Option<i64> {
        let applied = self.tables.table(range)?.applied();
        Some(if self.verified >= applied {
            self.verified + 1
        } else {
            applied
        })
    }
}

/// Counts messages that come faster than anything but those that have been waiting for the line.
///
/// etcd buffers so many messages of a stream. What does not fit is sent later, and one watch may then overtake the other.
/// On a line too slow for bursts that shows only when the late ones come: until then, a tenth of a second, a view may
/// have a worker's one key and not yet the other.
#[derive(Default)]
struct Burst {
    /// How many more came than usually do: one is forgotten after each pause.
    level: f64,
    last: Option<Instant>,
}

impl Burst {
    const BUFFER: i64 = 128;
    const PAUSE: Duration = Duration::from_millis(1);
    const LIMIT: f64 = 64.0;

    /// Notes a message; true if etcd's buffer may have been full.
    fn overflows(&mut self, now: Instant) -> bool {
        let since = self.last.map_or(Duration::ZERO, |last| now - last);
        let left = self.level - since.div_duration_f64(Self::PAUSE);
        self.level = (left.max(0.0) + 1.0).min(Self::BUFFER as f64);
        self.last = Some(now);
        self.level >= Self::LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::roster::tables::Table;
    use crate::view::MemberFilter;

    /// A state whose watches are in step, at revision 10.
    fn in_step(now: Instant) -> State {
        let mut state = State::new(true);
        let table = |prefix| Table::new(prefix, 10);
        state.listed(Listed {
            tables: Tables {
                ring: Some(table("/r/")),
                live: table("/l/"),
            },
            revision: 10,
            term: 2,
            asked_at: now,
        });
        assert_eq!(state.watch_opens(), [Some(11), Some(11)]);
        for _ in 0..2 {
            brings(&mut state, Kind::Created, 10, &[], now);
        }
        let question = state.question(now);
        let answer = Answer {
            revision: 10,
            term: 2,
            past: Past::Same,
        };
        let next = state.answered(&question, answer);
        assert!(matches!(next, Next::Done(Verdict::Fresh)));
        assert_eq!(state.order, Order::InStep);
        state
    }

    fn stamped(mod_revision: i64) -> Stamp {
        Stamp {
            mod_revision,
            lease: 0,
        }
    }

    fn brings(
        state: &mut State,
        kind: Kind,
        revision: i64,
        changes: &[(Range, &str, i64)],
        now: Instant,
    ) -> bool {
        let deletions = changes.iter().map(|(range, key, mod_revision)| Event {
            range: *range,
            key: key.as_bytes(),
            value: None,
            stamp: stamped(*mod_revision),
        });
        let message = Message {
            kind,
            revision,
            events: deletions.collect(),
        };
        state.message(&message, now)
    }

    /// etcd, asked now, is at this revision, and is to prove what is claimed.
    fn compares(state: &mut State, revision: i64, now: Instant) -> (Question, Vec<Claim>) {
        let question = state.question(now);
        let answer = Answer {
            revision,
            term: 2,
            past: Past::Unknown,
        };
        assert!(matches!(state.answered(&question, answer), Next::Compare));
        (question, state.claims())
    }

    #[test]
    fn what_came_to_nothing_before_a_proof_is_not_shown_after_it() {
        let now = Instant::now();
        let mut state = in_step(now);
        let now = now + CHECK_INTERVAL;
        let version = state.version();
        // A key was put at revision 11 and deleted at 12; neither has arrived.
        let (question, claims) = compares(&mut state, 12, now);
        assert_eq!(state.proven(&question, &claims, Some(12)), Verdict::Fresh);
        let put = Message {
            kind: Kind::Events,
            revision: 11,
            events: vec![Event {
                range: Range::Live,
                key: b"/l/a",
                value: Some(b"{}"),
                stamp: stamped(11),
            }],
        };
        state.message(&put, now);
        state.show(now + HALF);
        assert_eq!(state.version(), version, "kept back");
        // If the watch broke here, the next one would have to bring the deletion.
        assert_eq!(state.watch_from(Range::Live), Some(11));
        let live = [(Range::Live, "/l/a", 12)];
        brings(&mut state, Kind::Events, 12, &live, now);
        let now = now + CHECK_INTERVAL;
        let (question, claims) = compares(&mut state, 12, now);
        assert_eq!(state.proven(&question, &claims, Some(12)), Verdict::Fresh);
        assert_eq!(state.order, Order::InStep);
        assert!(
            state
                .view()
                .expect("listed")
                .members(MemberFilter::Live)
                .is_empty()
        );
    }

    #[test]
    fn a_proof_says_nothing_of_what_came_meanwhile() {
        let now = Instant::now();
        let mut state = in_step(now);
        let now = now + CHECK_INTERVAL;
        let (question, claims) = compares(&mut state, 12, now);
        let live = [(Range::Live, "/l/a", 11)];
        brings(&mut state, Kind::Events, 11, &live, now);
        assert_eq!(state.proven(&question, &claims, Some(12)), Verdict::Behind);
    }

    #[test]
    fn an_audit_finds_what_is_otherwise_and_not_what_has_changed_since() {
        let now = Instant::now();
        let mut state = in_step(now);
        let event = |revision, key, value| Message {
            kind: Kind::Events,
            revision,
            events: vec![Event {
                range: Range::Live,
                key,
                value,
                stamp: stamped(revision),
            }],
        };
        let listed = |keys: &[(&str, i64)]| {
            let mut live = Table::new("/l/", 0);
            for (key, revision) in keys {
                live.put(Pair {
                    key: key.as_bytes(),
                    value: b"{}",
                    stamp: stamped(*revision),
                });
            }
            Listed {
                tables: Tables {
                    ring: Some(Table::new("/r/", 14)),
                    live,
                },
                revision: 14,
                term: 2,
                asked_at: now,
            }
        };
        for (keys, drift) in [
            (vec![("/l/a", 11), ("/l/b", 12), ("/l/c", 13)], 0),
            (vec![("/l/a", 10), ("/l/b", 12), ("/l/c", 13)], 1),
            (vec![("/l/b", 12), ("/l/c", 13)], 1),
            (vec![("/l/a", 11), ("/l/d", 12), ("/l/e", 14)], 2),
        ] {
            let mut state = in_step(now);
            for (key, revision) in [("/l/a", 11), ("/l/b", 12), ("/l/c", 13)] {
                state.message(&event(revision, key.as_bytes(), Some(b"{}")), now);
            }
            state.audit_begins();
            // The listing is of revision 14, before these.
            state.message(&event(15, b"/l/b", None), now);
            state.message(&event(16, b"/l/c", Some(b"{}")), now);
            state.show(now + HALF);
            assert_eq!(state.audit_ends(Some(&listed(&keys))), drift, "{keys:?}");
        }
        assert_eq!(
            state.audit_ends(Some(&listed(&[("/l/a", 11)]))),
            0,
            "none began"
        );
    }

    #[test]
    fn a_message_that_catches_up_makes_the_order_unknown() {
        let now = Instant::now();
        let mut state = in_step(now);
        let live = [(Range::Live, "/l/a", 11)];
        assert!(!brings(&mut state, Kind::Events, 11, &live, now));
        assert_eq!(state.order, Order::InStep);
        // A watch that is synced would have been sent it at revision 12.
        let ring = [(Range::Ring, "/r/a", 12)];
        assert!(brings(&mut state, Kind::Events, 14, &ring, now));
        assert_eq!(state.order, Order::Settles(now));
    }

    #[test]
    fn a_message_that_was_overtaken_makes_the_order_unknown() {
        let now = Instant::now();
        let mut state = in_step(now);
        let live = [(Range::Live, "/l/a", 12)];
        assert!(!brings(&mut state, Kind::Events, 12, &live, now));
        let ring = [(Range::Ring, "/r/a", 11)];
        assert!(brings(&mut state, Kind::Events, 11, &ring, now));
        assert_eq!(state.order, Order::Settles(now));
    }

    #[test]
    fn an_answer_from_before_a_message_that_catches_up_does_not_settle_the_order() {
        let now = Instant::now();
        let mut state = in_step(now);
        let after = |seconds| now + Duration::from_secs(seconds);
        let ring = |revision| [(Range::Ring, "/r/a", revision)];
        brings(&mut state, Kind::Events, 14, &ring(12), after(1));
        let question = state.question(after(2));
        brings(&mut state, Kind::Events, 18, &ring(16), after(3));
        // It was asked when nothing had been written.
        let answer = Answer {
            revision: 10,
            term: 2,
            past: Past::Unknown,
        };
        state.answered(&question, answer);
        assert_eq!(state.order, Order::Settles(after(3)));
    }

    #[test]
    fn a_burst_makes_the_order_unknown_and_a_steady_flow_does_not() {
        let start = Instant::now();
        for (pause, overflows) in [(50, true), (400, true), (1_100, false)] {
            let mut state = in_step(start);
            let mut now = start;
            let asks = (11..150).any(|revision| {
                now += Duration::from_micros(pause);
                let live = [(Range::Live, "/l/a", revision)];
                brings(&mut state, Kind::Events, revision, &live, now)
            });
            assert_eq!(asks, overflows, "every {pause} µs");
        }
    }
}
