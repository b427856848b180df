//! What etcd remembers of a cluster's past, for operators.
//!
//! etcd sends each range's changes in their order, but not both ranges together. So the changes are
//! collected until etcd has sent all of them, compared with what etcd lists, and put in order then.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, WatchOptions, WatchStream};
use tokio::time::{Instant, timeout_at};

use super::listing::list_at;
use super::row::Row;
use super::stored::{compacted, not_reached};
use super::tables::{self, KeyRange, Table, Tables};
use super::watch::change;
use super::{MAX_MESSAGE, getting_children, progress};
use crate::error::Result;
use crate::etcd::Cluster;
use crate::etcd::endpoints::{Endpoint, Purpose, TRY_TIMEOUT, TryError, retry_delays};
use crate::etcd::keys::range_end;
use crate::etcd::status::{self, Failure};
use crate::view::Member;
use crate::worker::{Worker, WorkerState};

/// The changes that are kept; older ones are left out then.
const MOST_CHANGES: usize = 100_000;
/// How often etcd is asked whether it has sent everything.
const PROGRESS: Duration = Duration::from_millis(100);
/// How long an etcd whose word for that cannot be trusted must be quiet, once its changes lead to
/// the present.
const QUIET: Duration = Duration::from_secs(1);
/// How long such an etcd may send nothing before what it has not sent counts as missing.
const SILENCE: Duration = Duration::from_secs(3);

/// The changes of a cluster that etcd remembers.
#[derive(Debug)]
pub struct History {
    /// The changes are those after this revision.
    pub after: i64,
    /// The last revision that was looked at.
    pub until: i64,
    /// The changes in their order. There are 100,000 at most.
    pub changes: Vec<PastChange>,
    /// Changes after `after` that are left out, older than all others.
    pub left_out: usize,
    /// etcd did not send every change: the changes do not lead to the workers of today.
    pub is_incomplete: bool,
}

/// A change of one worker at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastChange {
    /// The revision of the change.
    pub revision: i64,
    /// What happened.
    pub kind: PastKind,
    /// The worker after the change; before it, if it was removed.
    pub member: Member,
    /// The worker before the change, if its address differs.
    pub was: Option<Arc<Worker>>,
}

/// What happened to a worker at one revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PastKind {
    /// It is new.
    Added,
    /// It is no longer listed at all.
    Removed,
    /// It was lost and is live again.
    Live,
    /// It was live and is lost.
    Lost,
    /// It is as live as before, under another address.
    Moved,
    /// It is as live as before, under another lease: it, or another process, has registered it
    /// again.
    Rejoined,
}

impl Cluster {
    /// Reads the changes after a revision, or all that etcd remembers.
    pub(crate) async fn history(&self, from: Option<i64>, deadline: Instant) -> Result<History> {
        let until = self.newest_revision(deadline).await?;
        if let Some(from) = from.filter(|from| *from > until) {
            return Err(not_reached(from, until));
        }
        let (after, base) = self.base(from, deadline).await?;
        let present = self.tables_at(until, deadline).await?;
        let present = present.ok_or_else(|| compacted(until))?;
        if after >= until {
            return Ok(Walk::new(base, until).history(after, &present));
        }
        let mut delays = retry_delays();
        loop {
            let endpoint = self.endpoints.pick(Purpose::Watches);
            let mut walk = Walk::new(base.clone(), until);
            let walking = self.walk(&endpoint, &mut walk, after, &present);
            let error = match timeout_at(deadline, walking).await {
                Ok(Ok(Some(()))) => return Ok(walk.history(after, &present)),
                Ok(Ok(None)) => return Err(compacted(after)),
                Ok(Err(error)) => error,
                Err(_) => endpoint.no_answer("the history took too long".to_owned()),
            };
            let delay = delays.next().unwrap_or_default();
            if Instant::now() + delay >= deadline || error.failure != Failure::Endpoint {
                let call = getting_children(&self.keys, deadline);
                return Err(call.failed(1, error));
            }
            endpoint.quarantine(Purpose::Watches, &error);
            tokio::time::sleep(delay).await;
        }
    }

    /// The revision at which the history begins, and the keys as they were.
    async fn base(&self, from: Option<i64>, deadline: Instant) -> Result<(i64, Tables)> {
        if let Some(from) = from {
            let from = from.max(1);
            let tables = self.tables_at(from, deadline).await?;
            return Ok((from, tables.ok_or_else(|| compacted(from))?));
        }
        let mut oldest = 1;
        loop {
            if let Some(tables) = self.tables_at(oldest, deadline).await? {
                return Ok((oldest, tables));
            }
            // Another compaction may come in between.
            oldest = self.compacted_at(deadline).await?;
        }
    }

    async fn tables_at(&self, revision: i64, deadline: Instant) -> Result<Option<Tables>> {
        let limit = deadline.saturating_duration_since(Instant::now());
        let (endpoints, keys) = (&self.endpoints, &self.keys);
        let listed = list_at(endpoints, keys, self.has_ring, revision, limit).await?;
        Ok(listed.map(|listed| listed.tables))
    }

    /// The oldest revision that etcd remembers, if it was ever compacted. Only a
    /// watch reports that revision.
    async fn compacted_at(&self, deadline: Instant) -> Result<i64> {
        let call = getting_children(&self.keys, deadline);
        let prefix = self.keys.live_prefix();
        let asking = self.endpoints.call(&call, |client| async move {
            let mut stream = open(client, vec![prefix.to_owned()], 1).await?;
            while let Some(message) = stream.message().await? {
                if message.compact_revision() > 0 {
                    return Ok(message.compact_revision());
                }
            }
            Err(status::wrong_answer("etcd closed the watch"))
        });
        Box::pin(asking).await
    }

    /// Collects the changes until etcd has sent all. `None`: they were compacted meanwhile.
    async fn walk(
        &self,
        endpoint: &Arc<Endpoint>,
        walk: &mut Walk,
        after: i64,
        present: &Tables,
    ) -> std::result::Result<Option<()>, TryError> {
        let mut prefixes = vec![self.keys.live_prefix().to_owned()];
        if self.has_ring {
            prefixes.push(self.keys.ring_prefix().to_owned());
        }
        let trusted = progress::trusted_member(endpoint).await;
        let opening = endpoint.attempt(Purpose::Watches, TRY_TIMEOUT * 2, |client| {
            open(client, prefixes, after + 1)
        });
        let mut stream = opening.await?;
        let broken = |error: etcd_client::Error| endpoint.try_error(&error);
        let mut tells_progress = trusted.is_some();
        let mut quiet_since = Instant::now();
        let mut ticks = tokio::time::interval(PROGRESS);
        loop {
            let message = tokio::select! {
                biased;
                message = stream.message() => message.map_err(broken)?,
                _ = ticks.tick() => {
                    let quiet = quiet_since.elapsed();
                    if tells_progress {
                        // etcd answers once it has sent everything, and ignores the question
                        // before.
                        stream.request_progress().await.map_err(broken)?;
                    } else if quiet >= SILENCE || (quiet >= QUIET && walk.leads_to(present)) {
                        return Ok(Some(()));
                    }
                    continue;
                }
            };
            let message =
                message.ok_or_else(|| broken(status::wrong_answer("etcd closed the watch")))?;
            quiet_since = Instant::now();
            if message.compact_revision() > 0 {
                return Ok(None);
            }
            if message.canceled() {
                let text = format!("etcd canceled the watch: {}", message.cancel_reason());
                return Err(broken(status::wrong_answer(text)));
            }
            let message = message.0;
            let header = message.header.unwrap_or_default();
            // A balancer may have chosen two members.
            tells_progress &= trusted == Some(header.member_id);
            if tells_progress
                && message.watch_id == progress::OF_ALL_WATCHES
                && header.revision >= walk.until
            {
                return Ok(Some(()));
            }
            for event in &message.events {
                let key = event.kv.as_ref().map_or(&[][..], |kv| &kv.key);
                let (range, prefix) = match key.starts_with(self.keys.live_prefix().as_bytes()) {
                    true => (KeyRange::Live, self.keys.live_prefix()),
                    false => (KeyRange::Ring, self.keys.ring_prefix()),
                };
                walk.add(range, change(event, prefix).map_err(broken)?);
            }
        }
    }
}

/// Watches these ranges from a revision on.
async fn open(
    client: Client,
    prefixes: Vec<String>,
    from: i64,
) -> std::result::Result<WatchStream, etcd_client::Error> {
    let options = |prefix: &str| {
        let options = WatchOptions::new().with_range(range_end(prefix));
        Some(options.with_start_revision(from).with_fragment())
    };
    let mut client = client.watch_client().max_decoding_message_size(MAX_MESSAGE);
    let (first, others) = prefixes.split_first().expect("a range to watch");
    let mut stream = client.watch(first.as_str(), options(first)).await?;
    for prefix in others {
        stream.watch(prefix.as_str(), options(prefix)).await?;
    }
    Ok(stream)
}

/// Changes that are being collected.
struct Walk {
    /// The keys before the changes that are kept.
    base: Tables,
    /// The keys after them.
    now: Tables,
    until: i64,
    changes: VecDeque<(KeyRange, tables::Change)>,
    left_out: usize,
    /// The newest revision of a change that is left out.
    left_out_until: i64,
}

impl Walk {
    fn new(base: Tables, until: i64) -> Self {
        Walk {
            now: base.clone(),
            base,
            until,
            changes: VecDeque::new(),
            left_out: 0,
            left_out_until: 0,
        }
    }

    fn add(&mut self, range: KeyRange, change: tables::Change) {
        if change.modified > self.until {
            return;
        }
        if let Some(table) = table_of(&mut self.now, range) {
            table.apply(change.clone());
        }
        self.changes.push_back((range, change));
        if self.changes.len() > MOST_CHANGES
            && let Some((range, change)) = self.changes.pop_front()
        {
            self.leave_out(range, change);
        }
    }

    fn leave_out(&mut self, range: KeyRange, change: tables::Change) {
        self.left_out += 1;
        self.left_out_until = self.left_out_until.max(change.modified);
        if let Some(table) = table_of(&mut self.base, range) {
            table.apply(change);
        }
    }

    fn leads_to(&self, present: &Tables) -> bool {
        let same = |range| match (self.now.table(range), present.table(range)) {
            (Some(now), Some(present)) => now.same_stamps(present),
            (now, present) => now.is_none() && present.is_none(),
        };
        same(KeyRange::Ring) && same(KeyRange::Live)
    }

    fn history(mut self, after: i64, present: &Tables) -> History {
        let is_incomplete = !self.leads_to(present);
        // Of the other range there may be older ones than those that were left out.
        for (range, change) in std::mem::take(&mut self.changes) {
            match change.modified <= self.left_out_until {
                true => self.leave_out(range, change),
                false => self.changes.push_back((range, change)),
            }
        }
        let mut by_revision = BTreeMap::<i64, Vec<(KeyRange, tables::Change)>>::new();
        for (range, change) in self.changes {
            let at = by_revision.entry(change.modified).or_default();
            at.push((range, change));
        }
        let mut workers = Workers::of(&self.base);
        let changes = by_revision.into_iter();
        History {
            after,
            until: self.until,
            changes: changes
                .flat_map(|(revision, changes)| workers.apply(revision, changes))
                .collect(),
            left_out: self.left_out,
            is_incomplete,
        }
    }
}

fn table_of(tables: &mut Tables, range: KeyRange) -> Option<&mut Table> {
    match range {
        KeyRange::Ring => tables.ring.as_mut(),
        KeyRange::Live => Some(&mut tables.live),
    }
}

/// The usable records of a worker's keys.
#[derive(Clone, Default)]
struct Keys {
    ring: Option<Arc<Worker>>,
    /// With its lease.
    live: Option<(Arc<Worker>, i64)>,
}

impl Keys {
    fn set(&mut self, range: KeyRange, row: Option<&Row>) {
        let worker = row.and_then(|row| row.worker().ok().cloned());
        match range {
            KeyRange::Ring => self.ring = worker,
            KeyRange::Live => {
                self.live = worker.zip(row.map(|row| row.stamp.lease));
            }
        }
    }

    /// The worker as a list shows it: a registered one by its ring key.
    fn member(&self) -> Option<Member> {
        let live = self.live.as_ref().map(|(worker, _)| worker);
        Some(Member {
            worker: self.ring.as_ref().or(live)?.clone(),
            state: match live {
                Some(_) => WorkerState::Live,
                None => WorkerState::Lost,
            },
        })
    }

    /// What the change from earlier keys to these is, if a list shows it.
    fn change_since(&self, earlier: &Keys, revision: i64) -> Option<PastChange> {
        let (before, now) = (earlier.member(), self.member());
        let lease = |keys: &Keys| keys.live.as_ref().map(|(_, lease)| *lease);
        let moved = |a: &Member, b: &Member| a.worker != b.worker;
        let (kind, member, was) = match (before, now) {
            (None, None) => return None,
            (None, Some(now)) => (PastKind::Added, now, None),
            (Some(before), None) => (PastKind::Removed, before, None),
            (Some(before), Some(now)) => {
                let kind = match (before.state == now.state, now.state) {
                    (false, WorkerState::Live) => PastKind::Live,
                    (false, WorkerState::Lost) => PastKind::Lost,
                    (true, _) if moved(&before, &now) => PastKind::Moved,
                    (true, _) if lease(self) != lease(earlier) => PastKind::Rejoined,
                    (true, _) => return None,
                };
                let was = moved(&before, &now).then_some(before.worker);
                (kind, now, was)
            }
        };
        Some(PastChange {
            revision,
            kind,
            member,
            was,
        })
    }
}

/// The keys of all workers.
struct Workers {
    /// Knows the names.
    tables: Tables,
    by_name: HashMap<Vec<u8>, Keys>,
}

impl Workers {
    fn of(tables: &Tables) -> Self {
        let mut by_name = HashMap::<Vec<u8>, Keys>::new();
        for range in [KeyRange::Ring, KeyRange::Live] {
            for row in tables.table(range).into_iter().flat_map(Table::rows) {
                by_name.entry(row.name()).or_default().set(range, Some(row));
            }
        }
        Workers {
            tables: tables.clone(),
            by_name,
        }
    }

    /// Applies the changes of one revision.
    fn apply(
        &mut self,
        revision: i64,
        changes: Vec<(KeyRange, tables::Change)>,
    ) -> Vec<PastChange> {
        let mut before = BTreeMap::<Vec<u8>, Keys>::new();
        for (range, change) in changes {
            let name = self.tables.name(range, &change.key).to_vec();
            let keys = self.by_name.entry(name.clone()).or_default();
            before.entry(name).or_insert_with(|| keys.clone());
            keys.set(range, change.row.as_ref());
        }
        let changed = before.into_iter();
        changed
            .filter_map(|(name, before)| self.by_name.get(&name)?.change_since(&before, revision))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::{Pair, Stamp};
    use super::super::tables::Change;
    use super::*;
    use crate::record;
    use crate::worker::{WorkerIdentity, WorkerNetAddress};

    #[test]
    fn the_newest_changes_are_kept_and_the_others_counted() {
        let worker = Worker {
            identity: WorkerIdentity::V0(1),
            address: WorkerNetAddress::new("h"),
        };
        let record = record::encode(&worker);
        // Each on a lease of its own.
        let put = |prefix: &str, revision: i64| {
            let stamp = Stamp {
                modified: revision,
                created: revision,
                version: 1,
                lease: revision,
            };
            let key = format!("{prefix}worker-1");
            let pair = Pair {
                key: key.as_bytes(),
                value: record.as_ref(),
                stamp,
            };
            Change::put(prefix, pair)
        };
        let tables = Tables {
            ring: Some(Table::new("/r/")),
            live: Table::new("/l/"),
        };
        let most = i64::try_from(MOST_CHANGES).unwrap();
        let mut walk = Walk::new(tables.clone(), most + 10);
        for revision in 1..=most + 11 {
            walk.add(KeyRange::Live, put("/l/", revision));
        }
        // Of the other range, and older than some that were left out.
        walk.add(KeyRange::Ring, put("/r/", 5));
        let present = walk.now.clone();
        let history = walk.history(1, &present);
        assert!(!history.is_incomplete);
        assert_eq!(history.left_out, 12);
        assert_eq!(history.changes.len(), MOST_CHANGES - 1);
        let revisions = history.changes.iter().map(|change| change.revision);
        assert!(revisions.eq(12..=most + 10));
        let mut kinds = history.changes.iter().map(|change| change.kind);
        assert!(kinds.all(|kind| kind == PastKind::Rejoined));

        let mut walk = Walk::new(tables.clone(), 9);
        walk.add(KeyRange::Live, put("/l/", 2));
        assert!(walk.history(1, &tables).is_incomplete);
    }
}
