//! The members of a view, in chunks that views share. A change copies one chunk and the list of
//! chunks.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicU64};

use super::{Member, MemberFilter};
use crate::worker::{WorkerIdentity, WorkerState};

/// Members of a chunk that was cut from a whole list. A chunk that grew has at most twice as many
/// members of each list.
const CHUNK: usize = 256;

/// Some members that follow each other in a view. Never empty.
#[derive(Debug)]
pub(crate) struct Chunk {
    id: u64,
    /// The version of the first view with this chunk. Later views of the cluster have it too, up to
    /// the last one; no view after that has it again.
    since: u64,
    all: Arc<[Member]>,
    /// The same list as `all` where every member is registered and live.
    live: Arc<[Member]>,
    lost: Arc<[Member]>,
}

impl Chunk {
    fn new(since: u64, all: &[Member], live: &[Member]) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let is_same = |(all, live): (&Member, &Member)| all == live;
        let are_same = all.len() == live.len() && all.iter().zip(live).all(is_same);
        let is_lost = |member: &&Member| member.state == WorkerState::Lost;
        let all: Arc<[Member]> = all.into();
        Chunk {
            id: IDS.fetch_add(1, atomic::Ordering::Relaxed),
            since,
            live: if are_same { all.clone() } else { live.into() },
            lost: all.iter().filter(is_lost).cloned().collect(),
            all,
        }
    }

    /// Returns a number that no other chunk of the process has.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Whether the view of this version has the chunk, if a later view of the same cluster has it.
    pub(crate) fn is_known_at(&self, version: u64) -> bool {
        self.since <= version
    }

    pub(crate) fn members(&self, filter: MemberFilter) -> &Arc<[Member]> {
        match filter {
            MemberFilter::All => &self.all,
            MemberFilter::Live => &self.live,
            MemberFilter::Lost => &self.lost,
        }
    }

    /// The length of the longer list.
    fn len(&self) -> usize {
        self.all.len().max(self.live.len())
    }

    /// The first identity in the order of keys, in a view that has this order.
    fn first(&self) -> &WorkerIdentity {
        let firsts = [self.all.first(), self.live.first()];
        let firsts = firsts.into_iter().flatten();
        firsts
            .map(|member| &member.worker.identity)
            .min_by(|a, b| a.cmp_keys(b))
            .expect("no chunk is empty")
    }
}

/// What becomes of a worker in a view.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) identity: WorkerIdentity,
    /// The worker among all members.
    pub(crate) registered: Option<Member>,
    /// The worker among the live members.
    pub(crate) live: Option<Member>,
}

/// All members of a view.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chunks {
    list: Vec<Arc<Chunk>>,
    /// The number of members for each [`MemberFilter`].
    counts: [usize; 3],
    /// The members are not in the order of their identities' keys, or an identity is listed twice.
    is_unordered: bool,
}

impl Chunks {
    /// The members of the view of a version. `live` are the live members, in the order of `all`.
    pub(crate) fn new(version: u64, all: &[Member], live: &[Member]) -> Self {
        let is_unordered = !(is_ordered(all) && is_ordered(live));
        let mut list = Vec::new();
        if is_unordered {
            // Any cut is as good as another: no member is looked up by the bounds of its chunk.
            let (mut all_left, mut live_left) = (all, live);
            while !(all_left.is_empty() && live_left.is_empty()) {
                let (all, live);
                (all, all_left) = all_left.split_at(all_left.len().min(CHUNK));
                (live, live_left) = live_left.split_at(live_left.len().min(CHUNK));
                list.push(Arc::new(Chunk::new(version, all, live)));
            }
        } else {
            cut(version, all, live, &mut list);
        }
        Chunks::of(list, is_unordered)
    }

    fn of(mut list: Vec<Arc<Chunk>>, is_unordered: bool) -> Self {
        list.shrink_to_fit();
        let mut counts = [0; 3];
        for chunk in &list {
            counts[MemberFilter::All as usize] += chunk.all.len();
            counts[MemberFilter::Live as usize] += chunk.live.len();
            counts[MemberFilter::Lost as usize] += chunk.lost.len();
        }
        Chunks {
            list,
            counts,
            is_unordered,
        }
    }

    pub(crate) fn list(&self) -> &[Arc<Chunk>] {
        &self.list
    }

    pub(crate) fn count(&self, filter: MemberFilter) -> usize {
        self.counts[filter as usize]
    }

    pub(crate) fn find(&self, filter: MemberFilter, identity: &WorkerIdentity) -> Option<&Member> {
        if self.is_unordered {
            let mut members = self.list.iter().flat_map(|chunk| &**chunk.members(filter));
            return members.find(|member| member.worker.identity == *identity);
        }
        let chunk = self.list.get(self.place(identity))?.members(filter);
        let place = chunk.binary_search_by(|it| it.worker.identity.cmp_keys(identity));
        place.ok().map(|place| &chunk[place])
    }

    /// The number of the chunk that has the identity, or would get it.
    fn place(&self, identity: &WorkerIdentity) -> usize {
        let is_before = |chunk: &Arc<Chunk>| chunk.first().cmp_keys(identity).is_le();
        self.list.partition_point(is_before).saturating_sub(1)
    }

    /// Returns the members of the view of a later version: these members after the updates, which
    /// are in the order of keys. `None` if the members are not in that order.
    pub(crate) fn updated(&self, version: u64, updates: &[Update]) -> Option<Self> {
        if self.is_unordered {
            return None;
        }
        let Some(first) = updates.first() else {
            return Some(self.clone());
        };
        let mut list = Vec::with_capacity(self.list.len() + 1);
        let start = self.place(&first.identity);
        list.extend_from_slice(&self.list[..start]);
        let mut rest = updates;
        // A chunk that became short is joined with a short neighbour.
        let mut may_join = false;
        let mut chunks = self.list[start..].iter();
        while let Some(chunk) = chunks.next() {
            let own = match chunks.as_slice().first() {
                Some(next) => rest.partition_point(|it| it.identity.cmp_keys(next.first()).is_lt()),
                None => rest.len(),
            };
            let (own, later) = rest.split_at(own);
            rest = later;
            let short = list.last().filter(|it| it.len() + chunk.len() <= CHUNK);
            let joined = short.filter(|_| may_join || !own.is_empty()).cloned();
            if joined.is_none() && own.is_empty() {
                list.push(chunk.clone());
                may_join = false;
                if rest.is_empty() {
                    break;
                }
                continue;
            }
            list.truncate(list.len() - usize::from(joined.is_some()));
            let old: Vec<&Chunk> = joined.iter().chain([chunk]).map(|it| &**it).collect();
            replace(version, &old, own, &mut list);
            may_join = true;
        }
        list.extend_from_slice(chunks.as_slice());
        replace(version, &[], rest, &mut list);
        Some(Chunks::of(list, false))
    }

    /// Returns the chunks that only this view has, and those that only the other view has. An
    /// identity in one of these chunks is in no chunk that both views have.
    pub(crate) fn unshared<'a>(&'a self, other: &'a Chunks) -> (Vec<&'a Chunk>, Vec<&'a Chunk>) {
        if self.is_unordered || other.is_unordered {
            // Such views are made whole, and share nothing.
            let whole = |chunks: &'a Chunks| chunks.list.iter().map(|it| &**it).collect();
            return (whole(self), whole(other));
        }
        unshared(&self.list, &other.list, |a, b| {
            a.first().cmp_keys(b.first())
        })
    }
}

/// The chunks that only one of two lists has. Both lists are in the same order, which `cmp` gives.
pub(crate) fn unshared<'a, T>(
    a: &'a [Arc<T>],
    b: &'a [Arc<T>],
    cmp: impl Fn(&T, &T) -> Ordering,
) -> (Vec<&'a T>, Vec<&'a T>) {
    let (mut only_a, mut only_b) = (Vec::new(), Vec::new());
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    loop {
        let is_a = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if Arc::ptr_eq(x, y) => {
                a.next();
                b.next();
                continue;
            }
            (Some(x), Some(y)) => cmp(x, y).is_le(),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return (only_a, only_b),
        };
        if is_a {
            only_a.extend(a.next().map(|chunk| &**chunk));
        } else {
            only_b.extend(b.next().map(|chunk| &**chunk));
        }
    }
}

fn is_ordered(members: &[Member]) -> bool {
    members.is_sorted_by(|a, b| a.worker.identity.cmp_keys(&b.worker.identity).is_lt())
}

/// Cuts both lists, which are in the order of keys, into chunks of about [`CHUNK`].
fn cut(version: u64, mut all: &[Member], mut live: &[Member], list: &mut Vec<Arc<Chunk>>) {
    let longest = all.len().max(live.len());
    let size = longest.div_ceil((longest / CHUNK).max(1));
    while !(all.is_empty() && live.is_empty()) {
        let ends = [all.get(size), live.get(size)].into_iter().flatten();
        let end = ends
            .map(|member| &member.worker.identity)
            .min_by(|a, b| a.cmp_keys(b));
        let length = |members: &[Member]| match end {
            Some(end) => members.partition_point(|it| it.worker.identity.cmp_keys(end).is_lt()),
            None => members.len(),
        };
        let (all_part, all_rest) = all.split_at(length(all));
        let (live_part, live_rest) = live.split_at(length(live));
        list.push(Arc::new(Chunk::new(version, all_part, live_part)));
        (all, live) = (all_rest, live_rest);
    }
}

/// Adds what becomes of these chunks by these updates.
fn replace(version: u64, old: &[&Chunk], updates: &[Update], list: &mut Vec<Arc<Chunk>>) {
    let lists = [MemberFilter::All, MemberFilter::Live].map(|filter| {
        let old = old.iter().flat_map(|chunk| &**chunk.members(filter));
        let new = updates.iter().map(|update| {
            let member = match filter {
                MemberFilter::All => update.registered.as_ref(),
                _ => update.live.as_ref(),
            };
            (&update.identity, member)
        });
        merged(old, new)
    });
    let [all, live] = &lists;
    if all.len().max(live.len()) <= 2 * CHUNK {
        if !(all.is_empty() && live.is_empty()) {
            list.push(Arc::new(Chunk::new(version, all, live)));
        }
    } else {
        cut(version, all, live, list);
    }
}

/// A list after updates; both are in the order of keys.
fn merged<'a>(
    old: impl Iterator<Item = &'a Member>,
    updates: impl ExactSizeIterator<Item = (&'a WorkerIdentity, Option<&'a Member>)>,
) -> Vec<Member> {
    let mut merged = Vec::with_capacity(2 * CHUNK + updates.len());
    let mut updates = updates.peekable();
    for member in old {
        let identity = &member.worker.identity;
        let mut is_replaced = false;
        while let Some((_, new)) = updates.next_if(|(updated, _)| {
            let order = updated.cmp_keys(identity);
            is_replaced |= order.is_eq();
            order.is_le()
        }) {
            merged.extend(new.cloned());
        }
        if !is_replaced {
            merged.push(member.clone());
        }
    }
    merged.extend(updates.filter_map(|(_, new)| new.cloned()));
    merged
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::worker::{Worker, WorkerNetAddress};

    fn member(id: i64, state: WorkerState) -> Member {
        Member {
            worker: Arc::new(Worker {
                identity: WorkerIdentity::V0(id),
                address: WorkerNetAddress::new("h"),
            }),
            state,
        }
    }

    /// Registered and live members, by the texts of their identities.
    type Model = BTreeMap<String, (Option<Member>, Option<Member>)>;

    fn of(model: &Model) -> Chunks {
        let all: Vec<Member> = model.values().filter_map(|it| it.0.clone()).collect();
        let live: Vec<Member> = model.values().filter_map(|it| it.1.clone()).collect();
        Chunks::new(1, &all, &live)
    }

    fn listed(chunks: &Chunks, filter: MemberFilter) -> Vec<&Member> {
        let members = chunks.list().iter().flat_map(|it| &**it.members(filter));
        members.collect()
    }

    #[test]
    fn updated_chunks_hold_what_chunks_of_the_whole_list_hold() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut model = Model::new();
        let mut chunks = Chunks::default();
        for round in 0..3_000 {
            // More members at first, fewer in the end.
            let mut updates = BTreeMap::new();
            for _ in 0..rng.random_range(0..30) {
                let id = rng.random_range(0..2_000);
                let is_there = rng.random_range(0..3_000) > round;
                let is_live = is_there && rng.random_range(0..4) > 0;
                let state = match is_live {
                    true => WorkerState::Live,
                    false => WorkerState::Lost,
                };
                let registered = member(id, state);
                let live = match rng.random_range(0..10) {
                    0 => member(id, state),
                    _ => registered.clone(),
                };
                let update = Update {
                    identity: WorkerIdentity::V0(id),
                    registered: (is_there && rng.random_range(0..20) > 0).then_some(registered),
                    live: is_live.then_some(live),
                };
                updates.insert(update.identity.to_string(), update);
            }
            for (text, update) in &updates {
                model.insert(
                    text.clone(),
                    (update.registered.clone(), update.live.clone()),
                );
            }
            let updates: Vec<Update> = updates.into_values().collect();
            let before = std::mem::take(&mut chunks);
            chunks = before.updated(round + 1, &updates).expect("ordered");

            let whole = of(&model);
            for filter in [MemberFilter::All, MemberFilter::Live, MemberFilter::Lost] {
                let members = listed(&chunks, filter);
                assert_eq!(members, listed(&whole, filter), "round {round}");
                assert_eq!(chunks.count(filter), members.len());
            }
            let sizes = chunks.list().iter().map(|chunk| chunk.len());
            assert!(sizes.clone().all(|size| (1..=2 * CHUNK).contains(&size)));
            // Short chunks are joined, so that there are not many of them.
            assert!(sizes.len() <= 2 + 4 * sizes.sum::<usize>() / CHUNK);
            let (now, then) = chunks.unshared(&before);
            let in_both = |list: &[Arc<Chunk>], only: &[&Chunk]| list.len() - only.len();
            assert_eq!(in_both(chunks.list(), &now), in_both(before.list(), &then));
            assert!(then.len() <= 3 * updates.len());
            assert!(now.iter().all(|chunk| !chunk.is_known_at(round)));
            let id = WorkerIdentity::V0(rng.random_range(0..2_000));
            let expected = model.get(&id.to_string());
            let expected = expected.and_then(|it| it.0.as_ref());
            assert_eq!(chunks.find(MemberFilter::All, &id), expected);
        }
    }

    #[test]
    fn members_in_another_order_are_found_and_not_updated() {
        let members: Vec<Member> = (0..1_000)
            .rev()
            .map(|id| member(id, WorkerState::Live))
            .collect();
        let chunks = Chunks::new(1, &members, &members[..10]);
        assert_eq!(
            listed(&chunks, MemberFilter::All),
            members.iter().collect::<Vec<_>>()
        );
        let first = chunks.find(MemberFilter::All, &WorkerIdentity::V0(0));
        assert_eq!(first, members.last());
        assert_eq!(
            chunks.find(MemberFilter::Live, &WorkerIdentity::V0(0)),
            None
        );
        assert!(chunks.updated(2, &[]).is_none());
        let (own, others) = chunks.unshared(&chunks);
        assert_eq!((own.len(), others.len()), (4, 4));
    }

    #[test]
    fn one_update_copies_one_chunk() {
        let model: Model = (0..20_000)
            .map(|id| {
                let member = member(id, WorkerState::Live);
                let text = member.worker.identity.to_string();
                (text, (Some(member.clone()), Some(member)))
            })
            .collect();
        let before = of(&model);
        for id in [0, 7_777, 19_999, 20_000, -1] {
            let now = member(id, WorkerState::Lost);
            let update = Update {
                identity: now.worker.identity,
                registered: Some(now),
                live: None,
            };
            let after = before.updated(2, &[update]).expect("ordered");
            let (new, old) = after.unshared(&before);
            assert_eq!((new.len(), old.len()), (1, 1), "{id}");
        }
    }
}
