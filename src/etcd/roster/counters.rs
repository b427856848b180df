//! Counters of the work that keeps a view up to date.

use super::state::Verdict;

/// Counters of the work that keeps a view up to date, since its first listing began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ViewCounters {
    /// Complete listings. After the first one, a listing follows whenever changes may have been
    /// lost.
    pub listings: u64,
    /// Watches that etcd opened: one after each listing, and one after each watch that broke.
    pub watches: u64,
    /// Comparisons with etcd that proved that the view is complete.
    pub checks: u64,
    /// Comparisons that found changes which the watch had not delivered yet. A few are normal,
    /// while changes arrive or the watch catches up.
    pub checks_behind: u64,
    /// Comparisons that etcd did not answer.
    pub checks_failed: u64,
    /// Listings that showed that etcd had lost data: it was wiped, or restored from a backup.
    pub other_histories: u64,
}

impl ViewCounters {
    /// Counts a comparison that has ended.
    pub(super) fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Fresh => self.checks += 1,
            Verdict::Behind | Verdict::Relist(_) => self.checks_behind += 1,
        }
    }
}
