//! The decisions of a roster. It has no I/O and no clock.
//!
//! A [`Follower`] per key range holds a table and the revision up to which the table is complete.
//! The driver of the [`State`] first lists both ranges. Then it keeps a watch of both open,
//! repeatedly asks etcd for its current revision (a [`FreshnessProbe`]), and lets etcd judge
//! [`Claim`]s about the tables.

#[cfg(test)]
pub(super) mod cost;
#[cfg(any(test, fuzzing))]
pub(in crate::etcd) mod script;
#[cfg(test)]
mod simulation;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::row::Stamp;
use super::tables::{Change, Effect, KeyRange, Table, Tables};
use super::views::Made;
use crate::boottime::BootTime;
use crate::view::{ClusterView, Confirmed, RangeRevisions};

/// How often the view is compared with etcd.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How often the view is compared with etcd while changes are missing.
const CHECK_INTERVAL_BEHIND: Duration = Duration::from_millis(200);
/// How long the watch may take to deliver a change that etcd has.
const LATE_EVENTS: Duration = Duration::from_secs(3);
/// How long a table may rest only on the watch. Changes that cannot be proven until then cause a
/// listing.
const LONGEST_DOUBT: Duration = Duration::from_secs(30);
/// When a proof is tried first. The time is spread, so that processes do not try together.
pub(super) const PROOF_AFTER: Duration = Duration::from_secs(20);
/// The maximum number of keys that etcd may return for one proof.
const PROOF_KEYS: i64 = 5_000;
/// The maximum number of changes of a message that arrives in fragments. etcd sends at most 1,000
/// revisions in one message, and by default a transaction has at most 128 operations.
const LARGEST_MESSAGE: usize = 1 << 20;

/// The knowledge about etcd, and the view that callers see.
pub(super) struct State {
    ring: Option<Follower>,
    live: Follower,
    phase: Phase,
    /// Grows with each listing and each watch. Answers to earlier requests are void.
    generation: u64,
    /// The highest revision and term that etcd has reported.
    seen: Seen,
    /// The first and the last of the probes that found changes which the tables lack.
    behind: Option<[Behind; 2]>,
    shown: Shown,
    /// etcd confirmed the view for this time.
    fresh_at: Option<BootTime>,
    /// How long after a change its proof is tried.
    proof_after: Duration,
}

/// The phase of the watch of both ranges.
enum Phase {
    /// Nothing was listed yet.
    Empty,
    /// The watch is not open, or etcd has not yet confirmed that its history is the history of the
    /// tables. etcd can lose its history only in a restart, and a restart ends every watch. When
    /// etcd is asked after that, its revision may have grown beyond the old one. Changes from the
    /// watch are not shown in this phase.
    Resuming { past: Vec<Claim>, watch: Opening },
    /// The watch continues the history of the tables, and its changes are shown at once.
    Following,
}

enum Opening {
    /// This number of the watch's ranges is not open yet.
    Awaits(usize),
    OpenSince(BootTime),
}

/// One key range and the changes from its watch.
struct Follower {
    range: KeyRange,
    table: Table,
    /// The table equals the range at this revision.
    complete: i64,
    /// The present watch reported that it delivered everything up to this revision.
    delivered: i64,
    /// The changes of a message that is not complete yet.
    parts: Vec<Change>,
    /// The combined effect of the changes since the view was last shown.
    unshown: Effect,
    /// The table was proven, or listed, at this revision.
    proven: i64,
    /// Since when the table rests only on the watch.
    doubt_since: Option<BootTime>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    revision: i64,
    term: u64,
}

/// etcd had this revision when it was asked, and the tables did not.
#[derive(Debug, Clone, Copy)]
struct Behind {
    revision: i64,
    asked_at: BootTime,
}

/// The tables that callers see.
#[derive(Default)]
struct Shown {
    /// Grows with each change of the view; 0 before the first listing.
    version: u64,
    tables: Tables,
    revisions: RangeRevisions,
    /// The view that a caller asked for last, of these tables or of tables before them.
    made: Option<Made>,
}

/// The result of a listing.
pub(super) struct Listed {
    pub(super) tables: Tables,
    pub(super) revision: i64,
    pub(super) term: u64,
    /// When the first page was requested.
    pub(super) asked_at: BootTime,
}

/// A message of the watch.
pub(super) struct Message {
    /// The revision of its header.
    pub(super) revision: i64,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    /// The watch of one range is open.
    Created,
    /// Changes of one range, in the order of their revisions. The last change ends its revision,
    /// unless the message is a fragment. In that case the next message continues it.
    Changes {
        range: KeyRange,
        changes: Vec<Change>,
        is_fragment: bool,
    },
    /// A correct server reports that it has sent everything up to the header's revision.
    Progress,
    /// A message without relevant content.
    Other,
}

/// What to do after a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reaction {
    /// Whether to compare with etcd now.
    pub(super) check: bool,
    /// Whether to list everything again, and why.
    pub(super) relist: Option<Relist>,
    /// Whether a worker got one of its two keys. In that case, wait briefly for the other key
    /// before [`State::show`] is called.
    pub(super) is_half: bool,
}

/// A linearizable read of one key. Its answer has etcd's current revision.
pub(super) struct FreshnessProbe {
    pub(super) asked_at: BootTime,
    /// The claims that etcd has to confirm. Empty if none is open.
    pub(super) past: Vec<Claim>,
    generation: u64,
    /// The known revision and term when etcd was asked. An older answer may overtake a newer one.
    seen: Seen,
}

/// etcd's answer to a [`FreshnessProbe`].
#[derive(Debug, Clone, Copy)]
pub(super) struct ProbeReply {
    pub(super) revision: i64,
    pub(super) term: u64,
    /// etcd's judgement of the probe's `past`.
    pub(super) past: Judgement,
}

/// What to do after a [`ProbeReply`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Done(Verdict),
    /// Something was written. Ask the watch for its progress, or let etcd judge the
    /// [`claims`](State::claims).
    Compare,
}

/// The result of a comparison with etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The view equals etcd's state.
    Fresh,
    /// etcd has changes that the watch has not delivered yet.
    Behind,
    Relist(Relist),
}

/// The claim that a range has exactly the keys of a table. etcd judges it by the number of all keys
/// in the range, and by the keys that were written after `since`. It does not send older keys.
#[derive(Clone)]
pub(super) struct Claim {
    pub(super) range: KeyRange,
    /// The revision at which etcd judges; `None` for the present.
    pub(super) at: Option<i64>,
    /// etcd returns the keys that were written after this revision.
    pub(super) since: i64,
    /// The maximum number of these keys.
    pub(super) limit: i64,
    table: Table,
    /// The revision of the table.
    complete: i64,
    /// The key that was written last. An etcd that lost its data does not have it: a worker writes
    /// its key again at another revision and on another lease.
    newest: Option<(Vec<u8>, Stamp)>,
}

/// Claims that prove the changes from the watch.
pub(super) struct Proofs {
    pub(super) claims: Vec<Claim>,
    asked_at: BootTime,
    generation: u64,
}

/// etcd's judgement of a claim, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Judgement {
    Holds,
    /// etcd was not asked, has compacted that revision, or has too many keys to return.
    Unknown,
    /// The range has other keys than the table.
    Differs,
    /// The range does not have the key that was written last.
    OtherHistory,
}

/// The reason for listing everything again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Relist {
    /// An answer had an older revision or term than etcd had reported before.
    WentBack,
    /// The last delivered change is not in etcd's history.
    OtherHistory,
    /// After the watch broke, a range had other keys than the table.
    Differs,
    /// etcd has compacted the revision at which the watch broke.
    Forgotten,
    /// The watch delivered a change that cannot follow the earlier changes.
    Misfit,
    /// A proof showed that the watch had lost a change.
    LostChange,
    /// No proof was possible.
    Unproven,
    /// The watch does not deliver changes that etcd has.
    NoChanges,
    /// etcd compacted changes that the watch had not delivered yet.
    Compacted,
}

impl fmt::Display for Relist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Relist::WentBack => "an answer of etcd was older than an earlier answer",
            Relist::OtherHistory => "etcd lost the last change that its watch had delivered",
            Relist::Differs => {
                "etcd has other keys than its watch delivered: the watch lost a change, or etcd \
                 was restored"
            }
            Relist::Forgotten => "etcd was compacted while the watch was interrupted",
            Relist::Misfit => "the watch delivered a change that does not fit the earlier changes",
            Relist::LostChange => "the watch lost a change",
            Relist::Unproven => "etcd could not confirm the changes that its watch had delivered",
            Relist::NoChanges => "the watch does not deliver changes that etcd has",
            Relist::Compacted => "etcd compacted changes that the watch had not delivered yet",
        })
    }
}

impl FreshnessProbe {
    /// Whether an answer of this revision is older than the knowledge when etcd was asked.
    pub(super) fn is_of_the_past(&self, revision: i64) -> bool {
        revision < self.seen.revision
    }
}

impl Claim {
    /// Judges the claim. `count` is the number of all keys in the range. `later` are the keys that
    /// were written after `since`; `more` says whether some of them are missing.
    pub(super) fn judge(&self, count: i64, later: &[(&[u8], Stamp)], more: bool) -> Judgement {
        let is_known = |(key, stamp): &(&[u8], Stamp)| self.table.stamp(key) == Some(*stamp);
        if more {
            return Judgement::Unknown;
        }
        if let Some((key, stamp)) = &self.newest
            && !later.contains(&(key, *stamp))
        {
            return Judgement::OtherHistory;
        }
        if usize::try_from(count) == Ok(self.table.len()) && later.iter().all(is_known) {
            Judgement::Holds
        } else {
            Judgement::Differs
        }
    }

    /// Returns the claim for the present, for an etcd that has compacted the earlier revision.
    pub(super) fn of_the_present(&self) -> Claim {
        Claim {
            at: None,
            ..self.clone()
        }
    }
}

impl Follower {
    fn new(range: KeyRange, table: Table, revision: i64) -> Self {
        Follower {
            range,
            table,
            complete: revision,
            delivered: 0,
            parts: Vec::new(),
            unshown: Effect::Nothing,
            proven: revision,
            doubt_since: None,
        }
    }

    /// Applies a message. A message that does not fit changes nothing and causes a listing.
    fn deliver(
        &mut self,
        changes: Vec<Change>,
        is_fragment: bool,
        now: BootTime,
    ) -> Option<Relist> {
        self.parts.extend(changes);
        if is_fragment {
            return (self.parts.len() > LARGEST_MESSAGE).then_some(Relist::Misfit);
        }
        let (mut table, mut effect, mut last) = (self.table.clone(), Effect::Nothing, 0);
        for change in std::mem::take(&mut self.parts) {
            let is_late = change.modified <= self.delivered || change.modified < last;
            let is_known = change.modified <= self.complete;
            let fits = match (is_late, is_known) {
                // The change was sent twice, or too late.
                (true, _) => table.shows(&change),
                // A claim had already completed the table.
                (false, true) => true,
                (false, false) => table.fits(&change),
            };
            if !fits {
                return Some(Relist::Misfit);
            }
            last = last.max(change.modified);
            if !is_late && !is_known {
                effect = effect.max(table.apply(change));
            }
        }
        self.table = table;
        self.unshown = self.unshown.max(effect);
        self.delivered = self.delivered.max(last);
        self.complete_by_word(last, now);
        None
    }

    /// Records that the watch reported to be complete up to this revision.
    fn complete_by_word(&mut self, revision: i64, now: BootTime) {
        if revision > self.complete {
            self.complete = revision;
            self.doubt_since.get_or_insert(now);
        }
    }

    /// Records that etcd confirmed this claim at `revision`.
    fn complete_by_claim(&mut self, claim: &Claim, revision: i64) {
        // If not, the table has changed meanwhile.
        if self.complete == claim.complete {
            self.complete = self.complete.max(revision);
        }
    }

    fn claim(&self, at: Option<i64>, since: i64, limit: i64) -> Claim {
        Claim {
            range: self.range,
            at,
            since,
            limit,
            table: self.table.clone(),
            complete: self.complete,
            newest: None,
        }
    }

    /// Returns the claim that etcd confirms if its history is still the history of the table.
    ///
    /// A key from before a backup proves nothing, because the backup has it too. The last change
    /// proves it. Two histories cannot be distinguished only if a restored etcd wrote the same key
    /// again, at the same revision and without a lease.
    fn past(&self) -> Claim {
        let newest = self.table.newest();
        let since = newest
            .as_ref()
            .map_or(0, |(_, stamp)| stamp.modified.saturating_sub(1));
        Claim {
            newest,
            ..self.claim(Some(self.complete), since, PROOF_KEYS)
        }
    }
}

impl State {
    /// Creates the state before the first listing. `has_ring` is false for SERVICE_REGISTRY. For
    /// `proof_after`, see [`PROOF_AFTER`].
    pub(super) fn new(has_ring: bool, proof_after: Duration) -> Self {
        let empty = |range| Follower::new(range, Table::default(), 0);
        State {
            ring: has_ring.then(|| empty(KeyRange::Ring)),
            live: empty(KeyRange::Live),
            phase: Phase::Empty,
            generation: 0,
            seen: Seen::default(),
            behind: None,
            shown: Shown::default(),
            fresh_at: None,
            proof_after,
        }
    }

    pub(super) fn has_ring(&self) -> bool {
        self.ring.is_some()
    }

    fn followers(&self) -> impl Iterator<Item = &Follower> {
        self.ring.iter().chain([&self.live])
    }

    fn followers_mut(&mut self) -> impl Iterator<Item = &mut Follower> {
        self.ring.iter_mut().chain([&mut self.live])
    }

    fn follower(&mut self, range: KeyRange) -> Option<&mut Follower> {
        self.followers_mut().find(|it| it.range == range)
    }

    /// Returns the version of the view; 0 before the first listing.
    pub(super) fn version(&self) -> u64 {
        self.shown.version
    }

    pub(super) fn fresh_at(&self) -> Option<BootTime> {
        self.fresh_at
    }

    /// Returns the view, or `None` before the first listing. It is made when a caller asks for it.
    pub(super) fn view(&mut self) -> Option<Arc<ClusterView>> {
        let fresh_at = self.fresh_at?;
        let shown = &mut self.shown;
        let made = match shown.made.take() {
            Some(made) if made.view.version() == shown.version => made,
            before => {
                let confirmed = Confirmed::as_of(fresh_at);
                let (version, revisions) = (shown.version, shown.revisions);
                Made::new(&shown.tables, before, version, revisions, confirmed)
            }
        };
        Some(shown.made.insert(made).view.clone())
    }

    /// Returns the revision at which the key was last written in the view, or `None` if the view
    /// does not have the key.
    pub(super) fn shown(&self, range: KeyRange, key: &[u8]) -> Option<i64> {
        let table = self.shown.tables.table(range)?;
        table.stamp(key).map(|stamp| stamp.modified)
    }

    /// Whether the listing lacks the last delivered change, in one of the ranges.
    pub(super) fn lacks_newest(&self, listed: &Listed) -> bool {
        self.followers().any(|it| {
            let is_there = |(key, stamp): (Vec<u8>, Stamp)| {
                let table = listed.tables.table(it.range);
                table.and_then(|table| table.stamp(&key)) == Some(stamp)
            };
            it.table.newest().is_some_and(|newest| !is_there(newest))
        })
    }

    /// Replaces the tables by a listing. Returns the revision that etcd went back from, if it did,
    /// and the old tables, because dropping large tables takes time.
    pub(super) fn listed(&mut self, listed: Listed) -> (Option<i64>, Tables) {
        let Listed {
            tables,
            revision,
            term,
            asked_at,
        } = listed;
        let went_back_from = (revision < self.seen.revision).then_some(self.seen.revision);
        let is_same = self.shown.version > 0 && self.shown.tables.same_listing(&tables);
        self.ring = tables
            .ring
            .map(|table| Follower::new(KeyRange::Ring, table, revision));
        self.live = Follower::new(KeyRange::Live, tables.live, revision);
        self.generation += 1;
        self.seen = Seen { revision, term };
        self.behind = None;
        self.phase = self.resuming();
        self.live.unshown = match is_same {
            true => Effect::Stamps,
            false => Effect::Workers,
        };
        let old = self.shown.tables.clone();
        self.show_all();
        self.fresh_as_of(asked_at);
        (went_back_from, old)
    }

    /// Prepares to open the watch. Returns the revision from which to watch each range, with the
    /// live keys first.
    pub(super) fn watch_opens(&mut self) -> Vec<(KeyRange, i64)> {
        self.show();
        self.generation += 1;
        self.phase = match std::mem::replace(&mut self.phase, Phase::Empty) {
            // The tables were not confirmed since, so etcd may have another history.
            Phase::Resuming { past, .. } => Phase::Resuming {
                past,
                watch: Opening::Awaits(self.followers().count()),
            },
            Phase::Empty | Phase::Following => self.resuming(),
        };
        let mut from = Vec::new();
        for follower in self.followers_mut() {
            follower.parts.clear();
            follower.delivered = 0;
            from.insert(0, (follower.range, follower.complete.saturating_add(1)));
        }
        from
    }

    fn resuming(&self) -> Phase {
        Phase::Resuming {
            past: self.followers().map(Follower::past).collect(),
            watch: Opening::Awaits(self.followers().count()),
        }
    }

    /// Whether the watch is open in both ranges.
    pub(super) fn watch_is_open(&self) -> bool {
        match &self.phase {
            Phase::Empty => false,
            Phase::Resuming { watch, .. } => matches!(watch, Opening::OpenSince(_)),
            Phase::Following => true,
        }
    }

    /// Handles a message of the watch. Call [`show`](Self::show) after it.
    pub(super) fn message(&mut self, message: Message, now: BootTime) -> Reaction {
        let mut reaction = Reaction {
            // A member that lags behind also sends an older revision. The check asks the cluster.
            check: message.revision < self.seen.revision,
            ..Reaction::default()
        };
        match message.kind {
            Kind::Created => {
                if let Phase::Resuming { watch, .. } = &mut self.phase
                    && let Opening::Awaits(left) = watch
                {
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        *watch = Opening::OpenSince(now);
                        reaction.check = true;
                    }
                }
            }
            Kind::Changes {
                range,
                mut changes,
                is_fragment,
            } => {
                // No change may be newer than its message.
                if changes.iter().any(|it| it.modified > message.revision) {
                    reaction.relist = Some(Relist::Misfit);
                    return reaction;
                }
                self.share(range, &mut changes);
                let last = changes.last();
                reaction.is_half = last.is_some_and(|change| self.makes_half(range, change));
                if let Some(follower) = self.follower(range) {
                    reaction.relist = follower.deliver(changes, is_fragment, now);
                    let revision = follower.complete;
                    self.seen.revision = self.seen.revision.max(revision);
                }
            }
            Kind::Progress => {
                if matches!(self.phase, Phase::Following) {
                    for follower in self.followers_mut().filter(|it| it.parts.is_empty()) {
                        follower.delivered = follower.delivered.max(message.revision);
                        follower.complete_by_word(message.revision, now);
                    }
                    self.seen.revision = self.seen.revision.max(message.revision);
                }
            }
            Kind::Other => {}
        }
        reaction
    }

    /// Both keys of a worker usually have the same value, which is to be in memory once.
    fn share(&self, range: KeyRange, changes: &mut [Change]) {
        let other = self.followers().find(|it| it.range != range);
        let own = self.followers().find(|it| it.range == range);
        if let Some((own, other)) = own.zip(other) {
            for Change { key, row, .. } in changes {
                if let Some(row) = row {
                    other.table.share_with(row, own.table.name(key));
                }
            }
        }
    }

    /// Whether the change gives a worker its first key while the worker has no key in the other
    /// range.
    fn makes_half(&self, range: KeyRange, change: &Change) -> bool {
        let other = self.followers().find(|it| it.range != range);
        let own = self.followers().find(|it| it.range == range);
        change.creates()
            && own
                .zip(other)
                .is_some_and(|(own, other)| !other.table.has_name(own.table.name(&change.key)))
    }

    /// Shows the changes from the watch, if they are known to be of the same history.
    pub(super) fn show(&mut self) {
        if matches!(self.phase, Phase::Following) {
            self.show_all();
        }
        self.settle();
    }

    fn show_all(&mut self) {
        let effects = self
            .followers_mut()
            .map(|it| std::mem::replace(&mut it.unshown, Effect::Nothing));
        let effect = effects.max().unwrap_or(Effect::Nothing);
        if effect == Effect::Nothing {
            return;
        }
        if effect == Effect::Workers {
            self.shown.version += 1;
        }
        self.shown.tables = Tables {
            ring: self.ring.as_ref().map(|it| it.table.clone()),
            live: self.live.table.clone(),
        };
        self.shown.revisions = RangeRevisions {
            ring: self.ring.as_ref().unwrap_or(&self.live).complete,
            live: self.live.complete,
        };
    }

    /// Whether the view is complete up to this revision.
    fn shows_all_of(&self, revision: i64) -> bool {
        self.followers()
            .all(|it| it.unshown == Effect::Nothing && it.complete >= revision)
    }

    /// Checks whether missing changes have arrived.
    fn settle(&mut self) {
        let Some([first, last]) = self.behind else {
            return;
        };
        if self.shows_all_of(last.revision) {
            self.behind = None;
            self.fresh_as_of(last.asked_at);
        } else if self.shows_all_of(first.revision) {
            self.behind = Some([last, last]);
            self.fresh_as_of(first.asked_at);
        }
    }

    fn fresh_as_of(&mut self, asked_at: BootTime) {
        self.fresh_at = self.fresh_at.max(Some(asked_at));
        if let Some(made) = &self.shown.made
            && made.view.version() == self.shown.version
        {
            made.view.confirmed.again(asked_at);
        }
    }

    /// Returns the time until the next comparison, unless a caller requests one earlier.
    pub(super) fn check_in(&self) -> Duration {
        match self.behind {
            Some(_) => CHECK_INTERVAL_BEHIND,
            None => CHECK_INTERVAL,
        }
    }

    /// Starts a comparison. Call it before the request is sent, because an event may overtake the
    /// answer.
    pub(super) fn probe(&self, now: BootTime) -> FreshnessProbe {
        let past = match &self.phase {
            Phase::Resuming { past, .. } => past.clone(),
            Phase::Empty | Phase::Following => Vec::new(),
        };
        FreshnessProbe {
            asked_at: now,
            past,
            generation: self.generation,
            seen: self.seen,
        }
    }

    /// Handles etcd's answer.
    pub(super) fn answered(&mut self, probe: &FreshnessProbe, reply: ProbeReply) -> Step {
        if probe.generation != self.generation {
            return Step::Done(Verdict::Behind);
        }
        if probe.is_of_the_past(reply.revision) || reply.term < probe.seen.term {
            return Step::Done(Verdict::Relist(Relist::WentBack));
        }
        if !probe.past.is_empty() {
            match reply.past {
                Judgement::OtherHistory => {
                    return Step::Done(Verdict::Relist(Relist::OtherHistory));
                }
                Judgement::Differs => return Step::Done(Verdict::Relist(Relist::Differs)),
                Judgement::Unknown => return Step::Done(Verdict::Relist(Relist::Forgotten)),
                Judgement::Holds => self.confirmed(probe),
            }
        }
        self.seen.revision = self.seen.revision.max(reply.revision);
        self.seen.term = self.seen.term.max(reply.term);
        self.show();
        if self.shows_all_of(reply.revision) {
            self.fresh_as_of(probe.asked_at);
            return Step::Done(Verdict::Fresh);
        }
        let behind = Behind {
            revision: reply.revision,
            asked_at: probe.asked_at,
        };
        self.behind = Some(match self.behind {
            None => [behind, behind],
            Some([first, last]) if reply.revision >= last.revision => [first, behind],
            // Another answer overtook this one.
            Some(both) => both,
        });
        Step::Compare
    }

    /// Records that etcd's history was still the history of the tables when the probe was answered.
    fn confirmed(&mut self, probe: &FreshnessProbe) {
        if let Phase::Resuming {
            watch: Opening::OpenSince(opened_at),
            ..
        } = self.phase
            && probe.asked_at >= opened_at
        {
            self.phase = Phase::Following;
        }
    }

    /// Returns claims for the ranges that are not complete yet: nothing was written there.
    pub(super) fn claims(&self) -> Vec<Claim> {
        let incomplete = self
            .followers()
            .filter(|it| it.complete < self.seen.revision);
        incomplete
            .map(|it| it.claim(None, it.complete, 1))
            .collect()
    }

    /// Handles etcd's judgement of these claims at this revision.
    pub(super) fn judged(
        &mut self,
        probe: &FreshnessProbe,
        claims: &[Claim],
        judgements: &[Judgement],
        revision: i64,
    ) -> Verdict {
        if probe.generation == self.generation {
            for (claim, judgement) in claims.iter().zip(judgements) {
                if let (Judgement::Holds, Some(it)) = (judgement, self.follower(claim.range)) {
                    it.complete_by_claim(claim, revision);
                }
            }
            self.seen.revision = self.seen.revision.max(revision);
            self.show();
        }
        match self.is_settled(probe) {
            true => Verdict::Fresh,
            false => Verdict::Behind,
        }
    }

    /// Whether etcd has confirmed the view for the time of this probe, or a later time.
    pub(super) fn is_settled(&self, probe: &FreshnessProbe) -> bool {
        self.fresh_at >= Some(probe.asked_at)
    }

    /// Handles the end of a check. Returns why everything has to be listed again, if so.
    pub(super) fn checked(&mut self, verdict: Verdict, now: BootTime) -> Option<Relist> {
        if let Verdict::Relist(why) = verdict {
            return Some(why);
        }
        self.settle();
        let [first, _] = self.behind?;
        (now > first.asked_at + LATE_EVENTS).then_some(Relist::NoChanges)
    }

    /// Returns the proofs that are due: the watch delivered every change.
    pub(super) fn proofs(&self, now: BootTime) -> Proofs {
        let is_due = |it: &&Follower| {
            it.doubt_since
                .is_some_and(|since| now >= since + self.proof_after)
        };
        let claims = match self.phase {
            Phase::Following => self
                .followers()
                .filter(is_due)
                .map(|it| it.claim(Some(it.complete), it.proven, PROOF_KEYS))
                .collect(),
            Phase::Empty | Phase::Resuming { .. } => Vec::new(),
        };
        Proofs {
            claims,
            asked_at: now,
            generation: self.generation,
        }
    }

    /// Handles etcd's judgement of these proofs. Returns why everything has to be listed again, if
    /// so.
    pub(super) fn proven(&mut self, proofs: &Proofs, judgements: &[Judgement]) -> Option<Relist> {
        if proofs.generation != self.generation {
            return None;
        }
        let asked_at = proofs.asked_at;
        for (proof, judgement) in proofs.claims.iter().zip(judgements) {
            let Some(follower) = self.follower(proof.range) else {
                continue;
            };
            match judgement {
                Judgement::Holds => {
                    follower.proven = proof.complete;
                    let has_more = follower.complete > proof.complete;
                    follower.doubt_since = has_more.then_some(asked_at);
                }
                Judgement::Differs | Judgement::OtherHistory => return Some(Relist::LostChange),
                Judgement::Unknown => {
                    let doubt = follower.doubt_since.map(|since| asked_at - since);
                    if doubt > Some(LONGEST_DOUBT) {
                        return Some(Relist::Unproven);
                    }
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::Pair;
    use super::*;
    use crate::view::MemberFilter;

    const SECOND: Duration = Duration::from_secs(1);

    fn table(prefix: &str, keys: &[(&str, i64)]) -> Table {
        let mut table = Table::new(prefix);
        for (key, revision) in keys {
            table.apply(put(key, *revision, 1));
        }
        table
    }

    /// Returns a put of a key. The revision of its first write is its revision less the versions
    /// before.
    fn put(key: &str, revision: i64, version: i64) -> Change {
        let stamp = Stamp {
            modified: revision,
            created: revision - version + 1,
            version,
            lease: 7,
        };
        let value = concat!(
            r#"{"Identity":{"version":0,"identifier":"AAAAAAAAAAE="},"#,
            r#""WorkerNetAddress":{"Host":"h"}}"#
        )
        .as_bytes();
        let pair = Pair {
            key: key.as_bytes(),
            value,
            stamp,
        };
        Change::put(&key[..3], pair)
    }

    fn listed(live: &[(&str, i64)], revision: i64, asked_at: BootTime) -> Listed {
        Listed {
            tables: Tables {
                ring: Some(table("/r/", &[])),
                live: table("/l/", live),
            },
            revision,
            term: 2,
            asked_at,
        }
    }

    /// A state that follows both ranges, listed at revision 10.
    fn following(live: &[(&str, i64)], now: BootTime) -> State {
        let mut state = State::new(true, PROOF_AFTER);
        state.listed(listed(live, 10, now));
        let from = state.watch_opens();
        assert_eq!(from, [(KeyRange::Live, 11), (KeyRange::Ring, 11)]);
        opens(&mut state, 10, now);
        assert_eq!(asks(&mut state, 10, now), Step::Done(Verdict::Fresh));
        assert!(matches!(state.phase, Phase::Following));
        state
    }

    fn opens(state: &mut State, revision: i64, now: BootTime) {
        for _ in 0..2 {
            let kind = Kind::Created;
            state.message(Message { revision, kind }, now);
        }
        assert!(state.watch_is_open());
    }

    /// Asks etcd, which has this revision and confirms its history.
    fn asks(state: &mut State, revision: i64, now: BootTime) -> Step {
        let probe = state.probe(now);
        let reply = ProbeReply {
            revision,
            term: 2,
            past: Judgement::Holds,
        };
        state.answered(&probe, reply)
    }

    fn delivers(
        state: &mut State,
        changes: Vec<Change>,
        is_fragment: bool,
        now: BootTime,
    ) -> Option<Relist> {
        let message = Message {
            revision: changes.last().map_or(0, |change| change.modified),
            kind: Kind::Changes {
                range: KeyRange::Live,
                changes,
                is_fragment,
            },
        };
        let reaction = state.message(message, now);
        state.show();
        reaction.relist
    }

    fn progresses(state: &mut State, revision: i64, now: BootTime) {
        let kind = Kind::Progress;
        state.message(Message { revision, kind }, now);
        state.show();
    }

    #[test]
    fn a_fragment_is_not_shown_before_its_end() {
        let now = BootTime::now();
        let mut state = following(&[], now);
        let version = state.version();
        assert_eq!(
            delivers(&mut state, vec![put("/l/a", 11, 1)], true, now),
            None
        );
        progresses(&mut state, 11, now);
        assert_eq!((state.version(), state.live.complete), (version, 10));
        assert_eq!(
            delivers(&mut state, vec![put("/l/b", 11, 1)], false, now),
            None
        );
        assert_eq!((state.version(), state.live.complete), (version + 1, 11));
        // A watch that breaks between the two parts delivers both again.
        delivers(&mut state, vec![put("/l/a", 12, 2)], true, now);
        assert_eq!(state.watch_opens()[0], (KeyRange::Live, 12));
    }

    #[test]
    fn a_lost_deletion_is_found_by_a_proof_though_the_watch_vouches_for_it() {
        let now = BootTime::now();
        let mut state = following(&[("/l/a", 5)], now);
        // The deletion at revision 11 was lost.
        assert_eq!(asks(&mut state, 11, now), Step::Compare);
        progresses(&mut state, 11, now);
        assert_eq!(state.fresh_at(), Some(now));
        assert!(state.proofs(now + SECOND).claims.is_empty(), "too early");
        let proofs = state.proofs(now + PROOF_AFTER);
        let live = proofs.claims.iter().find(|it| it.range == KeyRange::Live);
        let live = live.expect("a claim");
        assert_eq!((live.at, live.since), (Some(11), 10));
        assert_eq!(live.judge(1, &[], false), Judgement::Holds);
        assert_eq!(live.judge(0, &[], false), Judgement::Differs);
        let judgements = [Judgement::Holds, Judgement::Differs];
        assert_eq!(state.proven(&proofs, &judgements), Some(Relist::LostChange));
    }

    #[test]
    fn what_cannot_be_proven_for_long_is_listed() {
        let now = BootTime::now();
        let mut state = following(&[], now);
        progresses(&mut state, 11, now);
        for (after, expected) in [(25, None), (31, Some(Relist::Unproven))] {
            let proofs = state.proofs(now + after * SECOND);
            let unknown = [Judgement::Unknown; 2];
            assert_eq!(state.proven(&proofs, &unknown), expected, "after {after} s");
        }
    }

    #[test]
    fn a_change_that_does_not_fit_is_answered_by_a_listing() {
        let now = BootTime::now();
        let known = [("/l/a", 5)];
        let misfit = Some(Relist::Misfit);
        let cases: [(&str, Vec<Change>, Option<Relist>); 6] = [
            ("a write was lost", vec![put("/l/a", 11, 3)], misfit),
            ("a deletion was lost", vec![put("/l/a", 11, 1)], misfit),
            (
                "its creation was lost",
                vec![Change::delete(b"/l/b", 11)],
                misfit,
            ),
            (
                "too late",
                vec![put("/l/b", 12, 1), put("/l/c", 11, 1)],
                misfit,
            ),
            (
                "sent twice",
                vec![put("/l/b", 12, 1), put("/l/b", 12, 1)],
                None,
            ),
            ("as it should be", vec![Change::delete(b"/l/a", 11)], None),
        ];
        for (what, changes, expected) in cases {
            let mut state = following(&known, now);
            let relists = changes
                .into_iter()
                .map(|it| delivers(&mut state, vec![it], false, now));
            let relists: Vec<_> = relists.collect();
            assert_eq!(relists.last(), Some(&expected), "{what}");
        }
        // The watch reported that nothing of revision 11 was missing.
        let mut state = following(&known, now);
        progresses(&mut state, 12, now);
        assert_eq!(
            delivers(&mut state, vec![put("/l/b", 11, 1)], false, now),
            misfit
        );
    }

    #[test]
    fn what_was_undone_before_a_claim_is_not_shown_after_it() {
        let now = BootTime::now();
        let mut state = following(&[], now);
        let version = state.version();
        // A key was put at revision 11 and deleted at 12; neither was delivered.
        let probe = state.probe(now);
        assert_eq!(asks(&mut state, 12, now), Step::Compare);
        let claims = state.claims();
        let judgements = [Judgement::Holds; 2];
        let verdict = state.judged(&probe, &claims, &judgements, 12);
        assert_eq!(verdict, Verdict::Fresh);
        assert_eq!(
            delivers(&mut state, vec![put("/l/a", 11, 1)], false, now),
            None
        );
        let deletion = vec![Change::delete(b"/l/a", 12)];
        assert_eq!(delivers(&mut state, deletion, false, now), None);
        assert_eq!(state.version(), version);
    }

    #[test]
    fn a_claim_says_nothing_about_a_table_that_changed_meanwhile() {
        let now = BootTime::now();
        let mut state = following(&[], now);
        let now = now + SECOND;
        let probe = state.probe(now);
        assert_eq!(asks(&mut state, 12, now), Step::Compare);
        let claims = state.claims();
        delivers(&mut state, vec![put("/l/a", 11, 1)], false, now);
        let verdict = state.judged(&probe, &claims, &[Judgement::Holds; 2], 12);
        assert_eq!(verdict, Verdict::Behind);
    }

    #[test]
    fn watches_that_open_and_end_do_not_put_a_listing_off() {
        let start = BootTime::now();
        let mut state = following(&[], start);
        let mut relist = None;
        for tenths in 0..40 {
            let now = start + tenths * SECOND / 10;
            state.watch_opens();
            opens(&mut state, 11, now);
            let Step::Compare = asks(&mut state, 11, now) else {
                panic!("something was written");
            };
            relist = state.checked(Verdict::Behind, now);
        }
        assert_eq!(relist, Some(Relist::NoChanges));
    }

    #[test]
    fn nothing_is_shown_before_etcd_confirmed_its_past() {
        let now = BootTime::now();
        let mut state = following(&[("/l/a", 5)], now);
        let probe = state.probe(now);
        state.watch_opens();
        opens(&mut state, 20, now);
        let version = state.version();
        delivers(&mut state, vec![put("/l/b", 15, 1)], false, now);
        assert_eq!(state.version(), version, "kept back");
        // The request was sent before the watch was opened.
        let reply = ProbeReply {
            revision: 10,
            term: 2,
            past: Judgement::Holds,
        };
        assert_eq!(state.answered(&probe, reply), Step::Done(Verdict::Behind));
        let probe = state.probe(now);
        let live = probe.past.iter().find(|it| it.range == KeyRange::Live);
        let live = live.expect("the live keys");
        let stamp = put("/l/a", 5, 1).row.map(|row| row.stamp).expect("a put");
        assert_eq!(live.judge(1, &[(b"/l/a", stamp)], false), Judgement::Holds);
        assert_eq!(
            live.judge(2, &[(b"/l/a", stamp)], false),
            Judgement::Differs
        );
        let other = Stamp { lease: 8, ..stamp };
        assert_eq!(
            live.judge(1, &[(b"/l/a", other)], false),
            Judgement::OtherHistory
        );
        let reply = ProbeReply {
            revision: 20,
            term: 2,
            past: Judgement::OtherHistory,
        };
        let relist = Step::Done(Verdict::Relist(Relist::OtherHistory));
        assert_eq!(state.answered(&probe, reply), relist);
        assert_eq!(asks(&mut state, 20, now), Step::Compare);
        assert_eq!(state.version(), version + 1, "confirmed");
        let view = state.view().expect("listed");
        assert_eq!(view.revisions().live, 15);
        assert!(view.members(MemberFilter::All).is_empty());
    }
}
