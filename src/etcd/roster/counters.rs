//! What was done to keep a view up to date, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use super::state::Verdict;

/// What was done to keep a view up to date, counted since its first listing began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ViewCounters {
    /// Complete listings. After the first there is one whenever changes may have been missed.
    pub listings: u64,
    /// Watches that etcd opened: one after each listing, and one after each that broke.
    pub watches: u64,
    /// Comparisons with etcd that proved that nothing is missing.
    pub checks: u64,
    /// Comparisons that found changes which the watch had not brought yet. A few are normal: the changes are on their
    /// way, or the watch is brought up to date.
    pub checks_behind: u64,
    /// Comparisons that etcd did not answer.
    pub checks_failed: u64,
    /// Listings that showed that etcd had lost data: it was wiped, or restored from a backup.
    pub other_histories: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) listings: Counter,
    pub(super) watches: Counter,
    pub(super) checks: Counter,
    pub(super) checks_behind: Counter,
    pub(super) checks_failed: Counter,
    pub(super) other_histories: Counter,
}

#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// A comparison ended.
    pub(super) fn count(&self, verdict: Verdict) {
        let counter = match verdict {
            Verdict::Fresh => &self.checks,
            Verdict::Behind | Verdict::Relist(_) => &self.checks_behind,
        };
        counter.add(1);
    }

    pub(super) fn get(&self) -> ViewCounters {
        ViewCounters {
            listings: self.listings.get(),
            watches: self.watches.get(),
            checks: self.checks.get(),
            checks_behind: self.checks_behind.get(),
            checks_failed: self.checks_failed.get(),
            other_histories: self.other_histories.get(),
        }
    }
}
