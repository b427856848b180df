//! What was done to keep a view up to date, counted.

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
    /// Comparisons that found changes which the watch had not delivered yet. A few are normal: the
    /// changes are on their way, or the watch catches up.
    pub checks_behind: u64,
    /// Comparisons that etcd did not answer.
    pub checks_failed: u64,
    /// Listings that showed that etcd had lost data: it was wiped, or restored from a backup.
    pub other_histories: u64,
}

impl ViewCounters {
    /// Counts a comparison that ended.
    pub(super) fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Fresh => self.checks += 1,
            Verdict::Behind | Verdict::Relist(_) => self.checks_behind += 1,
        }
    }
}
